"""The build of another revision, from a git worktree that is removed again.

Invariant: this clone's files and environment are not changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.builds import ROOT, Build, BuildError, build_of, call

LOCK = "requirements/full.txt"
"""The packages of a revision; where they are this one's, so is the interpreter."""

OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "ARGS")


@contextmanager
def revision(name: str) -> Iterator[Build]:
    """Check out a revision into a separate folder, and compile its kernels.

    raises : BuildError when git does not know the revision, or its installation fails
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not commit:
        raise BuildError(f"--against {name}: git knows no such revision")
    with tempfile.TemporaryDirectory(prefix="lapwing-revision-") as temporary:
        folder = Path(temporary) / "sources"
        _run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], ROOT)
        try:
            yield _prepare(folder, name)
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _prepare(folder: Path, name: str) -> Build:
    """Return the build of a checkout; it gets separate packages if its requirements differ."""
    own, other = ROOT / LOCK, folder / LOCK
    if other.is_file() and own.read_bytes() == other.read_bytes():
        build = build_of(folder, name)
        print(f"compiling the kernels of {name}", file=sys.stderr, flush=True)
        done = call(build, [build.python, "-m", "shared.kernels"], folder)
        if done.code:
            raise BuildError(f"{name}: its kernels cannot be compiled: {done.err.strip()[-300:]}")
        return build
    print(f"installing {name}, which needs other packages", file=sys.stderr, flush=True)
    _run(["make", "install"], folder)
    return build_of(folder, name, str(folder / ".venv" / "bin" / "python"))


def _git(*words: str) -> str:
    """Return the output of a git command in this clone, empty where it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a command; a make that called this one passes nothing on to it.

    raises : BuildError with the command's last words
    """
    variables = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-300:]
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}: {words}")
