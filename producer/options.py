"""Options about the columns of files, shared by all commands that read files."""

from __future__ import annotations

from typing import Annotated

import typer

Decimal = Annotated[
    str | None,
    typer.Option(
        "--decimal", metavar="point|comma", help="Decimal sign where a file leaves it open."
    ),
]
EntityColumn = Annotated[
    str | None,
    typer.Option(
        "--entity",
        metavar="COLUMN",
        help="Column of files that names the entity; several: A,B (joined by '/'); '' = none.",
    ),
]
TimeColumn = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="COLUMN",
        help="Column of files that holds the time, or two that are joined: date,time.",
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORM",
        help=(
            "Format of times that are ambiguous: iso, s, ms, us, ns, DD/MM/YYYY,"
            " MM/DD/YYYY, YYYYMMDDHH, YYMMDDHHMM, ..."
        ),
    ),
]


def parse_speed(text: str) -> float:
    """Return event seconds per second; ``max`` means unlimited.

    raises : typer.BadParameter
    """
    try:
        return float("inf") if text == "max" else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: event seconds per second, e.g. 300, or max") from error
