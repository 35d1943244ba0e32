"""The fold: rows of one partition in log order to verdicts and episodes.

Invariant: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever
the cuts of the log.
"""

from __future__ import annotations

import math

import numpy as np
from numba import from_dtype, njit, types

from shared.ensemble.kernels.array_types import Array, Floats, Ints, Record
from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.course.course_layout import LIBRARY, WINDOWS
from shared.ensemble.kernels.course.course_layout import SHAPE as SHAPE_SIZE
from shared.ensemble.kernels.course.members import CourseWork
from shared.ensemble.kernels.entity.alarm_budget import follow_budget
from shared.ensemble.kernels.entity.episode import CLOSED_STATE, REPORTED
from shared.ensemble.kernels.entity.episodes import follow_episodes
from shared.ensemble.kernels.entity.event_rows import About, write_event
from shared.ensemble.kernels.entity.late_row import judge_late_row
from shared.ensemble.kernels.entity.row import Reported, Row, is_duplicate
from shared.ensemble.kernels.entity.together import (
    CombinationWork,
    close_day,
    combine,
    follow_trained,
    join,
)
from shared.ensemble.kernels.entity.verdict import (
    apply_limits,
    clear_row,
    largest_ratio,
    mark_anomalies,
    name_episode,
    write_cells,
    write_score,
)
from shared.ensemble.kernels.layout import (
    AHEAD,
    ALL_VIEWS,
    CROSS,
    DAY_MS,
    DECIDE,
    DUPLICATE,
    ENTITY_DTYPE,
    JOINED,
    JOINT,
    KEYS,
    MEMBERS,
    METRIC_DTYPE,
    NO_METRIC,
    PARAMS_DTYPE,
    TRAINED,
    TRAINED_KEY,
    EnsembleParams,
    Settings,
)
from shared.ensemble.kernels.metric.interval import FADES, follow_interval
from shared.ensemble.kernels.metric.sample import MetricWork
from shared.ensemble.kernels.metric.value import fold_value
from shared.ensemble.kernels.outputs import CELL_DTYPE, CLOSED, EVENT_DTYPE, ROW_DTYPE
from shared.ensemble.kernels.return_levels import bound
from shared.ensemble.kernels.season import SCRATCH
from shared.kernels.clock import local_of

CONFIRMED = 3
"""Rows in a row that lead an entity's clock ahead."""


_SETTINGS = types.NamedTuple(
    (
        types.float64,
        types.boolean,
        types.int64,
        types.int64,
        types.boolean,
        types.boolean,
        types.int64,
    ),
    Settings,
)  # type: ignore[no-untyped-call]
WORK_DTYPE = np.dtype(
    [
        ("tmp", "f8", (SCRATCH,)),
        ("seen", "f8", (ALL_VIEWS,)),
        ("fades", "f8", (FADES,)),
        ("windows", "f8", (WINDOWS,)),
        ("known", "f8", (2,)),
        ("shape", "f4", (SHAPE_SIZE,)),
        ("distances", "f4", (LIBRARY,)),
        ("z", "f8", (MEMBERS,)),
        ("a", "f8", (MEMBERS, MEMBERS)),
        ("b", "f8", (MEMBERS, MEMBERS)),
        ("c", "f8", (MEMBERS, MEMBERS)),
    ],
    align=True,
)
"""Scratch of the kernels, in one record: references to what is inside of it are not counted.

Those to an array of its own are, by two atomic instructions in each function that it enters.
"""

_ENTITY, _METRIC, _ROW, _CELL, _EVENT, _PARAMS, _WORK = (
    from_dtype(dtype)
    for dtype in (
        ENTITY_DTYPE,
        METRIC_DTYPE,
        ROW_DTYPE,
        CELL_DTYPE,
        EVENT_DTYPE,
        PARAMS_DTYPE,
        WORK_DTYPE,
    )
)
_F8S, _I4S, _I8S = types.float64[::1], types.int32[::1], types.int64[::1]
_F8SS = types.float64[:, ::1]


@njit(cache=True)
def _arrange(slots: Array, order: Array, places: Ints, columns: Ints) -> int:
    """Write places and columns of the metrics that an entity has, in order; returns how many."""
    n = 0
    for k in range(order.shape[0]):
        if slots[order[k]] >= 0:
            places[n] = slots[order[k]]
            columns[n] = order[k]
            n += 1
    return n


@njit(cache=True)
def _begin(e: Record, t: int) -> None:
    """Set what is not zero before an entity's first row."""
    e["newest_ms"] = t
    e["day"] = -1
    e["return_level"] = 1.0
    e["threshold"] = 1.0
    for r in range(JOINT):
        e["joint_levels"][r] = 0.0


