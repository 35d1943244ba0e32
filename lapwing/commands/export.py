"""The command ``lapwing export scores --to FILE`` and its like."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from shared.operations.entry import Overrides


class Results(StrEnum):
    """What can be exported."""

    ANOMALIES = "anomalies"
    SCORES = "scores"
    INCIDENTS = "incidents"


def export(
    context: typer.Context,
    name: Annotated[Results, typer.Argument(help="Which results.")],
    to: Annotated[
        Path,
        typer.Option("--to", metavar="FILE", help="FILE.parquet or FILE.csv; replaced when done."),
    ],
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Event times from here on, UTC."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Event times before this, UTC.")
    ] = None,
) -> None:
    """Write results that are in Kafka into a file for pandas, DuckDB, SQLite or a spreadsheet.

    Scores have a row for each metric of a record; of incidents the newest record is written. Only
    committed records are read, and the file appears when it is complete.
    """
    from lapwing.export.export_command import ExportOptions
    from lapwing.export.export_command import export as run

    run(Overrides.of(context).load(), ExportOptions(name.value, to, since, until))
