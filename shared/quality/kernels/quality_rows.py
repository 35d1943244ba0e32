"""Faults of real streams, checked row by row: missing values, gaps, disorder, flat lines, stops.

Invariant: a signal about an entity follows from its own earlier rows, except that ``STOPPED`` also
           follows from the partition's clock; late and duplicate rows change nothing but the time
           of their last signal.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, njit, types

from shared.kernels.clock import local_of
from shared.quality.kernels.presence import clear_presence, mark_present, usual_silence
from shared.quality.kernels.quality_intervals import (
    learn_interval,
    silence_limit_ms,
    usual_interval_ms,
)
from shared.quality.kernels.quality_layout import (
    CLOCK_DTYPE,
    DUPLICATE,
    ENTITY_DTYPE,
    FLOATS,
    GAP,
    INTEGERS,
    LATE,
    MIN_INTERVALS,
    OUT_OF_ORDER,
    PAUSE_DAYS,
    PRESENCE_DTYPE,
    REPEATED_TIME,
    SERIES_DTYPE,
    Limits,
)
from shared.quality.kernels.quality_metrics import contradicts, update_metrics
from shared.quality.kernels.quality_signals import (
    Flags,
    Floats,
    Indices,
    Ints,
    Record,
    add_signal,
    claim,
    claim_disorder,
    grow,
)
from shared.quality.kernels.quality_stops import (
    add_stopped,
    advance_clock,
    count_overdue,
    report_due_ms,
    resume,
    set_deadline,
    stop_deadline_ms,
)


@njit(cache=True)
def _reset_rhythm(rhythm: Record) -> None:
    """Reset what is usual."""
    rhythm["interval_ms"] = 0.0
    rhythm["covered_ms"] = 0.0
    rhythm["longer_ms"] = 0.0
    rhythm["usual_pause"] = 0.0
    rhythm["longest"] = 0.0
    for k in range(PAUSE_DAYS):
        rhythm["longest_before"][k] = 0.0
    for k in range(MIN_INTERVALS):
        rhythm["newest_ms"][k] = 0.0
    rhythm["intervals"] = 0
    rhythm["longer"] = 0
    rhythm["day"] = 0
    rhythm["days"] = 0


@njit(cache=True)
def _reset(state: Record, presence: Record) -> None:
    """Reset what was learned about an entity, but not what was reported."""
    _reset_rhythm(state["rhythm"])
    state["repeats"] = 0
    state["repeated_ms"] = 0
    clear_presence(presence)


@njit(cache=True)
def _reset_series(series: Record, slots: Indices) -> None:
    """Reset all that is remembered about an entity's metrics."""
    for metric in range(slots.shape[0]):
        if slots[metric] >= 0:
            metric_state = series[slots[metric]]
            metric_state["seen"] = 0
            metric_state["value"] = 0.0
            metric_state["sample_ms"] = 0
            metric_state["since_ms"] = 0
            metric_state["longest_ms"] = 0.0
            metric_state["changes"] = 0
            metric_state["absent_ms"] = 0.0
            metric_state["missing_reported"] = 0
            metric_state["flat_reported"] = 0
            metric_state["first_ms"] = 0
            clear_presence(metric_state["presence"])
            _reset_rhythm(metric_state["rhythm"])


@njit(cache=True)
def _drop(state: Record, presence: Record, place: int, clock: Record, entities: Record) -> None:
    """Reset all that is remembered about an entity that has lost its place."""
    _reset(state, presence)
    for kind in range(state["reported_ms"].shape[0]):
        state["reported_ms"][kind] = 0
    state["reported"] = 0
    state["stop_reported"] = 0
    state["newest_ms"] = 0
    state["clock_ms"] = 0
    state["first_ms"] = 0
    state["due_ms"] = 0
    state["seen"] = 0
    if clock["first_entity"] == place:
        clock["first_entity"] = -1
    while clock["entities"] > 0 and entities[clock["entities"] - 1]["seen"] == 0:
        clock["entities"] -= 1


