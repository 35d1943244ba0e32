"""Episodes of a row: at most one record opens, what crosses with it joins it.

Invariant: no score of one thing is compared with the score of another to silence it; only the
record is shared.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.entity.episode import (
    CLOSED_STATE,
    JOINED_ANOTHER,
    REPORTED,
    count_opening,
    follow_peak,
    forget_records,
    is_worse,
    start_episode,
)
from shared.ensemble.kernels.entity.event_rows import About, describe, describe_joint, write_event
from shared.ensemble.kernels.entity.evidence import class_of, most_moved
from shared.ensemble.kernels.entity.metric_episodes import (
    Opening,
    follow_course,
    follow_metric,
    write_cold_start,
)
from shared.ensemble.kernels.entity.row import Gate, Reported, Row, gate_of, joining_ms
from shared.ensemble.kernels.entity.together import is_accounted_for
from shared.ensemble.kernels.layout import (
    COURSE,
    HOURLY,
    JOINED,
    MISSED,
    NO_METRIC,
    SHAPE,
    TRAINED,
    TRAINED_KEY,
    EnsembleParams,
    Settings,
)
from shared.ensemble.kernels.metric.warm_up import is_ready
from shared.ensemble.kernels.outputs import CLOSED, OPEN, WORSE
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS, HOUR_MS

BETWEEN_COLD_MS = 12 * HOUR_MS


@njit(cache=True, error_model="numpy")
def follow_entity_episode(
    ep: Record,
    about: About,
    ratio: float,
    row: Row,
    gate: Gate,
    params: EnsembleParams,
    events: Record,
    at: int,
) -> tuple[int, bool]:
    """Follow an episode that belongs to no single metric.

    returns : events written so far, and whether an episode begins
    """
    nan, t = math.nan, row.time_ms
    if ep["state"] == CLOSED_STATE:
        if ratio >= 1.0:
            start_episode(ep, ratio, about.view_number, t, nan, nan, JOINED_ANOTHER, params)
        return at, ratio >= 1.0
    if ratio >= params.hysteresis:
        ep["seen_ms"] = t
    worse = is_worse(ep, ratio, params)
    follow_peak(ep, ratio, about.view_number, t, row.passed_ms, nan, nan)
    if worse:
        phase = WORSE if ep["state"] == REPORTED else OPEN
        ep["records"] += 1
        ep["state"] = REPORTED
        write_event(events[at], row, about, phase, nan, ratio, gate.threshold, ep)
        at += 1
    forget_records(ep, t)
    if t - ep["seen_ms"] > gate.quiet_ms:
        if ep["state"] == REPORTED:
            whole = About(-1, about.key, about.view_number)
            write_event(events[at], row, whole, CLOSED, nan, ratio, gate.threshold, ep)
            at += 1
        ep["state"] = CLOSED_STATE
    return at, False


@step
def _follow_metrics(
    e: Record,
    reported: Reported,
    row: Row,
    gate: Gate,
    settings: Settings,
    params: EnsembleParams,
    events: Record,
    at: int,
) -> tuple[int, Opening]:
    """Follow the episodes of all metrics.

    Returns the events written so far, and what opens.
    """
    best = Opening(0.0, -1, -1, 0)
    cold = False
    for j in range(reported.n):
        if not reported.judged[j]:
            continue
        m, column = reported.metrics[reported.slots[j]], reported.columns[j]
        if not is_ready(m, params):
            rested = e["opened_ms"] == 0 or row.time_ms - e["opened_ms"] > BETWEEN_COLD_MS
            if m["cold"] != 0 and settings.cold_start and not cold and rested:
                cold = True
                write_cold_start(events[at], m, column, row, gate.threshold, params)
                at += 1
                count_opening(e, row.time_ms, 1.0)
            continue
        at, mine, largest = follow_metric(reported, j, row, gate, params, events, at)
        if mine.ratio > best.ratio:
            best = mine
        if (settings.use >> COURSE) & 1:
            ratio = follow_course(m, largest, row, gate, reported.n, params)
            if ratio > best.ratio:
                best = Opening(ratio, j, HOURLY, COURSE)
            elif ratio < 0.0:
                about = About(column, HOURLY, COURSE)
                ep = m["episodes"][HOURLY]
                write_event(events[at], row, about, CLOSED, m["last"], 0.0, gate.threshold, ep)
                describe(events[at], m, gate.level, row.time_ms)
                at += 1
    return at, best


@step
def _follow_joint(
    e: Record,
    reported: Reported,
    ratio: float,
    row: Row,
    gate: Gate,
    params: EnsembleParams,
    events: Record,
    at: int,
) -> tuple[int, bool, int]:
    """Follow the episode of many metrics at once.

    Returns place, whether it begins, and the column.
    """
    column = most_moved(reported)
    before = at
    about = About(column, NO_METRIC, JOINED)
    at, begins = follow_entity_episode(e["joint"], about, ratio, row, gate, params, events, at)
    for k in range(before, at):
        if events[k]["phase"] != CLOSED:
            describe_joint(events[k], reported, gate.level, row.time_ms)
    return at, begins and e["live_ms"] >= params.ready_days * DAY_MS, column


@step
def follow_episodes(
    e: Record,
    reported: Reported,
    row: Row,
    joint: float,
    settings: Settings,
    params: EnsembleParams,
    events: Record,
    at: int,
) -> int:
    """Open, follow and close episodes of a row.

    At most one record opens, what crosses with it joins.

    joint   : ratio of the joint view
    events  : EVENT_DTYPE (>= at + 2 KEYS n + 8,)  out
    returns : events written so far
    """
    t, nan = row.time_ms, math.nan
    gate = gate_of(e, row.interval_ms, params)
    at, best = _follow_metrics(e, reported, row, gate, settings, params, events, at)
    joins = t - e["opened_ms"] <= joining_ms(row.interval_ms) and e["opened_ms"] > 0
    ratio = joint / gate.threshold if settings.joint else 0.0
    at, begins, column = _follow_joint(e, reported, ratio, row, gate, params, events, at)
    if begins and best.place < 0 and (not joins or class_of(ratio) > e["opened_level"]):
        e["joint"]["state"] = REPORTED
        about = About(column, NO_METRIC, JOINED)
        write_event(events[at], row, about, OPEN, nan, ratio, gate.threshold, e["joint"])
        describe_joint(events[at], reported, gate.level, t)
        at += 1
        count_opening(e, t, ratio)
        joins = True
    ratio = e["trained_ratio"] / gate.threshold
    about = About(-1, TRAINED_KEY, TRAINED)
    at, begins = follow_entity_episode(e["trained"], about, ratio, row, gate, params, events, at)
    if begins and best.place < 0 and (not joins or class_of(ratio) > e["opened_level"]):
        e["trained"]["state"] = REPORTED
        write_event(events[at], row, about, OPEN, nan, ratio, gate.threshold, e["trained"])
        at += 1
        count_opening(e, t, ratio)
    if best.place >= 0 and best.key < SHAPE and best.view_number != MISSED:
        joins = joins or is_accounted_for(e, reported, best.place, best.view_number)
    if best.place >= 0 and (not joins or class_of(best.ratio) > e["opened_level"]):
        m = reported.metrics[reported.slots[best.place]]
        ep = m["episodes"][best.key]
        ep["state"] = REPORTED
        about = About(reported.columns[best.place], best.key, best.view_number)
        write_event(events[at], row, about, OPEN, m["last"], best.ratio, gate.threshold, ep)
        describe(events[at], m, gate.level, t)
        at += 1
        count_opening(e, t, best.ratio)
    return at
