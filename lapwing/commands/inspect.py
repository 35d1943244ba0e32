"""The command ``lapwing inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json
from producer.options import Decimal, EntityColumn, TimeColumn, TimeFormat
from shared.entry import Overrides


def inspect(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="T", help="Default: the input topic.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder of CSV files, or one file, instead."),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    records: Annotated[
        int,
        typer.Option("--records", min=1, max=100_000, metavar="N", help="Look at the newest N."),
    ] = 1_000,
    as_json: Json = False,
) -> None:
    """Show what is read of the newest records as entity, time and metrics, what is left out, and
    why.

    Also what would become dead letters, and what may be misread.  Needs no group and changes nothing; exit code 1 when nothing
    can be read.
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
