"""``python -m producer`` and ``lapwing produce``: replay series into the input topic.

Law: settings come from the environment or ``--config``; what is replayed, and how fast, from the
     options.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.entry import Stopping, serve

if TYPE_CHECKING:
    from producer.service import ReplayOptions
    from shared.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the replay; return the exit code."""
    given = _parser().parse_args(argv)

    def work(settings: Settings, stopping: Stopping) -> None:
        from producer.service import run
        from shared.counters import Counters

        summary = run(settings, _options(given), Counters(), stopping)
        if given.json:
            print(summary.to_json(), flush=True)  # noqa: T201

    return serve("produce", {}, given.config, work)


def _options(given: argparse.Namespace) -> ReplayOptions:
    from producer.files.columns import ColumnChoice
    from producer.service import ReplayOptions
    from producer.sources import SourceOptions

    last_ms = None if given.rebase is None else time.time_ns() // 1_000_000
    source = SourceOptions(
        given.data,
        given.catalogue,
        given.skip_bad,
        given.fleet,
        given.days,
        given.seed,
        given.step,
        given.original_times,
        last_ms,
        ColumnChoice.parse(given.entity, given.time, given.time_format, given.decimal),
    )
    return ReplayOptions(
        source,
        given.start,
        given.stop,
        given.backfill,
        given.speed,
        given.loop,
        tuple(given.pace_group),
        given.pace_records,
        given.labels,
        given.resume,
    )


def _speed(text: str) -> float:
    return float("inf") if text == "max" else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lapwing produce",
        description="Replay series of CSV files, or a generated fleet, into the input topic.",
        epilog=(
            "Without --data and --fleet: NAB if `lapwing data fetch` has got it, else a generated"
            " fleet."
        ),
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    parser.add_argument(
        "--json", action="store_true", help="print the summary as one line of JSON at the end"
    )
    what = parser.add_argument_group("what is replayed")
    what.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of CSV files (or one file), or a copy of NAB",
    )
    what.add_argument(
        "--entity",
        metavar="COLUMN",
        help="column that names the entity; several: A,B (joined by '/'); '' = none",
    )
    what.add_argument(
        "--time", metavar="COLUMN", help="column of times; two that belong together: date,time"
    )
    what.add_argument(
        "--time-format",
        metavar="FORM",
        help=(
            "of times that can be read in two ways: iso, s, ms, us, ns, DD/MM/YYYY, MM/DD/YYYY,"
            " YYYYMMDDHH, YYMMDDHHMM, ..."
        ),
    )
    what.add_argument(
        "--decimal", choices=("point", "comma"), help="sign of numbers where a file does not tell"
    )
    what.add_argument(
        "--catalogue", type=Path, metavar="FILE", help="which series make up a host (TOML)"
    )
    what.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave bad rows out and count them, instead of ending with an error",
    )
    what.add_argument("--fleet", type=int, metavar="N", help="generate N hosts instead")
    what.add_argument("--days", type=float, default=14.0, help="of a generated fleet (default 14)")
    what.add_argument("--seed", type=int, default=0, help="of a generated fleet (default 0)")
    what.add_argument(
        "--step",
        type=int,
        default=300,
        metavar="SECONDS",
        help="between samples of a generated host (default 300)",
    )
    what.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="write the anomalies of the generated fleet to a file (JSON)",
    )
    what.add_argument(
        "--from",
        dest="start",
        type=float,
        default=0.0,
        metavar="F",
        help="begin at this share of the events (0)",
    )
    what.add_argument(
        "--to",
        dest="stop",
        type=float,
        default=1.0,
        metavar="F",
        help="end at this share of the events (1)",
    )
    what.add_argument(
        "--resume",
        action="store_true",
        help=(
            "go on where an earlier replay into the same topic stopped: leave out as many events as"
            " the topic has received"
        ),
    )
    when = parser.add_argument_group("when")
    when.add_argument(
        "--speed",
        type=_speed,
        default=300.0,
        metavar="X",
        help="event seconds per second, or max (default 300: 5-minute data once a second)",
    )
    when.add_argument(
        "--backfill",
        type=float,
        default=0.0,
        metavar="F",
        help="send this share of the events at full speed first",
    )
    when.add_argument(
        "--loop", action="store_true", help="begin again at the end, times later by whole weeks"
    )
    when.add_argument(
        "--original-times",
        action="store_true",
        help="do not shift series by whole weeks to one common start",
    )
    when.add_argument(
        "--rebase", choices=("now",), help="move all times so that the last event is now"
    )
    when.add_argument(
        "--pace-group", action="append", default=[], metavar="GROUP[@TOPIC]",
        help="wait for this consumer group of the input topic (or of another); repeatable, their backlogs are added up",
    )  # fmt: skip
    when.add_argument(
        "--pace-records",
        type=int,
        default=20_000,
        metavar="N",
        help="how far the replay may be ahead of these groups (default 20000)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
