"""The partition's clock, and the entities that have stopped reporting by it.

Invariant: the clock is the second largest of the entities' newest event times; a silence of the
           whole partition stops nobody.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shared.kernels.clock import Zone, local_of
from shared.kernels.steps import step
from shared.quality.kernels.presence import end_of_silence
from shared.quality.kernels.quality_arguments import Memory, Record
from shared.quality.kernels.quality_intervals import silence_limit_ms, usual_interval_ms
from shared.quality.kernels.quality_layout import FAR_MS, LONGEST_MS, STOPPED, Limits
from shared.quality.kernels.quality_signals import Signal, Table, add_signal, claim


@njit(cache=True)
def _silent_since_ms(state: Record, clock: Record) -> int:
    """Since when others have reported and the entity has not."""
    return max(int(state["newest_ms"]), int(state["clock_ms"]), int(clock["resumed_ms"]))


@njit(cache=True)
def stop_deadline_ms(state: Record, clock: Record, stopped_intervals: float) -> int:
    """The partition's clock after which an entity has stopped, recurring silences excepted.

    Those are considered only then. FAR_MS while the usual interval is not known.
    """
    if state["due_ms"] != 0:
        return int(state["due_ms"])
    limit_ms = silence_limit_ms(state["rhythm"], stopped_intervals)
    return _silent_since_ms(state, clock) + int(limit_ms) if limit_ms <= LONGEST_MS else FAR_MS


@njit(cache=True)
def set_deadline(
    state: Record, presence: Record, clock: Record, limits: Limits, zone: Zone
) -> None:
    """Set when the current silence has lasted too long, recurring silences not counted."""
    limit_ms = silence_limit_ms(state["rhythm"], limits.stopped_intervals)
    if limit_ms > LONGEST_MS:
        return
    since_ms = _silent_since_ms(state, clock)
    local_ms = local_of(since_ms, zone)
    end_ms = end_of_silence(
        presence, state["first_ms"], local_ms, int(limit_ms), state["rhythm"]["interval_ms"]
    )
    state["due_ms"] = since_ms + (end_ms - local_ms)


@njit(cache=True)
def report_due_ms(state: Record, clock: Record, limits: Limits) -> int:
    """The partition's clock after which an entity is reported as stopped; FAR_MS = never."""
    if state["seen"] == 0 or state["stop_reported"] == 1:
        return FAR_MS
    deadline_ms = stop_deadline_ms(state, clock, limits.stopped_intervals)
    if state["reported"] & (1 << STOPPED):
        return max(deadline_ms, int(state["reported_ms"][STOPPED]) + limits.repeat_ms - 1)
    return deadline_ms


@njit(cache=True)
def advance_clock(clock: Record, state: Record, e: int, time_ms: int) -> None:
    """Move the partition's clock by an entity that reported; twin of sorting all newest times."""
    if state["seen"] == 0:
        clock["reporting"] += 1
        clock["entities"] = max(clock["entities"], e + 1)
    if clock["reporting"] == 1 or e == clock["first_entity"] or time_ms > clock["first_ms"]:
        if e != clock["first_entity"]:
            clock["second_ms"] = clock["first_ms"]
        clock["first_entity"] = e
        clock["first_ms"] = time_ms
    elif time_ms > clock["second_ms"] or (clock["reporting"] == 2 and state["seen"] == 0):
        clock["second_ms"] = time_ms
    state["seen"] = 1
    state["newest_ms"] = time_ms
    state["clock_ms"] = clock["second_ms"] if clock["reporting"] >= 2 else time_ms
    state["stop_reported"] = 0
    state["due_ms"] = 0


@njit(cache=True)
def resume(clock: Record, entities: Record) -> None:
    """Take note that the whole partition was silent: no entity has stopped for that.

    Cost : O(E)
    """
    clock["resumed_ms"] = clock["second_ms"]
    for e in range(clock["entities"]):
        entities[e]["due_ms"] = 0


@step
def count_overdue(memory: Memory, limits: Limits, zone: Zone) -> int:
    """Count the entities to report as stopped, and set when to check again."""
    entities, clock = memory.entities, memory.clock[0]
    overdue, due_ms = 0, FAR_MS
    for e in range(clock["entities"]):
        report_ms = report_due_ms(entities[e], clock, limits)
        if report_ms < clock["second_ms"] and entities[e]["due_ms"] == 0:
            set_deadline(entities[e], memory.presence[e], clock, limits, zone)
            report_ms = report_due_ms(entities[e], clock, limits)
        if report_ms < clock["second_ms"]:
            overdue += 1
        else:
            due_ms = min(due_ms, report_ms)
    clock["due_ms"] = due_ms
    clock["rows"] = 0
    return overdue


@step
def add_stopped(row: int, memory: Memory, limits: Limits, table: Table) -> None:
    """Add a signal for each entity that is due; the table has space for them."""
    clock = memory.clock[0]
    now_ms = clock["second_ms"]
    for e in range(clock["entities"]):
        state = memory.entities[e]
        if report_due_ms(state, clock, limits) < now_ms:
            state["stop_reported"] = 1
            claim(state, STOPPED, now_ms, limits.repeat_ms)
            since_ms = state["newest_ms"]
            silent_ms = np.float64(now_ms - since_ms)
            usual_ms = usual_interval_ms(state["rhythm"])
            add_signal(table, Signal(row, STOPPED, e, -1, since_ms, silent_ms, usual_ms, 0))
