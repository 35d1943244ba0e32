"""The parts of the table: each runs one judge on one build and returns named figures.

Invariant: a build is reached by its command line only; a part without data raises ``Skipped``.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.builds import Alarm, Build, BuildError, backtest, call, cores
from benchmarks.fleet.hosts import KINDS, STEP_MS, Fleet, generate
from benchmarks.fleet.judging import Judgement, judge
from benchmarks.operator import report
from benchmarks.operator.running import Request, run
from benchmarks.operator.signals import DAY, Noise
from benchmarks.operator.situations import SITUATIONS
from benchmarks.quality.series import fleet_scene, healthy_scene, host_name, write_parts
from benchmarks.traces.running import find_folder, run_sets

Figures = dict[str, float]

WARMUP_DAYS = 3
FORTNIGHT_DAYS = 14
NAB_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Tried beside the default; the best of all is the one that NAB's published scores are taken at."""

FALSE_PER_DAY = 0.03
"""False alarms a day and host at which recalls of the fleet are compared."""

SEARCH_STEPS = 4
BUDGETS = (0.1, 0.5, 1.0)


class Skipped(Exception):
    """A part cannot be measured; says why."""


@dataclass(frozen=True)
class Sizes:
    """Amounts of generated data."""

    fleet_hosts: int = 40
    fleet_days: int = 120
    budget_hosts: int = 32
    budget_days: int = 75
    healthy_days: int = 120


@dataclass(frozen=True)
class Inputs:
    """Folders and sizes that all builds share.

    folder      : for generated files
    traces, nab : None = as the environment says
    """

    folder: Path
    traces: Path | None
    nab: Path | None
    seed: int = 0
    sizes: Sizes = Sizes()


Part = Callable[[Build, Inputs], Figures]


def operator(build: Build, inputs: Inputs) -> Figures:
    """Judge the everyday situations."""
    requests = [Request(situation.name, inputs.seed, build=build) for situation in SITUATIONS]
    with ProcessPoolExecutor(cores()) as pool:
        totals = report.totals(list(pool.map(run, requests)))
    return {
        f"situations passed, of {totals.judged}": totals.passed,
        f"incidents found, of {totals.incidents}": totals.found,
        "false alarms a day": totals.false_per_day,
    }


def traces(build: Build, inputs: Inputs) -> Figures:
    """Judge the labelled traces of real machines."""
    folder, why_not = find_folder(inputs.traces)
    if folder is None:
        raise Skipped(why_not)
    found = {}
    for name, figures in run_sets(build, folder).items():
        if name in ("hosts", "ms"):
            found[f"{name}: F1"] = figures.f1
            found[f"{name}: false a day"] = figures.false_per_day
    return found


def nab(build: Build, inputs: Inputs) -> Figures:
    """Score NAB by the revision's own scorer, at the default threshold and at the best."""
    if inputs.nab is None or not inputs.nab.is_dir():
        raise Skipped("no folder of NAB: --nab DIR, or set LAPWING_NAB_DIR")
    if build.root is None:
        raise Skipped(f"{build.name}: the scorer of NAB is in the sources, which are not there")
    with tempfile.TemporaryDirectory() as out:
        files = ["--data", str(inputs.nab.absolute()), "--out", out]
        thresholds = ["--threshold", *map(str, NAB_THRESHOLDS)]
        done = call(build, [build.python, "-m", "benchmarks.nab", *files, *thresholds], build.root)
        if done.code:
            raise Skipped(f"benchmarks.nab ended with {done.code}: {done.err.strip()[-200:]}")
        summary = json.loads((Path(out) / "summary.json").read_text("utf-8"))
    runs = [summary, *summary.get("other_thresholds", [])]
    try:
        best = max(
            (run for run in runs if run["warmup"] == "probation"),
            key=lambda run: float(run["profiles"]["standard"]),
        )
        product = summary["product_warmup"]
        events = product["events"]
        figures = {f"best threshold: {name}": best["profiles"][name] for name in best["profiles"]}
        return {
            "best threshold": best["threshold"],
            **figures,
            "default, own warm-up: F1": events["f1"],
            "default, own warm-up: false a day": events["false_events_per_day_and_series"],
            "default, own warm-up: VUS-PR": product["vus_pr"]["2022"],
        }
    except (KeyError, ValueError) as error:
        raise Skipped(f"summary.json of {build.name} has another layout: {error!r}") from error


def fleet(build: Build, inputs: Inputs) -> Figures:
    """Find the recall by kind at one rate of false alarms; the threshold is searched by halving."""
    sizes = inputs.sizes
    made = _fleet(sizes.fleet_hosts, sizes.fleet_days, inputs.seed)
    folders = _write_fleet(made, inputs.folder / "fleet")
    default, threshold = _judge_fleet(build, made, folders, None)
    low, high = threshold / 2, threshold * 2
    best = default if default.false_per_day <= FALSE_PER_DAY else None
    low, high = (low, threshold) if best else (threshold, high)
    for _ in range(SEARCH_STEPS):
        middle = float(np.sqrt(low * high))
        judged, _ = _judge_fleet(build, made, folders, middle)
        if judged.false_per_day <= FALSE_PER_DAY:
            high, best = middle, judged
        else:
            low = middle
    figures = {"default: recall": default.recall(), "default: false a day": default.false_per_day}
    if best is None:
        return figures
    at = f"at {FALSE_PER_DAY:g} a day"
    figures |= {f"{at}: threshold": best.threshold, f"{at}: recall": best.recall()}
    return figures | {f"{at}: {kind}": best.recall(kind) for kind in KINDS}


