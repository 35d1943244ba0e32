"""How every service starts and ends: settings, log, signals, and errors as exit codes.

Invariant: nothing heavy is imported before a command runs, so that ``--help`` answers at once; the
           first SIGTERM or SIGINT asks for a clean shutdown, a second one of the same kind ends the
           process at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from shared.errors import LapwingError

if TYPE_CHECKING:
    from shared.settings import Settings

Stopping = Callable[[], bool]
"""Tells whether somebody has asked for the end."""


def serve(
    name: str,
    flags: Mapping[str, Any],
    file: Path | None,
    work: Callable[[Settings, Stopping], None],
) -> int:
    """Load settings, configure the log, take signals, do the work.

    name    : of the command, for what is said about an error
    flags   : settings that its options give; see ``shared.settings.load_settings``
    file    : of settings
    returns : the exit code; what is no LapwingError is a bug and is raised
    """
    from shared.settings import load_settings
    from shared.telemetry import configure

    try:
        settings = load_settings(flags, file)
        configure(settings.telemetry)
        work(settings, take_signals())
    except LapwingError as error:
        print(f"lapwing {name}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def take_signals() -> Stopping:
    """Take SIGTERM and SIGINT as a wish to end; returns whether one has come."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return lambda: bool(received)
