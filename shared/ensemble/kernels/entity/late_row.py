"""A row that is older than its entity's newest: judged by its own time, joined to the episodes of that time.

Invariant: no later row's season, spread or level depends on when a late row arrived.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.entity.episodes import start_episode
from shared.ensemble.kernels.entity.event_rows import (
    class_of,
    decode_value,
    describe,
    severity_of,
    write_event,
)
from shared.ensemble.kernels.layout import (
    DAY_MS,
    FAST_DOWN,
    FAST_UP,
    HOUR_MS,
    VALUE,
    Floats,
    Knobs,
    Record,
    Settings,
)
from shared.ensemble.kernels.metric.late_value import judge_late
from shared.ensemble.kernels.metric.local_views import READY_SAMPLES
from shared.ensemble.kernels.outputs import OPEN


@njit(cache=True)
def judge_late_row(
    e: Record, metrics: Record, places: Floats, columns: Floats, values: Floats, n: int, row: int, offset: int, entity: int, t: int, local: int,
    iv: float, settings: Settings, knobs: Knobs, out: Record, cells: Record, events: Record, at: int, tmp: Floats,
) -> int:  # fmt: skip
    """Judge a late row by its own time; it joins an episode of about that time or opens one."""
    threshold = knobs.threshold * e["threshold"]
    bar = e["bar"] * threshold
    calm = max(knobs.calm_hours * HOUR_MS, 6.0 * max(iv, 60_000.0))
    best, place = 0.0, -1
    for j in range(n):
        x = values[columns[j]]
        m = metrics[places[j]]
        if (
            math.isnan(x)
            or m["live_ms"] < knobs.ready_days * DAY_MS
            or m["samples"] < READY_SAMPLES
        ):
            continue
        ratio = judge_late(m, t, local, bounded(x), tmp)
        if math.isnan(ratio):
            continue
        q = abs(ratio) / bar
        key = FAST_UP if ratio > 0.0 else FAST_DOWN
        ep = m["episodes"][key]
        cell = cells[columns[j]]
        expected = decode_value(m, m["expected"])
        cell["expected"] = expected
        if q > best:
            best, place = q, j
        near = ep["opened_ms"] > 0 and ep["start_ms"] - calm <= t <= ep["seen_ms"] + calm
        if near:
            if q >= 1.0:
                ep["start_ms"] = min(ep["start_ms"], t)
            if q >= knobs.stay:
                ep["seen_ms"] = max(ep["seen_ms"], t)
                if q > ep["peak"]:
                    ep["peak"], ep["peak_ms"], ep["peak_value"], ep["peak_expected"] = (
                        q,
                        t,
                        x,
                        expected,
                    )
        elif q >= 1.0 and t - m["mute_ms"] > 2 * HOUR_MS:
            joins = e["opened_ms"] > 0 and abs(t - e["opened_ms"]) <= 3.0 * iv
            start_episode(ep, q, VALUE, t, x, expected, 2 if joins else 1, knobs.habit_days)
            m["fast_ms"][key] = max(m["fast_ms"][key], t)
            if not joins:
                write_event(
                    events,
                    at,
                    row,
                    offset,
                    entity,
                    columns[j],
                    key,
                    OPEN,
                    VALUE,
                    t,
                    x,
                    q,
                    threshold,
                    ep,
                )
                describe(events[at], m, bar, t, tmp)
                at += 1
                e["opened_ms"] = t
                e["opened_level"] = class_of(q)
                e["surplus"] += 1.0
    if place >= 0:
        out["score"] = best * knobs.threshold
        out["severity"] = severity_of(best)
        out["top"] = columns[place]
        out["state"] = 1
    return at
