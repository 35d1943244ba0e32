"""Hosts that differ from their peers, found or missed: ``python -m benchmarks.peers [OPTIONS]``.

Options: ``--hosts N --days N --seed N``, ``--json FILE``.

Three groups of hosts that are alike but for a tenth of their scale. In the second half single hosts
differ from their group, most of them in a way that their own past does not show: they drift, or
they join the fleet as they are.

Invariant: all variants are compared at the same rate of false alarms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_with
from benchmarks.histories import read_series
from consumer_training.training import train
from producer.generated.fleet import START_MS
from shared.ensemble.fold import limits_for, params_for
from shared.events import Detector
from shared.models.model import Model
from shared.settings import Settings, TrainSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

METRICS = ("cpu", "network_in", "disk_write")
STEP_MS, DAY_ROWS = 300_000, 288
GROUPS = 3
KINDS = ("drift", "drained", "kept_level", "joined_busy", "joined_idle", "joined_shifted")
"""What a host does from an event's first row to the end:

drift          : a metric grows to 1.8 times over ten days
drained        : all metrics fall to half over five days
kept_level     : a metric is 1.6 times as high at once
joined_busy    : a new host, a metric 1.8 times as high as that of its peers
joined_idle    : a new host that stays at its peers' night
joined_shifted : a new host whose day begins eight hours early
"""

WITHIN_DAYS = {"drift": 10, "drained": 7}
"""Days from an event's first row in which an alarm is a hit; of other kinds, USUALLY_WITHIN."""

USUALLY_WITHIN = 4
HEALTHY, JOINED = "healthy", "joined_healthy"
ROUNDS, LOWEST, HIGHEST = 6, 0.4, 4.0
VARIANTS: dict[str, tuple[Detector, Detector | None]] = {
    "ensemble, no model": (Detector.ENSEMBLE, None),
    "ensemble + one class svm": (Detector.ENSEMBLE, Detector.ONE_CLASS_SVM),
    "ensemble + peer groups": (Detector.ENSEMBLE, Detector.PEER_GROUPS),
    "peer groups alone": (Detector.PEER_GROUPS, Detector.PEER_GROUPS),
}


@dataclass(frozen=True)
class Host:
    """One host's rows.

    name, kind : kind is one of KINDS, HEALTHY or JOINED
    first_row  : of its rows, in those of the fleet
    values     : float64 (n, 3)
    event      : first row that differs, in ``values``; None = none does
    """

    name: str
    kind: str
    first_row: int
    values: Floats
    event: int | None


@dataclass(frozen=True)
class Found:
    """What a variant finds at a threshold.

    hits, events  : by kind
    false_per_day : of hosts that are healthy, or still healthy, a day and host
    delay_h       : median time from an event to its first alarm
    """

    threshold: float
    hits: dict[str, int]
    events: dict[str, int]
    false_per_day: float
    delay_h: float


