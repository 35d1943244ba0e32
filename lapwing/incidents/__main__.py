"""``python -m lapwing.incidents``: fold the anomalies topic into incidents until SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from shared.operations.entry import (
    Overrides,
    SettingsFile,
    SlotName,
    Stopping,
    given,
    run_command,
    serve,
)
from shared.operations.failpoints import arm

if TYPE_CHECKING:
    from shared.settings import Settings


Group = Annotated[
    str | None, typer.Option("--group", metavar="NAME", help="incidents.group: the consumer group.")
]


def serve_incidents(
    context: typer.Context, config: SettingsFile = None, group: Group = None, slot: SlotName = None
) -> None:
    """Fold anomalies into incidents, in real time."""
    flags = given(slot=slot, incidents=given(group=group))
    raise typer.Exit(serve("incidents", Overrides.of(context, config), flags, _work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code."""
    return run_command(serve_incidents, "incidents", argv)


def _work(settings: Settings, stopping: Stopping) -> None:
    arm(os.environ.get("LAPWING_FAILPOINT", ""), lambda: os.kill(os.getpid(), signal.SIGKILL))
    from lapwing.incidents.incident_service import run
    from shared.operations.counters import Counters

    run(settings, Counters(), stopping)


if __name__ == "__main__":
    sys.exit(main())
