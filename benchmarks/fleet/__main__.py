"""Recall by kind of anomaly on a generated fleet: ``python -m benchmarks.fleet [--hosts N --days N
--seed N] [--json FILE]``.

Law: all detectors are compared at one rate of false alarms, which each reaches by its own
     threshold; one line alone says what
the shipped threshold does. A threshold is found by the product's policy over the recorded scores of
one run; the figures are those of another run with that threshold.
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

from benchmarks.fleet.hosts import COMBINATIONS, KINDS, METRICS, Fleet, generate
from benchmarks.fleet.judging import Judgement, each_row, judge, row_threshold, sweep, with_policy
from consumer_training.history import Rows
from consumer_training.training import feature_blocks, train
from shared.ensemble.fold import EnsembleState, fold, knobs_for, limits_for
from shared.ensemble.kernels.layout import Knobs
from shared.events import Detector
from shared.settings import FeatureSettings, TrainSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TRAINED = (Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM)
STEP = 0.02
THRESHOLDS: Floats = np.arange(2, 401, dtype=np.float64) * STEP
ROUNDS = 12
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
    """One way of running the ensemble; ``trained`` names the model whose rarities it is given."""

    name: str
    knobs: Knobs
    trained: Detector | None = None


def variants() -> list[Variant]:
    """Everything that is compared by folding."""
    knobs = Knobs()
    found = [Variant("ensemble, online members", knobs)]
    for detector in TRAINED:
        for weight in (0.3, 0.6, 1.0):
            name = f"ensemble + {detector.value.replace('_', ' ')}, {weight:g}"
            found.append(Variant(name, knobs._replace(weight_trained=weight), detector))
    removed = {
        "novelty": {"weight_long": 0.0},
        "burst": {"weight_short": 0.0},
        "neighbours": {"weight_neighbours": 0.0},
        "time of day": {"weight_time": 0.0},
        "absence": {"absence": 0.0},
        "combination": {"weight_cross": 0.0},
    }
    found += [
        Variant(f"ensemble - {name}", knobs._replace(**change)) for name, change in removed.items()
    ]
    alone = [
        detector
        for detector in Detector
        if detector is not Detector.ENSEMBLE and not detector.is_trained
    ]
    return found + [
        Variant(f"{detector.value.replace('_', ' ')} alone", knobs_for(detector, knobs.threshold))
        for detector in alone
    ]


@dataclass(frozen=True)
class Run:
    """Z and alarms of each host, (n,), and its warm-up, rows."""

    scores: list[Floats]
    alarms: list[Flags]
    warmup: int


def run(fleet: Fleet, knobs: Knobs, trained: list[Floats] | None) -> Run:
    """Fold every host by itself, with the product's own warm-up."""
    scores, alarms, warmup = [], [], 0
    n, metrics = len(fleet.time_ms), len(METRICS)
    slots, limits = np.arange(metrics, dtype=np.int32)[None], limits_for(metrics, cold_start=False)
    for host, values in enumerate(fleet.values):
        state = EnsembleState()
        state.reserve(1, metrics)
        column = None if trained is None else trained[host]
        verdicts = fold(
            state, slots, np.zeros(n, np.int32), fleet.time_ms, values, limits, knobs, column
        )
        scores.append(verdicts.score)
        alarms.append(verdicts.is_anomaly)
        warmup = int(state.entities["warmup"][0])
    return Run(scores, alarms, warmup)


def train_model(fleet: Fleet, detector: Detector) -> tuple[list[Floats], list[Floats]]:
    """Train on the rows before the border, and score all.

    returns : per host (n,) scores and their rarities, -log10 of the rank among the training rows
    """
    hosts, n, metrics = fleet.values.shape
    names = tuple((f"host-{host:04d}", 0) for host in range(hosts))
    bounds = np.arange(hosts + 1, dtype=np.int64) * n
    rows = Rows(
        names,
        bounds,
        METRICS,
        np.tile(fleet.time_ms, hosts),
        np.ascontiguousarray(fleet.values.reshape(-1, metrics)),
    )
    model = train(rows, detector, FeatureSettings(), TrainSettings(split=fleet.border / n)).model
    scores = np.empty(len(rows))
    kept = [rows.metrics.index(name) for name in model.metrics]
    for where, block in feature_blocks(
        rows, np.ones(len(rows), np.bool_), model.window, kept, model.scale, model.calendar
    ):
        scores[where] = model.score(block)
    return list(scores.reshape(hosts, n)), list(model.rarity(scores).reshape(hosts, n))


def compare(fleet: Fleet, allowed: float) -> dict[str, Judgement]:
    """Judge every detector at the same rate of false alarms."""
    scores: dict[Detector, list[Floats]] = {}
    rarities: dict[Detector | None, list[Floats] | None] = {None: None}
    for detector in TRAINED:
        began_s = time.process_time()
        scores[detector], rarities[detector] = train_model(fleet, detector)
        _say(f"{detector.value} trained and scored", began_s)
    found, warmup = {}, 0
    for variant in variants():
        began_s = time.process_time()
        found[variant.name], warmup = settle(
            fleet, variant.knobs, rarities[variant.trained], allowed
        )
        _say(variant.name, began_s)
    shipped = Knobs()
    found["ensemble, threshold as shipped"] = judge(
        fleet, run(fleet, shipped, None).alarms, shipped.threshold
    )
    for detector in TRAINED:
        name, rarity = detector.value.replace("_", " "), rarities[detector]
        assert rarity is not None
        at = row_threshold(fleet, scores[detector], allowed)
        found[f"{name} alone, every row"] = judge(fleet, each_row(scores[detector])(at), at)
        found[f"{name} alone, with policy"] = sweep(
            fleet, with_policy(rarity, warmup, Knobs()), THRESHOLDS, allowed
        )
    return found


def settle(
    fleet: Fleet, knobs: Knobs, trained: list[Floats] | None, allowed: float
) -> tuple[Judgement, int]:
    """Find the threshold by replaying the policy over recorded scores, then run with it until the
    run itself keeps the rate.

    returns : the run's figures and the hosts' warm-up in rows
    """
    threshold, done = 0.0, run(fleet, knobs, trained)
    # an alarm ends what a silence may say, so a replay can be a few alarms off
    for number in range(1, ROUNDS):
        replayed = sweep(fleet, with_policy(done.scores, done.warmup, knobs), THRESHOLDS, allowed)
        threshold = max(replayed.threshold, threshold + STEP * max(1, number - 4))
        done = run(fleet, knobs._replace(threshold=threshold), trained)
        judged = judge(fleet, done.alarms, threshold)
        if judged.false_per_day <= allowed:
            break
    return judged, done.warmup


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
