"""The command ``lapwing backtest``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json, compiling_told
from producer.options import Decimal, EntityColumn, TimeColumn, TimeFormat
from shared.operations.entry import Overrides


class RowOrder(StrEnum):
    """In which order the rows of files are scored."""

    TIME = "time"
    ARRIVAL = "arrival"


def backtest(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Read CSV files: a folder or one file."),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    topic_range: Annotated[
        str | None,
        typer.Option(
            "--topic-range",
            metavar="FROM..TO",
            help="Read the input topic, by offset or event time; either side may be omitted.",
        ),
    ] = None,
    fleet: Annotated[
        int | None,
        typer.Option("--fleet", min=1, metavar="N", help="Generate N hosts with labels."),
    ] = None,
    days: Annotated[
        float, typer.Option("--days", metavar="D", help="Length of the generated fleet.")
    ] = 14.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the generated fleet.")
    ] = 0,
    catalogue: Annotated[
        Path | None,
        typer.Option("--catalogue", metavar="FILE", help="TOML file that assigns series to hosts."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip and count bad rows of files.")
    ] = False,
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions",
            min=1,
            metavar="N",
            help="Number of partitions for the files, assigned as the producer does.",
        ),
    ] = 1,
    order: Annotated[
        RowOrder,
        typer.Option(
            "--order", help="Of the rows of files: by event time, or as they lie in each file."
        ),
    ] = RowOrder.TIME,
    detector: Annotated[
        str | None,
        typer.Option("--detector", metavar="NAME", help="Detector; default: the setting."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="T", help="Score that raises an alarm.")
    ] = None,
    alarms_per_day: Annotated[
        float | None,
        typer.Option(
            "--alarms-per-day",
            metavar="N",
            help="Alarm budget per entity and day; replaces the threshold.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="SHA256|CURRENT",
            help="Published model: joins the ensemble, or decides alone.",
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="Fit a model to the first part of the data; count only the rest."
        ),
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="NAB's combined_windows.json, or CSV: entity,start,end.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="KEY=VALUE,...",
            help="Score a second time with changes, e.g. threshold=1.5 or model=SHA256.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="MINUTES",
            help="Alarms within this distance match; default 6 usual intervals.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write report.html, summary.json, alarms.csv and result files.",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows", metavar="FILE", help="Write what each record was judged to be, as JSON lines."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which alarms a configuration would have raised on recorded data.

    Files or a range of the topic run through the predictor's code. Nothing is written to Kafka.
    """
    with compiling_told():
        from lapwing.backtest.command import BacktestOptions
        from lapwing.backtest.command import backtest as run_backtest
    from lapwing.backtest.feeds import InputOptions
    from producer.files.columns import ColumnChoice

    columns = ColumnChoice.parse(entity, time_column, time_format, decimal)
    source = InputOptions(
        data=data,
        topic_range=topic_range,
        fleet=fleet,
        days=days,
        seed=seed,
        catalogue=catalogue,
        skip_bad=skip_bad,
        partitions=partitions,
        columns=columns,
        by_arrival=order is RowOrder.ARRIVAL,
    )
    options = BacktestOptions(
        input=source,
        detector=detector,
        threshold=threshold,
        alarms_per_day=alarms_per_day,
        model=model,
        fit=train,
        labels=labels,
        compared=compare,
        tolerance_min=tolerance,
        out=out,
        as_json=as_json,
        rows=rows,
    )
    with compiling_told():
        run_backtest(Overrides.of(context).load, options)
