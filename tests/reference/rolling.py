"""Slow and obviously right: places, clocks and bands with Python lists, one event at a time."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np

LIMIT = 1e100
DAY_MS = 86_400_000
OUT = (
    "expected",
    "lower",
    "upper",
    "late_by_ms",
    "ahead",
    "duplicate",
    "imputed",
    "known",
    "forgotten",
    "step_ms",
)


def clip(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


class Series:
    """All that one entity's metric has ever reported."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.newest = math.nan


class Entity:
    """All that one entity has ever reported."""

    def __init__(self) -> None:
        self.first_ms: int = 0
        self.newest_ms: int | None = None
        self.steps: list[int] = []
        self.ahead: list[int] = []
        self.series: dict[int, Series] = {}

    def usual(self):
        """Return (usual interval, longest usual pause) of the steps so far."""
        interval, pause = 0.0, 0.0
        for step in self.steps:
            faded = pause * math.exp(-min(step, 4.0 * interval) / (20.0 * DAY_MS))
            pause = max(faded, min(step, 30.0 * DAY_MS))
            if interval == 0.0:
                interval = float(step)
                continue
            most = min(0.15 * min(step, 4.0 * interval) / interval, 0.1)
            interval *= math.exp(min(max(math.log(step / interval), -most), most))
        return interval, pause

    def is_ahead(self, time_ms):
        """Whether a row is implausibly far ahead; the third that agrees with the others is not."""
        interval, pause = self.usual()
        reach = max(1.5 * DAY_MS, 24.0 * max(interval, 1.0))
        if self.newest_ms is None or time_ms - self.newest_ms <= max(reach, 2.0 * pause):
            self.ahead = []
            return False
        agrees = self.ahead and 0 < time_ms - self.ahead[-1] < reach
        self.ahead = [*self.ahead, time_ms] if agrees else [time_ms]
        if len(self.ahead) < 3:
            return True
        self.ahead = []
        return False

    def is_forgotten(self, time_ms, forget_ms):
        """Whether the silence before a row is so long that the entity starts over."""
        if self.newest_ms is None:
            return False
        if forget_ms < 1 << 62:
            forget_ms = min(forget_ms, max(1.5 * DAY_MS, 3 * (self.newest_ms - self.first_ms)))
        return time_ms - self.newest_ms > forget_ms

    def late_by_ms(self, time_ms):
        return max(0, self.newest_ms - time_ms) if self.newest_ms is not None else 0

    def step_ms(self, time_ms):
        return time_ms - self.newest_ms if self.newest_ms is not None else 0

    def is_duplicate(self, time_ms, row):
        """Whether a row repeats the newest one, value by value."""
        before = [self.series[m].newest if m in self.series else math.nan for m in range(len(row))]
        return self.newest_ms == time_ms and all(
            a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(before, row, strict=True)
        )

    def past(self, metric):
        return self.series[metric].values if metric in self.series else []

    def add(self, time_ms, row):
        """Append a row that is neither late, nor a duplicate, nor ahead."""
        if self.newest_ms is None:
            self.first_ms = time_ms
        if self.step_ms(time_ms) > 0:
            self.steps.append(self.step_ms(time_ms))
        self.newest_ms = time_ms
        for m, value in enumerate(row):
            if not math.isnan(value):
                self.series.setdefault(m, Series()).values.append(value)
            if m in self.series:
                self.series[m].newest = value


def spread_of(values: list[float]) -> float:
    mean = fmean(values)
    return math.sqrt(fmean([(value - mean) ** 2 for value in values]))


def band_of(past, window):
    """Return (expected, lower, upper) from a full window of values; NaN before it is full."""
    if len(past) < window:
        return [math.nan] * 3
    level, width = fmean(past[-window:]), 3 * spread_of(past[-window:])
    return [clip(level), clip(level - width), clip(level + width)]


def features_of(me, row, window):
    """Return the part of a row's results that has an entry for each metric."""
    bands = [band_of(me.past(m), window) for m in range(len(row))]
    return {
        "expected": [expected for expected, _, _ in bands],
        "lower": [lower for _, lower, _ in bands],
        "upper": [upper for _, _, upper in bands],
        "known": [m in me.series or not math.isnan(value) for m, value in enumerate(row)],
    }


def fold_rows(entity, time_ms, values, window, forget_ms=1 << 62):
    """Return the features of each row, one event at a time: the arrays of OUT, by row."""
    entities: dict[int, Entity] = {}
    rows = []
    for e, t, row in zip(entity.tolist(), time_ms.tolist(), values.tolist(), strict=True):
        me = entities.setdefault(e, Entity())
        ahead = me.is_ahead(t)
        forgotten = not ahead and me.is_forgotten(t, forget_ms)
        if forgotten:
            me = entities[e] = Entity()
        late_by_ms, duplicate = me.late_by_ms(t), me.is_duplicate(t, row)
        is_ignored = late_by_ms or duplicate or ahead
        rows.append(
            {
                **features_of(me, row, window),
                "late_by_ms": late_by_ms,
                "ahead": ahead,
                "duplicate": duplicate,
                "imputed": any(math.isnan(v) and m in me.series for m, v in enumerate(row)),
                "forgotten": forgotten,
                "step_ms": 0 if is_ignored else me.step_ms(t),
            }
        )
        if not is_ignored:
            me.add(t, row)
    return tuple(np.array([row[name] for row in rows]) for name in OUT)
