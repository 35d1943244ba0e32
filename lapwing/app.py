"""The commands of ``lapwing``: names, options and help; what they do is imported when they are called.

Law: nothing heavy is imported here, so that ``--help`` answers at once; flags reach every command,
     also those that
belong to a service, as environment variables of this process and what it starts.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lapwing import __version__
from lapwing.dlq.commands import dlq_app
from shared.errors import ConfigError, LapwingError

app = typer.Typer(
    name="lapwing",
    help="Real-time anomaly detection for metric streams on Kafka.",
    epilog=(
        "Settings: flags > environment (LAPWING_*) > file (--config) > defaults; see"
        " docs/settings.md"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Create and describe topics and schemas."
)
app.add_typer(topics_app, name="topics")

app.add_typer(dlq_app, name="dlq")

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Get series to replay.")
app.add_typer(data_app, name="data")

STARTED_S = time.monotonic()
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
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
        help="Column of files that names the entity; several: A,B; '' = none.",
    ),
]
TimeColumn = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="COLUMN",
        help="Column of files that holds the time; two parts: date,time.",
    ),
]
TimeFormat = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        metavar="FORM",
        help="Its form if it can be read in two ways: DD/MM/YYYY, YYMMDDHHMM, s, ...",
    ),
]


def run() -> int:
    """Run the command line on ``sys.argv``; return the exit code."""
    # the client's log lines; an error says what matters
    logging.getLogger("lapwing").addHandler(logging.NullHandler())
    try:
        app()
    except LapwingError as error:
        print(f"lapwing: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapwing {__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="One setting, e.g. --set train.trees=200; repeatable.",
        ),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-servers",
            metavar="HOST:PORT",
            help="Kafka; short for --set kafka.bootstrap.servers=...",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry", metavar="URL", help="Schema Registry; short for --set registry.url=..."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if config is not None:
        os.environ["LAPWING_CONFIG"] = str(config)
    if bootstrap is not None:
        os.environ["LAPWING_KAFKA__BOOTSTRAP_SERVERS"] = bootstrap
    if registry is not None:
        os.environ["LAPWING_REGISTRY__URL"] = registry
    for setting in given or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting}: write NAME=VALUE, e.g. --set train.trees=200")
        os.environ[variable(name)] = value


def variable(name: str) -> str:
    """Return the environment variable of a setting: ``train.trees`` is LAPWING_TRAIN__TREES.

    Dots beyond the first, as librdkafka's names have them, become '_'.
    """
    section, dot, rest = name.strip().partition(".")
    return "LAPWING_" + (f"{section}__{rest.replace('.', '_')}" if dot else section).upper()


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of CSV files, or a copy of NAB. Default: data/nab if it is there.",
        ),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    fleet: Annotated[
        int | None, typer.Option("--fleet", min=1, metavar="N", help="Generate N hosts instead.")
    ] = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help=(
                "Send the rest at full speed too, then end; exit code 0 only when all counts agree."
            ),
        ),
    ] = False,
    speed: Annotated[
        str | None,
        typer.Option(
            "--speed",
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
            "--backfill", metavar="F", help="Share of the events that is sent first and trained on."
        ),
    ] = 0.6,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as the last line, as JSON.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture of the run.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep models, reports and logs there."),
    ] = None,
) -> None:
    """Do the whole job here: replay, train, predict; no Kafka.

    The services run as processes of their own, on a broker and a registry in memory.
    """
    from lapwing.demo.command import run
    from lapwing.demo.plan import DemoOptions
    from producer.files.columns import ColumnChoice
    from producer.sources import SourceOptions

    source = SourceOptions(
        data, fleet=fleet, columns=ColumnChoice.parse(entity, time_column, time_format, decimal)
    )
    options = DemoOptions(source, predictors, _speed(speed), backfill, once, as_json, svg, keep)
    raise typer.Exit(run(options, dict(os.environ), STARTED_S))


def _speed(text: str | None) -> float | None:
    try:
        return float("inf") if text == "max" else None if text is None else float(text)
    except ValueError as error:
        raise ConfigError(f"--speed {text}: event seconds per second, e.g. 300, or max") from error


def _forward(name: str, find: Callable[[], Callable[[list[str]], int]], text: str) -> None:
    @app.command(name, context_settings=FORWARD, help=text, add_help_option=False)
    def command(context: typer.Context) -> None:
        raise typer.Exit(find()(context.args))


def _producer() -> Callable[[list[str]], int]:
    from producer.__main__ import main

    return main


def _training() -> Callable[[list[str]], int]:
    from consumer_training.__main__ import main

    return main


def _prediction() -> Callable[[list[str]], int]:
    from consumer_prediction.__main__ import main

    return main


_forward(
    "produce",
    _producer,
    "Replay series into the input topic.  lapwing produce --help shows its options.",
)
_forward(
    "train",
    _training,
    "Train a model on the input topic and publish it.  lapwing train --help shows its options.",
)
_forward(
    "predict",
    _prediction,
    "Score every event of the input topic.  lapwing predict --help shows its options.",
)


class RowOrder(StrEnum):
    """In which order the rows of files are judged."""

    TIME = "time"
    ARRIVAL = "arrival"


class Stream(StrEnum):
    """What can be followed."""

    SCORES = "scores"
    ANOMALIES = "anomalies"
    DLQ = "dlq"


@app.command()
def tail(
    stream: Annotated[Stream, typer.Argument(help="What to follow.")] = Stream.ANOMALIES,
    from_beginning: Annotated[
        bool,
        typer.Option("--from-beginning", help="Begin with the oldest record, not with the next."),
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="End after N records.")
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, metavar="SECONDS", help="End when no record came for so long."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow scores, anomalies or dead letters, one line each."""
    from lapwing.tail import follow
    from shared.settings import load_settings

    follow(
        load_settings(),
        stream.value,
        from_beginning=from_beginning,
        limit=limit,
        timeout_s=timeout_s,
        as_json=as_json,
    )


