"""``python -m consumer_training`` and ``lapwing train``: settings come from the environment,
``--config`` or the options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer_training.packages import require_packages
from shared.entry import Stopping, serve

if TYPE_CHECKING:
    from shared.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainer; return the exit code."""
    given = _parser().parse_args(argv)

    def work(settings: Settings, stopping: Stopping) -> None:
        require_packages("training")
        from consumer_training.service import Options, run
        from shared.counters import Counters

        options = Options(given.once, given.wait_s, given.labels)
        run(settings, options, Counters(), stopping)

    return serve("train", _flags(given), given.config, work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lapwing train",
        description=(
            "Train a model on the input topic and publish it. Without a schedule (--every, --cron)"
            " it trains once; while there is too little to learn from, it waits."
        ),
    )
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    parser.add_argument(
        "--once", action="store_true", help="train once on what is there, even if a schedule is set"
    )
    parser.add_argument(
        "--every", metavar="24h", help="train.every: again after so long (s, m, h, d)"
    )
    parser.add_argument(
        "--cron", metavar="LINE", help="train.cron: again by a cron line, UTC, e.g. '0 3 * * *'"
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        metavar="SECONDS",
        help="give up when there is too little data for so long",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help=(
            "labelled anomalies, JSON or CSV as for `lapwing backtest`: hits and misses in the"
            " report"
        ),
    )
    parser.add_argument(
        "--detector", choices=("isolation_forest", "one_class_svm"), help="detector"
    )
    parser.add_argument(
        "--window-days", type=float, metavar="DAYS", help="train.window_days: only the newest days"
    )
    parser.add_argument("--models-dir", type=Path, help="models_dir")
    return parser


def _flags(given: argparse.Namespace) -> dict[str, Any]:
    flags = {
        name: getattr(given, name)
        for name in ("detector", "models_dir")
        if getattr(given, name) is not None
    }
    train = {
        name: getattr(given, name)
        for name in ("every", "cron", "window_days")
        if getattr(given, name) is not None
    }
    return flags | ({"train": train} if train else {})


if __name__ == "__main__":
    sys.exit(main())
