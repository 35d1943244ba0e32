"""Faults of real streams, checked row by row: missing values, gaps, disorder, flat lines, stops.

Invariant: a signal about an entity follows from its own earlier rows, except that ``STOPPED`` also
           follows from the partition's clock; late and duplicate rows change nothing but the time
           of their last signal.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from shared.kernels.clock import ZONE, Zone, local_of
from shared.kernels.steps import step
from shared.quality.kernels.presence import clear_presence, mark_present, usual_silence
from shared.quality.kernels.quality_arguments import (
    DROPPED,
    FLAGS,
    LIMITS,
    MEMORY,
    ROWS,
    Dropped,
    Flags,
    Floats,
    Indices,
    Ints,
    Memory,
    Record,
    Rows,
)
from shared.quality.kernels.quality_intervals import (
    learn_interval,
    silence_limit_ms,
    usual_interval_ms,
)
from shared.quality.kernels.quality_layout import (
    DUPLICATE,
    GAP,
    GAP_DAYS,
    LATE,
    MIN_INTERVALS,
    OUT_OF_ORDER,
    REPEATED_TIME,
    Limits,
)
from shared.quality.kernels.quality_metrics import contradicts, update_metrics
from shared.quality.kernels.quality_signals import (
    Signal,
    Table,
    add_signal,
    claim,
    claim_disorder,
    new_table,
    with_room,
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

OF_ROW = 3
"""Most signals that a row adds about its own entity."""

CHECKS = 64
"""All entities are checked for stops at most once in this part of their number of rows."""


@njit(cache=True)
def _reset_rhythm(rhythm: Record) -> None:
    """Reset what is usual."""
    rhythm["interval_ms"] = 0.0
    rhythm["covered_ms"] = 0.0
    rhythm["longer_ms"] = 0.0
    rhythm["usual_gap"] = 0.0
    rhythm["longest"] = 0.0
    for k in range(GAP_DAYS):
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
def _drop(memory: Memory, place: int) -> None:
    """Reset all that is remembered about an entity that has lost its place."""
    entities, clock = memory.entities, memory.clock[0]
    state = entities[place]
    _reset(state, memory.presence[place])
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


@step
def _drop_before(row: int, given: Rows, dropped: Dropped, first: int, memory: Memory) -> int:
    """Drop what is dropped before a row; return the first entry of ``dropped`` that is left."""
    k = first
    while k < dropped.row.shape[0] and dropped.row[k] == row:
        place = dropped.entity[k]
        _reset_series(memory.series, dropped.slots[k])
        if place != given.entity[row] or not given.forgotten[row]:
            # where it has just returned, its own row reports the silence and resets the rest
            _drop(memory, place)
        k += 1
    return k


@step
def _report_disorder(
    row: int, given: Rows, state: Record, limit_ms: float, limits: Limits, table: Table
) -> None:
    """Report a row that is late or a duplicate, if its kind is due."""
    newest_ms, late_ms = state["newest_ms"], given.late_by_ms[row]
    kind, since_ms = DUPLICATE, -1
    if late_ms > 0:
        kind, since_ms = LATE if late_ms > limit_ms else OUT_OF_ORDER, newest_ms
    if claim_disorder(state, kind, newest_ms, limits.repeat_ms):
        usual_ms = usual_interval_ms(state["rhythm"])
        amount = np.float64(late_ms) if late_ms > 0 else 0.0
        add_signal(table, Signal(row, kind, given.entity[row], -1, since_ms, amount, usual_ms, 0))


@step
def _has_stopped(
    state: Record, presence: Record, clock: Record, limits: Limits, zone: Zone
) -> bool:
    """Whether an entity had stopped by the partition's clock before its row."""
    if state["seen"] == 0 or clock["reporting"] < 2:
        return False
    deadline_ms = stop_deadline_ms(state, clock, limits.stopped_intervals)
    if clock["second_ms"] > deadline_ms and state["due_ms"] == 0:
        set_deadline(state, presence, clock, limits, zone)
        deadline_ms = stop_deadline_ms(state, clock, limits.stopped_intervals)
    return bool(clock["second_ms"] > deadline_ms)


@step
def _silent_ms(
    state: Record, presence: Record, time_ms: int, gap_intervals: float, zone: Zone
) -> int:
    """Return how much of the time since an entity's previous row does not recur, in ms."""
    newest_ms = state["newest_ms"]
    silent_ms: int = time_ms - newest_ms
    if silent_ms > gap_intervals * usual_interval_ms(state["rhythm"]):
        since_ms, now_ms = local_of(newest_ms, zone), local_of(time_ms, zone)
        interval_ms = state["rhythm"]["interval_ms"]
        silent_ms -= usual_silence(presence, state["first_ms"], since_ms, now_ms, interval_ms)
    return silent_ms


