"""The page of the demo, its address, and what to try while the demo runs.

Invariant: the page only reads; the demo's counts do not depend on it. A command that is shown works
           as it stands, in another terminal on this machine.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lapwing.demo.children import Child, Children
from shared.settings import Settings

FILE = "demo.env"


class DemoPage:
    """The dashboard of one demo.

    url : empty until it listens
    """

    def __init__(self, children: Children, settings: Settings) -> None:
        self.url = ""
        wanted = settings.dashboard
        port = wanted.port if is_free(wanted.host, wanted.port) else 0
        self._child: Child = children.start("dashboard", "dashboard", ["--port", str(port)])

    def look(self) -> str:
        """Return the address at the first call after it is known, else an empty text."""
        if self.url:
            return ""
        for event in self._child.new_events():
            if event.get("event") == "dashboard":
                self.url = str(event["url"])
        return self.url


def is_free(host: str, port: int) -> bool:
    """Return whether a port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def write_environment(folder: Path, environment: Mapping[str, str]) -> Path:
    """Write the services' own settings as a file that a shell can source; return its path."""
    path = folder / FILE
    own = {
        name: value
        for name, value in sorted(environment.items())
        if name.upper().startswith(("LAPWING_", "KAFKA_", "SCHEMA_REGISTRY_"))
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in own.items()]
    path.touch(mode=0o600)
    path.write_text("".join(lines))
    return path


def command_name() -> str:
    """Return how ``lapwing`` is called in a shell of the same folder."""
    if shutil.which("lapwing"):
        return "lapwing"
    beside = Path(sys.executable).parent / "lapwing"
    if not beside.is_file():
        return f"{shlex.quote(sys.executable)} -m lapwing"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if here in beside.parents else beside))


def hints(environment_file: Path, lapwing: str, pids: Sequence[int]) -> tuple[str, ...]:
    """Return the lines that say what to try, in the order in which the page says it.

    lapwing : how the command is called here
    pids    : of the predictors; the first is the one to kill
    """
    with_environment = f"(. {shlex.quote(str(environment_file))}; {lapwing}"
    kill = [f"kill -9 {pids[0]}  # a predictor; it comes back, and nothing is lost"] if pids else []
    return (
        f"{with_environment} explain EVENT_ID)  # an event id from the page",
        *kill,
        f"{with_environment} train --once)  # the predictors take over the new model",
    )
