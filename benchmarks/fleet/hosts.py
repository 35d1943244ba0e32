"""A generated fleet with labelled anomalies in its second half, equally many of each kind.

Invariant: the same arguments give the same fleet; a host depends only on the seed and its own
           number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.generated.fleet import START_MS, Draws

Floats = npt.NDArray[np.float64]

STEP_MS = 300_000
DAY_ROWS = 288
METRICS = ("cpu", "network_in", "disk_write")
CPU, NETWORK, DISK = range(3)
EXPONENTS = np.array([0.75, 1.0, 0.5])
"""How a metric follows the load that drives all three."""

ROWS = {
    "spike": 2,
    "level_shift": 144,
    "all_drop": 6,
    "cpu_up_load_low": 18,
    "network_low_load_high": 18,
    "drift": 288,
    "night_like_day": 96,
    "noise_burst": 24,
    "stuck_value": 48,
    "missing_job": 9,
}
"""The kinds of anomalies and how many rows each lasts."""

KINDS = tuple(ROWS)
COMBINATIONS = ("cpu_up_load_low", "network_low_load_high")
PER_HOST = 5
APART_ROWS = 200
"""From an anomaly's end to the next start: more than the quiet time after an alarm (173 rows)."""

BURSTS_PER_DAY = 0.35
MISSING_SHARE = 0.001


@dataclass(frozen=True)
class Event:
    """One anomaly: rows first..last of a host, both included."""

    host: int
    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class Fleet:
    """Values of all hosts, a row every five minutes.

    time_ms : int64 (n,)
    values  : float64 (hosts, n, 3)  NaN = missing
    events  : by host and time
    border  : first row that is judged; no event begins before it
    """

    time_ms: npt.NDArray[np.int64]
    values: Floats
    events: tuple[Event, ...]
    border: int


@dataclass
class _Host:
    values: Floats
    load: Floats
    job: Floats
    begin: int
    draws: Draws