@njit(cache=True)
def _is_ahead(e: Record, t: int) -> bool:
    """Whether a row lies far ahead of its entity, and fewer than two others have confirmed it."""
    far = max(DAY_MS, 50.0 * max(e["interval_ms"], 1.0))
    if e["rows"] == 0 or t - e["newest_ms"] <= max(far, 2.0 * e["pause_ms"]):
        return False
    confirms = e["ahead_n"] > 0 and t > e["ahead_ms"] and t - e["ahead_ms"] < far
    e["ahead_n"] = e["ahead_n"] + 1 if confirms else 1
    e["ahead_ms"] = t
    return bool(e["ahead_n"] < CONFIRMED)


@njit(cache=True)
def _follow_clock(e: Record, t: int) -> None:
    """Learn the entity's interval and pauses."""
    step = t - e["newest_ms"]
    if step > 0:
        interval = max(e["interval_ms"], 1.0)
        pause = min(np.float64(step), 4.0 * interval)
        e["pause_ms"] = max(
            e["pause_ms"] * math.exp(-pause / (20.0 * DAY_MS)),
            min(np.float64(step), 30.0 * DAY_MS),
        )
        e["interval_ms"] = follow_interval(e["interval_ms"], np.float64(step), e["rows"])
    e["rows"] += 1
    e["newest_ms"] = t


@njit(cache=True)
def _fold_values(
    of: Reported,
    values: Floats,
    limits: Floats,
    local: int,
    row: Row,
    settings: Settings,
    params: EnsembleParams,
    asked: Array,
    work: MetricWork,
) -> bool:
    """Fold the values of a row, each into its metric.

    values  : float64 (M,), limits : float64 (M, 3)
    of.here : out: whether a metric has a sample that was judged; asked : bool (>= n,) out: and
              deviates as the user asks
    returns : whether any was judged
    """
    judged = False
    for j in range(of.n):
        x, m, column = values[of.columns[j]], of.metrics[of.slots[j]], of.columns[j]
        of.here[j] = asked[j] = False
        if math.isnan(x):
            continue
        of.here[j] = fold_value(m, row.time_ms, local, bounded(x), settings, params, work)
        asked[j] = of.here[j] and apply_limits(m, limits[column])
        judged = judged or of.here[j]
    return judged


@njit(cache=True)
def _close(
    ep: Record, about: About, row: Row, reason: int, threshold: float, events: Record, at: int
) -> int:
    """Close an episode if it is open; returns the place behind the newest event."""
    if ep["state"] == REPORTED:
        write_event(events[at], row, about, CLOSED, math.nan, 0.0, threshold, ep)
        events[at]["reason"] = reason
        at += 1
    ep["state"] = CLOSED_STATE
    return at


