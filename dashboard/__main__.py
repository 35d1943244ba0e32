"""``python -m dashboard``: serve the page and its API until SIGTERM.

Settings come from the environment or ``--config``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import ConfigError
from shared.operations.entry import Overrides, SettingsFile, Stopping, given, run_command, serve

if TYPE_CHECKING:
    from shared.settings import Settings

NEEDED = ("fastapi", "orjson", "uvicorn")


def dashboard(
    context: typer.Context,
    config: SettingsFile = None,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="dashboard.host: the address to listen on."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", help="dashboard.port: the port to listen on."),
    ] = None,
) -> None:
    """Serve the page: what is anomalous now, why, and what it was like before.

    Reads the topics of scores, anomalies, incidents, activations and dead letters without a
    consumer group, and the models folder. Writes only feedback. The history lies in a file in
    state_dir, and is rebuilt from the topics if it is lost.
    """
    flags = given(dashboard=given(host=host, port=port))
    raise typer.Exit(serve("dashboard", Overrides.of(context, config), flags, _work))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the dashboard; return the exit code."""
    return run_command(dashboard, "dashboard", argv)


def require_packages() -> None:
    """Check that the packages of the extra ``dashboard`` are installed.

    raises : ConfigError that names the packages and the extra
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the dashboard needs {', '.join(missing)}, which is not installed: "
            "install lapwing[dashboard], or use the image's target `full`"
        )


def _work(settings: Settings, stopping: Stopping) -> None:
    require_packages()
    from dashboard.server import run

    run(settings, stopping)


if __name__ == "__main__":
    sys.exit(main())
