"""Generates a fleet of hosts with labelled anomalies, some visible only across metrics.

Invariant: the same arguments give the same bytes on every machine. Random bits come directly from
           PCG64; the rest is addition, multiplication and square roots. A host depends on the seed
           and its own number, not on the number of hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.files.series import Series
from shared.errors import ConfigError
from shared.kernels.units import DAY_MS, HOUR_MS
from shared.wording import second

Array = npt.NDArray[np.float64]

METRICS = ("cpu", "network_in", "disk_write")
CPU, NETWORK, DISK = range(3)
START_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC, a Monday."""

MINUTES = {
    "spike": 10,
    "drop": 60,
    "level_shift": 720,
    "flat_line": 240,
    "missing_job": 45,
    "noise_burst": 120,
    "combination_cpu_up": 90,
    "combination_net_down": 90,
    "all_metrics_drop": 30,
}
"""The kinds of anomalies and their durations in minutes."""

KINDS = tuple(MINUTES)
_HOSTS_AT_ONCE = 256
_JOB_MINUTES = 45
_MISSING_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Label:
    """One anomaly: from its first to its last sample, both included (ms since 1970 UTC)."""

    entity: str
    kind: str
    metrics: tuple[str, ...]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Parameters of a fleet.

    clean            : first share of the time, without anomalies except early_per_host
    per_host         : number of anomalies of each host after that
    early_per_host   : number of anomalies of each host before that
    """

    hosts: int
    days: float
    seed: int
    step_s: int
    start_ms: int
    clean: float
    per_host: int
    early_per_host: int

    @property
    def steps(self) -> int:
        """Number of samples of one host."""
        return int(self.days * 86_400) // self.step_s

    def slots(self) -> list[tuple[int, int]]:
        """Return ranges of steps for one anomaly each, early ones first.

        A margin of 2 % keeps anomalies away from the boundary and from both ends.
        """
        margin = max(self.steps // 50, 1)
        border = int(self.steps * self.clean)
        slots = []
        for low, high, count in (
            (margin, border - margin, self.early_per_host),
            (border + margin, self.steps - margin, self.per_host),
        ):
            size = (high - low) // max(count, 1)
            if count and size < 24:
                raise ConfigError(
                    f"a fleet of {self.days:g} days every {self.step_s} s has no room for {count}"
                    f" anomalies per host in {max(high - low, 0)} samples: at least 24 each; take"
                    " more days or fewer anomalies"
                )
            slots += [(low + i * size, low + (i + 1) * size) for i in range(count)]
        return slots


class Draws:
    """Random numbers of one host.

    numpy guarantees the bits of PCG64 across versions, but not the distributions built on them.
    """

    def __init__(self, seed: int, host: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, host]))

    def uniform(self, n: int) -> Array:
        """Draw n numbers in [0, 1)."""
        bits: npt.NDArray[np.uint64] = self._bits.random_raw(n) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Draw one number in [low, high)."""
        return low + (high - low) * float(self.uniform(1)[0])

    def below(self, n: int) -> int:
        """Draw one whole number in 0..n-1."""
        return int(self.uniform(1)[0] * n)

    def bell(self, n: int) -> Array:
        """Draw n nearly normal numbers of mean 0 and deviation 1, each from six uniform ones."""
        parts = self.uniform(6 * n).reshape(6, n)
        total: Array = (
            ((((parts[0] + parts[1]) + parts[2]) + parts[3]) + parts[4]) + parts[5] - 3.0
        ) * np.sqrt(2.0)
        return total


@dataclass(slots=True)
class _Host:
    """One host while it is generated.

    values     : float64 (n, 3)
    healthy    : float64 (n, 3)  values without anomalies, each column sorted
    load       : float64 (n,)    the load that drives all metrics
    job        : bool (n,)       when the daily job runs
    job_values : float64 (n, 3)  what the job adds to values
    """

    name: str
    draws: Draws
    values: Array
    healthy: Array
    load: Array
    job: npt.NDArray[np.bool_]
    job_values: Array


