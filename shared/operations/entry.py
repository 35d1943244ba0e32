"""Start and end of commands and services: options, settings, log, signals, exit codes.

Invariant: no large module is imported before a command runs, so that ``--help`` answers at once.
The first SIGTERM or SIGINT requests a clean shutdown; a second one of the same kind ends the
process at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import LapwingError

if TYPE_CHECKING:
    from shared.settings import Settings

Stopping = Callable[[], bool]
"""Returns whether a shutdown has been requested."""

SlotName = Annotated[
    str | None, typer.Option("--slot", metavar="NAME", help="slot: stable name of this instance.")
]

SettingsFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (TOML).")
]


@dataclass(frozen=True, slots=True)
class Overrides:
    """Options before a command: settings that override environment and file.

    file   : TOML; None = the one that the environment names, if any
    values : dotted name of a setting -> text as in the environment, {"train.trees": "200"}
    """

    file: Path | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(context: typer.Context, file: Path | None = None) -> Overrides:
        """Return the overrides in a command's context.

        file : option after the command; overrides the one before it
        """
        before = context.obj if isinstance(context.obj, Overrides) else Overrides()
        return before if file is None else replace(before, file=file)

    def load(self, flags: Mapping[str, Any] | None = None) -> Settings:
        """Load the settings.

        flags  : settings from the command's own options; see ``shared.settings.load_settings``
        raises : ConfigError
        """
        from shared.settings import load_settings

        return load_settings(flags, self.file, overrides=self.values)

    def variables(self) -> dict[str, str]:
        """Return environment variables with the same effect on another process."""
        from shared.settings import variable_of

        named = {} if self.file is None else {"LAPWING_CONFIG": str(self.file)}
        return named | {variable_of(name): text for name, text in self.values.items()}


def given(**options: Any) -> dict[str, Any]:
    """Return options that were given, as flags: without None and without empty groups."""
    return {name: value for name, value in options.items() if value is not None and value != {}}


def run_command(command: Callable[..., None], name: str, argv: Sequence[str] | None) -> int:
    """Run one command of ``lapwing`` as a program.

    argv    : its options; None = those of the process
    returns : the exit code, also for invalid options
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(name)(command)
    try:
        app(args=argv, prog_name=f"lapwing {name}")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def serve(
    name: str,
    overrides: Overrides,
    flags: Mapping[str, Any],
    work: Callable[[Settings, Stopping], None],
) -> int:
    """Load settings, configure the log, install signal handlers and run the service.

    name    : of the command, for error messages
    flags   : settings from its options
    returns : the exit code; other errors than LapwingError are bugs and are raised
    """
    try:
        settings = overrides.load(flags)
        from shared.operations.telemetry import configure

        configure(settings.telemetry)
        work(settings, take_signals())
    except LapwingError as error:
        print(f"lapwing {name}: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def take_signals() -> Stopping:
    """Install handlers of SIGTERM and SIGINT; return a function that tells if one was received."""
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return lambda: bool(received)
