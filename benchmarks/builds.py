"""A build of Lapwing under test, and runs of its ``lapwing backtest`` on files.

Invariant: a build is known only by its command line, so that any two revisions are judged alike.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 3600.0
NO_ANSWER = 124
"""Exit code of a command that was stopped at its time limit."""


@dataclass(frozen=True)
class Build:
    """Command and environment that run a build.

    command     : ``lapwing`` and the words before its subcommand
    python      : the interpreter that has the build's packages
    root        : folder of its sources; None = an installed command
    environment : variables beside those of this process
    in_process  : commands run inside the calling process, which saves their start
    """

    name: str
    command: tuple[str, ...]
    python: str
    root: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    in_process: bool = False


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Alarm:
    """One row of alarms.csv; ``time_s`` in seconds since 1970 UTC.

    phase : of its episode; empty for data quality, and from builds without episodes
    """

    time_s: float
    entity: str
    kind: str
    metric: str | None
    expected: float | None
    reason: str
    phase: str = ""
    cold_start: bool = False

    @property
    def is_anomaly(self) -> bool:
        """Whether it is an alarm, neither an end of an episode nor about data quality."""
        return self.kind == "anomaly"


class BuildError(Exception):
    """A build cannot be run, or ended with an error."""


def this_build(*, in_process: bool = False) -> Build:
    """Return the build of this folder, run by this interpreter."""
    return replace(build_of(ROOT, "this build"), in_process=in_process)


def build_of(root: Path, name: str, python: str = sys.executable) -> Build:
    """Return the build in a folder of the project's sources."""
    environment = {"PYTHONPATH": str(root)}
    return Build(name, (python, "-m", "lapwing"), python, root, environment)


def perturbed_build(draw: int) -> Build:
    """Return this clone's build with the constants of a draw of ``benchmarks.perturbed``."""
    command = (sys.executable, "-m", "benchmarks.perturbed", str(draw))
    return replace(this_build(), name=f"draw {draw}", command=command)


def installed_build(command: Path) -> Build:
    """Return the build of an installed ``lapwing`` command.

    raises : BuildError if there is no such file
    """
    path = command.absolute()
    if not path.is_file():
        raise BuildError(f"--lapwing {command}: there is no such file")
    return Build(str(command), (str(path),), str(path.parent / "python"))


def call(
    build: Build,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = LIMIT_S,
) -> Finished:
    """Run a command in a folder with a build's environment; never raise for its failure."""
    variables = {**os.environ, **build.environment, **(environment or {})}
    own = len(build.command)
    if build.in_process and tuple(command[:own]) == build.command:
        return _call_here(command[own:], folder, variables)
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(NO_ANSWER, "", f"no answer within {limit_s:g} s")
    return Finished(done.returncode, done.stdout, done.stderr)


def _call_here(words: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Finished:
    """Run ``lapwing`` in this process, which must do nothing else meanwhile."""
    from lapwing.app import run

    out, err = io.StringIO(), io.StringIO()
    before, argv = dict(os.environ), sys.argv
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err):
        os.environ.update(variables)
        sys.argv = ["lapwing", *words]
        try:
            code = run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except Exception:  # noqa: BLE001 - as a process of its own would end
            err.write(traceback.format_exc())
            code = 1
        finally:
            sys.argv = argv
            os.environ.clear()
            os.environ.update(before)
    return Finished(code, out.getvalue(), err.getvalue())


def backtest(
    build: Build,
    data: Path,
    out: Path,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> tuple[dict[str, Any], list[Alarm]]:
    """Run ``lapwing backtest`` on a folder of files; return figures and alarms.

    settings : ``KEY=VALUE`` of settings without an option
    raises   : BuildError with the command's last words
    """
    given = [word for setting in settings for word in ("--set", setting)]
    files = ["--data", str(data), "--out", str(out), "--json"]
    done = call(build, [*build.command, *given, "backtest", *files, *options], data, environment)
    if done.code:
        words = (done.err or done.out).strip().splitlines()[-3:]
        raise BuildError(
            f"{build.name}: lapwing backtest ended with {done.code}: {' '.join(words)}"
        )
    figures: dict[str, Any] = json.loads(done.out)["first"]
    return figures, list(read_alarms(out / "alarms.csv"))


def read_alarms(path: Path) -> Iterator[Alarm]:
    """Yield the rows of alarms.csv."""
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            expected = float(row["expected"]) if row["expected"] else None
            yield Alarm(
                seconds(row["time"]),
                row["entity"],
                row["kind"],
                row["metric"] or None,
                expected,
                row["reason"],
                row.get("phase") or "",
                row["cold_start"] == "True",
            )


def seconds(text: str) -> float:
    """Read a time, in UTC where it names no zone, as seconds since 1970."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
