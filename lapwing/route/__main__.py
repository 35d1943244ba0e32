"""``python -m lapwing.route``: make metric events of rows until SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.operations.entry import Overrides, SettingsFile, Stopping, given, run_command, serve
from shared.operations.failpoints import arm

if TYPE_CHECKING:
    from shared.settings import Settings


def route(
    context: typer.Context,
    config: SettingsFile = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="TOPIC", help="route.source: the topic to read."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="route.format: the format of its records."),
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option(
            "--entity",
            metavar="TEMPLATE",
            help="route.entity: a template over labels, e.g. {host}[/{cpu}].",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="route.group: the consumer group.")
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option("--slot", metavar="NAME", help="slot: stable name of this instance."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what the newest records would give; change nothing."),
    ] = False,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="With --dry-run: read this file as one record; repeatable, no Kafka is needed.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="With --dry-run: records to show.")
    ] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: write JSON, one line per record.")
    ] = False,
) -> None:
    """Make one metric event of each row of records that hold several, exactly once.

    Reads Telegraf's records and similar ones from route.source, and writes Avro records keyed by
    entity to topics.input, which predictors read. Rows that cannot be read become dead letters.
    Several instances share the partitions. docs/route.md has the formats.
    """
    flags = given(slot=slot, route=given(source=source, format=format_, entity=entity, group=group))
    overrides = Overrides.of(context, config)
    if dry_run or files:
        from lapwing.route.route_preview import preview

        preview(overrides.load(flags), files or (), limit, as_json=as_json)
        return
    raise typer.Exit(serve("route", overrides, flags, _work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code."""
    return run_command(route, "route", argv)


def _work(settings: Settings, stopping: Stopping) -> None:
    arm(os.environ.get("LAPWING_FAILPOINT", ""), lambda: os.kill(os.getpid(), signal.SIGKILL))
    from lapwing.route.route_service import run
    from shared.operations.counters import Counters

    run(settings, Counters(), stopping)


if __name__ == "__main__":
    sys.exit(main())