@njit(
    types.int64(
        _ENTITY,
        _METRIC[::1],
        _I8S,
        _I8S,
        types.int64,
        types.int64,
        types.int64,
        types.int64,
        types.float64,
        _EVENT[::1],
        types.int64,
    ),
    cache=True,
)
def close_episodes(
    e: Record,
    metrics: Record,
    places: Ints,
    columns: Ints,
    row: int,
    entity: int,
    t: int,
    reason: int,
    threshold: float,
    events: Record,
    at: int,
) -> int:
    """Close all open episodes of an entity for a reason that lies outside of its values.

    places, columns : int64 (n,)  of its metrics
    returns         : place behind the newest event
    """
    here = Row(row, 0, entity, t, 0.0, 0.0)
    for j in range(places.shape[0]):
        m = metrics[places[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            view: int = np.int64(ep["view"])  # type: ignore[assignment]
            about = About(columns[j], key, view)
            at = _close(ep, about, here, reason, threshold, events, at)
    at = _close(e["joint"], About(-1, NO_METRIC, JOINED), here, reason, threshold, events, at)
    return _close(
        e["trained"], About(-1, TRAINED_KEY, TRAINED), here, reason, threshold, events, at
    )


@njit(
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        _I4S,
        _I8S,
        _F8SS,
        types.int32[:, ::1],
        _I4S,
        types.uint8[::1],
        _F8S,
        _I8S,
        _F8SS,
        _ENTITY[::1],
        _METRIC[::1],
        _I8S,
        _I8S,
        _SETTINGS,
        _PARAMS,
        types.int64,
        types.int64,
        _ROW[::1],
        _CELL[:, ::1],
        _EVENT[::1],
        _F8SS,
        types.uint8[:, ::1],
        types.int64,
        _WORK[::1],
    ),
    cache=True,
)
def fold_rows(
    entity: Array,
    time_ms: Ints,
    values: Floats,
    slots: Array,
    order: Array,
    marks: Array,
    trained: Floats,
    offsets: Ints,
    limits: Floats,
    entities: Record,
    metrics: Record,
    changes: Ints,
    shifts: Ints,
    settings: Settings,
    params: EnsembleParams,
    start: int,
    stop: int,
    rows: Record,
    cells: Record,
    events: Record,
    ratios: Floats,
    views: Array,
    at: int,
    scratch: Record,
) -> tuple[int, int]:
    """Fold rows and judge them.

    entity  : int32 (n,)    index into entities
    time_ms : int64 (n,)    event time
    values  : float64 (n, M) NaN = missing
    slots   : int32 (n, M)  place of each metric of the row's entity, -1 = not reported
    order   : int32 (M,)    columns in the order in which they are judged
    marks   : uint8 (n,)    layout.DECIDE, or what the row is
    trained : float64 (n,)  rarity by a trained model, -log10 of a share; NaN = none
    offsets : int64 (n,)    place of the rows in the log, which an episode remembers
    limits  : float64 (M, 3) direction (-1, 0, 1), least deviation, least share of |expected|
    changes, shifts : int64 (k,)  time zone: UTC ms from which on a shift in ms holds
    start, stop : rows to fold
    rows, cells, events : out
    ratios, views : float64, uint8 (len(events), M)  out: each metric's largest ratio in the row of
                    an event, and its view
    at      : events already written
    scratch : WORK_DTYPE (1,)  zeros, or what an earlier call left
    returns : first row that was not folded because events has no room, events written
    """
    width = values.shape[1]
    room = scratch[0]
    tmp = room["tmp"]
    course_work = CourseWork(room["shape"], room["distances"], room["windows"], room["known"])
    metric_work = MetricWork(tmp, room["seen"], room["fades"], course_work)
    work = CombinationWork(room["z"], room["a"], room["b"], room["c"])
    tops = np.empty(max(width, 1))
    places, columns = np.empty(width, np.int64), np.empty(width, np.int64)
    here, asked = np.empty(width, np.bool_), np.empty(width, np.bool_)
    mine, seen_by = np.empty(width), np.empty(width, np.uint8)
    for row in range(start, stop):
        if events.shape[0] - at < 2 * KEYS * width + 8:
            return row, at
        e, t, out = entities[entity[row]], time_ms[row], rows[row]
        clear_row(out, cells[row], params)
        local = local_of(t, changes, shifts)
        n = _arrange(slots[row], order, places, columns)
        of = Reported(metrics, places, columns, here, n)
        if e["rows"] == 0:
            _begin(e, t)
        if marks[row] == AHEAD or (marks[row] == DECIDE and _is_ahead(e, t)):
            out["ahead"] = 1
            continue
        e["ahead_n"] = 0
        step = t - e["newest_ms"]
        i = int(entity[row])
        if step < 0:
            out["late"] = 1
            if -step <= settings.lateness_ms:
                late = Row(row, offsets[row], i, t, 0.0, max(e["interval_ms"], 1.0))
                before = at
                at = judge_late_row(
                    e, of, values[row], local, late, params, out, cells[row], events, at, tmp
                )
                out["threshold"] = params.threshold * e["threshold"]
                out["score"] *= e["threshold"]
                out["is_anomaly"] = 1 if at > before else 0
            continue
        repeats = step == 0 and e["rows"] > 0 and is_duplicate(of, values[row], t)
        if marks[row] == DUPLICATE or repeats:
            out["duplicate"] = 1
            continue
        _follow_clock(e, t)
        interval = max(e["interval_ms"], 60_000.0)
        passed = min(np.float64(step), 4.0 * interval)
        now = Row(row, offsets[row], i, t, passed, interval)
        e["live_ms"] += now.passed_ms
        any_ = _fold_values(
            of, values[row], limits, local, now, settings, params, asked, metric_work
        )
        watched = e["live_ms"] > 1.5 * DAY_MS
        if local // DAY_MS != e["day"]:
            close_day(e, params, e["day"] >= 0 and watched, n, tmp)
            e["day"] = local // DAY_MS
        joint = 0.0
        if any_ and n >= 2:
            combine(e, of, now, params, settings.use, work)
            for j in range(n):
                if here[j] and not asked[j]:
                    metrics[places[j]]["ratio"][CROSS] = 0.0
            joint = join(e, of, asked, watched, params, tops)
        known = follow_trained(e, trained[row], t, now.passed_ms, interval, params, settings.use)
        top, place, ready = largest_ratio(of, params, mine, seen_by)
        if any_ and watched:
            e["daily_maximum"] = max(
                e["daily_maximum"], bound(top, e["return_level"], e["maxima_n"])
            )
        if settings.per_day > 0.0 and ((any_ and ready) or known):
            most = max(
                max(top / e["return_level"], joint if settings.joint else 0.0), e["trained_ratio"]
            )
            follow_budget(e, t, now.passed_ms, most, settings)
        before = at
        if any_ or known:
            at = follow_episodes(e, of, now, joint, settings, params, events, at)
        for k in range(before, at):
            for j in range(n):
                ratios[k, columns[j]] = mine[j] / e["return_level"]
                views[k, columns[j]] = seen_by[j]
        own_score = mark_anomalies(out, events[before:at])
        name_episode(e, of, out)
        write_cells(e, of, mine, params, out, cells[row])
        if ready or joint > 0.0 or known:
            write_score(out, e, top, joint if settings.joint else 0.0, own_score, params)
            out["top_metric"] = columns[place] if place >= 0 else -1
        out["threshold"] = params.threshold * e["threshold"]
    return stop, at
