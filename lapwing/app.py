"""The commands of ``lapwing``: names, options and help texts.

Invariant: this module imports no command's implementation, so ``--help`` answers at once; options
before a command's name reach it as ``Overrides`` in its context.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from consumer_prediction.__main__ import predict
from consumer_training.__main__ import train
from dashboard.__main__ import dashboard
from lapwing import __version__
from lapwing.commands.backtest import backtest
from lapwing.commands.demo import demo
from lapwing.commands.explain import explain
from lapwing.commands.export import export
from lapwing.commands.feedback import feedback_app
from lapwing.commands.incidents import incidents_app
from lapwing.commands.inspect import inspect
from lapwing.commands.options import Json, example
from lapwing.dlq.commands import dlq_app
from lapwing.notify.__main__ import notify
from lapwing.route.__main__ import route
from producer.__main__ import produce
from shared.errors import ConfigError, LapwingError
from shared.operations.entry import Overrides, SettingsFile

app = typer.Typer(
    name="lapwing",
    help="Real-time anomaly detection for metric streams on Kafka.",
    epilog=(
        "Settings: flags override the environment (LAPWING_*), which overrides the file (--config),"
        " which overrides the defaults; see docs/settings.md. Example: lapwing demo"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
topics_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create and show topics and schemas.",
    epilog=example("lapwing topics ensure"),
)
app.add_typer(topics_app, name="topics")

app.add_typer(
    incidents_app,
    name="incidents",
    short_help="Group anomalies into incidents; list and show them.",
)

app.add_typer(feedback_app, name="feedback")

app.add_typer(dlq_app, name="dlq")

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Download series to replay.",
    epilog=example("lapwing data fetch"),
)
app.add_typer(data_app, name="data")


def run() -> int:
    """Run the command line on ``sys.argv``; return the exit code."""
    # Drop the Kafka client's log lines; the error message has what matters.
    logging.getLogger("lapwing").addHandler(logging.NullHandler())
    try:
        app()
    except LapwingError as error:
        print(f"lapwing: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"lapwing {__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    context: typer.Context,
    config: SettingsFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set one setting, e.g. --set train.trees=200; repeatable.",
        ),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-servers",
            metavar="HOST:PORT",
            help="Kafka brokers; short for --set kafka.bootstrap.servers=...",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="URL",
            help="Schema Registry URL; short for --set registry.url=...",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    short = {"kafka.bootstrap.servers": bootstrap, "registry.url": registry}
    values = {name: value for name, value in short.items() if value is not None}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting}: write NAME=VALUE, e.g. --set train.trees=200")
        values[name.strip()] = value
    context.obj = Overrides(config, values)


for command, short, lines in (
    (
        demo,
        "Run the whole pipeline here, without Kafka.",
        ["lapwing demo", "lapwing demo --fleet 200 --speed 6000", "lapwing demo --once --json"],
    ),
    (
        inspect,
        "Show how the newest records are read, and what is left out.",
        ["lapwing inspect --topic plant.readings", "lapwing inspect --data data/nab"],
    ),
    (
        produce,
        "Replay CSV files or a generated fleet into the input topic.",
        [
            "lapwing produce --fleet 20 --days 7 --speed max",
            "lapwing produce --data data/nab --speed 3000 --loop",
        ],
    ),
    (
        train,
        "Train a model on the input topic and publish it.",
        ["lapwing train --once", "lapwing train --every 24h --detector isolation_forest"],
    ),
    (
        predict,
        "Score every event of the input topic, in real time.",
        ["lapwing predict", "lapwing predict --slot 1"],
    ),
    (
        dashboard,
        "Serve the page: what is anomalous now, and why.",
        ["lapwing dashboard", "lapwing dashboard --port 8001"],
    ),
    (
        notify,
        "Send incidents to Alertmanager, webhooks and mail.",
        ["lapwing notify --config alerts.toml"],
    ),
    (
        route,
        "Make one metric event of each row of records that hold several.",
        [
            "lapwing route --source telegraf.raw --dry-run",
            "lapwing route --source telegraf.raw --entity '{host}[/{cpu}]'",
        ],
    ),
    (
        backtest,
        "Show which alarms settings would have raised.",
        [
            "lapwing backtest --fleet 20 --compare threshold=1.5",
            "lapwing backtest --data data/nab --out report",
            "lapwing backtest --topic-range .. --alarms-per-day 0.5",
        ],
    ),
    (
        explain,
        "Compute a verdict again, and show what led to it.",
        [
            "lapwing explain a946a8a90529a68cffad8d264e1a77e8",
            "lapwing explain 3:1024 --picture why.svg",
        ],
    ),
    (
        export,
        "Write results into a file for pandas, DuckDB or SQLite.",
        [
            "lapwing export anomalies --to anomalies.parquet",
            "lapwing export scores --to scores.csv --since 2026-03-01T00:00",
        ],
    ),
):
    app.command(short_help=short, epilog=example(*lines))(command)


class Stream(StrEnum):
    """Topics that ``lapwing tail`` can follow."""

    SCORES = "scores"
    ANOMALIES = "anomalies"
    DLQ = "dlq"


@app.command(
    epilog=example(
        "lapwing tail anomalies --from-beginning --max 10",
        "lapwing tail scores --json --timeout 5",
    )
)
def tail(
    context: typer.Context,
    stream: Annotated[Stream, typer.Argument(help="Topic to follow.")] = Stream.ANOMALIES,
    from_beginning: Annotated[
        bool,
        typer.Option(
            "--from-beginning", help="Start at the oldest record instead of the next one."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="Exit after N records.")
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, metavar="SECONDS", help="Exit if no record comes for this long."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print new scores, anomalies or dead letters, one per line."""
    from lapwing.tail import TailOptions, follow

    options = TailOptions(stream.value, from_beginning, limit, timeout_s, as_json)
    follow(Overrides.of(context).load(), options)


