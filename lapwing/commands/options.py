"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def example(line: str) -> str:
    """Return the last line of a command's help text: an example that can be copied."""
    return f"Example: {line}"
