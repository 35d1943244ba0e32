"""Generator of the table in docs/settings.md: ``python docs/settings_table.py``.

Invariant: every word of the table comes from ``shared/settings/``; a test fails if the page is not
current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared.settings import Section, Settings  # noqa: E402

BEGIN, END = (
    "<!-- settings: begin (docs/settings_table.py writes this) -->",
    "<!-- settings: end -->",
)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, default, allowed values, meaning) of every setting."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            section = field.get_default(call_default_factory=True)
            for inner, inner_field in kind.model_fields.items():
                yield (
                    f"{name}.{inner}",
                    _shown(getattr(section, inner)),
                    _allowed(inner_field),
                    inner_field.description or "",
                )
        else:
            default = (
                "" if name == "kafka" else _shown(field.get_default(call_default_factory=True))
            )
            yield (
                f"{name}.*" if name == "kafka" else name,
                default,
                _allowed(field),
                field.description or "",
            )


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {_code(default)} | {allowed} | {meaning} |"
        for name, default, allowed, meaning in rows()
    ]
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the page's text with the current table."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/settings.md lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _allowed(field: FieldInfo) -> str:
    values = []
    for part in (field.annotation, *get_args(field.annotation)):
        if get_origin(part) is Literal:
            values += [f"`{value}`" for value in get_args(part) if value != ""]
        elif isinstance(part, type) and issubclass(part, Enum):
            values += [f"`{value.value}`" for value in part]
    words = ", ".join(dict.fromkeys(values))
    for rule in field.metadata:
        for attribute, sign in (("ge", "≥ "), ("gt", "> "), ("le", "≤ "), ("lt", "< ")):
            bound = getattr(rule, attribute, None)
            if bound is not None:
                words += f"{', ' if words else ''}{sign}{bound}"
        if getattr(rule, "pattern", None):
            words += f"{', ' if words else ''}`{str(rule.pattern).replace('|', chr(92) + '|')}`"
    return words


def main() -> None:
    """Update docs/settings.md."""
    page = ROOT / "docs" / "settings.md"
    page.write_text(with_table(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
