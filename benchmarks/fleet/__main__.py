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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_entity
from benchmarks.fleet.hosts import COMBINATIONS, KINDS, METRICS, Fleet, generate
from benchmarks.fleet.judging import Judgement, each_row, judge, row_threshold
from benchmarks.histories import read_series
from consumer_training.training import train
from shared.ensemble.fold import EnsembleParams, limits_for, params_for
from shared.events import Detector
from shared.kernels.trained.trained_rows import WITHOUT_MODEL
from shared.models.model import Model
from shared.settings import Settings, TrainSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TRAINED = (Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM)
LOWEST, HIGHEST = 0.4, 4.0
"""Bounds of the search for a threshold."""

ROUNDS = 9
"""Halvings of the range on a logarithmic scale: to half a percent of the threshold."""

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


@dataclass(frozen=True)
class Variant:
    """One configuration of the fold; ``trained`` names the model whose rarities it gets."""

    name: str
    detector: Detector
    trained: Detector | None = None


def variants() -> list[Variant]:
    """Return the configurations that are compared."""
    found = [Variant("ensemble, no model", Detector.ENSEMBLE)]
    found += [
        Variant(f"ensemble + {detector.value.replace('_', ' ')}", Detector.ENSEMBLE, detector)
        for detector in TRAINED
    ]
    alone = [
        detector
        for detector in Detector
        if detector is not Detector.ENSEMBLE and not detector.sees_values
    ]
    return found + [
        Variant(
            f"{detector.value.replace('_', ' ')} alone",
            detector,
            detector if detector.is_trained else None,
        )
        for detector in alone
    ]


def run(fleet: Fleet, variant: Variant, threshold: float, model: Model | None) -> list[Flags]:
    """Fold every host separately, with the product's warm-up; return its alarms."""
    limits = limits_for(len(METRICS), variant.detector, cold_start=False)
    params = params_for(threshold, variant.detector)
    return [
        fold_entity(
            fleet.time_ms, values, limits, params, None if model is None else model.arrays
        ).is_anomaly
        for values in fleet.values
    ]


def train_model(fleet: Fleet, detector: Detector) -> Model:
    """Train on the rows before the border, as the training consumer does."""
    names = [f"host-{host:04d}" for host in range(len(fleet.values))]
    before = slice(0, fleet.border)
    history = read_series(
        dict.fromkeys(names, fleet.time_ms[before]),
        {name: values[before] for name, values in zip(names, fleet.values, strict=True)},
        METRICS,
        Settings(),
    )
    settings = TrainSettings(split=0.99)
    return train(history.rows(), detector, Settings().features, settings).model


def scores_of(fleet: Fleet, model: Model) -> list[Floats]:
    """Return the model's scores of all rows of each host; those that it does not know are last."""
    limits, params = limits_for(len(METRICS)), EnsembleParams()
    found = []
    for values in fleet.values:
        features = fold_entity(fleet.time_ms, values, limits, params, WITHOUT_MODEL).features
        known = ~np.isnan(features[:, 0])
        scores = np.full(len(values), -np.inf)
        scores[known] = model.score(features[known])
        found.append(scores)
    return found


def compare(fleet: Fleet, allowed: float) -> dict[str, Judgement]:
    """Judge every detector at the same rate of false alarms."""
    scores: dict[Detector, list[Floats]] = {}
    models: dict[Detector | None, Model | None] = {None: None}
    for detector in TRAINED:
        began_s = time.process_time()
        model = train_model(fleet, detector)
        models[detector], scores[detector] = model, scores_of(fleet, model)
        _say(f"{detector.value} trained and scored", began_s)
    found = {}
    for variant in variants():
        began_s = time.process_time()
        found[variant.name] = settle(fleet, variant, models[variant.trained], allowed)
        _say(variant.name, began_s)
    shipped = EnsembleParams().threshold
    found["ensemble, threshold as shipped"] = judge(
        fleet, run(fleet, variants()[0], shipped, None), shipped
    )
    for detector in TRAINED:
        name = detector.value.replace("_", " ")
        at = row_threshold(fleet, scores[detector], allowed)
        found[f"{name}, every row"] = judge(fleet, each_row(scores[detector])(at), at)
    return found


def settle(fleet: Fleet, variant: Variant, model: Model | None, allowed: float) -> Judgement:
    """Find the lowest threshold at which false alarms stay as rare as allowed, by halving."""
    low, high = LOWEST, HIGHEST
    best = judge(fleet, run(fleet, variant, high, model), high)
    for _ in range(ROUNDS):
        middle = float(np.sqrt(low * high))
        judged = judge(fleet, run(fleet, variant, middle, model), middle)
        if judged.false_per_day <= allowed:
            high, best = middle, judged
        else:
            low = middle
    return best


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


def _say(what: str, began_s: float) -> None:
    print(f"{time.process_time() - began_s:6.1f} s  {what}", file=sys.stderr, flush=True)


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
