"""Events: what a record holds of an episode, and the numbers that its sentence needs.

Invariant: every number can be recomputed from the rows, and is about the metric and row that it
names.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.codes import MISSING, decode, fade, median
from shared.ensemble.kernels.entity.evidence import severity_of
from shared.ensemble.kernels.entity.row import Reported, Row, decode_value
from shared.ensemble.kernels.fades import SHARE_MS
from shared.ensemble.kernels.layout import (
    AS_IT_IS,
    BIN_MS,
    BINS,
    COURSE,
    DAYS,
    FAST_UP,
    HOUR,
    HOURS,
    HOURS4,
    JUMP,
    LEVEL,
    LEVEL_UP,
    MINUTE_MEAN,
    MINUTE_RATE,
    MISSED,
    OFTEN,
    QUARTER,
    RATE,
    SHAPE,
    SPREAD,
    STUCK,
    VALUE,
)
from shared.ensemble.kernels.metric.deviation import season_at
from shared.ensemble.kernels.metric.interval import FASTEST_MS, span_of
from shared.ensemble.kernels.metric.local_views import LEAST_CHANGE
from shared.ensemble.kernels.metric.relearning import moved_ms
from shared.ensemble.kernels.outputs import CLOSED, OPEN
from shared.ensemble.kernels.season.season_memory import near_of, read
from shared.kernels.units import DAY_MS, HOUR_MS, MINUTE_MS

RESOLUTION = 2.0**-10
"""Share of a coded value below which the memory tells no two apart."""


@njit(cache=True, error_model="numpy")
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
    view_number: int  # numba takes any attribute named view for that of a dtype


@njit(cache=True, error_model="numpy")
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
    """Write what a record holds of an episode at a row; ``describe`` adds what its sentence needs.

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
    v["view"] = about.view_number
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
    v["lately"] = 0.0
    v["rarest_days"] = v["watched_days"] = v["crowded"] = 0
    v["width_ms"] = BIN_MS
    v["span_ms"] = v["since_ms"] = v["moved_ms"] = 0
    v["peak_value"] = ep["peak_value"]
    v["peak_expected"] = ep["peak_expected"]
    v["score"] = ratio
    v["severity"] = severity_of(ratio)
    v["peak_severity"] = severity_of(np.float64(ep["peak"]))
    v["threshold"] = threshold


