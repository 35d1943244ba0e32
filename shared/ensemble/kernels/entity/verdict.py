"""What a row says: which ratio is largest, what the user asks for, which episode it belongs to.

Invariant: nothing here is remembered; a row's verdict is read from the state.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.entity.evidence import evidence
from shared.ensemble.kernels.entity.row import Reported, decode_value
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    DIRECTION,
    HOURLY,
    KEYS,
    LEVEL,
    MIN_ABSOLUTE,
    MIN_RELATIVE,
    MISSED,
    NO_METRIC,
    STUCK,
    TRAINED_KEY,
    Knobs,
)
from shared.ensemble.kernels.metric.warm_up import is_ready


@njit(cache=True)
def largest_ratio(
    of: Reported, knobs: Knobs, ratios: Floats, views: Floats
) -> tuple[float, int, bool]:
    """Return the largest ratio of a row's metrics, its place, and whether any is ready.

    ratios, views : float64 (>= n,), uint8 (>= n,)  out: of each metric, and the view that has it
    """
    top, place, ready = 0.0, -1, False
    for j in range(of.n):
        m = of.metrics[of.slots[j]]
        ready = ready or is_ready(m, knobs)
        ratios[j] = math.nan
        views[j] = 0
        if not of.here[j]:
            continue
        mine = 0.0
        for key in range(HOURLY):
            q, view = evidence(m, key, 1.0)
            if q > mine:
                mine = q
                views[j] = view
        ratios[j] = mine
        if mine > top:
            top, place = mine, j
    return top, place, ready


@njit(cache=True)
def apply_limits(m: Record, limits: Floats) -> bool:
    """Hold back what the user does not ask for; whether the value deviates as asked.

    limits : float64 (3,)  direction, least deviation, least share of |expected|
    """
    way = limits[DIRECTION]
    if way == 0.0 and limits[MIN_ABSOLUTE] <= 0.0 and limits[MIN_RELATIVE] <= 0.0:
        return True
    q = m["q"]
    expected = decode_value(m, m["expected"])
    least = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(expected))
    off = m["last"] - expected
    small = abs(off) < least
    for view in range(ALL_VIEWS):
        if view == MISSED:
            usual = decode_value(m, m["missed_usual"])
            much = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(usual))
            if abs(usual - decode_value(m, m["missed_most"])) < much:
                q[view] = 0.0
        elif small and view != STUCK:
            q[view] = 0.0
        if view <= LEVEL:
            if q[view] * way < 0.0:
                q[view] = 0.0
        elif view != STUCK and off * way < 0.0:
            q[view] = 0.0
    return bool(not small and off * way >= 0.0)


@njit(cache=True)
def name_episode(e: Record, of: Reported, out: Record) -> None:
    """Say which open episode with a record the row belongs to: the most severe lately."""
    most = -1.0
    for j in range(of.n):
        m = of.metrics[of.slots[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            if ep["state"] == 1 and ep["near"] > most:
                most = ep["near"]
                out["episode_column"] = of.columns[j]
                out["episode_key"] = key
                out["episode_at"] = ep["opened_at"]
    for key in (NO_METRIC, TRAINED_KEY):
        ep = e["joint"] if key == NO_METRIC else e["trained"]
        if ep["state"] == 1 and ep["near"] > most:
            most = ep["near"]
            out["episode_column"] = -1
            out["episode_key"] = key
            out["episode_at"] = ep["opened_at"]
    out["in_episode"] = 1 if most >= 0.0 else 0
