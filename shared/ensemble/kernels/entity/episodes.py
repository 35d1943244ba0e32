"""Episodes of a row: opened, followed and closed.

Invariant: an episode opens at its level, lasts while half of it does, and is said again only where it is much worse.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.codes import fade
from shared.ensemble.kernels.course.members import alarms as course_alarms
from shared.ensemble.kernels.entity.event_rows import (
    class_of,
    decode_value,
    describe,
    describe_joint,
    measure_of,
    write_event,
)
from shared.ensemble.kernels.layout import (
    COURSE,
    CROSS,
    DAY_MS,
    FAST_DOWN,
    FAST_UP,
    HOUR_MS,
    HOURLY,
    HOURS4,
    JOINED,
    JUMP,
    LEVEL,
    LEVEL_DOWN,
    LEVEL_UP,
    NO_METRIC,
    OFTEN,
    QUARTER,
    SHAPE,
    SPREAD,
    STUCK,
    TRAINED,
    TRAINED_KEY,
    VALUE,
    Floats,
    Knobs,
    Record,
    Settings,
)
from shared.ensemble.kernels.metric.local_views import READY_SAMPLES
from shared.ensemble.kernels.outputs import ACCEPTED, CLOSED, OPEN, RECOVERED, WORSE


@njit(cache=True)
def evidence(m: Record, key: int, bar: float) -> tuple[float, int]:
    """Largest ratio among the views of a key, over the entity's level, and that view."""
    top, view = 0.0, 0
    q = m["q"]
    if key == FAST_UP or key == FAST_DOWN:
        sign = 1.0 if key == FAST_UP else -1.0
        here = sign * m["deviation"]
        for v in range(JUMP + 2):
            x = sign * np.float64(q[v])
            if QUARTER <= v <= HOURS4 and here < 0.1 and m["episodes"][key]["state"] == 0:
                x = min(x, 0.99 * bar)
            if x > top:
                top, view = x, v
    elif key == HOURLY:
        return np.float64(q[COURSE]), COURSE
    elif key == LEVEL_UP or key == LEVEL_DOWN:
        top = max(np.float64(q[LEVEL]) if key == LEVEL_UP else -np.float64(q[LEVEL]), 0.0)
        view = LEVEL
    else:
        for v in (SPREAD, OFTEN, STUCK, CROSS):
            x = abs(np.float64(q[v]))
            if x > top:
                top, view = x, v
        if view == STUCK:
            return top, view
    return top / bar, view


@njit(cache=True)
def follow_peak(
    ep: Record, q: float, view: int, t: int, dt: float, value: float, expected: float
) -> None:
    """Keep the peak of an open episode and its ratio lately."""
    if q > ep["peak"]:
        ep["peak"] = q
        ep["peak_ms"] = t
        ep["peak_value"] = value
        ep["peak_expected"] = expected
        ep["peak_view"] = view
    near = np.float64(ep["near"])
    ep["near"] = q if q > near else near + (q - near) * fade(dt, HOUR_MS)


@njit(cache=True)
def start_episode(
    ep: Record,
    q: float,
    view: int,
    t: int,
    value: float,
    expected: float,
    state: int,
    habit_days: float,
) -> None:
    habit = np.float64(ep["habit"]) * math.exp(-(t - ep["opened_ms"]) / (habit_days * DAY_MS))
    ep["habit"] = 1.0 + (habit if ep["opened_ms"] > 0 else 0.0)
    ep["start_ms"] = t
    ep["seen_ms"] = t
    ep["opened_ms"] = t
    ep["peak_ms"] = t
    ep["peak_value"] = value
    ep["peak_expected"] = expected
    ep["peak"] = q
    ep["near"] = q
    ep["state"] = state
    ep["records"] = 1
    ep["view"] = view
    ep["peak_view"] = view
    ep["level"] = class_of(q)


@njit(cache=True)
def count_opening(e: Record, t: int, q: float) -> None:
    """Remember the entity's newest opening, and count it against the budget."""
    e["opened_ms"] = t
    e["opened_level"] = class_of(q)
    e["surplus"] += 1.0


