"""Events: what a record says of an episode, and the numbers that its sentence needs.

Invariant: every number can be recomputed from the rows, and is about the metric and row that it
names.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.entity.evidence import severity_of
from shared.ensemble.kernels.entity.row import Reported, Row, decode_value
from shared.ensemble.kernels.layout import (
    AS_IT_IS,
    BIN_MS,
    COURSE,
    DAYS,
    FAST_UP,
    JUMP,
    LEVEL,
    LEVEL_UP,
    MINUTE_MEAN,
    MINUTE_RATE,
    MISSED,
    OFTEN,
    RATE,
    SHAPE,
    SPREAD,
    STUCK,
    TWO,
    VALUE,
)
from shared.ensemble.kernels.metric.interval import FASTEST_MS
from shared.ensemble.kernels.outputs import CLOSED, OPEN
from shared.ensemble.kernels.season import extremes


@njit(cache=True)
def measure_of(m: Record) -> int:
    """What is judged of a metric, as ``layout.AS_IT_IS`` ... say."""
    fast = 0.0 < m["interval_ms"] < FASTEST_MS
    if m["counter"] == 1:
        return MINUTE_RATE if fast else RATE
    return MINUTE_MEAN if fast else AS_IT_IS


class About(NamedTuple):
    """What an event is about."""

    column: int  # -1 = the entity
    key: int  # kind of its episode
    seen_by: int  # the view


@njit(cache=True)
def write_event(
    v: Record,
    row: Row,
    about: About,
    phase: int,
    value: float,
    ratio: float,
    threshold: float,
    ep: Record,
) -> None:
    """Write what is said of an episode at a row; ``describe`` adds what its sentence needs.

    v     : EVENT_DTYPE, out
    ep    : EPISODE_DTYPE; remembers the row's offset where it opens
    """
    if phase == OPEN:
        ep["opened_at"] = row.offset
    v["row"] = row.place
    v["entity"] = row.entity
    v["metric"] = about.column
    v["phase"] = phase
    v["key"] = about.key
    v["view"] = about.seen_by
    v["direction"] = 0 if about.key >= SHAPE else 1 if about.key in (FAST_UP, LEVEL_UP) else -1
    v["reason"] = 0
    v["cold_start"] = 0
    v["measure"] = AS_IT_IS
    v["peak_view"] = ep["peak_view"]
    v["episode_at"] = ep["opened_at"]
    v["episode_ms"] = ep["opened_ms"]
    v["seen_ms"] = ep["seen_ms"]
    v["start_ms"] = ep["start_ms"]
    v["time_ms"] = row.time_ms
    v["peak_ms"] = ep["peak_ms"]
    v["value"] = value
    v["expected"] = v["lower"] = v["upper"] = v["usual"] = v["history_ms"] = math.nan
    v["amount"] = v["usual_amount"] = math.nan
    v["rarest_days"] = v["watched_days"] = 0
    v["width_ms"] = BIN_MS
    v["peak_value"] = ep["peak_value"]
    v["peak_expected"] = ep["peak_expected"]
    v["score"] = ratio
    v["severity"] = severity_of(ratio)
    v["peak_severity"] = severity_of(np.float64(ep["peak"]))
    v["threshold"] = threshold


@njit(cache=True)
def _count_days(v: Record, m: Record, tmp: Floats) -> None:
    """Count the days before that had no value as extreme about this time of day, newest first."""
    high, low = tmp[300:328], tmp[330:358]
    extremes(m, m["day"], m["bin"], high, low)
    up = v["value"] > v["expected"]
    x = (v["value"] - m["centre"]) / m["scale"]
    for age in range(DAYS):
        if math.isnan(high[age]):
            continue
        v["watched_days"] += 1
        if (high[age] >= x if up else low[age] <= x) or v["rarest_days"] < v["watched_days"] - 1:
            continue
        v["rarest_days"] += 1


@njit(cache=True)
def _say_amounts(v: Record, m: Record, t: int) -> None:
    """Write the numbers that a sentence about the view needs."""
    view = v["view"]
    if view == MISSED:
        v["amount"] = decode_value(m, m["missed_most"])
        v["usual_amount"] = decode_value(m, m["missed_usual"])
    elif view == JUMP:
        v["amount"] = m["jump_from"]
    elif view == LEVEL:
        v["amount"] = m["level"][m["season"]] * m["scale"]
    elif view == SPREAD:
        v["amount"] = m["spread_now"]
        v["usual_amount"] = m["spread_usual"]
    elif view == OFTEN:
        v["amount"] = m["often"]
        v["usual_amount"] = m["share"]
    elif view == STUCK:
        v["amount"] = np.float64(t - m["run_ms"])
    elif view == COURSE:
        c = m["course"]
        v["amount"] = 1.0 if c["absence"] > c["score"] else 0.0


@njit(cache=True)
def describe(v: Record, m: Record, level: float, t: int, tmp: Floats) -> None:
    """Add the numbers that a sentence about a metric needs.

    level : the entity's level, by which the band is wider
    tmp   : float64 (>= 400,)  scratch
    """
    expected = decode_value(m, m["missed_usual"] if v["view"] == MISSED else m["expected"])
    half_up = np.float64(m["return_level"][VALUE, 0]) * m["spread"] * m["scale"] * level
    half_down = np.float64(m["return_level"][VALUE, 1]) * m["spread"] * m["scale"] * level
    v["expected"] = expected
    v["lower"] = expected - half_down
    v["upper"] = expected + half_up
    v["usual"] = expected
    v["history_ms"] = np.float64(t - m["origin_ms"])
    v["measure"] = measure_of(m)
    v["width_ms"] = m["width"] * BIN_MS
    _say_amounts(v, m, t)
    if v["phase"] != CLOSED and v["view"] <= TWO:
        _count_days(v, m, tmp)


@njit(cache=True)
def describe_joint(v: Record, of: Reported, level: float, t: int, tmp: Floats) -> None:
    """Add the numbers of a joint event: those of the metric that moved most, and how many moved."""
    for j in range(of.n):
        if of.columns[j] == v["metric"]:
            m = of.metrics[of.slots[j]]
            v["value"] = m["last"]
            describe(v, m, level, t, tmp)
    v["amount"] = max(2, of.n // 4)
    v["usual_amount"] = of.n
