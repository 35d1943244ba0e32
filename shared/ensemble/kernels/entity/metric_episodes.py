"""Episodes of one metric at a row: opened, followed and closed.

Invariant: an episode opens at its level, lasts while half of it does, and is reported again only
where it is much worse.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.course.members import alarms as course_alarms
from shared.ensemble.kernels.entity.episode import (
    CLOSED_STATE,
    JOINED_ANOTHER,
    REPORTED,
    follow_peak,
    forget_records,
    habit_of,
    is_worse,
    start_episode,
)
from shared.ensemble.kernels.entity.event_rows import About, describe, measure_of, write_event
from shared.ensemble.kernels.entity.evidence import MEAN_COUNTS, evidence
from shared.ensemble.kernels.entity.row import Gate, Reported, Row, decode_value
from shared.ensemble.kernels.fades import spread_span
from shared.ensemble.kernels.layout import (
    COURSE,
    FAST_DOWN,
    FAST_UP,
    HOURLY,
    HOURS,
    LEVEL_DOWN,
    LEVEL_UP,
    SHAPE,
    SPREAD,
    STUCK,
    VALUE,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.local_views import restart_spread
from shared.ensemble.kernels.outputs import ACCEPTED, CLOSED, OPEN, RECOVERED, WORSE
from shared.kernels.units import DAY_MS, HOUR_MS

ACCEPTED_LEVEL = 2.0
"""Typical spreads: an episode that ends with a level further off was accepted, not over."""

AFTER_FAST_MS = 2 * DAY_MS
"""So long after a fast alarm its level is no alarm of its own."""

AFTER_STUCK_MS = 2 * HOUR_MS
"""So long after a stuck value nothing else is reported."""


class Opening(NamedTuple):
    """What would open at a row."""

    ratio: float
    place: int  # of its metric; -1 = nothing
    key: int
    view_number: int


@njit(cache=True, error_model="numpy")
def write_cold_start(
    v: Record, m: Record, column: int, row: Row, threshold: float, params: EnsembleParams
) -> None:
    """Report a value that lies far outside of all that the first days have shown."""
    key = FAST_UP if m["cold"] > 0 else FAST_DOWN
    ep = m["episodes"][key]
    start_episode(ep, 1.0, VALUE, row.time_ms, m["last"], math.nan, REPORTED, params)
    write_event(v, row, About(column, key, VALUE), OPEN, m["last"], 1.0, threshold, ep)
    v["cold_start"] = 1
    v["lower"], v["upper"] = m["low"], m["high"]
    v["measure"] = measure_of(m)
    v["history_ms"] = np.float64(row.time_ms - m["origin_ms"])


@njit(cache=True, error_model="numpy")
def _stays(m: Record, key: int) -> bool:
    """Whether the level of the last day, and the newest whole hour, lie where an episode was."""
    side = -1.0 if key in (FAST_DOWN, LEVEL_DOWN) else 1.0
    level = side * m["level"][m["season"]]
    place = (m["hour"] - 1) % HOURS
    if m["hours"][place] == m["hour"] - 1 and side * np.float64(m["hours_x"][place]) < 0.5 * level:
        return False
    return bool(level > ACCEPTED_LEVEL * max(m["typical"], 1e-12))


@njit(cache=True, error_model="numpy")
def _follow_open(
    m: Record,
    about: About,
    ratio: float,
    row: Row,
    gate: Gate,
    params: EnsembleParams,
    v: Record,
) -> int:
    """Follow an open episode; return the events that it wrote, one at most."""
    key, view, t = about.key, about.view_number, row.time_ms
    ep = m["episodes"][key]
    value, expected = m["last"], decode_value(m, m["expected"])
    if ratio >= params.hysteresis:
        ep["seen_ms"] = t
    worse = key < LEVEL_UP and is_worse(ep, ratio, params)
    follow_peak(ep, ratio, view, t, row.passed_ms, value, expected)
    written = 0
    if worse:
        phase = WORSE if ep["state"] == REPORTED else OPEN
        ep["records"] += 1
        ep["state"] = REPORTED
        write_event(v, row, about, phase, value, ratio, gate.threshold, ep)
        describe(v, m, gate.level, t)
        m["fast_ms"][key] = t
        written = 1
    forget_records(ep, t)
    if t - ep["seen_ms"] > (DAY_MS if key in (LEVEL_UP, LEVEL_DOWN) else gate.quiet_ms):
        if ep["state"] == REPORTED:
            view_then: int = np.int64(ep["view"])  # type: ignore[assignment]
            closing = About(about.column, key, view_then)
            write_event(v, row, closing, CLOSED, value, ratio, gate.threshold, ep)
            describe(v, m, gate.level, t)
            v["reason"] = ACCEPTED if key != SHAPE and _stays(m, key) else RECOVERED
            written = 1
        ep["state"] = CLOSED_STATE
        if key < LEVEL_UP and spread_span(row.interval_ms) > gate.quiet_ms:
            restart_spread(m)  # the incident's own steps would outlast it
            m["ratio"][SPREAD] = 0.0
    return written


@njit(cache=True, error_model="numpy")
def _is_silent(m: Record, key: int, view: int, t: int) -> bool:
    """Whether something reported already accounts for a closed episode's evidence."""
    of_shape = key == SHAPE and view != STUCK
    if of_shape and (m["episodes"][FAST_UP]["state"] > 0 or m["episodes"][FAST_DOWN]["state"] > 0):
        return True
    return bool(t - m["stuck_ms"] < AFTER_STUCK_MS and m["stuck_ms"] > 0 and view != STUCK)