@njit(cache=True)
def _update_interval(
    row: int,
    e: int,
    time_ms: int,
    values: Floats,
    slots: Indices,
    state: Record,
    presence: Record,
    series: Record,
    forgotten: bool,
    limit_ms: float,
    limits: Limits,
    changes: Ints,
    shifts: Ints,
    n_signals: int,
    integers: Ints,
    floats: Floats,
) -> int:
    """Check and learn the interval since the entity's previous row; this row moves the state."""
    if state["seen"] == 0:
        return n_signals
    dt = time_ms - state["newest_ms"]
    silent_ms = dt
    if dt > limits.gap_intervals * usual_interval_ms(state["rhythm"]):
        since_ms, now_ms = (
            local_of(state["newest_ms"], changes, shifts),
            local_of(time_ms, changes, shifts),
        )
        silent_ms -= usual_silence(
            presence, state["first_ms"], since_ms, now_ms, state["rhythm"]["interval_ms"]
        )
    if (forgotten or silent_ms > limit_ms) and claim(state, GAP, time_ms, limits.repeat_ms):
        n_signals = add_signal(
            n_signals,
            integers,
            floats,
            row,
            GAP,
            e,
            -1,
            state["newest_ms"],
            dt,
            usual_interval_ms(state["rhythm"]),
            0,
        )
    if forgotten:
        _reset(state, presence)
        _reset_series(series, slots)
    elif dt > 0:
        learn_interval(
            state["rhythm"], np.float64(dt), np.float64(silent_ms), time_ms, limits.gap_intervals
        )
    elif contradicts(time_ms, values, slots, series):
        is_second = state["repeats"] == 1 and time_ms - state["repeated_ms"] <= limit_ms
        state["repeats"] = 1
        state["repeated_ms"] = time_ms
        if is_second and claim_disorder(state, REPEATED_TIME, time_ms, limits.repeat_ms):
            n_signals = add_signal(
                n_signals,
                integers,
                floats,
                row,
                REPEATED_TIME,
                e,
                -1,
                -1,
                0.0,
                usual_interval_ms(state["rhythm"]),
                0,
            )
    return n_signals


_LIMITS = types.NamedTuple((types.float64, types.float64, types.int64, types.int64), Limits)  # type: ignore[no-untyped-call]
_RECORDS = [
    from_dtype(dtype)[::1] for dtype in (ENTITY_DTYPE, PRESENCE_DTYPE, SERIES_DTYPE, CLOCK_DTYPE)
]
_SIGNALS = types.Tuple((types.int64[:, ::1], types.float64[:, ::1]))  # type: ignore[no-untyped-call]
_INTS, _FLAGS = types.int64[::1], types.boolean[::1]


