"""Output of the operator suite: verdicts, totals, tables, JSON.

Invariant: pure; a result without a verdict is named with its reason and is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.operator.running import Result
from benchmarks.operator.situations import Situation

NAME_WIDTH, REQUIRED_WIDTH = 24, 44


@dataclass(frozen=True)
class Totals:
    """Sums over the situations that were judged."""

    passed: int
    judged: int
    found: int
    incidents: int
    false_alarms: int
    entity_days: float
    failing: tuple[str, ...]

    @property
    def false_per_day(self) -> float:
        """False alarms per entity and day."""
        return self.false_alarms / max(self.entity_days, 1e-9)

    def __str__(self) -> str:
        return (
            f"{self.passed} of {self.judged} situations pass; incidents found {self.found} of"
            f" {self.incidents}; false alarms per entity and day {self.false_per_day:.3f}"
        )


def totals(results: Sequence[Result]) -> Totals:
    """Sum up the verdicts."""
    judged = [(result.name, result.verdict) for result in results if result.verdict is not None]
    verdicts = [verdict for _, verdict in judged]
    return Totals(
        sum(verdict.passed for verdict in verdicts),
        len(judged),
        sum(verdict.found for verdict in verdicts),
        sum(verdict.incidents for verdict in verdicts),
        sum(verdict.false_alarms for verdict in verdicts),
        sum(verdict.entity_days for verdict in verdicts),
        tuple(name for name, verdict in judged if not verdict.passed),
    )


def show(result: Result) -> str:
    """Write one result, a line for each criterion; those that are not met are marked."""
    if result.verdict is None:
        return f"{result.name:<{NAME_WIDTH}}n/a   {result.why_not}"
    head = f"{result.name:<{NAME_WIDTH}}{'pass' if result.verdict.passed else 'FAIL'}"
    lines = []
    for check in result.verdict.checks:
        mark = " " if check.passed else "!"
        lines.append(
            f"{head:<{NAME_WIDTH + 4}}  {mark} {check.required:<{REQUIRED_WIDTH}} {check.measured}"
        )
        head = ""
    return "\n".join(lines)


def document(results: Sequence[Result], situations: Sequence[Situation]) -> dict[str, Any]:
    """Return all criteria and measurements, as JSON values."""
    questions = {situation.name: situation.question for situation in situations}
    sums = totals(results)
    listed: list[dict[str, Any]] = []
    for result in results:
        verdict = result.verdict
        if verdict is None:
            listed.append({"name": result.name, "why_not": result.why_not})
            continue
        listed.append(
            {
                "name": result.name,
                "question": questions[result.name],
                "passed": verdict.passed,
                "found": verdict.found,
                "incidents": verdict.incidents,
                "false_alarms": verdict.false_alarms,
                "entity_days": round(verdict.entity_days, 2),
                "seconds": round(result.seconds, 1),
                "checks": [vars(check) for check in verdict.checks],
            }
        )
    return {"passed": sums.passed, "judged": sums.judged, "situations": listed}


def table(situations: Sequence[Situation]) -> str:
    """Write the situations as a table in Markdown."""
    lines = ["| situation | question | asked beyond the defaults |", "|---|---|---|"]
    for situation in situations:
        changed = situation.criteria.changed().items()
        asked = "; ".join(f"{name} {value}" for name, value in changed).replace("|", "\\|")
        lines.append(f"| `{situation.name}` | {situation.question} | {asked} |")
    return "\n".join(lines)
