"""The command ``lapwing inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json
from producer.options import Decimal, EntityColumn, TimeColumn, TimeFormat
from shared.operations.entry import Overrides


def inspect(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="T", help="Topic; default: the input topic.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Read CSV files instead: a folder or one file."),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    records: Annotated[
        int,
        typer.Option(
            "--records", min=1, max=100_000, metavar="N", help="Number of newest records to read."
        ),
    ] = 1_000,
    as_json: Json = False,
) -> None:
    """Show how the newest records are read: entity, time, metrics, and what is left out.

    Also shows which records would become dead letters, and what may be misread. Needs no consumer
    group and changes nothing. Exit code 1 if no record can be read.
    """
    from lapwing.inspect.command import inspect as show
    from producer.files.columns import ColumnChoice

    columns = ColumnChoice.parse(entity, time_column, time_format, decimal)
    raise typer.Exit(
        show(
            Overrides.of(context).load(),
            topic=topic,
            data=data,
            columns=columns,
            limit=records,
            as_json=as_json,
        )
    )
