"""The command ``lapwing demo``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import compiling_told
from producer.options import Decimal, EntityColumn, TimeColumn, TimeFormat, parse_speed
from shared.operations.entry import Overrides

STARTED_S = time.monotonic()


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of CSV files, or a copy of NAB. Default: data/nab if it exists.",
        ),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    fleet: Annotated[
        int | None,
        typer.Option(
            "--fleet", min=1, metavar="N", help="Generate N hosts instead of reading files."
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help=(
                "Send everything at full speed, then exit; exit code 0 only if all counts agree."
            ),
        ),
    ] = False,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            parser=parse_speed,
            metavar="X",
            help="Event seconds per second in the live part, or max; default 3000.",
        ),
    ] = None,
    predictors: Annotated[
        int, typer.Option("--predictors", metavar="N", help="Prediction processes.")
    ] = 2,
    backfill: Annotated[
        float,
        typer.Option(
            "--backfill",
            metavar="F",
            help="First share of the events; sent at full speed, used for training.",
        ),
    ] = 0.6,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as the last line, as JSON.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG picture of the run.")
    ] = None,
    page: Annotated[
        bool | None,
        typer.Option(
            "--page/--no-page", help="Serve the page in the browser; default: yes without --once."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep models, reports and logs in this folder."),
    ] = None,
) -> None:
    """Run the whole pipeline without Kafka: replay, train, predict.

    The services run as separate processes with an embedded broker and registry in memory.
    """
    with compiling_told():
        from lapwing.demo.command import run
    from lapwing.demo.plan import DemoOptions
    from producer.files.columns import ColumnChoice
    from producer.sources import SourceOptions

    source = SourceOptions(
        data, fleet=fleet, columns=ColumnChoice.parse(entity, time_column, time_format, decimal)
    )
    options = DemoOptions(
        source=source,
        predictors=predictors,
        speed=speed,
        backfill=backfill,
        once=once,
        as_json=as_json,
        picture=svg,
        keep=keep,
        page=not once if page is None else page,
    )
    environ = {**os.environ, **Overrides.of(context).variables()}
    raise typer.Exit(run(options, environ, STARTED_S))