@njit(cache=True)
def follow_entity_episode(
    ep: Record, q: float, key: int, view: int, column: int, t: int, dt: float, calm: float, row: int, offset: int, entity: int,
    threshold: float, knobs: Knobs, events: Record, at: int,
) -> tuple[int, bool]:  # fmt: skip
    """Follow an episode that belongs to no single metric.

    returns : place behind the newest event, and whether an episode begins
    """
    nan = math.nan
    if ep["state"] == 0:
        if q >= 1.0:
            start_episode(ep, q, view, t, nan, nan, 2, knobs.habit_days)
        return at, q >= 1.0
    if q >= knobs.stay:
        ep["seen_ms"] = t
    worse = q > knobs.worse * np.float64(ep["near"]) and q >= 1.0 and ep["records"] < 3
    follow_peak(ep, q, view, t, dt, nan, nan)
    if worse:
        said = WORSE if ep["state"] == 1 else OPEN
        ep["records"] += 1
        ep["state"] = 1
        write_event(
            events, at, row, offset, entity, column, key, said, view, t, nan, q, threshold, ep
        )
        at += 1
    if t - ep["opened_ms"] > 10 * DAY_MS:
        ep["records"] = 0
    if t - ep["seen_ms"] > calm:
        if ep["state"] == 1:
            write_event(
                events, at, row, offset, entity, -1, key, CLOSED, view, t, nan, q, threshold, ep
            )
            at += 1
        ep["state"] = 0
    return at, False


@njit(cache=True)
def most_moved(metrics: Record, slots: Floats, columns: Floats, here: Floats, n: int) -> int:
    """Column with the largest jump or deviation of a row."""
    best, column = -1.0, -1
    for j in range(n):
        if here[j]:
            m = metrics[slots[j]]
            x = max(abs(np.float64(m["q"][JUMP])), abs(np.float64(m["q"][VALUE])))
            if x > best:
                best, column = x, columns[j]
    return column


@njit(cache=True)
def follow_course(
    m: Record,
    mine: float,
    t: int,
    dt: float,
    value: float,
    expected: float,
    threshold: float,
    calm: float,
    many: float,
    n: int,
    knobs: Knobs,
) -> float:
    """Follow the episode of the course: it opens by its own policy, and only where another view has seen something lately.

    mine    : largest ratio of the other views
    returns : ratio at an opening, -1 where an episode that was said has ended, else 0
    """
    c = m["course"]
    c["gate"] = max(mine, c["gate"] * math.exp(-dt / (knobs.gate_hours * HOUR_MS)))
    ep = m["episodes"][HOURLY]
    q = np.float64(m["q"][COURSE]) / threshold
    opened = 0.0
    z = c["score"]
    silent_ms = c["quiet"] * c["interval_ms"]
    if (
        c["absence"] > z
        and (c["alarm_ms"] == 0 or t - c["alarm_ms"] > silent_ms)
        and t - max(m["fast_ms"][0], m["fast_ms"][1]) > DAY_MS
    ):
        z = c["absence"]  # a silence speaks once, and not of what was missed already
    z -= many
    if c["phase"] == 2 and z >= threshold * knobs.course:
        gated = c["gate"] >= knobs.gate * (1.0 - 1.0 / n) * threshold
        gated = gated and m["q"][COURSE] > 0.0
        for key in range(HOURLY):
            gated = gated and m["episodes"][key]["state"] == 0  # a course of something that is said
        if gated and course_alarms(c, z, t, threshold * knobs.course, knobs):
            q = max(z / (threshold * knobs.course), 1.0)
            start_episode(ep, q, COURSE, t, value, expected, 2, knobs.habit_days)
            return q
    if ep["state"] > 0:
        if q >= knobs.stay:
            ep["seen_ms"] = t
        follow_peak(ep, q, COURSE, t, dt, value, expected)
        if t - ep["seen_ms"] > calm:
            said = ep["state"] == 1
            ep["state"] = 0
            return -1.0 if said else 0.0
    return opened