@njit(cache=True, error_model="numpy")
def _may_open(
    m: Record, key: int, view: int, ratio: float, row: Row, params: EnsembleParams
) -> bool:
    """Start a closed episode where it may open; return whether it may have a record.

    It is started as one that joins another; the function that writes its record changes that.
    """
    if ratio < 1.0:
        return False
    ep, t = m["episodes"][key], row.time_ms
    habit = habit_of(ep, t, params.habit_days)
    if ratio < 1.0 + params.habit * max(habit - 1.0, 0.0):
        return False
    follows_fast = False
    if key < LEVEL_UP:
        m["fast_ms"][key] = t
    elif key < SHAPE:
        follows_fast = t - m["fast_ms"][key - LEVEL_UP] < AFTER_FAST_MS
    if not follows_fast and _is_silent(m, key, view, t):
        return False
    value, expected = m["last"], decode_value(m, m["expected"])
    start_episode(ep, ratio, view, t, value, expected, JOINED_ANOTHER, params)
    return not follows_fast


@njit(cache=True, error_model="numpy")
def _is_quiet(m: Record, ratio: float, gate: Gate) -> bool:
    """Whether nothing opens, lasts or ends: no episode is open, and no view comes near its level.

    ratio : largest one of any view but the course, over levels alone

    So little is no mean that counts less while the newest value is usual again, and the largest
    quotient is the quotient of the largest, unless a view has no level.
    """
    if not ratio < MEAN_COUNTS * min(gate.level, 1.0) or m["ratio"][STUCK] != 0.0:
        return False
    open_ = 0
    for key in range(HOURLY):
        open_ += 1 if m["episodes"][key]["state"] > 0 else 0
    return open_ == 0


@njit(cache=True, error_model="numpy")
def follow_metric(
    reported: Reported,
    place: int,
    row: Row,
    gate: Gate,
    params: EnsembleParams,
    events: Record,
    at: int,
) -> tuple[int, Opening, float]:
    """Follow a metric's episodes but for that of the course.

    returns : events written so far, what would open, largest ratio to the threshold alone
    """
    m, column = reported.metrics[reported.slots[place]], reported.columns[place]
    best, largest = Opening(0.0, -1, -1, 0), 0.0
    ratio = reported.ratios[place]
    if _is_quiet(m, ratio, gate):
        return at, best, ratio / gate.level * gate.threshold
    for key in range(HOURLY):
        ratio, view = evidence(m, key, gate.level)
        largest = max(largest, ratio * gate.threshold)
        if m["episodes"][key]["state"] > 0:
            about = About(column, key, view)
            at += _follow_open(m, about, ratio, row, gate, params, events[at])
        elif _may_open(m, key, view, ratio, row, params) and ratio > best.ratio:
            best = Opening(ratio, place, key, view)
    return at, best, largest


@njit(cache=True, error_model="numpy")
def follow_course(
    m: Record, largest: float, row: Row, gate: Gate, n: int, params: EnsembleParams
) -> float:
    """Follow the episode of the course.

    Its own policy, where another view has seen something lately.

    largest : ratio of the other views to the threshold
    n       : metrics of the entity
    returns : ratio at an opening, -1 where an episode with a record has ended, else 0
    """
    c = m["course"]
    threshold = gate.threshold
    value, expected = m["last"], decode_value(m, m["expected"])
    c["gate"] = max(largest, c["gate"] * math.exp(-row.passed_ms / (params.gate_hours * HOUR_MS)))
    ep = m["episodes"][HOURLY]
    q: float = np.float64(m["ratio"][COURSE]) / threshold
    z = c["score"]
    silent_ms = c["quiet"] * c["interval_ms"]
    if (
        c["absence"] > z
        and (c["alarm_ms"] == 0 or row.time_ms - c["alarm_ms"] > silent_ms)
        and row.time_ms - max(m["fast_ms"][0], m["fast_ms"][1]) > DAY_MS
    ):
        z = c["absence"]  # a silence speaks once, and not of what was missed already
    if c["phase"] == 2 and z >= threshold * params.course:
        z -= params.course_penalty * math.log10(max(n, 1))
    if c["phase"] == 2 and z >= threshold * params.course:
        gated = c["gate"] >= params.gate * (1.0 - 1.0 / n) * threshold
        gated = gated and m["ratio"][COURSE] > 0.0
        for key in range(HOURLY):
            gated = gated and m["episodes"][key]["state"] == 0  # a course of something reported
        if gated and course_alarms(c, z, row.time_ms, threshold * params.course, params):
            q = max(z / (threshold * params.course), 1.0)
            start_episode(ep, q, COURSE, row.time_ms, value, expected, JOINED_ANOTHER, params)
            return q
    if ep["state"] > 0:
        if q >= params.hysteresis:
            ep["seen_ms"] = row.time_ms
        follow_peak(ep, q, COURSE, row.time_ms, row.passed_ms, value, expected)
        if row.time_ms - ep["seen_ms"] > gate.quiet_ms:
            had_record = ep["state"] == REPORTED
            ep["state"] = CLOSED_STATE
            return -1.0 if had_record else 0.0
    return 0.0
