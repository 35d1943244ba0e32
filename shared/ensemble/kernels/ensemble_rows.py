"""The fold: rows of one partition in log order to verdicts and episodes.

Invariant: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever the cuts of the log.
"""

from __future__ import annotations

import math

import numpy as np
from numba import from_dtype, njit, types

from shared.ensemble.kernels.codes import bounded, clip, fade
from shared.ensemble.kernels.course.course_layout import LIBRARY
from shared.ensemble.kernels.course.course_layout import SHAPE as SHAPE_SIZE
from shared.ensemble.kernels.course.members import alarms as course_alarms
from shared.ensemble.kernels.layout import (
    AHEAD,
    ALL_VIEWS,
    AS_IT_IS,
    DECIDE,
    DIRECTION,
    DUPLICATE,
    ENTITY_DTYPE,
    JOINED,
    MIN_ABSOLUTE,
    MIN_RELATIVE,
    METRIC_DTYPE,
    MINUTE_MEAN,
    MINUTE_MS,
    MINUTE_RATE,
    NO_METRIC,
    RATE,
    TRAINED,
    TRAINED_KEY,
    TWO,
    BIN_MS,
    BINS,
    BUCKETS,
    COURSE,
    CROSS,
    DAY_MS,
    DAYS,
    FAST_DOWN,
    FAST_UP,
    HOUR_MS,
    HOURLY,
    HOURS4,
    JUMP,
    KEYS,
    LEVEL,
    LEVEL_DOWN,
    LEVEL_UP,
    MEMBERS,
    MISSED,
    OFTEN,
    QUARTER,
    SHAPE,
    SPREAD,
    STUCK,
    VALUE,
    Floats,
    Ints,
    Knobs,
    Record,
    Settings,
)
from shared.ensemble.kernels.metric import (
    FASTEST_MS,
    READY_SAMPLES,
    fold_value,
    follow_interval,
    judge_late,
)
from shared.ensemble.kernels.outputs import (
    ABSENT,
    ACCEPTED,
    CELL_DTYPE,
    CLOSED,
    EVENT_DTYPE,
    FLAT,
    GAP,
    OPEN,
    RECOVERED,
    ROW_DTYPE,
    WORSE,
)
from shared.ensemble.kernels.return_levels import bound
from shared.ensemble.kernels.season import extremes, is_weekend
from shared.ensemble.kernels.together import close_day, combine, follow_trained, join


@njit(cache=True)
def local_of(t: int, changes: Ints, offsets: Ints) -> int:
    """Local time of a UTC time: milliseconds plus the offset in force.

    changes : int64 (k,)  increasing UTC ms from which on offsets[k] holds; before the first, offsets[0]
    """
    low, high = 0, changes.shape[0]
    while low < high:
        middle = (low + high) // 2
        if changes[middle] <= t:
            low = middle + 1
        else:
            high = middle
    return t + offsets[max(low - 1, 0)]


@njit(cache=True)
def severity_of(q: float) -> float:
    """0..1: .5 at the level, never falling."""
    if math.isnan(q):
        return q
    return 1.0 - 0.5 / q if q >= 1.0 else 0.5 * q


@njit(cache=True)
def class_of(q: float) -> int:
    """Severity class of a ratio: 1 minor, 2 major, 3 critical."""
    s = severity_of(q)
    return 3 if s >= 0.9 else 2 if s >= 0.75 else 1


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
def _decode(m: Record, x: float) -> float:
    return m["centre"] + m["scale"] * x


@njit(cache=True)
def _emit(
    events: Record,
    at: int,
    row: int,
    offset: int,
    entity: int,
    column: int,
    key: int,
    phase: int,
    view: int,
    t: int,
    value: float,
    q: float,
    threshold: float,
    ep: Record,
) -> None:
    if phase == OPEN:
        ep["opened_at"] = offset
    v = events[at]
    v["row"] = row
    v["entity"] = entity
    v["metric"] = column
    v["phase"] = phase
    v["key"] = key
    v["view"] = view
    v["direction"] = 0 if key >= SHAPE else 1 if key == FAST_UP or key == LEVEL_UP else -1
    v["reason"] = 0
    v["cold"] = 0
    v["measure"] = AS_IT_IS
    v["peak_view"] = ep["peak_view"]
    v["episode_at"] = ep["opened_at"]
    v["episode_ms"] = ep["opened_ms"]
    v["seen_ms"] = ep["seen_ms"]
    v["start_ms"] = ep["start_ms"]
    v["time_ms"] = t
    v["peak_ms"] = ep["peak_ms"]
    v["value"] = value
    v["expected"] = v["lower"] = v["upper"] = v["usual"] = v["history_ms"] = math.nan
    v["amount"] = v["usual_amount"] = math.nan
    v["rarest_days"] = v["watched_days"] = 0
    v["width_ms"] = BIN_MS
    v["peak_value"] = ep["peak_value"]
    v["peak_expected"] = ep["peak_expected"]
    v["score"] = q
    v["severity"] = severity_of(q)
    v["peak_severity"] = severity_of(np.float64(ep["peak"]))
    v["threshold"] = threshold