@njit(cache=True)
def follow_episodes(
    e: Record, metrics: Record, slots: Floats, columns: Floats, here: Floats, values: Floats, n: int,
    row: int, offset: int, entity: int, t: int, dt: float, iv: float, joint: float, settings: Settings, knobs: Knobs, events: Record, at: int,
    tmp: Floats,
) -> int:  # fmt: skip
    """Open, follow and close episodes of a row; at most one record opens, what crosses with it joins it.

    returns : place behind the newest event
    """
    threshold = knobs.threshold * e["threshold"]
    bar = e["bar"] * threshold
    best_q, best_j, best_key, best_view = 0.0, -1, -1, 0
    calm = max(knobs.calm_hours * HOUR_MS, 6.0 * iv)
    many = knobs.choice * math.log10(max(n, 1))
    cold = False
    for j in range(n):
        if not here[j]:
            continue
        m = metrics[slots[j]]
        if m["live_ms"] < knobs.ready_days * DAY_MS or m["samples"] < READY_SAMPLES:
            if (
                m["cold"] != 0
                and settings.cold_start
                and not cold
                and (e["opened_ms"] == 0 or t - e["opened_ms"] > 12 * HOUR_MS)
            ):
                cold = True
                key = FAST_UP if m["cold"] > 0 else FAST_DOWN
                ep = m["episodes"][key]
                start_episode(ep, 1.0, VALUE, t, m["last"], math.nan, 1, knobs.habit_days)
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
                    m["last"],
                    1.0,
                    threshold,
                    ep,
                )
                events[at]["cold"] = 1
                events[at]["lower"], events[at]["upper"] = m["low"], m["high"]
                events[at]["measure"] = measure_of(m)
                events[at]["history_ms"] = np.float64(t - m["origin_ms"])
                at += 1
                e["opened_ms"] = t
                e["opened_level"] = 1
                e["surplus"] += 1.0
            continue
        value = m["last"]
        expected = decode_value(m, m["expected"])
        mine = 0.0
        for key in range(HOURLY):
            q, view = evidence(m, key, bar)
            mine = max(mine, q * threshold)
            ep = m["episodes"][key]
            if ep["state"] > 0:
                wait = DAY_MS if key == LEVEL_UP or key == LEVEL_DOWN else calm
                if q >= knobs.stay:
                    ep["seen_ms"] = t
                near = np.float64(ep["near"])
                if q > knobs.worse * near and q >= 1.0 and key < LEVEL_UP and ep["records"] < 3:
                    said = WORSE if ep["state"] == 1 else OPEN
                    ep["records"] += 1
                    ep["state"] = 1
                    follow_peak(ep, q, view, t, dt, value, expected)
                    write_event(
                        events,
                        at,
                        row,
                        offset,
                        entity,
                        columns[j],
                        key,
                        said,
                        view,
                        t,
                        value,
                        q,
                        threshold,
                        ep,
                    )
                    describe(events[at], m, bar, t, tmp)
                    at += 1
                    m["fast_ms"][key] = t
                else:
                    follow_peak(ep, q, view, t, dt, value, expected)
                if t - ep["opened_ms"] > 10 * DAY_MS:
                    ep["records"] = 0
                if t - ep["seen_ms"] > wait:
                    if ep["state"] == 1:
                        write_event(
                            events,
                            at,
                            row,
                            offset,
                            entity,
                            columns[j],
                            key,
                            CLOSED,
                            ep["view"],
                            t,
                            value,
                            q,
                            threshold,
                            ep,
                        )
                        describe(events[at], m, bar, t, tmp)
                        accepted = (
                            abs(m["level"][m["season"]]) > ACCEPTED_LEVEL * max(m["typical"], 1e-12)
                            and key != SHAPE
                        )
                        events[at]["reason"] = ACCEPTED if accepted else RECOVERED
                        at += 1
                    ep["state"] = 0
                continue
            habit = np.float64(ep["habit"]) * math.exp(
                -(t - ep["opened_ms"]) / (knobs.habit_days * DAY_MS)
            )
            if q < 1.0 + knobs.habit * max(habit - 1.0, 0.0):
                continue
            if key < LEVEL_UP:
                m["fast_ms"][key] = t
            elif key < SHAPE and t - m["fast_ms"][key - LEVEL_UP] < 2 * DAY_MS:
                start_episode(ep, q, view, t, value, expected, 2, knobs.habit_days)
                continue
            elif (
                key == SHAPE
                and view != STUCK
                and (m["episodes"][0]["state"] > 0 or m["episodes"][1]["state"] > 0)
            ):
                continue
            if t - m["mute_ms"] < 2 * HOUR_MS and m["mute_ms"] > 0 and view != STUCK:
                continue
            if q > best_q:
                best_q, best_j, best_key, best_view = q, j, key, view
            start_episode(ep, q, view, t, value, expected, 2, knobs.habit_days)
        if (settings.use >> COURSE) & 1:
            q = follow_course(m, mine, t, dt, value, expected, threshold, calm, many, n, knobs)
            ep = m["episodes"][HOURLY]
            if q > 0.0 and ep["state"] == 2 and ep["opened_ms"] == t and q > best_q:
                best_q, best_j, best_key, best_view = q, j, HOURLY, COURSE
            elif q < 0.0:
                write_event(
                    events,
                    at,
                    row,
                    offset,
                    entity,
                    columns[j],
                    HOURLY,
                    CLOSED,
                    COURSE,
                    t,
                    value,
                    0.0,
                    threshold,
                    ep,
                )
                describe(events[at], m, bar, t, tmp)
                at += 1
    joins = t - e["opened_ms"] <= 3.0 * iv and e["opened_ms"] > 0
    widest = most_moved(metrics, slots, columns, here, n)
    q = joint / threshold if settings.joint else 0.0
    before = at
    at, begins = follow_entity_episode(
        e["joint"], q, NO_METRIC, JOINED, widest, t, dt, calm, row, offset, entity, threshold, knobs, events, at
    )  # fmt: skip
    for k in range(before, at):
        if events[k]["phase"] != CLOSED:
            describe_joint(events[k], metrics, slots, columns, n, bar, t, tmp)
    begins = begins and e["live_ms"] >= knobs.ready_days * DAY_MS
    if begins and best_j < 0 and (not joins or class_of(q) > e["opened_level"]):
        e["joint"]["state"] = 1
        write_event(
            events, at, row, offset, entity, widest, NO_METRIC, OPEN, JOINED, t, math.nan, q, threshold, e["joint"]
        )  # fmt: skip
        describe_joint(events[at], metrics, slots, columns, n, bar, t, tmp)
        at += 1
        count_opening(e, t, q)
        joins = True
    q = e["trained_q"] / threshold
    at, begins = follow_entity_episode(
        e["trained"], q, TRAINED_KEY, TRAINED, -1, t, dt, calm, row, offset, entity, threshold, knobs, events, at
    )  # fmt: skip
    if begins and best_j < 0 and (not joins or class_of(q) > e["opened_level"]):
        e["trained"]["state"] = 1
        write_event(
            events, at, row, offset, entity, -1, TRAINED_KEY, OPEN, TRAINED, t, math.nan, q, threshold, e["trained"]
        )  # fmt: skip
        at += 1
        count_opening(e, t, q)
    if best_j >= 0 and (not joins or class_of(best_q) > e["opened_level"]):
        m = metrics[slots[best_j]]
        ep = m["episodes"][best_key]
        ep["state"] = 1
        write_event(
            events,
            at,
            row,
            offset,
            entity,
            columns[best_j],
            best_key,
            OPEN,
            best_view,
            t,
            m["last"],
            best_q,
            threshold,
            ep,
        )
        describe(events[at], m, bar, t, tmp)
        at += 1
        count_opening(e, t, best_q)
    return at


ACCEPTED_LEVEL = 2.0
