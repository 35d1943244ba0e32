"""Metrics that move together, found or missed: ``python -m benchmarks.reconstruction [OPTIONS]``.

Options: ``--hosts N --days N --metrics N --seed N``, ``--json FILE``.

Hosts whose many metrics follow three causes: load, batch work and memory. In the second half of
the time metrics of single hosts leave the others for a while, most of them within the range that
they have at that time of day.

Invariant: all variants are compared at the same rate of false alarms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_with
from benchmarks.histories import read_series
from benchmarks.peers import DAY_ROWS, ROUNDS, STEP_MS, Found, remembering
from consumer_training.training import train
from producer.generated.fleet import START_MS
from shared.ensemble.fold import limits_for, params_for
from shared.events import Detector
from shared.models.model import Model
from shared.settings import Settings, TrainSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

KINDS = ("one_leaves", "half_scrambled", "half_mirrored", "all_a_little", "group_frozen")
"""What metrics of a host do for two hours:

one_leaves     : one metric follows its cause as it was at another hour
half_scrambled : half of the metrics do, each with an hour of its own
half_mirrored  : half of the metrics fall where their cause rises
all_a_little   : half of the metrics deviate by one and a half of their noise, up or down
group_frozen   : all metrics of one cause stay at its mean
"""

CAUSES, ROWS, PER_HOST = 3, 24, 5
AFTER_ROWS = 12
LOWEST, HIGHEST = 0.4, 4.0
VARIANTS: dict[str, tuple[Detector, str | None]] = {
    "ensemble, no model": (Detector.ENSEMBLE, None),
    "ensemble + one class svm": (Detector.ENSEMBLE, "one_class_svm"),
    "ensemble + autoencoder": (Detector.ENSEMBLE, "autoencoder"),
    "ensemble + pca": (Detector.ENSEMBLE, "pca"),
    "autoencoder alone": (Detector.RECONSTRUCTION, "autoencoder"),
    "pca alone": (Detector.RECONSTRUCTION, "pca"),
}

Event = tuple[int, str, int]
"""Host, kind and first row."""


def generate(hosts: int, days: int, metrics: int, seed: int) -> tuple[Floats, list[Event]]:
    """Generate values, float64 (hosts, n, metrics), and the events in their second half."""
    rows = days * DAY_ROWS
    slot = rows // 2 // PER_HOST
    found, events = np.empty((hosts, rows, metrics)), []
    for host in range(hosts):
        random = np.random.default_rng([seed, host])
        causes = _causes(random, rows)
        own = np.arange(metrics) % CAUSES
        power = random.uniform(0.5, 1.2, metrics)
        noise = random.uniform(0.03, 0.08, metrics)
        level = random.uniform(10.0, 1000.0, metrics)
        steps = np.stack([remembering(random.standard_normal(rows), 0.3) for _ in own], axis=1)
        values = level * causes[:, own] ** power * (1.0 + noise * steps)
        for place in range(PER_HOST):
            kind = KINDS[(host + place) % len(KINDS)]
            first = rows // 2 + place * slot + int(random.integers(slot // 4, slot - 2 * ROWS))
            event = slice(first, first + ROWS)
            drivers = causes[:, own]
            chosen = random.random(metrics) < 0.5
            if kind == "one_leaves":
                chosen = np.arange(metrics) == int(random.integers(metrics))
            elif kind == "group_frozen":
                chosen = own == int(random.integers(CAUSES))
            followed = drivers[event].copy()
            for metric in np.flatnonzero(chosen).tolist():
                later = int(random.integers(DAY_ROWS // 6, DAY_ROWS - DAY_ROWS // 6))
                if kind in ("one_leaves", "half_scrambled"):
                    followed[:, metric] = np.roll(drivers[:, metric], later)[event]
                elif kind == "half_mirrored":
                    followed[:, metric] = 2.0 * drivers[:, metric].mean() - followed[:, metric]
                elif kind == "group_frozen":
                    followed[:, metric] = drivers[:, metric].mean()
            again = level * np.maximum(followed, 0.05) ** power * (1.0 + noise * steps[event])
            if kind == "all_a_little":
                way = np.where(random.random(metrics) < 0.5, 1.5, -1.5)
                again = values[event] * (1.0 + noise * way)
            values[event, chosen] = again[:, chosen]
            events.append((host, kind, first))
        found[host] = values
    return found, events


def _causes(random: np.random.Generator, rows: int) -> Floats:
    """Return load with a day, batch work at night, and memory that wanders; float64 (n, 3)."""
    hour = np.arange(rows) % DAY_ROWS * 24.0 / DAY_ROWS
    peak = random.uniform(10, 17)
    day = np.maximum(1.0 - (np.abs((hour - peak + 12.0) % 24.0 - 12.0) / 9.0) ** 2, 0.0) ** 2
    begin = random.uniform(0, 5)
    night = ((hour - begin) % 24.0 < 3.0).astype(np.float64)
    slow = remembering(random.standard_normal(rows), 0.998)
    wandering = [remembering(random.standard_normal(rows), 0.97) for _ in range(2)]
    load = (0.4 + day) * (1.0 + 0.15 * wandering[0])
    batch = (0.3 + night) * (1.0 + 0.15 * wandering[1])
    return np.maximum(np.stack([load, batch, 1.0 + 0.2 * slow], axis=1), 0.05)


def train_model(values: Floats, border: int, member: str) -> Model:
    """Train on the rows before the border, as the training consumer does."""
    names = _names(values)
    history = read_series(
        {name: START_MS + STEP_MS * np.arange(border, dtype=np.int64) for name in names},
        dict(zip(names, values[:, :border], strict=True)),
        _metrics(values),
        Settings(),
    )
    form = "pca" if member == "pca" else "autoencoder"
    settings = TrainSettings(split=0.99, reconstruction=form)
    detector = Detector.RECONSTRUCTION
    if member == "one_class_svm":
        detector = Detector.ONE_CLASS_SVM
    return train(history.rows(), detector, Settings().features, settings).model


def _metrics(values: Floats) -> tuple[str, ...]:
    return tuple(f"m{k:02d}" for k in range(values.shape[2]))


def _names(values: Floats) -> list[str]:
    return [f"host-{host:04d}" for host in range(len(values))]


def run(values: Floats, detector: Detector, model: Model | None, threshold: float) -> list[Flags]:
    """Fold every host separately; return its alarms."""
    rows, metrics = values.shape[1], _metrics(values)
    limits = limits_for(len(metrics), detector, cold_start=False)
    params = params_for(threshold, detector)
    time_ms = START_MS + STEP_MS * np.arange(rows, dtype=np.int64)
    found = []
    for name, own in zip(_names(values), values, strict=True):
        found.append(fold_with(model, name, time_ms, own, metrics, limits, params).is_anomaly)
    return found


def judge(values: Floats, events: list[Event], alarms: list[Flags], threshold: float) -> Found:
    """Count hits, and alarms that are none; only the second half counts."""
    border = values.shape[1] // 2
    hits, counts = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    wrong = np.stack(alarms)
    wrong[:, :border] = False
    delays = []
    for host, kind, first in events:
        during = slice(first, first + ROWS + AFTER_ROWS)
        found = np.flatnonzero(alarms[host][during])
        counts[kind] += 1
        hits[kind] += len(found) > 0
        delays += [float(found[0]) * STEP_MS / 3_600_000] if len(found) else []
        wrong[host, during] = False
    days = len(values) * (values.shape[1] - border) / DAY_ROWS
    delay_h = float(np.median(delays)) if delays else float("nan")
    return Found(threshold, hits, counts, float(wrong.sum()) / days, delay_h)


def settle(
    values: Floats, events: list[Event], detector: Detector, model: Model | None, allowed: float
) -> Found:
    """Find the lowest threshold at which false alarms stay as rare as allowed, by halving."""
    low, high = LOWEST, HIGHEST
    best = judge(values, events, run(values, detector, model, high), high)
    for _ in range(ROUNDS):
        middle = float(np.sqrt(low * high))
        found = judge(values, events, run(values, detector, model, middle), middle)
        if found.false_per_day <= allowed:
            high, best = middle, found
        else:
            low = middle
    return best


def table(found: dict[str, Found]) -> str:
    """Write the figures in columns."""
    wide = max(map(len, found))
    heads = [*(f"{kind:>15}" for kind in KINDS), f"{'all':>8}{'false':>7}{'thr':>6}"]
    lines = [" " * wide + "".join(heads)]
    for name, one in found.items():
        cells = "".join(f"{f'{one.hits[kind]}/{one.events[kind]}':>15}" for kind in KINDS)
        share = f"{sum(one.hits.values())}/{sum(one.events.values())}"
        lines.append(f"{name:<{wide}}{cells}{share:>8}{one.false_per_day:7.3f}{one.threshold:6.2f}")
    return "\n".join(lines)


def main() -> int:
    options = _options()
    values, events = generate(options.hosts, options.days, options.metrics, options.seed)
    found = {}
    for name, (detector, member) in VARIANTS.items():
        began_s = time.process_time()
        model = None if member is None else train_model(values, values.shape[1] // 2, member)
        found[name] = settle(values, events, detector, model, options.false_per_day)
        print(f"{time.process_time() - began_s:6.1f} s  {name}", file=sys.stderr, flush=True)
    print(
        f"{options.hosts} hosts x {options.metrics} metrics, {options.days} days, seed"
        f" {options.seed}; found / events"
    )
    print(f"at {options.false_per_day:g} false alarms a day and host")
    print(table(found))
    if options.json:
        figures = {name: asdict(one) for name, one in found.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconstruction", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--metrics", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--false-per-day", type=float, default=0.05)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
