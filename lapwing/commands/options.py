"""Options that several commands share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def example(*lines: str) -> str:
    """Return the end of a command's help text: examples that can be copied, one per line."""
    if len(lines) == 1:
        return f"Example: {lines[0]}"
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def compiling_told() -> AbstractContextManager[None]:
    """Tell on standard error where kernels that the block loads must be compiled first."""
    from shared.operations.compiling import kernels_compiled

    return kernels_compiled(lambda line: typer.echo(line, err=True))
