"""Cost of the ensemble: ``python -m benchmarks.cost [--hosts N --repeats N] [--json FILE]``.

Invariant: only the processor time of the fold counts, on one thread and after compilation; every
           repeat processes the same rows from a copy of the same state.

Times in microseconds hold for one machine; their independence of the history holds for all.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numba
import numpy as np

from benchmarks.fleet.hosts import DAY_ROWS, Fleet, generate
from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE

WARMUP_ROWS = 3 * DAY_ROWS
"""The product's warm-up at five minutes a row."""

HISTORIES = (1, 4, 16)
"""Length of an entity's history before the measurement, in warm-ups."""

PER_DAY = 0.5
GOAL_US, GOAL_METRIC_KIB, GOAL_ENTITY_KIB = 10.0, 64.0, 8.0


@dataclass(frozen=True)
class Cost:
    """Microseconds per value over the repeats."""

    metrics: int
    history: int
    values: int
    best_us: float
    median_us: float


def measure(fleet: Fleet, metrics: int, history: int, repeats: int) -> Cost:
    """Time the fold of one warm-up of rows after ``history`` warm-ups, with combination and budget.

    The rows of the hosts are interleaved, as in a topic.
    """
    before, after = history * WARMUP_ROWS, (history + 1) * WARMUP_ROWS
    hosts = len(fleet.values)
    state = EnsembleState()
    state.reserve(hosts, hosts * metrics)
    limits = limits_for(metrics, per_day=PER_DAY)
    fold(state, _rows(fleet, metrics, 0, before), limits)
    given = _rows(fleet, metrics, before, after)
    spent = []
    for _ in range(repeats):
        copy = EnsembleState.from_arrays(state.to_arrays(hosts, hosts * metrics))
        began_s = time.process_time()
        fold(copy, given, limits)
        spent.append((time.process_time() - began_s) / given.values.size * 1e6)
    return Cost(metrics, history, given.values.size, min(spent), float(np.median(spent)))


def _rows(fleet: Fleet, metrics: int, low: int, high: int) -> Rows:
    """Rows low..high of all hosts in order of time, their first metrics."""
    hosts = len(fleet.values)
    values = np.ascontiguousarray(
        fleet.values[:, low:high, :metrics].transpose(1, 0, 2).reshape(-1, metrics)
    )
    slots = np.arange(hosts * metrics, dtype=np.int32).reshape(hosts, metrics)
    entity = np.tile(np.arange(hosts, dtype=np.int32), high - low)
    return Rows(entity, np.repeat(fleet.time_ms[low:high], hosts), values, slots[entity])


def main() -> int:
    options = _options()
    days = -(-(max(HISTORIES) + 1) * WARMUP_ROWS // DAY_ROWS)
    fleet = generate(options.hosts, days, options.seed, anomalies=False)
    measure(fleet, 1, 1, 1)  # compiles
    costs = []
    versions = (
        f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}"
    )
    print(
        f"{options.hosts} hosts, {WARMUP_ROWS} rows each after the history, best and median of"
        f" {options.repeats}; {versions}"
    )
    print("metrics  history  us a value: best  median")
    for metrics in (1, 3):
        for history in HISTORIES:
            cost = measure(fleet, metrics, history, options.repeats)
            costs.append(cost)
            print(
                f"{metrics:7d} {history:7d}x {cost.best_us:16.2f} {cost.median_us:7.2f}", flush=True
            )
    metric_kib, entity_kib = METRIC_DTYPE.itemsize / 1024, ENTITY_DTYPE.itemsize / 1024
    print(
        f"state: {METRIC_DTYPE.itemsize:,} bytes ({metric_kib:.1f} KiB) per entity and metric, goal"
        f" {GOAL_METRIC_KIB:g}"
    )
    print(
        f"       {ENTITY_DTYPE.itemsize:,} bytes ({entity_kib:.1f} KiB) per entity, goal"
        f" {GOAL_ENTITY_KIB:g}"
    )
    slowest = max(cost.median_us for cost in costs)
    met = slowest <= GOAL_US and metric_kib <= GOAL_METRIC_KIB and entity_kib <= GOAL_ENTITY_KIB
    print(f"goals ({GOAL_US:g} us in the median): {'met' if met else 'not met'}")
    if options.json:
        document = {
            "metric_bytes": METRIC_DTYPE.itemsize,
            "entity_bytes": ENTITY_DTYPE.itemsize,
            "goals_met": met,
        }
        options.json.write_text(
            json.dumps(document | {"costs": [asdict(cost) for cost in costs]}, indent=1) + "\n",
            "utf-8",
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