@app.command()
def backtest(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder of CSV files, or one file.")
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
            help="Records of the input topic, by offset or event time; a side may be left out.",
        ),
    ] = None,
    fleet: Annotated[
        int | None,
        typer.Option("--fleet", min=1, metavar="N", help="Generate N hosts, with labels."),
    ] = None,
    days: Annotated[
        float, typer.Option("--days", metavar="D", help="Of a generated fleet.")
    ] = 14.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of a generated fleet.")] = 0,
    catalogue: Annotated[
        Path | None,
        typer.Option("--catalogue", metavar="FILE", help="Which series make up a host (TOML)."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows of files out and count them.")
    ] = False,
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions",
            min=1,
            metavar="N",
            help="Spread a folder over so many, as the producer does.",
        ),
    ] = 1,
    order: Annotated[
        RowOrder,
        typer.Option(
            "--order", help="Of the rows of files: by event time, or as they lie in each file."
        ),
    ] = RowOrder.TIME,
    detector: Annotated[
        str | None, typer.Option("--detector", metavar="NAME", help="Instead of the setting's.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", metavar="T", help="Score of an alarm.")
    ] = None,
    alarms_per_day: Annotated[
        float | None,
        typer.Option(
            "--alarms-per-day", metavar="N", help="About so many per entity and day instead."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="SHA256|CURRENT", help="A published model joins in, or decides."
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train", help="Fit a model to the first part of the data; count what comes after it."
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
            help="Judge a second time, e.g. threshold=1.5 or model=SHA256.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="MINUTES",
            help="Alarms so close are the same; default 6 usual intervals.",
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
    as_json: Json = False,
) -> None:
    """See what would have been alarmed, on recorded data.

    Files or a range of the topic run through the code of the predictor; nothing is written to
    Kafka.
    """
    from lapwing.backtest.command import BacktestOptions
    from lapwing.backtest.command import backtest as run_backtest
    from lapwing.backtest.feeds import InputOptions
    from producer.files.columns import ColumnChoice
    from shared.settings import load_settings

    columns = ColumnChoice.parse(entity, time_column, time_format, decimal)
    source = InputOptions(
        data,
        topic_range,
        fleet,
        days,
        seed,
        catalogue,
        skip_bad,
        partitions,
        columns,
        order is RowOrder.ARRIVAL,
    )
    run_backtest(
        load_settings,
        BacktestOptions(
            source,
            detector,
            threshold,
            alarms_per_day,
            model,
            train,
            labels,
            compare,
            tolerance,
            out,
            as_json,
        ),
    )


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check everything that a service needs; say what to do.

    Broker, registry, topics, schemas, how the newest records are read, consumer group, model, folders,
    clock, dead letters among the newest records, and whether results come.  Changes nothing.  Exit
    code 1 when a check failed.
    """
    from lapwing.doctor import examine
    from shared.settings import load_settings

    raise typer.Exit(examine(load_settings(), as_json=as_json))


@app.command()
def inspect(
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
    from shared.settings import load_settings

    columns = ColumnChoice.parse(entity, time_column, time_format, decimal)
    raise typer.Exit(
        show(
            load_settings(), topic=topic, data=data, columns=columns, limit=records, as_json=as_json
        )
    )


@topics_app.command()
def ensure(
    schemas_only: Annotated[
        bool,
        typer.Option(
            "--schemas-only",
            help="Register the result schemas, create no topic (a broker may not allow it).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the topics and result schemas that are missing.

    Topics with their partitions, retention and limits; what exists is compared and never changed, and the input's schemas are
    left to whoever writes the input.  Exit code 0 when all is there that Lapwing needs.
    """
    from lapwing.topics import ensure_all
    from shared.settings import load_settings

    raise typer.Exit(ensure_all(load_settings(), schemas_only=schemas_only, as_json=as_json))


@topics_app.command()
def describe(as_json: Json = False) -> None:
    """Show the topics as they are: partitions, records, schemas."""
    from lapwing.topics import describe_all
    from shared.settings import load_settings

    describe_all(load_settings(), as_json=as_json)


@data_app.command("fetch")
def fetch(
    target: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to put it; default data/nab.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Take it from a mirror; the checksums stay the same."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch the Numenta Anomaly Benchmark, checked by SHA-256."""
    from lapwing.data import fetch_nab

    fetch_nab(target, url, as_json=as_json)
