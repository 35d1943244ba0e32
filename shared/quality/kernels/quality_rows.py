"""Faults of real streams, checked row by row: missing values, gaps, disorder, flat lines, stops.

Invariant: a signal about an entity follows from its own earlier rows, except that ``STOPPED`` also
           follows from the partition's clock; late and duplicate rows change nothing but the time
           of their last signal.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, njit, types

from shared.kernels.clock import local_of
from shared.quality.kernels.presence import mark_present, usual_silence
from shared.quality.kernels.quality_intervals import (
    learn_interval,
    silence_limit_ms,
    usual_interval_ms,
)
from shared.quality.kernels.quality_layout import (
    AMOUNTS,
    BINS,
    CLOCK_DTYPE,
    DUPLICATE,
    ENTITY_DTYPE,
    GAP,
    LATE,
    OUT_OF_ORDER,
    PLACES,
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
    grow,
)
from shared.quality.kernels.quality_stops import (
    add_stopped,
    advance_clock,
    count_overdue,
    report_due_ms,
    set_deadline,
    stop_deadline_ms,
)


@njit(cache=True)
def _reset(state: Record) -> None:
    """Reset what was learned about an entity, but not what was reported."""
    for bin_ in range(BINS):
        state["present"][bin_] = 0
        state["present_day"][bin_] = 0
    state["intervals"] = 0
    state["interval_ms"] = 0.0
    state["pause_ms"] = 0.0
    state["repeats"] = 0
    state["repeated_ms"] = 0


@njit(cache=True)
def _reset_series(metric_state: Record) -> None:
    """Reset all that is remembered about a metric of an entity."""
    metric_state["seen"] = 0
    metric_state["value"] = 0.0
    metric_state["sample_ms"] = 0
    metric_state["since_ms"] = 0
    metric_state["longest_ms"] = 0
    metric_state["changes"] = 0
    metric_state["absent"] = 0
    metric_state["missing_said"] = 0
    metric_state["flat_said"] = 0
    metric_state["longest_absent"] = 0.0


@njit(cache=True)
def _drop(place: int, returned: bool, slots: Indices, entities: Record, series: Record,
    clock: Record) -> None:  # fmt: skip
    """Drop an entity's metrics, and the entity itself unless it has just returned.

    Then the silence is still to be reported; its own row drops the rest.
    """
    for metric in range(slots.shape[0]):
        if slots[metric] >= 0:
            _reset_series(series[slots[metric]])
    if returned:
        return
    state = entities[place]
    _reset(state)
    for kind in range(state["said_ms"].shape[0]):
        state["said_ms"][kind] = 0
    state["said"] = 0
    state["stop_said"] = 0
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
    series: Record,
    forgotten: bool,
    limit_ms: float,
    limits: Limits,
    changes: Ints,
    shifts: Ints,
    n_signals: int,
    places: Ints,
    amounts: Floats,
) -> int:
    """Check and learn the interval since the entity's previous row; this row moves the state."""
    if state["seen"] == 0:
        return n_signals
    dt = time_ms - state["newest_ms"]
    silent_ms = dt
    if dt > limit_ms:
        since_ms, now_ms = (
            local_of(state["newest_ms"], changes, shifts),
            local_of(time_ms, changes, shifts),
        )
        silent_ms -= usual_silence(state, since_ms, now_ms, state["interval_ms"])
    if (forgotten or silent_ms > limit_ms) and claim(state, GAP, time_ms, limits.repeat_ms):
        n_signals = add_signal(
            n_signals,
            places,
            amounts,
            row,
            GAP,
            e,
            -1,
            state["newest_ms"],
            dt,
            usual_interval_ms(state),
            0,
        )
    if forgotten:
        _reset(state)
        for metric in range(slots.shape[0]):
            if slots[metric] >= 0:
                _reset_series(series[slots[metric]])
    elif dt > 0:
        learn_interval(state, dt, silent_ms, limits.gap_intervals)
    elif contradicts(time_ms, values, slots, series):
        again = state["repeats"] == 1 and time_ms - state["repeated_ms"] <= limit_ms
        state["repeats"] = 1
        state["repeated_ms"] = time_ms
        if again and claim(state, REPEATED_TIME, time_ms, limits.repeat_ms):
            n_signals = add_signal(
                n_signals,
                places,
                amounts,
                row,
                REPEATED_TIME,
                e,
                -1,
                -1,
                0.0,
                usual_interval_ms(state),
                0,
            )
    return n_signals