def generate(
    hosts: int,
    days: float = 14,
    seed: int = 0,
    step_s: int = 300,
    *,
    start_ms: int = START_MS,
    clean: float = 0.6,
    per_host: int = 3,
    early_per_host: int = 0,
) -> tuple[Series, list[Label]]:
    """Generate the series of a fleet and the labels of its anomalies.

    returns : Series of hosts * steps rows ordered by time, then host, with metrics cpu (percent, 2
              decimals), network_in and disk_write (whole bytes per step), about one cell in a
              thousand empty; labels by host and time
    raises  : ConfigError when the time is too short for the anomalies

    Cost: 0.7 us per row.
    """
    plan = Plan(hosts, days, seed, step_s, start_ms, clean, per_host, early_per_host)
    if hosts < 1 or step_s < 1 or not 0 < days < 36_500 or seed < 0 or not 0 <= clean <= 1:
        raise ConfigError(
            f"a fleet needs hosts >= 1 (got {hosts}), step >= 1 s ({step_s}), 0 < days < 36500"
            f" ({days:g}), seed >= 0 ({seed}) and a clean share in 0..1 ({clean:g})"
        )
    slots = plan.slots()
    time_ms = start_ms + np.arange(plan.steps, dtype=np.int64) * (step_s * 1000)
    values = np.empty((plan.steps, hosts, 3))
    labels: list[Label] = []
    names = tuple(f"host-{number + 1:03d}" for number in range(hosts))
    for low in range(0, hosts, _HOSTS_AT_ONCE):
        for number, host in enumerate(
            _healthy(plan, names[low : low + _HOSTS_AT_ONCE], low, time_ms), low
        ):
            for index, slot in enumerate(slots):
                kind = KINDS[(number * len(slots) + index) % len(KINDS)]
                labels.append(_inject(host, kind, slot, time_ms, plan))
            values[:, number] = _finish(host)
    entity = np.tile(np.arange(hosts, dtype=np.int32), plan.steps)
    return (
        Series("fleet", names, METRICS, entity, np.repeat(time_ms, hosts), values.reshape(-1, 3)),
        labels,
    )


