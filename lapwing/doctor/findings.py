"""Findings of checks, and their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "warning", "failed", "skipped"]
_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "·"}
_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check; remedy: empty if there is nothing to do."""

    check: str
    result: Result
    message: str
    remedy: str = ""


def skipped(checks: tuple[str, ...], why: str) -> Iterator[Finding]:
    """Yield a skipped finding for each check."""
    for check in checks:
        yield Finding(check, "skipped", why)


def count(number: int | None, noun: str) -> str:
    """Format a number with its noun; None = unknown."""
    if number is None:
        return f"unknown number of {noun}s"
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def to_line(finding: Finding) -> str:
    """Format a finding as text."""
    text = f"{_SIGNS[finding.result]} {finding.check:<{_WIDTH}} {finding.message}"
    return text + (f"\n  {'':<{_WIDTH}} → {finding.remedy}" if finding.remedy else "")


def summary(findings: Sequence[Finding]) -> str:
    """Summarize in one line; all passed only if no check was skipped."""
    counts = {result: sum(finding.result == result for finding in findings) for result in _SIGNS}
    parts = [f"{counts['failed']} of {len(findings)} checks failed"] if counts["failed"] else []
    parts += [count(counts["warning"], "warning")] if counts["warning"] else []
    parts += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
    if not parts:
        return f"all {len(findings)} checks passed"
    if not counts["failed"]:
        parts.insert(
            0, "no check failed" if counts["skipped"] else f"all {len(findings)} checks passed"
        )
    return ", ".join(parts)