@step
def _check_repeated_time(
    row: int, given: Rows, state: Record, limit_ms: float, limits: Limits, table: Table
) -> None:
    """Report that rows of one time have different values, where it is not the first time."""
    time_ms = given.time_ms[row]
    is_second = state["repeats"] == 1 and time_ms - state["repeated_ms"] <= limit_ms
    state["repeats"] = 1
    state["repeated_ms"] = time_ms
    if is_second and claim_disorder(state, REPEATED_TIME, time_ms, limits.repeat_ms):
        usual_ms = usual_interval_ms(state["rhythm"])
        add_signal(table, Signal(row, REPEATED_TIME, given.entity[row], -1, -1, 0.0, usual_ms, 0))


@step
def _update_interval(
    row: int,
    given: Rows,
    memory: Memory,
    limit_ms: float,
    limits: Limits,
    zone: Zone,
    table: Table,
) -> None:
    """Check and learn the interval since the entity's previous row; this row moves the state."""
    entity, time_ms, forgotten = given.entity[row], given.time_ms[row], given.forgotten[row]
    state, presence, slots = memory.entities[entity], memory.presence[entity], given.slots[row]
    if state["seen"] == 0:
        return
    rhythm, newest_ms = state["rhythm"], state["newest_ms"]
    dt = time_ms - newest_ms
    silent_ms = _silent_ms(state, presence, time_ms, limits.gap_intervals, zone)
    if (forgotten or silent_ms > limit_ms) and claim(state, GAP, time_ms, limits.repeat_ms):
        usual_ms = usual_interval_ms(rhythm)
        add_signal(table, Signal(row, GAP, entity, -1, newest_ms, np.float64(dt), usual_ms, 0))
    if forgotten:
        _reset(state, presence)
        _reset_series(memory.series, slots)
    elif dt > 0:
        learn_interval(rhythm, np.float64(dt), np.float64(silent_ms), time_ms, limits.gap_intervals)
    elif contradicts(time_ms, given.values[row], slots, memory.series):
        _check_repeated_time(row, given, state, limit_ms, limits, table)


@step
def _advance_clock(row: int, given: Rows, memory: Memory, limit_ms: float, limits: Limits) -> None:
    """Move the partition's clock by a row, and when it has to be looked at for stops."""
    entity, clock = given.entity[row], memory.clock[0]
    state, before_ms = memory.entities[entity], clock["second_ms"]
    advance_clock(clock, state, entity, given.time_ms[row])
    if clock["second_ms"] - before_ms > limit_ms:
        resume(clock, memory.entities)
    clock["due_ms"] = min(clock["due_ms"], report_due_ms(state, clock, limits))
    clock["rows"] += 1


@step
def _report_stopped(row: int, memory: Memory, limits: Limits, zone: Zone, table: Table) -> Table:
    """Report the entities that have stopped; return the table, which may have grown."""
    clock = memory.clock[0]
    is_due = clock["reporting"] >= 2 and clock["second_ms"] > clock["due_ms"]
    if is_due and clock["rows"] >= clock["entities"] // CHECKS:
        overdue = count_overdue(memory, limits, zone)
        if overdue > 0:
            table = with_room(table, overdue)
            add_stopped(row, memory, limits, table)
    return table


@njit(
    types.Tuple((types.int64[:, ::1], types.float64[:, ::1]))(  # type: ignore[no-untyped-call]
        ROWS, DROPPED, ZONE, MEMORY, LIMITS, FLAGS
    ),
    cache=True,
    nogil=True,
)
def watch_rows(
    given: Rows, dropped: Dropped, zone: Zone, memory: Memory, limits: Limits, stale: Flags
) -> tuple[Ints, Floats]:
    """Fold rows and return what is wrong with them.

    dropped : whose memory is dropped meanwhile; of an entity that is forgotten at the row, only
              its metrics
    stale   : bool (n,)  out: the row is its entity's first after it had stopped
    returns : int64 (k, INTEGERS), float64 (k, FLOATS)  the signals, in order of rows

    Twin: tests/reference/quality.py::watch.
    Cost: O(n M); all entities are checked at most once in E / CHECKS rows.
    """
    table, next_drop = new_table(), 0
    for row in range(given.entity.shape[0]):
        entity = given.entity[row]
        next_drop = _drop_before(row, given, dropped, next_drop, memory)
        state, presence = memory.entities[entity], memory.presence[entity]
        limit_ms = silence_limit_ms(state["rhythm"], limits.gap_intervals)
        table = with_room(table, OF_ROW)
        stale[row] = False
        if given.ahead[row]:
            continue
        if given.late_by_ms[row] > 0 or given.duplicate[row]:
            _report_disorder(row, given, state, limit_ms, limits, table)
            continue
        stale[row] = _has_stopped(state, presence, memory.clock[0], limits, zone)
        _update_interval(row, given, memory, limit_ms, limits, zone, table)
        local_ms = local_of(given.time_ms[row], zone)
        if state["seen"] == 0 or given.forgotten[row]:
            state["first_ms"] = local_ms
        mark_present(presence, local_ms)
        update_metrics(row, given, memory, limit_ms, limits, zone, table)
        _advance_clock(row, given, memory, limit_ms, limits)
        table = _report_stopped(row, memory, limits, zone, table)
    used = table.used[0]
    return table.integers[:used].copy(), table.floats[:used].copy()