@njit(cache=True)
def _follow(
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
def _start(
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
def measure_of(m: Record) -> int:
    """What is judged of a metric, as ``layout.AS_IT_IS`` ... say."""
    fast = 0.0 < m["interval_ms"] < FASTEST_MS
    if m["counter"] == 1:
        return MINUTE_RATE if fast else RATE
    return MINUTE_MEAN if fast else AS_IT_IS


@njit(cache=True)
def _count_days(v: Record, m: Record, tmp: Floats) -> None:
    """Count the days before, without a gap of knowledge, that had no value as extreme about this time of day."""
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
        v["amount"] = _decode(m, m["missed_most"])
        v["usual_amount"] = _decode(m, m["missed_usual"])
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
def _detail(v: Record, m: Record, bar: float, t: int, tmp: Floats) -> None:
    expected = _decode(m, m["missed_usual"] if v["view"] == MISSED else m["expected"])
    half_up = np.float64(m["bar"][VALUE, 0]) * m["spread"] * m["scale"] * bar
    half_down = np.float64(m["bar"][VALUE, 1]) * m["spread"] * m["scale"] * bar
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
def _hourly(
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
            _start(ep, q, COURSE, t, value, expected, 2, knobs.habit_days)
            return q
    if ep["state"] > 0:
        if q >= knobs.stay:
            ep["seen_ms"] = t
        _follow(ep, q, COURSE, t, dt, value, expected)
        if t - ep["seen_ms"] > calm:
            said = ep["state"] == 1
            ep["state"] = 0
            return -1.0 if said else 0.0
    return opened


@njit(cache=True)
def _episodes(
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
                _start(ep, 1.0, VALUE, t, m["last"], math.nan, 1, knobs.habit_days)
                _emit(
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
        expected = _decode(m, m["expected"])
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
                    _follow(ep, q, view, t, dt, value, expected)
                    _emit(
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
                    _detail(events[at], m, bar, t, tmp)
                    at += 1
                    m["fast_ms"][key] = t
                else:
                    _follow(ep, q, view, t, dt, value, expected)
                if t - ep["opened_ms"] > 10 * DAY_MS:
                    ep["records"] = 0
                if t - ep["seen_ms"] > wait:
                    if ep["state"] == 1:
                        _emit(
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
                        _detail(events[at], m, bar, t, tmp)
                        accepted = (
                            abs(m["level"][m["season"]]) > DEAD_LEVEL * max(m["typical"], 1e-12)
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
                _start(ep, q, view, t, value, expected, 2, knobs.habit_days)
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
            _start(ep, q, view, t, value, expected, 2, knobs.habit_days)
        if (settings.use >> COURSE) & 1:
            q = _hourly(m, mine, t, dt, value, expected, threshold, calm, many, n, knobs)
            ep = m["episodes"][HOURLY]
            if q > 0.0 and ep["state"] == 2 and ep["opened_ms"] == t and q > best_q:
                best_q, best_j, best_key, best_view = q, j, HOURLY, COURSE
            elif q < 0.0:
                _emit(
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
                _detail(events[at], m, bar, t, tmp)
                at += 1
    joins = t - e["opened_ms"] <= 3.0 * iv and e["opened_ms"] > 0
    widest = _widest(metrics, slots, columns, here, n)
    q = joint / threshold if settings.joint else 0.0
    before = at
    at, begins = _follow_entity(
        e["joint"], q, NO_METRIC, JOINED, widest, t, dt, calm, row, offset, entity, threshold, knobs, events, at
    )  # fmt: skip
    for k in range(before, at):
        if events[k]["phase"] != CLOSED:
            _say_joint(events[k], metrics, slots, columns, n, bar, t, tmp)
    begins = begins and e["live_ms"] >= knobs.ready_days * DAY_MS
    if begins and best_j < 0 and (not joins or class_of(q) > e["opened_level"]):
        e["joint"]["state"] = 1
        _emit(
            events, at, row, offset, entity, widest, NO_METRIC, OPEN, JOINED, t, math.nan, q, threshold, e["joint"]
        )  # fmt: skip
        _say_joint(events[at], metrics, slots, columns, n, bar, t, tmp)
        at += 1
        _count_opening(e, t, q)
        joins = True
    q = e["trained_q"] / threshold
    at, begins = _follow_entity(
        e["trained"], q, TRAINED_KEY, TRAINED, -1, t, dt, calm, row, offset, entity, threshold, knobs, events, at
    )  # fmt: skip
    if begins and best_j < 0 and (not joins or class_of(q) > e["opened_level"]):
        e["trained"]["state"] = 1
        _emit(
            events, at, row, offset, entity, -1, TRAINED_KEY, OPEN, TRAINED, t, math.nan, q, threshold, e["trained"]
        )  # fmt: skip
        at += 1
        _count_opening(e, t, q)
    if best_j >= 0 and (not joins or class_of(best_q) > e["opened_level"]):
        m = metrics[slots[best_j]]
        ep = m["episodes"][best_key]
        ep["state"] = 1
        _emit(
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
        _detail(events[at], m, bar, t, tmp)
        at += 1
        _count_opening(e, t, best_q)
    return at


DEAD_LEVEL = 2.0


@njit(cache=True)
def _say_joint(
    v: Record, metrics: Record, slots: Floats, columns: Floats, n: int, bar: float, t: int, tmp: Floats
) -> None:
    """Write the numbers of a joint event: those of the metric that moved most, and how many moved."""
    for j in range(n):
        if columns[j] == v["metric"]:
            v["value"] = metrics[slots[j]]["last"]
            _detail(v, metrics[slots[j]], bar, t, tmp)
    v["amount"] = max(2, n // 4)
    v["usual_amount"] = n


@njit(cache=True)
def _count_opening(e: Record, t: int, q: float) -> None:
    """Remember the entity's newest opening, and count it against the budget."""
    e["opened_ms"] = t
    e["opened_level"] = class_of(q)
    e["surplus"] += 1.0


@njit(cache=True)
def _follow_entity(
    ep: Record, q: float, key: int, view: int, column: int, t: int, dt: float, calm: float, row: int, offset: int, entity: int,
    threshold: float, knobs: Knobs, events: Record, at: int,
) -> tuple[int, bool]:  # fmt: skip
    """Follow an episode that belongs to no single metric.

    returns : place behind the newest event, and whether an episode begins
    """
    nan = math.nan
    if ep["state"] == 0:
        if q >= 1.0:
            _start(ep, q, view, t, nan, nan, 2, knobs.habit_days)
        return at, q >= 1.0
    if q >= knobs.stay:
        ep["seen_ms"] = t
    worse = q > knobs.worse * np.float64(ep["near"]) and q >= 1.0 and ep["records"] < 3
    _follow(ep, q, view, t, dt, nan, nan)
    if worse:
        said = WORSE if ep["state"] == 1 else OPEN
        ep["records"] += 1
        ep["state"] = 1
        _emit(events, at, row, offset, entity, column, key, said, view, t, nan, q, threshold, ep)
        at += 1
    if t - ep["opened_ms"] > 10 * DAY_MS:
        ep["records"] = 0
    if t - ep["seen_ms"] > calm:
        if ep["state"] == 1:
            _emit(events, at, row, offset, entity, -1, key, CLOSED, view, t, nan, q, threshold, ep)
            at += 1
        ep["state"] = 0
    return at, False


@njit(cache=True)
def _widest(metrics: Record, slots: Floats, columns: Floats, here: Floats, n: int) -> int:
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
def _largest(
    metrics: Record,
    slots: Floats,
    here: Floats,
    n: int,
    knobs: Knobs,
    ratios: Floats,
    views: Floats,
) -> tuple[float, int, bool]:
    """Largest ratio of the row's metrics, its place, and whether any is ready.

    ratios, views : float64 (>= n,), uint8 (>= n,)  out: of each metric, and the view that has it
    """
    top, place, ready = 0.0, -1, False
    for j in range(n):
        m = metrics[slots[j]]
        if m["live_ms"] >= knobs.ready_days * DAY_MS and m["samples"] >= READY_SAMPLES:
            ready = True
        ratios[j] = math.nan
        views[j] = 0
        if not here[j]:
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
def _gap(e: Record, before: int, now: int, local_before: int, local_now: int) -> float:
    """Rows that one would expect between two rows, by the last days of the same kind; silence that recurs expects none.

    Cost: O(bins of the gap, at most three days).
    """
    first, last = local_before // BIN_MS + 1, local_now // BIN_MS
    last = min(last, first + 3 * BINS)
    expected = 0.0
    for place in range(first, last):
        day, bin_ = place // BINS, place % BINS
        newest = e["present_day"][bin_] - 1
        weekend = is_weekend(day)
        days = there = 0
        for age in range(1, 15):
            d = day - age
            if d * DAY_MS + bin_ * BIN_MS < e["first_ms"] or is_weekend(d) != weekend:
                continue
            if d > newest:
                days += 1
                continue
            if newest - d >= DAYS:
                break
            days += 1
            there += (e["present"][bin_] >> np.uint32(d % DAYS)) & np.uint32(1)
        if days > 0:
            expected += there / days
    return expected


@njit(cache=True)
def _mark_present(e: Record, local_ms: int) -> None:
    day, bin_ = local_ms // DAY_MS, (local_ms % DAY_MS) // BIN_MS
    last = e["present_day"][bin_] - 1
    bits = e["present"][bin_]
    if last < 0 or day - last >= DAYS:
        bits = np.uint32(0)
    else:
        for d in range(last + 1, day):
            bits &= ~(np.uint32(1) << np.uint32(d % DAYS))
    if day >= last:
        e["present_day"][bin_] = day + 1
    e["present"][bin_] = bits | (np.uint32(1) << np.uint32(day % DAYS))


@njit(cache=True)
def _is_known(
    metrics: Record, places: Floats, columns: Floats, values: Floats, n: int, t: int
) -> bool:
    """Whether a row repeats time and values of the newest one."""
    same = False
    for j in range(n):
        x = values[columns[j]]
        if math.isnan(x):
            continue
        m = metrics[places[j]]
        if m["seen"] == 0 or m["last_ms"] != t or m["newest"] != bounded(x):
            return False
        same = True
    return same


@njit(cache=True)
def _late(
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
        expected = _decode(m, m["expected"])
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
            _start(ep, q, VALUE, t, x, expected, 2 if joins else 1, knobs.habit_days)
            m["fast_ms"][key] = max(m["fast_ms"][key], t)
            if not joins:
                _emit(
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
                _detail(events[at], m, bar, t, tmp)
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


@njit(cache=True)
def _follow_budget(e: Record, t: int, dt: float, ratio: float, settings: Settings) -> None:
    """Move the threshold so that about ``per_day`` episodes a day open: a quantile of four-hour maxima, corrected by what was given."""
    days = dt / DAY_MS
    e["surplus"] = clip(e["surplus"] - settings.per_day * days, SURPLUS)
    block = t // BLOCK_MS
    if block != e["block"]:
        if e["block"] > 0 and e["block_most"] > 0.0:
            k = int(8.0 * math.log2(max(e["block_most"], 0.02) / 0.02))
            for b in range(BUCKETS):
                e["blocks"][b] = np.float64(e["blocks"][b]) * BLOCK_MEMORY
            e["blocks"][min(k, BUCKETS - 1)] = np.float64(e["blocks"][min(k, BUCKETS - 1)]) + 1.0
            e["blocks_n"] = e["blocks_n"] * BLOCK_MEMORY + 1.0
        e["block"] = block
        e["block_most"] = 0.0
        if e["blocks_n"] >= 6.0:
            share = settings.per_day * BLOCK_MS / DAY_MS * math.exp(-CORRECTION * e["surplus"])
            wanted = min(share, 0.9) * e["blocks_n"]
            above = 0.0
            k = BUCKETS - 1
            while k > 0 and above + np.float64(e["blocks"][k]) < wanted:
                above += np.float64(e["blocks"][k])
                k -= 1
            inside = (wanted - above) / max(np.float64(e["blocks"][k]), 1e-9)
            bar = 0.02 * 2.0 ** ((k + 1.0 - min(inside, 1.0)) / 8.0)
            if wanted < 1.0:
                bar *= min(max(1.0 / max(wanted, 1e-3), 1.0) ** 0.25, 3.0)
            e["threshold"] = min(max(bar, 0.1), 20.0)
    e["block_most"] = max(e["block_most"], ratio)


BLOCK_MS = 4 * HOUR_MS
BLOCK_MEMORY = 0.995
CORRECTION = 0.25
SURPLUS = 8.0


@njit(cache=True)
def _say(
    events: Record,
    at: int,
    row: int,
    entity: int,
    column: int,
    phase: int,
    t: int,
    since_ms: int,
    amount: float,
) -> int:
    """Write a data-quality verdict."""
    v = events[at]
    v["row"] = row
    v["entity"] = entity
    v["metric"] = column
    v["phase"] = phase
    v["time_ms"] = t
    v["start_ms"] = since_ms
    v["value"] = amount
    return at + 1


@njit(cache=True)
def _is_absent(m: Record, local_ms: int) -> bool:
    """Whether a metric that is not in its entity's rows has been missing for long, by when it usually comes; asked once an hour."""
    m["absent_hour"] = local_ms // HOUR_MS
    if m["absent_said"] == 1 or m["live_ms"] < DAY_MS:
        return False
    day, bin_ = local_ms // DAY_MS, (local_ms % DAY_MS) // BIN_MS
    newest = np.int64(m["day"]) * BINS + m["bin"]
    for back in range(1, 13):
        d, b = day, bin_ - back
        if b < 0:
            b += BINS
            d -= 1
        if d * BINS + b <= newest:
            break  # it came then
        last = m["written"][b] - 1
        if last < 0:
            continue
        days = there = 0
        for age in range(1, 8):
            if d - age <= last and last - (d - age) < DAYS:
                there += 1 if m["memory"][b, (d - age) % DAYS] != -32768 else 0
            days += 1
        m["absent"] += there / days
    if m["absent"] >= 12.0:
        m["absent_said"] = 1
        return True
    return False


@njit(cache=True)
def _is_ready(m: Record, knobs: Knobs) -> bool:
    return bool(m["live_ms"] >= knobs.ready_days * DAY_MS and m["samples"] >= READY_SAMPLES)


@njit(cache=True)
def _warmth(m: Record, knobs: Knobs) -> float:
    """Share of a metric's warm-up that is done, 1 = ready."""
    done: float = min(
        m["live_ms"] / (knobs.ready_days * DAY_MS), np.float64(m["samples"]) / READY_SAMPLES
    )
    return min(done, 1.0)


@njit(cache=True)
def _time_left(m: Record, knobs: Knobs) -> float:
    """Milliseconds until a metric is ready, at its usual interval."""
    by_time = knobs.ready_days * DAY_MS - m["live_ms"]
    by_samples = (READY_SAMPLES - m["samples"]) * m["interval_ms"]
    return max(max(by_time, by_samples), 0.0)


@njit(cache=True)
def _name_episode(
    e: Record, metrics: Record, places: Floats, columns: Floats, n: int, out: Record
) -> None:
    """Say which open episode with a record the row belongs to: the most severe lately."""
    most = -1.0
    for j in range(n):
        m = metrics[places[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            if ep["state"] == 1 and ep["near"] > most:
                most = ep["near"]
                out["episode_column"] = columns[j]
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


@njit(cache=True)
def _ask(m: Record, limits: Floats) -> bool:
    """Hold back what the user does not ask for; whether the value deviates as asked.

    limits : float64 (3,)  direction, least deviation, least share of |expected|
    """
    way = limits[DIRECTION]
    if way == 0.0 and limits[MIN_ABSOLUTE] <= 0.0 and limits[MIN_RELATIVE] <= 0.0:
        return True
    q = m["q"]
    expected = _decode(m, m["expected"])
    least = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(expected))
    off = m["last"] - expected
    small = abs(off) < least
    for view in range(ALL_VIEWS):
        if view == MISSED:
            usual = _decode(m, m["missed_usual"])
            much = max(limits[MIN_ABSOLUTE], limits[MIN_RELATIVE] * abs(usual))
            if abs(usual - _decode(m, m["missed_most"])) < much:
                q[view] = 0.0
        elif small and view != STUCK:
            q[view] = 0.0
        if view <= LEVEL:
            if q[view] * way < 0.0:
                q[view] = 0.0
        elif view != STUCK and off * way < 0.0:
            q[view] = 0.0
    return bool(not small and off * way >= 0.0)


_SETTINGS = types.NamedTuple(
    (
        types.float64, types.boolean, types.int64, types.int64, types.boolean, types.boolean, types.int64,
    ),
    Settings,
)  # type: ignore[no-untyped-call]  # fmt: skip
_KNOBS = types.NamedUniTuple(types.float64, len(Knobs._fields), Knobs)  # type: ignore[no-untyped-call]
_ENTITY, _METRIC, _ROW, _CELL, _EVENT = (
    from_dtype(dtype) for dtype in (ENTITY_DTYPE, METRIC_DTYPE, ROW_DTYPE, CELL_DTYPE, EVENT_DTYPE)
)
_F8S, _I4S, _I8S = types.float64[::1], types.int32[::1], types.int64[::1]
_F8SS = types.float64[:, ::1]


@njit(
    types.int64(
        _ENTITY, _METRIC[::1], _I8S, _I8S, types.int64, types.int64, types.int64, types.int64, types.float64, _EVENT[::1],
        types.int64,
    ),
    cache=True,
)  # fmt: skip
def close_episodes(
    e: Record, metrics: Record, places: Ints, columns: Ints, row: int, entity: int, t: int, reason: int, threshold: float,
    events: Record, at: int,
) -> int:  # fmt: skip
    """Close all open episodes of an entity for a reason that lies outside of its values.

    places, columns : int32 (n,)  of its metrics
    returns         : place behind the newest event
    """
    nan = math.nan
    for j in range(places.shape[0]):
        m = metrics[places[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            if ep["state"] == 1:
                _emit(
                    events,
                    at,
                    row,
                    0,
                    entity,
                    columns[j],
                    key,
                    CLOSED,
                    ep["view"],
                    t,
                    nan,
                    0.0,
                    threshold,
                    ep,
                )
                events[at]["reason"] = reason
                at += 1
            ep["state"] = 0
    for key in (NO_METRIC, TRAINED_KEY):
        ep = e["joint"] if key == NO_METRIC else e["trained"]
        if ep["state"] == 1:
            view = JOINED if key == NO_METRIC else TRAINED
            _emit(events, at, row, 0, entity, -1, key, CLOSED, view, t, nan, 0.0, threshold, ep)
            events[at]["reason"] = reason
            at += 1
        ep["state"] = 0
    return at


@njit(
    types.UniTuple(types.int64, 2)(
        _I4S, _I8S, _F8SS, types.int32[:, ::1], _I4S, types.uint8[::1], _F8S, _I8S, _F8SS, _ENTITY[::1], _METRIC[::1],
        _I8S, _I8S, _SETTINGS, _KNOBS, types.int64, types.int64, _ROW[::1], _CELL[:, ::1], _EVENT[::1], _F8SS,
        types.uint8[:, ::1], types.int64,
    ),
    cache=True,
)  # fmt: skip
def fold_rows(
    entity: Floats, time_ms: Ints, values: Floats, slots: Floats, order: Floats, marks: Floats, trained: Floats, offsets: Ints,
    limits: Floats, entities: Record, metrics: Record, changes: Ints, shifts: Ints, settings: Settings, knobs: Knobs, start: int,
    stop: int, rows: Record, cells: Record, events: Record, ratios: Floats, views: Floats, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Fold rows and judge them.

    entity  : int32 (n,)    index into entities
    time_ms : int64 (n,)    event time
    values  : float64 (n, M) NaN = missing
    slots   : int32 (E, M)  place of each (entity, metric), -1 = never reported
    order   : int32 (M,)    columns in the order in which they are judged
    marks   : uint8 (n,)    layout.DECIDE, or what the row is
    trained : float64 (n,)  rarity by a trained model, -log10 of a share; NaN = none
    offsets : int64 (n,)    place of the rows in the log, which an episode remembers
    limits  : float64 (M, 3) direction (-1, 0, 1), least deviation, least share of |expected|
    changes, shifts : int64 (k,)  time zone: UTC ms from which on a shift in ms holds
    start, stop : rows to fold
    rows, cells, events : out
    ratios, views : float64, uint8 (len(events), M)  out: each metric's largest ratio in the row of an event, and its view
    at      : events already written
    returns : first row that was not folded because events has no room, events written
    """
    width = values.shape[1]
    tmp = np.empty(400)
    shape, distances = np.empty(SHAPE_SIZE, np.float32), np.empty(LIBRARY, np.float32)
    z, tops = np.empty(MEMBERS), np.empty(max(width, 1))
    a, b, c = (
        np.empty((MEMBERS, MEMBERS)),
        np.empty((MEMBERS, MEMBERS)),
        np.empty((MEMBERS, MEMBERS)),
    )
    places, columns = np.empty(width, np.int32), np.empty(width, np.int32)
    here, asked = np.empty(width, np.bool_), np.empty(width, np.bool_)
    mine, seen_by = np.empty(width), np.empty(width, np.uint8)
    for row in range(start, stop):
        if events.shape[0] - at < 2 * KEYS * width + 8:
            return row, at
        i = entity[row]
        e = entities[i]
        t = time_ms[row]
        out = rows[row]
        out["score"] = out["severity"] = math.nan
        out["threshold"] = knobs.threshold
        out["warmup"] = 0.0
        out["minutes_left"] = math.nan
        out["top"] = -1
        out["state"] = out["late"] = out["ahead"] = out["duplicate"] = out["is_anomaly"] = 0
        out["cold"] = out["in_episode"] = out["episode_key"] = 0
        out["episode_column"] = out["episode_at"] = -1
        mark = marks[row]
        for column in range(width):
            cell = cells[row, column]
            cell["expected"] = cell["lower"] = cell["upper"] = cell["severity"] = math.nan
        local = local_of(t, changes, shifts)
        n = 0
        for k in range(width):
            if slots[i, order[k]] >= 0:
                places[n] = slots[i, order[k]]
                columns[n] = order[k]
                n += 1
        if e["rows"] == 0:
            e["first_ms"] = t
            e["newest_ms"] = t
            e["day"] = -1
            e["bar"] = 1.0
            e["threshold"] = 1.0
            for r in range(3):
                e["joint_bar"][r] = 0.0
        step = t - e["newest_ms"]
        iv = max(e["interval_ms"], 1.0)
        if mark == AHEAD:
            out["ahead"] = 1
            continue
        if mark == DECIDE and e["rows"] > 0 and step > max(DAY_MS, 50.0 * iv, 2.0 * e["pause_ms"]):
            if (
                e["ahead_n"] > 0
                and t > e["ahead_ms"]
                and t - e["ahead_ms"] < max(DAY_MS, 50.0 * iv)
            ):
                e["ahead_n"] += 1
            else:
                e["ahead_n"] = 1
            e["ahead_ms"] = t
            if e["ahead_n"] < 3:
                out["ahead"] = 1
                continue
        e["ahead_n"] = 0
        if step < 0:
            out["late"] = 1
            if -step <= settings.lateness_ms:
                at = _late(
                    e,
                    metrics,
                    places,
                    columns,
                    values[row],
                    n,
                    row,
                    offsets[row],
                    i,
                    t,
                    local,
                    iv,
                    settings,
                    knobs,
                    out,
                    cells[row],
                    events,
                    at,
                    tmp,
                )
            continue
        if mark == DUPLICATE or (
            step == 0 and e["rows"] > 0 and _is_known(metrics, places, columns, values[row], n, t)
        ):
            out["duplicate"] = 1
            continue
        if step > 0:
            if e["rows"] > 10 and step > max(6.0 * iv, 1_800_000.0):
                missed = _gap(
                    e, e["newest_ms"], t, local_of(e["newest_ms"], changes, shifts), local
                )
                if missed >= 8.0:
                    at = _say(events, at, row, i, -1, GAP, t, e["newest_ms"], missed)
            e["pause_ms"] = max(
                e["pause_ms"] * math.exp(-min(np.float64(step), 4.0 * iv) / (20.0 * DAY_MS)),
                min(np.float64(step), 30.0 * DAY_MS),
            )
            e["interval_ms"] = follow_interval(e["interval_ms"], np.float64(step), e["rows"])
        e["rows"] += 1
        e["newest_ms"] = t
        iv = max(e["interval_ms"], 1.0)
        dt = min(np.float64(step), 4.0 * max(iv, 60_000.0))
        e["live_ms"] += dt
        _mark_present(e, local)
        any_ = False
        count = 0
        for j in range(n):
            x = values[row, columns[j]]
            here[j] = asked[j] = False
            m = metrics[places[j]]
            if math.isnan(x):
                if (
                    m["samples"] > 0
                    and local // HOUR_MS != m["absent_hour"]
                    and _is_absent(m, local)
                ):
                    at = _say(
                        events,
                        at,
                        row,
                        i,
                        columns[j],
                        ABSENT,
                        t,
                        m["last_ms"],
                        np.float64(m["absent"]),
                    )
                continue
            m["absent"] = 0.0
            m["absent_said"] = 0
            here[j] = fold_value(
                m,
                t,
                local,
                bounded(x),
                knobs,
                settings.use,
                settings.warmup,
                tmp,
                shape,
                distances,
            )
            if (
                m["run_n"] > 12
                and m["flat_said"] == 0
                and m["sample_ms"] - m["run_ms"] > DAY_MS
                and m["varied"] > 0.5
            ):
                m["flat_said"] = 1
                at = _say(events, at, row, i, columns[j], FLAT, t, m["run_ms"], x)
            elif m["run_n"] == 0:
                m["flat_said"] = 0
            count += 1
            asked[j] = here[j] and _ask(m, limits[columns[j]])
            any_ = any_ or here[j]
        day = local // DAY_MS
        if day != e["day"]:
            close_day(e, knobs, e["day"] >= 0 and e["live_ms"] > 1.5 * DAY_MS, n, tmp)
            e["day"] = day
        joint = 0.0
        slot_iv = max(iv, 60_000.0)
        if any_ and n >= 2:
            combine(e, metrics, places, here, n, t, dt, slot_iv, knobs, settings.use, z, a, b, c)
            for j in range(n):
                if here[j] and not asked[j]:
                    metrics[places[j]]["q"][CROSS] = 0.0
            joint = join(e, metrics, places, asked, n, e["live_ms"] > 1.5 * DAY_MS, knobs, tops)
        known = follow_trained(e, trained[row], t, dt, slot_iv, knobs, settings.use)
        top, place, ready = _largest(metrics, places, here, n, knobs, mine, seen_by)
        if any_ and e["live_ms"] > 1.5 * DAY_MS:
            e["most"] = max(e["most"], bound(top, e["bar"], e["maxima_n"]))
        if settings.per_day > 0.0 and ((any_ and ready) or known):
            most = max(max(top / e["bar"], joint if settings.joint else 0.0), e["trained_q"])
            _follow_budget(e, t, dt, most, settings)
        before = at
        if any_ or known:
            at = _episodes(
                e,
                metrics,
                places,
                columns,
                here,
                values[row],
                n,
                row,
                offsets[row],
                i,
                t,
                dt,
                slot_iv,
                joint,
                settings,
                knobs,
                events,
                at,
                tmp,
            )
        for k in range(before, at):
            if events[k]["phase"] <= WORSE:
                out["is_anomaly"] = 1
                out["cold"] = max(out["cold"], events[k]["cold"])
            for j in range(n):
                ratios[k, columns[j]] = mine[j] / e["bar"]
                views[k, columns[j]] = seen_by[j]
        _name_episode(e, metrics, places, columns, n, out)
        bar = e["bar"] * e["threshold"]
        warm = 1.0
        left = 0.0
        for j in range(n):
            m = metrics[places[j]]
            if here[j] and m["scale"] > 0.0:
                cell = cells[row, columns[j]]
                half = m["spread"] * m["scale"] * bar
                expected = _decode(m, m["expected"])
                cell["expected"] = expected
                cell["lower"] = expected - np.float64(m["bar"][VALUE, 1]) * half
                cell["upper"] = expected + np.float64(m["bar"][VALUE, 0]) * half
            if here[j] and _is_ready(m, knobs):
                cell["severity"] = severity_of(mine[j] / (bar * knobs.threshold))
            if m["samples"] > 0:
                warm = min(warm, _warmth(m, knobs))
                left = max(left, _time_left(m, knobs))
        out["warmup"] = warm
        out["minutes_left"] = left / MINUTE_MS
        if ready or joint > 0.0 or known:
            score = max(top / bar, joint / e["threshold"] if settings.joint else 0.0)
            score = max(score, e["trained_q"] / e["threshold"])
            out["score"] = score
            out["severity"] = severity_of(score / knobs.threshold)
            out["state"] = 1
            out["top"] = columns[place] if place >= 0 else -1
        out["threshold"] = knobs.threshold * e["threshold"]
        out["score"] *= e["threshold"]
    return stop, at
