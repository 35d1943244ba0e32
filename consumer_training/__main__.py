"""``python -m consumer_training`` and ``lapwing train``: train a model on the input topic.

Settings come from the environment, ``--config`` or the options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumer_training.packages import require_packages
from shared.operations.entry import Overrides, SettingsFile, Stopping, given, run_command, serve

if TYPE_CHECKING:
    from shared.settings import Settings


class Fitted(StrEnum):
    """Detectors that are trained."""

    ISOLATION_FOREST = "isolation_forest"
    ONE_CLASS_SVM = "one_class_svm"
    PEER_GROUPS = "peer_groups"
    RECONSTRUCTION = "reconstruction"


def train(
    context: typer.Context,
    config: SettingsFile = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Train once on the present input, even if a schedule is set."),
    ] = False,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="24h", help="train.every: interval between trainings (s, m, h, d)."
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron",
            metavar="LINE",
            help="train.cron: schedule as a cron line, UTC, e.g. '0 3 * * *'.",
        ),
    ] = None,
    wait_s: Annotated[
        float | None,
        typer.Option(
            "--wait-s",
            metavar="SECONDS",
            help="Give up after waiting this long for enough data.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help=(
                "Labelled anomalies, JSON or CSV as for `lapwing backtest`: hits and misses in the"
                " report."
            ),
        ),
    ] = None,
    detector: Annotated[Fitted | None, typer.Option("--detector", help="detector")] = None,
    window_days: Annotated[
        float | None,
        typer.Option(
            "--window-days", metavar="DAYS", help="train.window_days: only the newest days."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show reading and the loss of each pass on the terminal."),
    ] = False,
    models_dir: Annotated[
        Path | None, typer.Option("--models-dir", metavar="DIR", help="models_dir")
    ] = None,
) -> None:
    """Train a model on the input topic and publish it.

    Without a schedule (--every, --cron) it trains once. It waits until there is enough data.
    """

    def work(settings: Settings, stopping: Stopping) -> None:
        require_packages("training")
        from consumer_training.outside import Options
        from consumer_training.progress import Watcher
        from shared.operations.compiling import compilation_logged

        with compilation_logged(lambda _: None):
            from consumer_training.service import run
        from shared.operations.counters import Counters

        watcher = Watcher(typer.echo) if watch else None
        run(settings, Options(once, wait_s, labels, watcher), Counters(), stopping)

    flags = given(
        detector=detector,
        models_dir=models_dir,
        train=given(every=every, cron=cron, window_days=window_days),
    )
    raise typer.Exit(serve("train", Overrides.of(context, config), flags, work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainer; return the exit code."""
    return run_command(train, "train", argv)


if __name__ == "__main__":
    sys.exit(main())
