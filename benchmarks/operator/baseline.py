"""The bar: a plain, causal detector by the usual value and spread of the time of day.

Usual value: median of the last 14 days, or of the same weekday where the week before tells more
than the day before; plus yesterday's level. Spread: median distance of what is left, over five
neighbouring slots. An alarm: two slots in a row far off, one very far off, or an hour a little
off; the next one not before six quiet hours. It knows nothing of metrics together, of counters, or
of the order of arrival.

Invariant: a slot is judged by days before its own only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from benchmarks.operator.judging import Alert, Output
from benchmarks.operator.scene import Scene
from benchmarks.operator.signals import DAY, HOUR, Floats, Times

READY_DAYS = 3
LEARN_DAYS = 14
FAR, VERY_FAR, HOURLY = 6.0, 12.0, 2.5
QUIET_S = 6 * HOUR
SHORTEST = 10
"""Fewer values than this are not judged."""

MAD_TO_DEVIATION = 1.4826
FEW_DAYS = {3: 2.0, 4: 1.6}
"""By how much the spread of so few days is taken to be larger."""


def detect(scene: Scene) -> Output:
    """Judge every metric of every host separately."""
    alerts: list[Alert] = []
    for host in scene.hosts:
        for metric, values in host.columns.items():
            present = ~np.isnan(values)
            time, known = host.time[present], values[present]
            alerts += _absence(host.name, metric, host.time, present)
            if len(time) >= SHORTEST:
                alerts += _Metric(host.name, metric, time, known, scene.start).alarms()
                alerts += _gaps_and_flat_lines(host.name, metric, time, known)
    facts: dict[str, int | str | None] = {"records": scene.rows, "entities": len(scene.hosts)}
    return Output(alerts, facts=facts | {"rejected": 0, "warming": 0, "late": 0})


class _Metric:
    """One metric of one host on a regular grid of days and slots.

    grid, times : float64 (days, slots)  newest value of each slot and its time; NaN = no value
    """

    def __init__(self, entity: str, metric: str, time: Times, values: Floats, start: int) -> None:
        self._entity, self._metric = entity, metric
        width = int(np.clip(np.median(np.diff(time)), 300, DAY))
        self._slots = DAY // width
        day = (time - start) // DAY
        slot = np.minimum((time - start) % DAY // width, self._slots - 1)
        self._first_day = int(day[0])
        self._grid = np.full((int(day[-1]) + 1, self._slots), np.nan)
        self._grid[day, slot] = values
        self._times = np.zeros(self._grid.shape)
        self._times[day, slot] = time
        self._step = _resolution(values[: 3 * self._slots])

    def alarms(self) -> Iterator[Alert]:
        """Yield the alarms in order of time."""
        last, is_open, strikes, hourly = -np.inf, False, 0, 0.0
        for day in range(self._first_day + READY_DAYS, len(self._grid)):
            usual, spread, shift = self._expectation(day)
            for slot in np.flatnonzero(~np.isnan(self._grid[day])).tolist():
                distance = self._distance(day, slot, usual, spread, shift)
                now = float(self._times[day, slot])
                strikes = strikes + 1 if abs(distance) > FAR else 0
                hourly += (float(np.clip(distance, -6, 6)) - hourly) / 12
                if abs(distance) > FAR / 1.5 or abs(hourly) > HOURLY / 2:
                    is_far = abs(distance) > VERY_FAR or strikes >= 2 or abs(hourly) > HOURLY
                    if is_far and not is_open:
                        is_open = True
                        yield self._alarm(now, float(usual[slot] + shift))
                    last = now
                elif is_open and now - last > QUIET_S:
                    is_open = False

    def _alarm(self, now: float, expected: float) -> Alert:
        reason = "away from its usual value"
        return Alert(now, self._entity, "anomaly", self._metric, expected, reason)

    def _expectation(self, day: int) -> tuple[Floats, Floats, float]:
        """Return usual value and spread of each slot, and the level of the day before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            usual, rows = self._usual(day)
            spread = self._spread(usual, rows)
            yesterday = self._grid[day - 1] - self._usual(day - 1)[0]
            shift = float(np.nanmedian(yesterday))
        return usual, spread, shift if abs(shift) > np.median(spread) else 0.0

    def _usual(self, day: int) -> tuple[Floats, Floats]:
        """Return the usual value of each slot, and the days that it was taken from."""
        grid = self._grid
        rows = grid[max(0, day - LEARN_DAYS) : day]
        if day >= 21:
            last_week = grid[day - 7 : day]
            by_week = np.nanmean(np.abs(last_week - grid[day - 14 : day - 7])) / 1.4
            if by_week < 0.7 * np.nanmean(np.abs(last_week - _quantile(rows, 0.5))):
                rows = grid[day - 7 :: -7][:4]
        usual = _quantile(rows, 0.5)
        return np.where(np.isnan(usual), np.nanmedian(rows), usual), rows

    def _spread(self, usual: Floats, rows: Floats) -> Floats:
        off = rows - usual
        off = np.abs(off - np.nanmedian(off, axis=1, keepdims=True))
        pool = np.concatenate([np.roll(off, shift, axis=1) for shift in (-2, -1, 0, 1, 2)])
        spread = MAD_TO_DEVIATION * _quantile(pool, 0.5) * FEW_DAYS.get(len(rows), 1.0)
        if len(rows) >= 5:
            spread = np.fmax(spread, _quantile(pool, 0.8) / 1.28)
        least = max(0.3 * np.nanmedian(spread), self._step, 0.01 * np.abs(usual).max())
        return np.asarray(np.fmax(np.nan_to_num(spread), least))

    def _distance(self, day: int, slot: int, usual: Floats, spread: Floats, shift: float) -> float:
        """Return the distance in spreads from the nearest usual value of the slot's neighbours."""
        value = self._grid[day, slot]
        near = [
            (value - usual[(slot + k) % self._slots] - shift) / spread[slot] for k in (0, -1, 1)
        ]
        return float(min(near, key=abs))