def _healthy(
    plan: Plan, names: Sequence[str], first: int, time_ms: npt.NDArray[np.int64]
) -> Iterator[_Host]:
    """Yield hosts without anomalies; a common load drives the metrics (powers 3/4, 1 and 1/2)."""
    n = plan.steps
    every = [Draws(plan.seed, first + i) for i in range(len(names))]
    noise = np.stack(
        [np.stack([draws.bell(n) for _ in range(4)], axis=1) for draws in every], axis=1
    )
    memory = np.array([0.5, 0.5, 0.5, 0.9])
    noise[1:] *= np.sqrt(1.0 - memory * memory)
    for i in range(1, n):
        noise[i] += memory * noise[i - 1]
    hour = (time_ms % DAY_MS) / HOUR_MS
    weekend = (time_ms // DAY_MS + 3) % 7 >= 5
    for i, (name, draws) in enumerate(zip(names, every, strict=True)):
        peak = draws.between(10, 17)
        width = draws.between(8, 11)
        base = draws.between(0.25, 0.5)
        height = draws.between(0.6, 1.1)
        distance = np.abs((hour - peak + 12.0) % 24.0 - 12.0) / width
        day = np.maximum(1.0 - distance * distance, 0.0)
        week = np.where(weekend, draws.between(0.35, 0.8), 1.0)
        load = np.maximum((base + height * day * day * week) * (1.0 + 0.07 * noise[:, i, 3]), 0.05)
        root = np.sqrt(load)
        scale = (draws.between(15, 45), draws.between(1e6, 2e7), draws.between(2e5, 5e6))
        shape = np.stack([np.sqrt(load * root), load, root], axis=1)
        values = shape * np.array(scale) * (1.0 + np.array([0.04, 0.06, 0.08]) * noise[:, i, :3])
        begin = float(draws.below(20)) / 4.0
        job = (hour >= begin) & (hour < begin + _JOB_MINUTES / 60.0)
        job_values = np.outer(job, [6.0, 0.0, 3.0 * scale[DISK]])
        values = np.maximum(values, 0.0) + job_values
        yield _Host(name, draws, values, np.sort(values, axis=0), load, job, job_values)


def _inject(
    host: _Host, kind: str, slot: tuple[int, int], time_ms: npt.NDArray[np.int64], plan: Plan
) -> Label:
    """Insert one anomaly into a slot and return its label.

    A missing job needs a job within the slot; without one the anomaly is a spike.
    """
    values, draws = host.values, host.draws
    jobs = _runs(host.job, *slot)
    kind = "spike" if kind == "missing_job" and not jobs else kind
    length = min(max(MINUTES[kind] * 60 // plan.step_s, 1), (slot[1] - slot[0]) // 2)
    start = slot[0] + draws.below(slot[1] - slot[0] - length)
    metric = draws.below(3)
    if kind == "missing_job":
        start, length = jobs[draws.below(len(jobs))]
    elif kind.startswith("combination"):
        quiet = (
            np.where(host.job, np.inf, host.load) if kind == "combination_cpu_up" else -host.load
        )
        start = _lowest(quiet, slot, length)
    rows = slice(start, start + length)
    ordered = host.healthy
    affected: tuple[int, ...] = (metric,)
    if kind == "spike":
        values[rows, metric] = np.maximum(
            values[rows, metric] * draws.between(2.5, 4), ordered[-1, metric] * 1.5
        )
    elif kind == "drop":
        values[rows, metric] *= 0.05
    elif kind == "level_shift":
        values[rows, metric] *= 1.8
    elif kind == "flat_line":
        values[rows, metric] = values[start - 1, metric]
    elif kind == "noise_burst":
        values[rows, metric] *= np.maximum(1.0 + 0.5 * draws.bell(length), 0.02)
    elif kind == "missing_job":
        affected = (CPU, DISK)
        values[rows] -= host.job_values[rows]
    elif kind == "combination_cpu_up":
        affected = (CPU,)
        values[rows, CPU] = ordered[int(0.9 * len(ordered)), CPU] * (
            1.0 + 0.02 * draws.bell(length)
        )
    elif kind == "combination_net_down":
        affected = (NETWORK,)
        values[rows, NETWORK] = ordered[int(0.15 * len(ordered)), NETWORK] * (
            1.0 + 0.02 * draws.bell(length)
        )
    else:
        affected = (CPU, NETWORK, DISK)
        values[rows] *= 0.05
    names = tuple(METRICS[metric] for metric in affected)
    return Label(host.name, kind, names, int(time_ms[start]), int(time_ms[start + length - 1]))


def _runs(flags: npt.NDArray[np.bool_], low: int, high: int) -> list[tuple[int, int]]:
    """Return start and length of each run of consecutive True flags within low..high."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b - a)) for a, b in edges.reshape(-1, 2) if a >= low and b <= high]


def _lowest(level: Array, slot: tuple[int, int], length: int) -> int:
    """Return the start in the slot that minimizes the maximum level over ``length`` steps."""
    highest = level[slot[0] : slot[1] - length + 1].copy()
    for step in range(1, length):
        np.maximum(highest, level[slot[0] + step : slot[1] - length + 1 + step], out=highest)
    return slot[0] + int(np.argmin(highest))


def _finish(host: _Host) -> Array:
    values = np.maximum(host.values, 0.0)
    values[:, CPU] = np.rint(np.minimum(values[:, CPU], 100.0) * 100.0) / 100.0
    values[:, NETWORK:] = np.rint(values[:, NETWORK:])
    for metric in range(3):
        values[host.draws.uniform(len(values)) < _MISSING_SHARE, metric] = np.nan
    return values


def label_document(
    labels: Sequence[Label], entities: Sequence[str], shift_ms: int = 0
) -> dict[str, Any]:
    """Return labels as a JSON document.

    ``windows`` is as in NAB's combined_windows.json; ``anomalies`` adds kind and metrics.

    shift_ms : by how much the replay shifted the times
    """
    windows: dict[str, list[list[str]]] = {entity: [] for entity in entities}
    anomalies = []
    for label in labels:
        start, end = (_nab_time(time + shift_ms) for time in (label.start_ms, label.end_ms))
        windows[label.entity].append([start, end])
        anomalies.append(
            {
                "entity": label.entity,
                "kind": label.kind,
                "metrics": list(label.metrics),
                "start": start,
                "end": end,
            }
        )
    return {"windows": windows, "anomalies": anomalies}


def _nab_time(time_ms: int) -> str:
    return f"{second(time_ms - time_ms % 1000)}.{time_ms % 1000:03d}000"


def csv_text(series: Series) -> str:
    """Write a generated fleet as a wide CSV: timestamp, entity, then its metrics."""
    lines = [",".join(("timestamp", "entity", *series.metrics))]
    for row, time_ms in enumerate(series.time_ms):
        cells = ("" if value != value else f"{value:.12g}" for value in series.values[row])
        lines.append(",".join((second(int(time_ms)), series.entities[series.entity[row]], *cells)))
    return "\n".join(lines) + "\n"