@app.command(epilog=example("lapwing doctor"))
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check everything that a service needs, and show remedies.

    Checks broker, registry, topics, schemas, how the newest records are read, consumer group,
    model, folders, clock, recent dead letters, and whether results are written. Changes nothing.
    Exit code 1 if a check failed.
    """
    from lapwing.doctor import examine

    raise typer.Exit(examine(Overrides.of(context).load(), as_json=as_json))


@topics_app.command(epilog=example("lapwing topics ensure"))
def ensure(
    context: typer.Context,
    schemas_only: Annotated[
        bool,
        typer.Option(
            "--schemas-only",
            help="Register the result schemas only, e.g. if you may not create topics.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create missing topics and register missing result schemas.

    Existing topics are compared with the settings and never changed. The producer of the input
    registers the input's schemas. Exit code 0 if everything that Lapwing needs exists.
    """
    from lapwing.topics import ensure_all

    raise typer.Exit(
        ensure_all(Overrides.of(context).load(), schemas_only=schemas_only, as_json=as_json)
    )


@topics_app.command(epilog=example("lapwing topics describe --json"))
def describe(context: typer.Context, as_json: Json = False) -> None:
    """Show topics, partitions, offsets and schemas."""
    from lapwing.topics import describe_all

    describe_all(Overrides.of(context).load(), as_json=as_json)


@topics_app.command(epilog=example("lapwing topics acls predictor --commands"))
def acls(
    context: typer.Context,
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE]...", help="Services, e.g. producer predictor; default: all."
        ),
    ] = None,
    principal: Annotated[
        str,
        typer.Option(
            "--principal",
            metavar="TYPE:NAME",
            help="Principal in commands and JSON; {service} is the service's name.",
        ),
    ] = "User:lapwing-{service}",
    commands: Annotated[
        bool, typer.Option("--commands", help="Print commands of kafka-acls.sh.")
    ] = False,
    strimzi: Annotated[
        str | None,
        typer.Option(
            "--strimzi",
            metavar="CLUSTER",
            help="Print topics and users of Strimzi's operators, for kubectl apply -f -.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the least rights on the broker that each service needs.

    They follow from the settings: names of topics and groups, transactional ids, delivery. Nothing
    is granted, and no connection is made.
    """
    from lapwing.acls import print_acls, print_strimzi

    settings = Overrides.of(context).load()
    if strimzi:
        print_strimzi(settings, services or [], principal, strimzi)
        return
    form: Literal["table", "commands", "json"] = "commands" if commands else "table"
    print_acls(settings, services or [], principal, "json" if as_json else form)


@data_app.command("fetch", epilog=example("lapwing data fetch --to data/nab"))
def fetch(
    target: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Target folder; default data/nab.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="Download from a mirror; the checksums are the same."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download the Numenta Anomaly Benchmark and check it by SHA-256."""
    from lapwing.data import fetch_nab

    fetch_nab(target, url, as_json=as_json)