def generate(hosts: int, days: int, seed: int) -> list[Host]:
    """Generate the fleet; every other host is healthy, the others differ by one kind each."""
    rows, border = days * DAY_ROWS, days * DAY_ROWS // 2
    groups = [_Group.drawn(np.random.default_rng([seed, group]), rows) for group in range(GROUPS)]
    found = []
    for number in range(hosts):
        random = np.random.default_rng([seed, GROUPS, number])
        kind = HEALTHY
        if number % 2:
            kind = (*KINDS, JOINED)[number // 2 % (len(KINDS) + 1)]
        values = groups[number % GROUPS].host(random, kind)
        event = None if kind in (HEALTHY, JOINED) else border + int(random.integers(DAY_ROWS))
        if kind.startswith("joined"):
            values, event = values[border:], None if kind == JOINED else 0
        if event is not None:
            _change(kind, values, event, int(random.integers(len(METRICS))))
        first_row = rows - len(values)
        found.append(Host(f"host-{number:04d}", kind, first_row, values, event))
    return found


@dataclass(frozen=True)
class _Group:
    """What hosts of a group have in common: the load of the day, and scales."""

    load: Floats
    night: float
    scale: Floats

    @classmethod
    def drawn(cls, random: np.random.Generator, rows: int) -> _Group:
        hour = np.arange(rows) % DAY_ROWS * 24.0 / DAY_ROWS
        weekend = np.arange(rows) // DAY_ROWS % 7 >= 5
        peak, width, night = random.uniform(10, 17), random.uniform(8, 11), random.uniform(0.3, 0.5)
        day = np.maximum(1.0 - (np.abs((hour - peak + 12.0) % 24.0 - 12.0) / width) ** 2, 0.0) ** 2
        load = night + day * np.where(weekend, random.uniform(0.5, 0.9), 1.0)
        scale = np.array(
            [random.uniform(15, 40), random.uniform(1e6, 2e7), random.uniform(2e5, 5e6)]
        )
        return cls(load, night, scale)

    def host(self, random: np.random.Generator, kind: str) -> Floats:
        load = self.load
        if kind == "joined_idle":
            load = np.full(len(load), self.night)
        if kind == "joined_shifted":
            load = np.roll(load, -8 * DAY_ROWS // 24)
        load = load * (1.0 + 0.06 * remembering(random.standard_normal(len(load)), 0.9))
        for first in random.integers(0, len(load), int(0.35 * len(load) / DAY_ROWS)):
            load[first : first + random.integers(3, 25)] *= random.uniform(1.2, 1.7)
        noise = np.stack(
            [remembering(random.standard_normal(len(load)), 0.5) for _ in METRICS], axis=1
        )
        own = self.scale * random.uniform(0.9, 1.1, len(METRICS))
        scaled = np.maximum(load, 0.05)[:, None] ** np.array([0.75, 1.0, 0.5]) * own
        values: Floats = np.maximum(scaled * (1.0 + noise * np.array([0.04, 0.06, 0.08])), 0.0)
        values[random.random(values.shape) < 0.001] = np.nan
        return values


def remembering(noise: Floats, memory: float) -> Floats:
    """Noise of deviation 1 that remembers the value before."""
    out: Floats = noise * np.sqrt(1.0 - memory * memory)
    for i in range(1, len(out)):
        out[i] += memory * out[i - 1]
    return out


def _change(kind: str, values: Floats, event: int, metric: int) -> None:
    """Make a host differ from an event's first row on."""
    since = np.arange(len(values) - event) / DAY_ROWS
    if kind == "drift":
        values[event:, metric] *= 1.0 + 0.8 * np.minimum(since / 10.0, 1.0)
    elif kind == "drained":
        values[event:] *= (1.0 - 0.5 * np.minimum(since / 5.0, 1.0))[:, None]
    elif kind == "kept_level":
        values[event:, metric] *= 1.6
    elif kind == "joined_busy":
        values[event:, metric] *= 1.8


def train_model(hosts: list[Host], border: int, detector: Detector) -> Model:
    """Train on the rows before the border, as the training consumer does."""
    present = [host for host in hosts if host.first_row == 0]
    history = read_series(
        {host.name: START_MS + STEP_MS * np.arange(border, dtype=np.int64) for host in present},
        {host.name: host.values[:border] for host in present},
        METRICS,
        Settings(),
    )
    return train(history.rows(), detector, Settings().features, TrainSettings(split=0.99)).model


def run(
    hosts: list[Host], detector: Detector, model: Model | None, threshold: float
) -> list[Flags]:
    """Fold every host separately; return its alarms."""
    limits = limits_for(len(METRICS), detector, cold_start=False)
    params = params_for(threshold, detector)
    found = []
    for host in hosts:
        time_ms = START_MS + STEP_MS * (
            host.first_row + np.arange(len(host.values), dtype=np.int64)
        )
        verdicts = fold_with(model, host.name, time_ms, host.values, METRICS, limits, params)
        found.append(verdicts.is_anomaly)
    return found


def judge(hosts: list[Host], alarms: list[Flags], border: int, threshold: float) -> Found:
    """Count hits, and alarms that are none."""
    hits, events = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    wrong, healthy_rows, delays = 0, 0, []
    for host, flags in zip(hosts, alarms, strict=True):
        low = border - host.first_row
        event = len(flags) if host.event is None else host.event
        wrong += int(flags[low:event].sum())
        healthy_rows += max(event - low, 0)
        if host.event is not None:
            within = DAY_ROWS * WITHIN_DAYS.get(host.kind, USUALLY_WITHIN)
            found = np.flatnonzero(flags[event : event + within])
            events[host.kind] += 1
            hits[host.kind] += len(found) > 0
            delays += [float(found[0]) * STEP_MS / 3_600_000] if len(found) else []
    delay_h = float(np.median(delays)) if delays else float("nan")
    return Found(threshold, hits, events, wrong * DAY_ROWS / max(healthy_rows, 1), delay_h)


def settle(
    hosts: list[Host], border: int, detector: Detector, model: Model | None, allowed: float
) -> Found:
    """Find the lowest threshold at which false alarms stay as rare as allowed, by halving."""
    low, high = LOWEST, HIGHEST
    best = judge(hosts, run(hosts, detector, model, high), border, high)
    for _ in range(ROUNDS):
        middle = float(np.sqrt(low * high))
        found = judge(hosts, run(hosts, detector, model, middle), border, middle)
        if found.false_per_day <= allowed:
            high, best = middle, found
        else:
            low = middle
    return best


def table(found: dict[str, Found]) -> str:
    """Write the figures in columns."""
    wide = max(map(len, found))
    heads = [*(f"{kind:>15}" for kind in KINDS), f"{'all':>8}{'false':>7}{'thr':>6}{'delay':>8}"]
    lines = [" " * wide + "".join(heads)]
    for name, one in found.items():
        cells = "".join(f"{f'{one.hits[kind]}/{one.events[kind]}':>15}" for kind in KINDS)
        share = f"{sum(one.hits.values())}/{sum(one.events.values())}"
        lines.append(
            f"{name:<{wide}}{cells}{share:>8}{one.false_per_day:7.3f}{one.threshold:6.2f}"
            f"{one.delay_h:6.1f} h"
        )
    return "\n".join(lines)


def main() -> int:
    options = _options()
    hosts = generate(options.hosts, options.days, options.seed)
    border = options.days * DAY_ROWS // 2
    models = {
        detector: train_model(hosts, border, detector)
        for detector in (Detector.ONE_CLASS_SVM, Detector.PEER_GROUPS)
    }
    found = {}
    for name, (detector, member) in VARIANTS.items():
        began_s = time.process_time()
        model = None if member is None else models[member]
        found[name] = settle(hosts, border, detector, model, options.false_per_day)
        print(f"{time.process_time() - began_s:6.1f} s  {name}", file=sys.stderr, flush=True)
    print(f"{options.hosts} hosts in {GROUPS} groups, {options.days} days, seed {options.seed};")
    print(f"found / events at {options.false_per_day:g} false alarms a day and healthy host")
    print(table(found))
    if options.json:
        figures = {name: asdict(one) for name, one in found.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--hosts", type=int, default=84)
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--false-per-day", type=float, default=0.02)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
