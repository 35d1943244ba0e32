"""Slow and obviously right: rolling features with Python lists, one event at a time."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np

LIMIT = 1e100
DAY_MS = 86_400_000


def clip(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


class Series:
    """All that one entity's metric has ever reported."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.newest = math.nan


class Entity:
    def __init__(self) -> None:
        self.first_ms: int = 0
        self.newest_ms: int | None = None
        self.steps: list[int] = []
        self.ahead: list[int] = []
        self.series: dict[int, Series] = {}

    def after(self, forget_ms: int) -> int:
        """Return after which silence it is forgotten."""
        if forget_ms >= 1 << 62:
            return forget_ms
        return min(forget_ms, max(1.5 * DAY_MS, 3 * (self.newest_ms - self.first_ms)))

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


def spread_of(values: list[float]) -> float:
    mean = fmean(values)
    return math.sqrt(fmean([(value - mean) ** 2 for value in values]))


def fold_rows(entity, time_ms, values, window, forget_ms=1 << 62):
    """Return the features of each row, one event at a time.

    returns : rolling, expected, lower, upper, late_by_ms, ahead, duplicate, imputed, known,
              forgotten, step_ms; the first axis of each is the row
    """
    entities: dict[int, Entity] = {}
    rows = []
    for e, t, row in zip(entity.tolist(), time_ms.tolist(), values.tolist(), strict=True):
        me = entities.setdefault(e, Entity())
        interval, pause = me.usual()
        reach = max(1.5 * DAY_MS, 24.0 * max(interval, 1.0))
        ahead = me.newest_ms is not None and t - me.newest_ms > max(reach, 2.0 * pause)
        if ahead:
            agrees = me.ahead and 0 < t - me.ahead[-1] < reach
            me.ahead = [*me.ahead, t] if agrees else [t]
            ahead = len(me.ahead) < 3
        if not ahead:
            me.ahead = []
        forgotten = (
            not ahead and me.newest_ms is not None and t - me.newest_ms > me.after(forget_ms)
        )
        if forgotten:
            me = entities[e] = Entity()
        late_by = max(0, me.newest_ms - t) if me.newest_ms is not None else 0
        before = [me.series[m].newest if m in me.series else math.nan for m in range(len(row))]
        same = me.newest_ms == t and all(
            a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(before, row, strict=True)
        )
        out = {"rolling": [], "expected": [], "lower": [], "upper": [], "known": []}
        for m, value in enumerate(row):
            past = me.series[m].values if m in me.series else []
            known = past[-window:]
            if len(known) == window:
                level, width = fmean(known), 3 * spread_of(known)
                band = [clip(level), clip(level - width), clip(level + width)]
            else:
                band = [math.nan] * 3
            for name, number in zip(("expected", "lower", "upper"), band, strict=True):
                out[name].append(number)
            out["known"].append(m in me.series or not math.isnan(value))
            if math.isnan(value):
                out["rolling"].append([math.nan] * 4)
                continue
            inside = [*past, value][-window:]
            step = value - past[-1] if past else 0.0
            out["rolling"].append(
                [clip(value), clip(fmean(inside)), clip(spread_of(inside)), clip(step)]
            )
        imputed = any(math.isnan(value) and m in me.series for m, value in enumerate(row))
        still = late_by or same or ahead
        step = 0 if still or me.newest_ms is None else t - me.newest_ms
        rows.append((out, late_by, ahead, same, imputed, forgotten, step))
        if still:
            continue
        if me.newest_ms is None:
            me.first_ms = t
        if step > 0:
            me.steps.append(step)
        me.newest_ms = t
        for m, value in enumerate(row):
            if not math.isnan(value):
                me.series.setdefault(m, Series()).values.append(value)
            if m in me.series:
                me.series[m].newest = value
    gathered = {
        name: np.array([out[name] for out, *_ in rows])
        for name in ("rolling", "expected", "lower", "upper", "known")
    }
    return (
        gathered["rolling"], gathered["expected"], gathered["lower"], gathered["upper"],
        np.array([late for _, late, *_ in rows]), np.array([ahead for _, _, ahead, *_ in rows]),
        np.array([same for _, _, _, same, *_ in rows]),
        np.array([imputed for *_, imputed, _, _ in rows]), gathered["known"],
        np.array([forgotten for *_, forgotten, _ in rows]),
        np.array([step for *_, step in rows]),
    )  # fmt: skip


def build_vector(rolling, centre, spread, time_ms, zone, start_hour, end_hour, days):
    """Return one row's vector: rolling, centre, spread are (M, 4)."""
    scaled, flags = [], []
    for features, middle, width in zip(rolling, centre, spread, strict=True):
        missing = math.isnan(features[0]) or math.isnan(middle[0])
        flags.append(1.0 if missing else 0.0)
        for feature, c, s in zip(features, middle, width, strict=True):
            scaled.append(0.0 if missing else min(max((feature - c) / s, -1e6), 1e6))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(time_ms))
    local = moment.astimezone(zone)
    minute = local.hour * 60 + local.minute
    angle = 2 * math.pi * minute / 1440
    business = start_hour * 60 <= minute < end_hour * 60 and local.weekday() in days
    return [*scaled, *flags, math.sin(angle), math.cos(angle), 1.0 if business else 0.0]
