"""``python -m consumer_prediction``: score the input topic until SIGTERM.

Settings come from the environment or ``--config``.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.operations.entry import Overrides, SettingsFile, Stopping, given, run_command, serve
from shared.operations.failpoints import arm

if TYPE_CHECKING:
    from shared.settings import Settings


class Delivery(StrEnum):
    """Delivery guarantees for results."""

    EXACTLY_ONCE = "exactly-once"
    AT_LEAST_ONCE = "at-least-once"


def predict(
    context: typer.Context,
    config: SettingsFile = None,
    delivery: Annotated[
        Delivery | None, typer.Option("--delivery", help="predict.delivery")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="predict.group: the consumer group."),
    ] = None,
    slot: Annotated[
        str | None,
        typer.Option(
            "--slot",
            metavar="NAME",
            help="slot: stable name of this predictor, unique within the group.",
        ),
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option("--models-dir", metavar="DIR", help="models_dir")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", metavar="DIR", help="state_dir")
    ] = None,
) -> None:
    """Score every event of the input topic, in real time."""
    flags = given(
        slot=slot,
        models_dir=models_dir,
        state_dir=state_dir,
        predict=given(delivery=delivery, group=group),
    )
    raise typer.Exit(serve("predict", Overrides.of(context, config), flags, _work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the predictor; return the exit code."""
    return run_command(predict, "predict", argv)


def _work(settings: Settings, stopping: Stopping) -> None:
    arm(os.environ.get("LAPWING_FAILPOINT", ""), lambda: os.kill(os.getpid(), signal.SIGKILL))
    from consumer_prediction.connection import KafkaConnection
    from consumer_prediction.health.readiness import Readiness
    from shared.operations.compiling import compilation_logged
    from shared.operations.counters import Counters
    from shared.operations.telemetry import TelemetryServer

    connection = KafkaConnection(settings)
    counters, readiness = Counters(), Readiness()
    with TelemetryServer(settings.telemetry, counters, readiness):
        with _fast_imports(), compilation_logged(readiness.waiting):
            from consumer_prediction.service import run
        run(settings, counters, connection, stopping, readiness)


@contextmanager
def _fast_imports() -> Iterator[None]:
    """Import without garbage collection and without scipy, so that a restart takes less time.

    numba loads scipy for its BLAS, which no kernel calls.
    """
    gc.disable()
    hidden = sys.modules.setdefault("scipy", None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["scipy"]
        gc.enable()


if __name__ == "__main__":
    sys.exit(main())
