"""Check against the recorded floors: ``python -m benchmarks.judges [TRACES] [--write]``.

Runs the operator situations and the labelled traces, and ends with 1 where fewer situations pass,
F1 is lower or false alarms are more frequent than in floors.json. ``--write`` writes the present
figures into that file. Without traces that part is skipped, and says so.

Invariant: the limits are the file's, nothing here adds slack; the product's own settings apply.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.builds import BuildError, cores, this_build
from benchmarks.operator import report
from benchmarks.operator.running import Request, run
from benchmarks.operator.situations import SITUATIONS
from benchmarks.traces.judging import Figures
from benchmarks.traces.running import find_folder, run_sets
from shared.errors import LapwingError

FLOORS = Path(__file__).with_name("floors.json")
JUDGED_TRACES = ("hosts", "ms")
"""Groups of traces that have a floor."""


@dataclass(frozen=True)
class Comparison:
    """A reached figure and its limit from floors.json."""

    name: str
    reached: float
    limit: float
    at_least: bool = True

    @property
    def kept(self) -> bool:
        """Whether the limit is kept."""
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        mark = "kept" if self.kept else "MISSED"
        return f"{self.name:<28}{self.reached:>8.4g}  {bound:<9}{self.limit:<7g} {mark}"


def compare_operator(totals: report.Totals, floor: Mapping[str, Any]) -> Comparison:
    """Compare the number of situations that pass."""
    return Comparison("operator: situations passed", totals.passed, floor["passed"])


def compare_traces(
    figures: Mapping[str, Figures], floors: Mapping[str, Mapping[str, float]]
) -> list[Comparison]:
    """Compare F1 and false alarms of each group of traces."""
    found = []
    for group, floor in floors.items():
        reached = figures[group]
        found.append(Comparison(f"traces {group}: F1", reached.f1, floor["f1"]))
        rate, most = reached.false_per_day, floor["false_per_day"]
        found.append(Comparison(f"traces {group}: false a day", rate, most, at_least=False))
    return found


def floors_of(
    totals: report.Totals, seed: int, figures: Mapping[str, Figures] | None
) -> dict[str, Any]:
    """Return what was reached as floors; figures are rounded to the easier side."""
    floors: dict[str, Any] = {
        "operator": {"seed": seed, "passed": totals.passed, "failing": list(totals.failing)}
    }
    if figures is not None:
        floors["traces"] = {
            group: {
                "f1": math.floor(figures[group].f1 * 1000) / 1000,
                "false_per_day": math.ceil(figures[group].false_per_day * 1000) / 1000,
            }
            for group in JUDGED_TRACES
        }
    return floors


def run_operator(seed: int, jobs: int) -> report.Totals:
    """Run all situations on this build and print those that fail."""
    importlib.import_module("lapwing.backtest.command")  # once, for all processes below
    build = this_build(in_process=True)
    requests = [Request(situation.name, seed, build=build) for situation in SITUATIONS]
    results = []
    with ProcessPoolExecutor(jobs) as pool:
        for result in pool.map(run, requests):
            results.append(result)
            if result.verdict is None or not result.verdict.passed:
                print(report.show(result), flush=True)
    return report.totals(results)


def main() -> int:
    options = _options()
    floors = json.loads(FLOORS.read_text("utf-8"))
    seed = floors["operator"]["seed"]
    began_s = time.monotonic()
    totals = run_operator(seed, options.jobs)
    print(f"{totals} ({time.monotonic() - began_s:.0f} s)\n", flush=True)
    try:
        figures = _traces(options)
    except (BuildError, LapwingError) as error:
        print(f"benchmarks.judges: {error}", file=sys.stderr)
        return 2
    if options.write:
        floors |= floors_of(totals, seed, figures)
        FLOORS.write_text(json.dumps(floors, indent=1) + "\n", "utf-8")
        print(f"{FLOORS.name} is written")
        return 0
    comparisons = [compare_operator(totals, floors["operator"])]
    if figures is not None:
        comparisons += compare_traces(figures, floors["traces"])
    print("\n".join(map(str, comparisons)))
    changed = set(totals.failing) ^ set(floors["operator"]["failing"])
    if changed:
        print(f"other situations fail than written down: {', '.join(sorted(changed))}")
    print(f"({time.monotonic() - began_s:.0f} s)")
    return 0 if all(comparison.kept for comparison in comparisons) else 1


def _traces(options: argparse.Namespace) -> dict[str, Figures] | None:
    """Run the traces and print their figures; None where they are not there."""
    folder, why_not = find_folder(options.traces)
    if folder is None:
        print(f"SKIPPED traces: {why_not}", file=sys.stderr, flush=True)
        return None
    began_s = time.monotonic()
    figures = run_sets(this_build(), folder, jobs=options.jobs)
    for name, found in figures.items():
        print(f"{name:<6} {found}")
    print(f"({time.monotonic() - began_s:.0f} s)\n", flush=True)
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judges",
        description="Judge situations and traces against floors.json.",
    )
    add = parser.add_argument
    add("traces", type=Path, nargs="?", metavar="TRACES", help="default: $LAPWING_TRACES_DIR")
    add("--write", action="store_true", help="write the present figures into floors.json")
    add("--jobs", type=int, default=cores(), metavar="N", help="processes; default: the cores")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