_LIMITS = types.NamedTuple((types.float64, types.float64, types.int64, types.int64), Limits)  # type: ignore[no-untyped-call]
_RECORDS = [from_dtype(dtype)[::1] for dtype in (ENTITY_DTYPE, SERIES_DTYPE, CLOCK_DTYPE)]
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
    series     : SERIES_DTYPE (>= slots used,)
    clocks     : CLOCK_DTYPE (1,)
    stale      : bool (n,)             out: the row is its entity's first after it had stopped
    returns    : int64 (k, PLACES), float64 (k, AMOUNTS)   the signals, in order of rows

    Twin: tests/reference/quality.py::watch.
    Cost: O(n M); all entities are checked at most once in E / 64 rows.
    """
    clock = clocks[0]
    next_drop = 0
    places = np.empty((16, PLACES), np.int64)
    amounts = np.empty((16, AMOUNTS), np.float64)
    n_signals = 0
    for row in range(entity.shape[0]):
        e = entity[row]
        while next_drop < dropped_row.shape[0] and dropped_row[next_drop] == row:
            place = dropped[next_drop]
            returned = forgotten[row] and place == e
            _drop(place, returned, dropped_slots[next_drop], entities, series, clock)
            next_drop += 1
        state = entities[e]
        limit_ms = silence_limit_ms(state, limits.gap_intervals)
        places = grow(places, n_signals, 3)
        amounts = grow(amounts, n_signals, 3)
        stale[row] = False
        if ahead[row]:
            continue
        if late_by_ms[row] > 0:
            kind = LATE if late_by_ms[row] > limit_ms else OUT_OF_ORDER
            if claim(state, kind, state["newest_ms"], limits.repeat_ms):
                n_signals = add_signal(
                    n_signals,
                    places,
                    amounts,
                    row,
                    kind,
                    e,
                    -1,
                    state["newest_ms"],
                    late_by_ms[row],
                    usual_interval_ms(state),
                    0,
                )
            continue
        if duplicate[row]:
            if claim(state, DUPLICATE, state["newest_ms"], limits.repeat_ms):
                n_signals = add_signal(
                    n_signals,
                    places,
                    amounts,
                    row,
                    DUPLICATE,
                    e,
                    -1,
                    -1,
                    0.0,
                    usual_interval_ms(state),
                    0,
                )
            continue
        if state["seen"] == 1 and clock["reporting"] >= 2:
            stale[row] = clock["second_ms"] > stop_deadline_ms(state, limits.stopped_intervals)
            if stale[row] and state["due_ms"] == 0:
                set_deadline(state, limits, changes, shifts)
                stale[row] = clock["second_ms"] > stop_deadline_ms(state, limits.stopped_intervals)
        t, entity_slots = time_ms[row], slots[row]
        n_signals = _update_interval(
            row,
            e,
            t,
            values[row],
            entity_slots,
            state,
            series,
            forgotten[row],
            limit_ms,
            limits,
            changes,
            shifts,
            n_signals,
            places,
            amounts,
        )
        local_ms = local_of(t, changes, shifts)
        if state["seen"] == 0 or forgotten[row]:
            state["first_ms"] = local_ms
        mark_present(state, local_ms)
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
            n_signals,
            places,
            amounts,
        )
        advance_clock(clock, state, e, t)
        clock["due_ms"] = min(clock["due_ms"], report_due_ms(state, limits))
        clock["rows"] += 1
        if (
            clock["reporting"] >= 2
            and clock["second_ms"] > clock["due_ms"]
            and clock["rows"] >= clock["entities"] >> 6
        ):
            overdue = count_overdue(entities, clock, limits, changes, shifts)
            if overdue > 0:
                places = grow(places, n_signals, overdue)
                amounts = grow(amounts, n_signals, overdue)
                n_signals = add_stopped(row, entities, clock, limits, n_signals, places, amounts)
    return places[:n_signals].copy(), amounts[:n_signals].copy()