def _resolution(values: Floats) -> float:
    """Return the smallest spread that a metric of such steps can have."""
    jumps = np.abs(np.diff(values))
    smallest = jumps[jumps > 0].min(initial=np.inf) / 6 if jumps.any() else 0.0
    usual = float(np.quantile(jumps, 0.75)) / 4
    return float(max(usual, smallest, 1e-9 * np.abs(values).max(), 1e-12))


def _quantile(values: Floats, share: float) -> Floats:
    if np.isnan(values).any():
        return np.asarray(np.nanquantile(values, share, axis=0))
    return np.asarray(np.quantile(values, share, axis=0))


def _absence(
    entity: str, metric: str, time: Times, present: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Iterator[Alert]:
    """Yield a verdict where a metric that came often is sent no more."""
    seen = np.flatnonzero(present)
    if len(seen) and len(seen) > 0.5 * seen[-1] and seen[-1] + 13 < len(time):
        moment = float(time[seen[-1] + 12])
        yield Alert(moment, entity, "missing", metric, None, "is sent no more")


def _gaps_and_flat_lines(entity: str, metric: str, time: Times, values: Floats) -> Iterator[Alert]:
    """Yield silences of more than five intervals, and one value for a day after changes."""
    intervals = np.diff(time)
    longest = max(5 * np.median(np.diff(time[:300])), HOUR)
    for row in np.flatnonzero(intervals > longest):
        yield Alert(float(time[row + 1]), entity, "gap", None, None, "no rows")
    runs = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    for first, end in pairwise(runs[1:]):
        if time[end - 1] - time[first] > DAY and end - first > 20:
            moment = float(time[first] + DAY)
            yield Alert(moment, entity, "flat_line", metric, None, "has not changed for a day")
