"""Options about the columns of files, for every command that reads some."""

from __future__ import annotations

from typing import Annotated

import typer

Decimal = Annotated[
    str | None,
    typer.Option(
        "--decimal", metavar="point|comma", help="Sign of numbers where a file does not tell."
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
        help="Column of files that holds the time; two that belong together: date,time.",
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORM",
        help=(
            "Form of times that can be read in two ways: iso, s, ms, us, ns, DD/MM/YYYY,"
            " MM/DD/YYYY, YYYYMMDDHH, YYMMDDHHMM, ..."
        ),
    ),
]


def parse_speed(text: str) -> float:
    """Return event seconds per second; ``max`` is without limit.

    raises : typer.BadParameter
    """
    try:
        return float("inf") if text == "max" else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text}: event seconds per second, e.g. 300, or max") from error
