"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def example(*lines: str) -> str:
    """Return the end of a command's help text: examples that can be copied, one per line."""
    if len(lines) == 1:
        return f"Example: {lines[0]}"
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