def generate(hosts: int, days: int, seed: int, *, anomalies: bool = True) -> Fleet:
    """Generate hosts with daily season, weekend dip, noise, bursts and a nightly job.

    The noise is autocorrelated, and hosts differ in scale.

    raises : ValueError if the days are too few for the anomalies
    """
    n = days * DAY_ROWS
    border = n // 2
    slot = (n - border) // PER_HOST
    if anomalies and slot < APART_ROWS + 2 * DAY_ROWS:
        raise ValueError(
            f"{days} days have no room for {PER_HOST} anomalies per host in their second half; 28"
            " have"
        )
    made = [_healthy(number, Draws(seed, number), n) for number in range(hosts)]
    events = []
    for number, host in enumerate(made):
        ordered = np.sort(host.values, axis=0)
        for place in range(PER_HOST if anomalies else 0):
            kind = KINDS[(number * PER_HOST + 3 * (number // 2) + place) % len(KINDS)]
            low = border + place * slot + APART_ROWS
            first, last = _disturb(host, ordered, kind, low, border + (place + 1) * slot)
            events.append(Event(number, kind, first, last))
        for metric in range(len(METRICS)):
            host.values[host.draws.uniform(n) < MISSING_SHARE, metric] = np.nan
    time_ms = START_MS + STEP_MS * np.arange(n, dtype=np.int64)
    return Fleet(time_ms, np.stack([host.values for host in made]), tuple(events), border)


def _remembering(noise: Floats, memory: float) -> Floats:
    """Noise of deviation 1 that remembers the value before."""
    out: Floats = noise * np.sqrt(1.0 - memory * memory)
    for i in range(1, len(out)):
        out[i] += memory * out[i - 1]
    return out


def _healthy(number: int, draws: Draws, n: int) -> _Host:
    hour = np.arange(n) % DAY_ROWS * 24.0 / DAY_ROWS
    weekend = np.arange(n) // DAY_ROWS % 7 >= 5
    peak, width = draws.between(10, 17), draws.between(8, 11)
    day = np.maximum(1.0 - (np.abs((hour - peak + 12.0) % 24.0 - 12.0) / width) ** 2, 0.0) ** 2
    week = np.where(weekend, draws.between(0.35, 0.8), 1.0)
    load = draws.between(0.25, 0.5) + draws.between(0.6, 1.1) * day * week
    load *= 1.0 + draws.between(0.05, 0.1) * _remembering(draws.bell(n), 0.9)
    for _ in range(_count(draws, BURSTS_PER_DAY * n / DAY_ROWS)):
        first, length = draws.below(n), 3 + draws.below(22)
        load[first : first + length] *= draws.between(1.2, 1.7)
    load = np.maximum(load, 0.05)
    scale = np.array([draws.between(15, 40), draws.between(1e6, 2e7), draws.between(2e5, 5e6)])
    noise = np.stack([_remembering(draws.bell(n), 0.5) for _ in METRICS], axis=1) * np.array(
        [0.04, 0.06, 0.08]
    )
    begin = draws.below(5 * DAY_ROWS // 24)
    job = np.outer(
        (np.arange(n) - begin) % DAY_ROWS < ROWS["missing_job"], scale * np.array([0.25, 0.0, 1.5])
    )
    return _Host(
        np.maximum(load[:, None] ** EXPONENTS * scale * (1.0 + noise), 0.0) + job,
        load,
        job,
        begin,
        draws,
    )


def _count(draws: Draws, mean: float) -> int:
    """Number of arrivals in a time with this number on average."""
    waits = -np.log1p(-draws.uniform(int(3 * mean) + 20))
    return int(np.searchsorted(np.cumsum(waits), mean))


def _disturb(host: _Host, ordered: Floats, kind: str, low: int, high: int) -> tuple[int, int]:
    """Put one anomaly into rows low..high; return its first and its last row."""
    draws, length = host.draws, ROWS[kind]
    first = low + draws.below(high - low - length)
    if kind in ("cpu_up_load_low", "night_like_day"):
        first = _least(np.where(host.job[:, DISK] > 0, np.inf,
                host.load) if kind != "night_like_day" else host.load,
                       low, high, length)  # fmt: skip
    elif kind == "network_low_load_high":
        first = _least(-host.load, low, high, length)
    elif kind == "missing_job":
        first = low + (host.begin - low) % DAY_ROWS
    rows = slice(first, first + length)
    _CHANGES[kind](host, ordered, rows, draws.below(len(METRICS)))
    return first, first + length - 1


def _least(level: Floats, low: int, high: int, length: int) -> int:
    """Return the start in low..high whose window of ``length`` rows has the lowest maximum."""
    windows = np.lib.stride_tricks.sliding_window_view(level[low:high], length)
    return low + int(np.argmin(windows.max(axis=1)))


def _spike(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    raised = host.values[rows, metric] * host.draws.between(2.5, 4)
    host.values[rows, metric] = np.maximum(raised, 1.5 * ordered[int(0.99 * len(ordered)), metric])


def _level_shift(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows, metric] *= 1.8


def _all_drop(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows] *= 0.05


def _cpu_up(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    level = ordered[int(0.9 * len(ordered)), CPU]
    host.values[rows, CPU] = level * (1.0 + 0.03 * host.draws.bell(rows.stop - rows.start))


def _network_low(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    level = ordered[int(0.15 * len(ordered)), NETWORK]
    host.values[rows, NETWORK] = level * (1.0 + 0.03 * host.draws.bell(rows.stop - rows.start))


def _drift(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows, metric] *= np.linspace(1.0, 2.0, rows.stop - rows.start)


def _night_like_day(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    half = DAY_ROWS // 2
    host.values[rows] = (host.values - host.job)[rows.start - half : rows.stop - half] + host.job[
        rows
    ]


def _noise_burst(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows, metric] *= np.maximum(
        1.0 + 0.5 * host.draws.bell(rows.stop - rows.start), 0.02
    )


def _stuck_value(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows, metric] = host.values[rows.start - 1, metric]


def _missing_job(host: _Host, ordered: Floats, rows: slice, metric: int) -> None:
    host.values[rows] -= host.job[rows]


_CHANGES: dict[str, Callable[[_Host, Floats, slice, int], None]] = {
    "spike": _spike,
    "level_shift": _level_shift,
    "all_drop": _all_drop,
    "cpu_up_load_low": _cpu_up,
    "network_low_load_high": _network_low,
    "drift": _drift,
    "night_like_day": _night_like_day,
    "noise_burst": _noise_burst,
    "stuck_value": _stuck_value,
    "missing_job": _missing_job,
}