@njit(cache=True, error_model="numpy")
def count_days(v: Record, m: Record, day: int, bin_: int) -> None:
    """Count the days before with a value about a time of day, and those without one as extreme.

    day, bin_ : local, of the row

    About a time are the bins within a quarter of an hour of it, or within a sample's own. Days are
    counted from the newest on, up to the first with a value as extreme, and no further back than
    the memory holds in the rows' own unit. What the memory cannot tell apart counts as as extreme.
    """
    up = v["direction"] > 0 if v["direction"] != 0 else v["value"] > v["expected"]
    x = (v["value"] - m["centre"]) / m["scale"]
    x -= (RESOLUTION if up else -RESOLUTION) * abs(x)
    reach, here = near_of(m["width"]) * m["width"], day * BINS + bin_
    settled = DAYS
    if v["moved_ms"] > 0:
        settled = int((v["time_ms"] - v["moved_ms"] - 2 * HOUR_MS) // DAY_MS)
    v["watched_days"] = v["rarest_days"] = 0
    counts = True
    for age in range(1, DAYS + 1):
        seen = False
        for place in range(here - age * BINS - reach, here - age * BINS + reach + m["width"]):
            code = MISSING if place > here - BINS // 2 else read(m, place % BINS, place // BINS)
            if code == MISSING:
                continue
            seen = True
            counts = counts and (decode(code) < x if up else decode(code) > x)
        counts = counts and age <= settled
        v["watched_days"] += 1 if seen else 0
        v["rarest_days"] += 1 if seen and counts else 0


@njit(cache=True, error_model="numpy")
def _write_amounts(v: Record, m: Record) -> None:
    """Write the numbers that a sentence about the view needs."""
    view = v["view"]
    if view == MISSED:
        v["amount"] = _plain_value(m, m["missed_most"])
        v["usual_amount"] = _plain_value(m, m["missed_usual"])
        v["span_ms"] = (2 * near_of(m["width"]) + 1) * v["width_ms"]
    elif view == JUMP:
        v["amount"] = m["jump_from"]
    elif view == LEVEL:
        v["amount"] = _last_day(m, m["level"][m["season"]]) * m["scale"]
    elif view == SPREAD:
        v["amount"] = m["spread_now"]
        v["usual_amount"] = m["spread_usual"]
        if m["spread_usual"] < m["spread_least"]:
            v["amount"] *= LEAST_CHANGE / m["spread_least"]
            v["usual_amount"] = 0.0
    elif view == OFTEN:
        v["amount"] = m["often"]
        v["usual_amount"] = m["share"] / fade(max(m["live_ms"] - DAY_MS, HOUR_MS), SHARE_MS)
    elif view == STUCK:
        v["amount"] = np.float64(m["sample_ms"] - m["run_ms"])
        v["since_ms"] = m["run_ms"]
    elif view == COURSE:
        c = m["course"]
        v["amount"] = 1.0 if c["absence"] > c["score"] else 0.0
    elif view in (QUARTER, HOUR, HOURS4):
        v["span_ms"] = int(span_of(view, max(m["interval_ms"], 1.0 * MINUTE_MS)))


@njit(cache=True, error_model="numpy")
def _plain_value(m: Record, x: float) -> float:
    """Return a remembered value in the metric's own unit; what cannot be told from 0 is 0."""
    value = decode_value(m, x)
    return value if abs(value) > abs(x) * m["scale"] * RESOLUTION else 0.0


@njit(cache=True, error_model="numpy")
def _last_day(m: Record, level: float) -> float:
    """Return the median deviation of the hours of the last day, coded.

    level : what is judged by instead, which single hours move by a bounded step; where it has not
            the same sign, it is returned
    """
    hours, n = np.empty(HOURS), 0
    for k in range(HOURS):
        if m["hours"][k] >= m["hour"] - 25 and m["hours"][k] > 0:
            hours[n] = m["hours_x"][k]
            n += 1
    middle = median(hours, n) if n > 0 else level
    return middle if middle * level > 0.0 else level


@njit(cache=True, error_model="numpy")
def _write_usual(v: Record, m: Record) -> None:
    """Write what is usual at this time of day, and how far the last 24 hours are from it.

    Not the nearest value of about this time, which may excuse a value, but that of the bin itself.
    """
    near = near_of(m["width"])
    season = season_at(m, near)
    usual = np.float64(m["baselines"][season, near])
    level = m["level"][season]
    if math.isnan(usual):
        usual, level = m["expected"], 0.0
    v["usual"] = _plain_value(m, usual)
    v["expected"] = _plain_value(m, usual + level)
    if abs(level) > max(m["spread"], m["typical"]):
        v["lately"] = _last_day(m, level) * m["scale"]


@njit(cache=True, error_model="numpy")
def write_band(v: Record, m: Record, level: float) -> None:
    """Write the band around the expected value; the entity's level widens it."""
    half = m["spread"] * m["scale"] * level
    v["lower"] = v["expected"] - np.float64(m["return_level"][VALUE, 1]) * half
    v["upper"] = v["expected"] + np.float64(m["return_level"][VALUE, 0]) * half


@njit(cache=True, error_model="numpy")
def describe(v: Record, m: Record, level: float, t: int) -> None:
    """Add the numbers that a sentence about a metric needs.

    level : the entity's level, by which the band is wider
    """
    v["history_ms"] = np.float64(t - m["origin_ms"])
    v["measure"] = measure_of(m)
    v["width_ms"] = m["width"] * BIN_MS
    v["moved_ms"] = moved_ms(m)
    v["crowded"] = 1 if m["crowded"] > 0 and m["day"] + 1 - m["crowded"] <= DAYS else 0
    _write_usual(v, m)
    _write_amounts(v, m)
    if v["view"] == MISSED and v["phase"] != CLOSED:
        v["expected"] = v["usual"] = v["usual_amount"]
        v["lately"] = 0.0
    write_band(v, m, level)
    count_days(v, m, m["day"], m["bin"])


@njit(cache=True, error_model="numpy")
def describe_joint(v: Record, reported: Reported, level: float, t: int) -> None:
    """Add the numbers of a joint event: those of the metric that moved most, and how many moved."""
    for j in range(reported.n):
        if reported.columns[j] == v["metric"]:
            m = reported.metrics[reported.slots[j]]
            v["value"] = m["last"]
            describe(v, m, level, t)
    v["amount"] = max(2, reported.n // 4)
    v["usual_amount"] = reported.n