@njit(
    _SIGNALS(
        types.int32[:, ::1], types.int32[:, ::1], types.int32[::1], _INTS, types.float64[:, ::1],
        _INTS, _FLAGS, _FLAGS, _FLAGS, _INTS, types.int32[::1], types.int32[:, ::1], _INTS, _INTS,
        *_RECORDS, _LIMITS, _FLAGS
    ),
    cache=True,
)  # fmt: skip
def watch_rows(
    slots: Indices,
    listed: Indices,
    entity: Indices,
    time_ms: Ints,
    values: Floats,
    late_by_ms: Ints,
    ahead: Flags,
    duplicate: Flags,
    forgotten: Flags,
    dropped_row: Ints,
    dropped: Indices,
    dropped_slots: Indices,
    changes: Ints,
    shifts: Ints,
    entities: Record,
    presences: Record,
    series: Record,
    clocks: Record,
    limits: Limits,
    stale: Flags,
) -> tuple[Ints, Floats]:
    """Fold rows and return what is wrong with them.

    slots      : int32 (n, M)          slots of the row's entity, -1 = not reported
    listed     : int32 (n, M)          its metrics in order of their first appearance, then -1
    entity     : int32 (n,)            entity index, any order
    time_ms    : int64 (n,)            event time
    values     : float64 (n, M)        finite or NaN = missing
    late_by_ms : int64 (n,)            behind the entity's newest event, 0 = not late
    ahead      : bool (n,)             too far ahead of its entity: no signal, no change of state
    duplicate  : bool (n,)             same time and values as the entity's newest event
    forgotten  : bool (n,)             the entity's state is reset before the row
    dropped_row, dropped : int64, int32 (k,)   before this row, what is remembered of this entity is
                         dropped; where it is forgotten, only its metrics
    dropped_slots : int32 (k, M)       its slots
    changes, shifts : int64 (k,)       time zone, see ``clock.local_of``
    entities   : ENTITY_DTYPE (>= E,)
    presences  : PRESENCE_DTYPE (>= E,)
    series     : SERIES_DTYPE (>= slots used,)
    clocks     : CLOCK_DTYPE (1,)
    stale      : bool (n,)             out: the row is its entity's first after it had stopped
    returns    : int64 (k, INTEGERS), float64 (k, FLOATS)   the signals, in order of rows

    Twin: tests/reference/quality.py::watch.
    Cost: O(n M); all entities are checked at most once in E / 64 rows.
    """
    clock = clocks[0]
    integers = np.empty((16, INTEGERS), np.int64)
    floats = np.empty((16, FLOATS), np.float64)
    n_signals, next_drop = 0, 0
    for row in range(entity.shape[0]):
        e = entity[row]
        while next_drop < dropped_row.shape[0] and dropped_row[next_drop] == row:
            place = dropped[next_drop]
            _reset_series(series, dropped_slots[next_drop])
            if place != e or not forgotten[row]:
                # where it has just returned, its own row reports the silence and resets the rest
                _drop(entities[place], presences[place], place, clock, entities)
            next_drop += 1
        state, presence = entities[e], presences[e]
        limit_ms = silence_limit_ms(state["rhythm"], limits.gap_intervals)
        integers = grow(integers, n_signals, 3)
        floats = grow(floats, n_signals, 3)
        stale[row] = False
        if ahead[row]:
            continue
        if late_by_ms[row] > 0:
            kind = LATE if late_by_ms[row] > limit_ms else OUT_OF_ORDER
            if claim_disorder(state, kind, state["newest_ms"], limits.repeat_ms):
                n_signals = add_signal(
                    n_signals,
                    integers,
                    floats,
                    row,
                    kind,
                    e,
                    -1,
                    state["newest_ms"],
                    late_by_ms[row],
                    usual_interval_ms(state["rhythm"]),
                    0,
                )
            continue
        if duplicate[row]:
            if claim_disorder(state, DUPLICATE, state["newest_ms"], limits.repeat_ms):
                n_signals = add_signal(
                    n_signals,
                    integers,
                    floats,
                    row,
                    DUPLICATE,
                    e,
                    -1,
                    -1,
                    0.0,
                    usual_interval_ms(state["rhythm"]),
                    0,
                )
            continue
        if state["seen"] == 1 and clock["reporting"] >= 2:
            deadline_ms = stop_deadline_ms(state, clock, limits.stopped_intervals)
            if clock["second_ms"] > deadline_ms and state["due_ms"] == 0:
                set_deadline(state, presence, clock, limits, changes, shifts)
                deadline_ms = stop_deadline_ms(state, clock, limits.stopped_intervals)
            stale[row] = clock["second_ms"] > deadline_ms
        t, entity_slots = time_ms[row], slots[row]
        n_signals = _update_interval(
            row,
            e,
            t,
            values[row],
            entity_slots,
            state,
            presence,
            series,
            forgotten[row],
            limit_ms,
            limits,
            changes,
            shifts,
            n_signals,
            integers,
            floats,
        )
        local_ms = local_of(t, changes, shifts)
        if state["seen"] == 0 or forgotten[row]:
            state["first_ms"] = local_ms
        mark_present(presence, local_ms)
        n_signals = update_metrics(
            row,
            e,
            t,
            values[row],
            entity_slots,
            listed[row],
            state,
            series,
            limit_ms,
            limits,
            changes,
            shifts,
            n_signals,
            integers,
            floats,
        )
        before_ms = clock["second_ms"]
        advance_clock(clock, state, e, t)
        if clock["second_ms"] - before_ms > limit_ms:
            resume(clock, entities)
        clock["due_ms"] = min(clock["due_ms"], report_due_ms(state, clock, limits))
        clock["rows"] += 1
        if (
            clock["reporting"] >= 2
            and clock["second_ms"] > clock["due_ms"]
            and clock["rows"] >= clock["entities"] >> 6
        ):
            overdue = count_overdue(entities, presences, clock, limits, changes, shifts)
            if overdue > 0:
                integers = grow(integers, n_signals, overdue)
                floats = grow(floats, n_signals, overdue)
                n_signals = add_stopped(row, entities, clock, limits, n_signals, integers, floats)
    return integers[:n_signals].copy(), floats[:n_signals].copy()
