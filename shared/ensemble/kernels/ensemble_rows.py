"""The fold: rows of one partition in log order to verdicts and episodes.

Invariant: a row's verdict depends on its own entity's earlier rows and on nothing else, whatever the cuts of the log.
"""

from __future__ import annotations

import math

import numpy as np
from numba import from_dtype, njit, types

from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.course.course_layout import LIBRARY
from shared.ensemble.kernels.course.course_layout import SHAPE as SHAPE_SIZE
from shared.ensemble.kernels.entity.alarm_budget import follow_budget
from shared.ensemble.kernels.entity.episodes import follow_episodes
from shared.ensemble.kernels.entity.event_rows import (
    decode_value,
    severity_of,
    write_event,
    write_quality_event,
)
from shared.ensemble.kernels.entity.late_row import judge_late_row
from shared.ensemble.kernels.entity.presence import (
    expected_rows,
    is_absent,
    is_duplicate,
    mark_present,
)
from shared.ensemble.kernels.entity.readiness import (
    apply_limits,
    is_ready,
    largest_ratio,
    name_episode,
    time_left_ms,
    warmup_share,
)
from shared.ensemble.kernels.entity.together import close_day, combine, follow_trained, join
from shared.ensemble.kernels.layout import (
    AHEAD,
    CROSS,
    DAY_MS,
    DECIDE,
    DUPLICATE,
    ENTITY_DTYPE,
    HOUR_MS,
    JOINED,
    KEYS,
    MEMBERS,
    METRIC_DTYPE,
    MINUTE_MS,
    NO_METRIC,
    TRAINED,
    TRAINED_KEY,
    VALUE,
    Floats,
    Ints,
    Knobs,
    Record,
    Settings,
)
from shared.ensemble.kernels.metric.interval import follow_interval
from shared.ensemble.kernels.metric.value import fold_value
from shared.ensemble.kernels.outputs import (
    ABSENT,
    CELL_DTYPE,
    CLOSED,
    EVENT_DTYPE,
    FLAT,
    GAP,
    ROW_DTYPE,
    WORSE,
)
from shared.ensemble.kernels.return_levels import bound


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
                write_event(
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
            write_event(
                events, at, row, 0, entity, -1, key, CLOSED, view, t, nan, 0.0, threshold, ep
            )
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
                before = at
                at = judge_late_row(
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
                out["threshold"] = knobs.threshold * e["threshold"]
                out["score"] *= e["threshold"]
                out["is_anomaly"] = 1 if at > before else 0
            continue
        if mark == DUPLICATE or (
            step == 0
            and e["rows"] > 0
            and is_duplicate(metrics, places, columns, values[row], n, t)
        ):
            out["duplicate"] = 1
            continue
        if step > 0:
            if e["rows"] > 10 and step > max(6.0 * iv, 1_800_000.0):
                missed = expected_rows(
                    e, e["newest_ms"], t, local_of(e["newest_ms"], changes, shifts), local
                )
                if missed >= 8.0:
                    at = write_quality_event(events, at, row, i, -1, GAP, t, e["newest_ms"], missed)
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
        mark_present(e, local)
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
                    and is_absent(m, local)
                ):
                    at = write_quality_event(
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
                at = write_quality_event(events, at, row, i, columns[j], FLAT, t, m["run_ms"], x)
            elif m["run_n"] == 0:
                m["flat_said"] = 0
            count += 1
            asked[j] = here[j] and apply_limits(m, limits[columns[j]])
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
        top, place, ready = largest_ratio(metrics, places, here, n, knobs, mine, seen_by)
        if any_ and e["live_ms"] > 1.5 * DAY_MS:
            e["most"] = max(e["most"], bound(top, e["bar"], e["maxima_n"]))
        if settings.per_day > 0.0 and ((any_ and ready) or known):
            most = max(max(top / e["bar"], joint if settings.joint else 0.0), e["trained_q"])
            follow_budget(e, t, dt, most, settings)
        before = at
        if any_ or known:
            at = follow_episodes(
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
        said = 0.0
        for k in range(before, at):
            if events[k]["phase"] <= WORSE:
                out["is_anomaly"] = 1
                said = max(said, events[k]["score"])
                out["cold"] = max(out["cold"], events[k]["cold"])
            for j in range(n):
                ratios[k, columns[j]] = mine[j] / e["bar"]
                views[k, columns[j]] = seen_by[j]
        name_episode(e, metrics, places, columns, n, out)
        bar = e["bar"] * e["threshold"]
        warm = 1.0
        left = 0.0
        for j in range(n):
            m = metrics[places[j]]
            if here[j] and m["scale"] > 0.0:
                cell = cells[row, columns[j]]
                half = m["spread"] * m["scale"] * bar
                expected = decode_value(m, m["expected"])
                cell["expected"] = expected
                cell["lower"] = expected - np.float64(m["bar"][VALUE, 1]) * half
                cell["upper"] = expected + np.float64(m["bar"][VALUE, 0]) * half
            if here[j] and is_ready(m, knobs):
                cell["severity"] = severity_of(mine[j] / (bar * knobs.threshold))
            if m["samples"] > 0:
                warm = min(warm, warmup_share(m, knobs))
                left = max(left, time_left_ms(m, knobs))
        out["warmup"] = warm
        out["minutes_left"] = left / MINUTE_MS
        if ready or joint > 0.0 or known:
            score = max(top / bar, joint / e["threshold"] if settings.joint else 0.0)
            score = max(score, e["trained_q"] / e["threshold"], said * knobs.threshold)
            out["score"] = score
            out["severity"] = severity_of(score / knobs.threshold)
            out["state"] = 1
            out["top"] = columns[place] if place >= 0 else -1
        out["threshold"] = knobs.threshold * e["threshold"]
        out["score"] *= e["threshold"]
    return stop, at
