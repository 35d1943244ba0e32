"""``python -m lapwing.notify``: send notices about incidents until SIGTERM."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from shared.settings import Settings


Group = Annotated[
    str | None, typer.Option("--group", metavar="NAME", help="notify.group: the consumer group.")
]


def notify(
    context: typer.Context, config: SettingsFile = None, group: Group = None, slot: SlotName = None
) -> None:
    """Send incidents to Alertmanager, webhooks and mail: open, worse, resolved.

    Receivers, routes, hours and silences are settings (notify.targets, notify.hours,
    notify.silences).
    """
    flags = given(slot=slot, notify=given(group=group))
    raise typer.Exit(serve("notify", Overrides.of(context, config), flags, _work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code."""
    return run_command(notify, "notify", argv)


def _work(settings: Settings, stopping: Stopping) -> None:
    from lapwing.notify.notify_service import run
    from shared.operations.counters import Counters

    run(settings, Counters(), stopping)


if __name__ == "__main__":
    sys.exit(main())
