"""What to try while the demo runs: commands for its own processes, and the environment for them.

Invariant: a command that is shown works as it stands, in another terminal on this machine.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FILE = "demo.env"


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
    """Return the lines that say what to try.

    lapwing : how the command is called here
    pids    : of the predictors; the first is the one to kill
    """
    with_environment = f"(. {shlex.quote(str(environment_file))}; {lapwing}"
    kill = [f"kill -9 {pids[0]}  # a predictor; it comes back, and nothing is lost"] if pids else []
    return (
        *kill,
        f"{with_environment} train --once)  # the predictors take over the new model",
        f"{with_environment} incidents list --state all)  # any other command works so, too",
    )
