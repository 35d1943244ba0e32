"""Runs a build's backtest on sets of traces and judges its alarms.

Invariant: a set's figures depend only on its files, the build and the options.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.builds import Build, backtest, cores
from benchmarks.traces.judging import Figures, Trace, add, judge_set, read_set

FOLDER_VARIABLE = "LAPWING_TRACES_DIR"
HOSTS, SERIES = ("asd", "js2", "js3"), ("ms",)
SETS = (*HOSTS, *SERIES)
GROUPS: Mapping[str, tuple[str, ...]] = {"hosts": HOSTS, "all": SETS}


def find_folder(given: Path | None) -> tuple[Path | None, str]:
    """Return the folder of the sets, or None and why there is none."""
    text = os.environ.get(FOLDER_VARIABLE, "")
    folder = given or (Path(text) if text else None)
    if folder is None:
        return None, f"no folder of traces: name one, or set {FOLDER_VARIABLE}"
    if not any((folder / name / "labels.json").is_file() for name in SETS):
        return None, f"{folder}: none of the sets {', '.join(SETS)} is in it"
    return folder, ""


def run_set(
    build: Build,
    folder: Path,
    options: Sequence[str] = (),
    settings: Sequence[str] = (),
    change: Callable[[Trace], Trace] | None = None,
) -> Figures:
    """Run the backtest on one set and judge its anomalies.

    settings : ``KEY=VALUE`` of settings without an option
    change   : of each trace before it is judged, as what is counted of it
    raises   : BuildError, DataError
    """
    traces = read_set(folder)
    if change is not None:
        traces = [change(trace) for trace in traces]
    with tempfile.TemporaryDirectory() as out:
        _, alarms = backtest(
            build, (folder / "data").absolute(), Path(out), options, settings=settings
        )
    times: dict[str, list[float]] = {}
    for alarm in alarms:
        if alarm.is_anomaly:
            times.setdefault(alarm.entity, []).append(alarm.time_s)
    return judge_set(traces, times)


def run_sets(
    build: Build,
    folder: Path,
    sets: Sequence[str] = SETS,
    options: Sequence[str] = (),
    jobs: int | None = None,
    settings: Sequence[str] = (),
    change: Callable[[Trace], Trace] | None = None,
) -> dict[str, Figures]:
    """Run sets side by side; return the figures of each, and of the groups.

    settings, change : as of ``run_set``
    raises : BuildError, DataError
    """

    def one(name: str) -> Figures:
        return run_set(build, folder / name, options, settings, change)

    with ThreadPoolExecutor(jobs or cores()) as pool:
        figures = dict(zip(sets, pool.map(one, sets), strict=True))
    for group, names in GROUPS.items():
        present = [figures[name] for name in names if name in figures]
        if present:
            figures[group] = add(present)
    return figures
