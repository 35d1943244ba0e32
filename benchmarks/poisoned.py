"""Recall after training on a range with outages: ``python -m benchmarks.poisoned [OPTIONS]``.

Options: ``--hosts N --days N --seed N --shares 0,.05,.2``.

The hosts of ``benchmarks.fleet``; in the first half, in which the model is trained, a share of each
host's rows lies in incidents of six hours. Nothing names them: neither labels nor feedback.

Invariant: the second half, which is judged, is the same for every share.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np

from benchmarks.fleet.comparing import Variant, settle, train_model
from benchmarks.fleet.hosts import DAY_ROWS, METRICS, Fleet, generate
from shared.events import Detector

INCIDENT_ROWS = DAY_ROWS // 4
FACTOR = 2.5
FIRST_DAYS = 3
"""Days without an incident, in which the detector warms up."""

VARIANTS = (
    Variant("ensemble, no model", Detector.ENSEMBLE),
    Variant("ensemble + one class svm", Detector.ENSEMBLE, Detector.ONE_CLASS_SVM),
    Variant("one class svm alone", Detector.ONE_CLASS_SVM, Detector.ONE_CLASS_SVM),
)


def poison(fleet: Fleet, share: float, seed: int) -> Fleet:
    """Return the fleet with incidents in this share of each host's rows before the border.

    An incident multiplies one metric by FACTOR, or divides it by that.
    """
    values = fleet.values.copy()
    slots = np.arange(FIRST_DAYS * DAY_ROWS, fleet.border - INCIDENT_ROWS + 1, INCIDENT_ROWS)
    count = round(share * fleet.border / INCIDENT_ROWS)
    if count > len(slots):
        raise ValueError(f"a share of {share} does not fit into {fleet.border} rows")
    for host, own in enumerate(values):
        random = np.random.default_rng([seed, host])
        for first in random.choice(slots, count, replace=False).tolist():
            rows = slice(first, first + INCIDENT_ROWS)
            factor = FACTOR if random.random() < 0.5 else 1.0 / FACTOR
            own[rows, random.integers(len(METRICS))] *= factor
    return replace(fleet, values=values)


def main() -> int:
    options = _options()
    fleet = generate(options.hosts, options.days, options.seed)
    print(f"{options.hosts} hosts, {options.days} days, seed {options.seed}: recall at")
    print(f"{options.false_per_day:g} false alarms a day and host, by share of poisoned rows")
    for share in (float(text) for text in options.shares.split(",")):
        poisoned = poison(fleet, share, options.seed)
        model = train_model(poisoned, Detector.ONE_CLASS_SVM)
        for variant in VARIANTS:
            used = None if variant.trained is None else model
            found = settle(poisoned, variant, used, options.false_per_day)
            print(
                f"{share:5.2f}  {variant.name:<26} {found.recall():.2f}"
                f"  (threshold {found.threshold:.2f}, {found.false_per_day:.3f} false)",
                flush=True,
            )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.poisoned", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shares", default="0,.05,.2")
    parser.add_argument("--false-per-day", type=float, default=0.05)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
