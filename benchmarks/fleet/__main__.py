"""Recall by kind of anomaly on a generated fleet: ``python -m benchmarks.fleet [OPTIONS]``.

Options: ``--hosts N --days N --seed N``, ``--json FILE``.

Invariant: all detectors are compared at the same rate of false alarms, which each reaches by its
           own threshold; only one line shows the shipped threshold.

The detector runs again at every threshold that is tried.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fleet.comparing import compare
from benchmarks.fleet.hosts import COMBINATIONS, KINDS, generate
from benchmarks.fleet.judging import Judgement

SHORT = {
    "spike": "spike",
    "level_shift": "level",
    "all_drop": "drop",
    "cpu_up_load_low": "cpu^",
    "network_low_load_high": "net_",
    "drift": "drift",
    "night_like_day": "night",
    "noise_burst": "noise",
    "stuck_value": "stuck",
    "missing_job": "job",
}


def table(found: dict[str, Judgement]) -> str:
    """Write the figures in columns."""
    wide = max(map(len, found))
    lines = [
        " ".join(
            [
                " " * wide,
                *(f"{SHORT[kind]:>5}" for kind in KINDS),
                " comb   all  false   thr  delay",
            ]
        )
    ]
    for name, one in found.items():
        cells = " ".join(f"{one.recall(kind):5.2f}" for kind in KINDS)
        lines.append(
            f"{name:<{wide}} {cells} {one.recall(*COMBINATIONS):5.2f} {one.recall():5.2f}"
            f" {one.false_per_day:6.3f} {one.threshold:5.2f} {one.delay_min:4.0f} m"
        )
    return "\n".join(lines)


def _plain(one: Judgement) -> dict[str, Any]:
    return asdict(one) | {
        "recall": {kind: one.recall(kind) for kind in KINDS},
        "recall_all": one.recall(),
    }


def main() -> int:
    options = _options()
    began_s = time.process_time()
    try:
        fleet = generate(options.hosts, options.days, options.seed)
    except ValueError as error:
        print(f"benchmarks.fleet: {error}", file=sys.stderr)
        return 2
    found = compare(fleet, options.false_per_day)
    days = (len(fleet.time_ms) - fleet.border) * options.hosts / 288
    counts = sorted({sum(event.kind == kind for event in fleet.events) for kind in KINDS})
    print(
        f"{options.hosts} hosts x 3 metrics, {options.days} days, seed {options.seed}; {days:g}"
        " judged days of hosts,"
    )
    kinds = "..".join(map(str, counts))
    print(
        f"{len(fleet.events)} events, {kinds} of each kind; recall at {options.false_per_day:g}"
        " false alarms"
    )
    print("a day and host. Hit: an alarm from an event's first row to an hour behind its last.")
    print(table(found))
    print(f"{time.process_time() - began_s:.0f} s on one core", file=sys.stderr)
    if options.json:
        document = {
            "hosts": options.hosts,
            "days": options.days,
            "seed": options.seed,
            "false_per_day": options.false_per_day,
        }
        document |= {"detectors": {name: _plain(one) for name, one in found.items()}}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--false-per-day",
        type=float,
        default=0.05,
        help="false alarms per day and host, the same for all",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
