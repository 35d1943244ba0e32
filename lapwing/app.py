"""The commands of ``lapwing``: names, options and help; what they do is imported when they are called.

Invariant: nothing heavy is imported here, so that ``--help`` answers at once; what stands before a
           command reaches it as ``Overrides`` in its context.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from consumer_prediction.__main__ import predict
from consumer_training.__main__ import train
from lapwing import __version__
from lapwing.commands.backtest import backtest
from lapwing.commands.demo import demo
from lapwing.commands.inspect import inspect
from lapwing.commands.options import Json
from lapwing.dlq.commands import dlq_app
from producer.__main__ import produce
from shared.entry import Overrides, SettingsFile
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
    context: typer.Context,
    config: SettingsFile = None,
    settings: Annotated[
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
    short = {"kafka.bootstrap.servers": bootstrap, "registry.url": registry}
    values = {name: value for name, value in short.items() if value is not None}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting}: write NAME=VALUE, e.g. --set train.trees=200")
        values[name.strip()] = value
    context.obj = Overrides(config, values)


for command in (produce, train, predict, demo, backtest, inspect):
    app.command()(command)


class Stream(StrEnum):
    """What can be followed."""

    SCORES = "scores"
    ANOMALIES = "anomalies"
    DLQ = "dlq"


@app.command()
def tail(
    context: typer.Context,
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

    follow(
        Overrides.of(context).load(),
        stream.value,
        from_beginning=from_beginning,
        limit=limit,
        timeout_s=timeout_s,
        as_json=as_json,
    )


@app.command()
def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check everything that a service needs; say what to do.

    Broker, registry, topics, schemas, how the newest records are read, consumer group, model, folders,
    clock, dead letters among the newest records, and whether results come.  Changes nothing.  Exit
    code 1 when a check failed.
    """
    from lapwing.doctor import examine

    raise typer.Exit(examine(Overrides.of(context).load(), as_json=as_json))


@topics_app.command()
def ensure(
    context: typer.Context,
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

    raise typer.Exit(
        ensure_all(Overrides.of(context).load(), schemas_only=schemas_only, as_json=as_json)
    )


@topics_app.command()
def describe(context: typer.Context, as_json: Json = False) -> None:
    """Show the topics as they are: partitions, records, schemas."""
    from lapwing.topics import describe_all

    describe_all(Overrides.of(context).load(), as_json=as_json)


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