@cache
def _fleet(hosts: int, days: int, seed: int) -> Fleet:
    return generate(hosts, days, seed)


def _write_fleet(made: Fleet, folder: Path) -> list[Path]:
    """Write the fleet's files once; return the folders."""
    if folder.is_dir():
        return sorted(folder.iterdir())
    return write_parts(fleet_scene(made), folder, cores())


def _judge_fleet(
    build: Build, made: Fleet, folders: Sequence[Path], threshold: float | None
) -> tuple[Judgement, float]:
    """Judge the fleet's alarms at a threshold, None = the default; return the threshold too."""
    options = [] if threshold is None else ["--threshold", f"{threshold:.6g}"]
    figures, alarms = _run_folders(build, folders, options)
    numbers = {host_name(number): number for number in range(len(made.values))}
    flags = [np.zeros(len(made.time_ms), np.bool_) for _ in numbers]
    for alarm in alarms:
        if alarm.is_anomaly:
            row = round((alarm.time_s * 1000 - int(made.time_ms[0])) / STEP_MS)
            flags[numbers[alarm.entity]][row] = True
    used = float(figures["threshold"])
    return judge(made, flags, used), used


def _run_folders(
    build: Build, folders: Sequence[Path], options: Sequence[str]
) -> tuple[dict[str, Any], list[Alarm]]:
    """Run folders side by side; return the first one's figures, and all alarms."""

    def run_one(folder: Path) -> tuple[dict[str, Any], list[Alarm]]:
        with tempfile.TemporaryDirectory() as out:
            return backtest(build, folder, Path(out), options)

    with ThreadPoolExecutor(cores()) as pool:
        results = list(pool.map(run_one, folders))
    return results[0][0], [alarm for _, alarms in results for alarm in alarms]


def healthy(build: Build, inputs: Inputs) -> Figures:
    """Count false alarms by fortnight on healthy series, for each family of noise."""
    days = inputs.sizes.healthy_days
    scene = healthy_scene(days, inputs.seed)
    folder = inputs.folder / "healthy"
    folders = sorted(folder.iterdir()) if folder.is_dir() else write_parts(scene, folder, cores())
    _, alarms = _run_folders(build, folders, [])
    figures = {}
    for family in Noise:
        hosts = [host.name for host in scene.hosts if host.name.startswith(f"{family}-")]
        starts = _days_of(alarms, hosts, scene.start)
        rates = by_fortnight(starts, len(hosts), days)
        figures[f"{family}: first fortnight"] = rates[0]
        figures[f"{family}: last fortnight"] = rates[-1]
        figures[f"{family}: all"] = float(np.mean(rates))
    return figures


def budget(build: Build, inputs: Inputs) -> Figures:
    """Compare requested with actual alarms, on hosts without anomalies."""
    sizes = inputs.sizes
    made = generate(sizes.budget_hosts, sizes.budget_days, inputs.seed, anomalies=False)
    folders = _write_fleet(made, inputs.folder / "budget")
    hosts = [host_name(number) for number in range(sizes.budget_hosts)]
    figures = {}
    for asked in BUDGETS:
        _, alarms = _run_folders(build, folders, ["--alarms-per-day", f"{asked:g}"])
        starts = _days_of(alarms, hosts, float(made.time_ms[0]) / 1000)
        rates = by_fortnight(starts, len(hosts), sizes.budget_days)
        figures[f"asked {asked:g}: given"] = float(np.mean(rates))
        figures[f"asked {asked:g}: first fortnight"] = rates[0]
    return figures


def _days_of(alarms: Sequence[Alarm], hosts: Sequence[str], start_s: float) -> list[float]:
    """Return the days after the start on which episodes of these hosts opened."""
    known = set(hosts)
    return [
        (alarm.time_s - start_s) / DAY
        for alarm in alarms
        if alarm.is_anomaly
        and alarm.entity in known
        and alarm.phase != "worse"
        and not alarm.cold_start
    ]


def by_fortnight(days: Sequence[float], hosts: int, length: float) -> list[float]:
    """Return episodes per host and day of each whole fortnight after the warm-up.

    days : of each episode, after the first row
    """
    fortnights = int((length - WARMUP_DAYS) // FORTNIGHT_DAYS)
    if fortnights < 1:
        raise BuildError(f"{length:g} days hold no fortnight after the warm-up")
    counts = Counter(int((day - WARMUP_DAYS) // FORTNIGHT_DAYS) for day in days)
    return [counts[number] / (hosts * FORTNIGHT_DAYS) for number in range(fortnights)]


PARTS: dict[str, Part] = {
    "operator": operator,
    "traces": traces,
    "nab": nab,
    "fleet": fleet,
    "healthy": healthy,
    "budget": budget,
}
