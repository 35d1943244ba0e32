"""``python -m producer`` and ``lapwing produce``: replay series into the input topic.

Invariant: settings come from the environment or ``--config``; the options say what is replayed and
           how fast.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producer.options import Decimal, EntityColumn, TimeColumn, TimeFormat, parse_speed
from shared.operations.entry import Overrides, SettingsFile, Stopping, run_command, serve

if TYPE_CHECKING:
    from shared.settings import Settings


class Rebase(StrEnum):
    """Times to which the last event can be moved."""

    NOW = "now"


def produce(
    context: typer.Context,
    config: SettingsFile = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the summary as one line of JSON at the end."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of CSV files (or one file), or a copy of NAB.",
        ),
    ] = None,
    entity: EntityColumn = None,
    time_column: TimeColumn = None,
    time_format: TimeFormat = None,
    decimal: Decimal = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            help="Catalogue of the series that make up each host (TOML).",
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Skip and count bad rows instead of ending with an error.",
        ),
    ] = False,
    fleet: Annotated[
        int | None, typer.Option("--fleet", metavar="N", help="Generate N hosts instead.")
    ] = None,
    days: Annotated[
        float, typer.Option("--days", metavar="D", help="Days of a generated fleet.")
    ] = 14.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of a generated fleet.")
    ] = 0,
    step: Annotated[
        int,
        typer.Option(
            "--step", metavar="SECONDS", help="Interval between samples of a generated host."
        ),
    ] = 300,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Write the anomalies of the generated fleet to a file (JSON).",
        ),
    ] = None,
    start: Annotated[
        float, typer.Option("--from", metavar="F", help="Start at this share of the events.")
    ] = 0.0,
    stop: Annotated[
        float, typer.Option("--to", metavar="F", help="End at this share of the events.")
    ] = 1.0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help=(
                "Continue an earlier replay into the same topic: skip as many events as the topic"
                " has received."
            ),
        ),
    ] = False,
    speed: Annotated[
        float,
        typer.Option(
            "--speed",
            parser=parse_speed,
            metavar="X",
            help="Event seconds per second, or max; 300 is 5-minute data once a second.",
        ),
    ] = 300.0,
    backfill: Annotated[
        float,
        typer.Option(
            "--backfill",
            metavar="F",
            help="Send this share of the events at full speed first.",
        ),
    ] = 0.0,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="Start over at the end, with times later by whole weeks."),
    ] = False,
    original_times: Annotated[
        bool,
        typer.Option(
            "--original-times",
            help="Do not shift series by whole weeks to a common start.",
        ),
    ] = False,
    rebase: Annotated[
        Rebase | None,
        typer.Option("--rebase", help="Move all times so that the last event is now."),
    ] = None,
    pace_group: Annotated[
        list[str] | None,
        typer.Option(
            "--pace-group",
            metavar="GROUP[@TOPIC]",
            help=(
                "Wait for this consumer group of the input topic (or of another topic); repeatable,"
                " the lags are added up."
            ),
        ),
    ] = None,
    pace_records: Annotated[
        int,
        typer.Option(
            "--pace-records",
            metavar="N",
            help="Maximum lag of these groups before the replay waits.",
        ),
    ] = 20_000,
) -> None:
    """Replay series of CSV files, or a generated fleet, into the input topic.

    Without --data and --fleet: NAB if `lapwing data fetch` has downloaded it, else a generated
    fleet.
    """

    def work(settings: Settings, stopping: Stopping) -> None:
        from producer.files.columns import ColumnChoice
        from producer.service import ReplayOptions, run
        from producer.sources import SourceOptions
        from shared.operations.counters import Counters

        source = SourceOptions(
            data=data,
            catalogue=catalogue,
            skip_bad=skip_bad,
            fleet=fleet,
            days=days,
            seed=seed,
            step_s=step,
            original_times=original_times,
            last_ms=None if rebase is None else time.time_ns() // 1_000_000,
            columns=ColumnChoice.parse(entity, time_column, time_format, decimal),
        )
        options = ReplayOptions(
            source=source,
            start=start,
            stop=stop,
            backfill=backfill,
            speed=speed,
            loop=loop,
            pace_groups=tuple(pace_group or ()),
            pace_records=pace_records,
            labels=labels,
            resume=resume,
        )
        summary = run(settings, options, Counters(), stopping)
        if as_json:
            print(summary.to_json(), flush=True)  # noqa: T201

    raise typer.Exit(serve("produce", Overrides.of(context, config), {}, work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the replay; return the exit code."""
    return run_command(produce, "produce", argv)


if __name__ == "__main__":
    sys.exit(main())
