"""Faults of real streams, checked row by row: missing values, gaps, disorder, flat lines, stops.

Invariant: a signal about an entity follows from its own earlier rows, except that ``STOPPED`` also
           follows from the partition's clock; late and duplicate rows change nothing but the time
           of their last signal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import from_dtype, njit, types

from shared.kernels.clock import local_of
from shared.quality.kernels.presence import end_of_silence, mark_present, usual_silence
from shared.quality.kernels.quality_layout import (
    AMOUNT,
    AMOUNTS,
    BINS,
    CLIP,
    CLOCK_DTYPE,
    DUPLICATE,
    ENTITY,
    ENTITY_DTYPE,
    FADE,
    FAR_MS,
    FLAT_LINE,
    GAP,
    KIND,
    LATE,
    LONGEST_MS,
    MEMORY,
    METRIC,
    MIN_CHANGES,
    MIN_INTERVALS,
    MISSING,
    OTHERS,
    OUT_OF_ORDER,
    PAUSE_MEMORY_MS,
    PLACES,
    REPEATED_TIME,
    ROW,
    SERIES_DTYPE,
    SINCE_MS,
    STOPPED,
    USUAL_MS,
    USUAL_TWICE,
    Limits,
)

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Record = Any
"""One element of a structured array: ``numpy.void`` in Python, a record in numba."""


@njit(cache=True)
def _grow(table: npt.NDArray[Any], used: int, room: int) -> npt.NDArray[Any]:
    """Return the table with room for so many rows more."""
    if used + room <= table.shape[0]:
        return table
    grown = np.empty((max(2 * table.shape[0], used + room), table.shape[1]), table.dtype)
    grown[:used] = table[:used]
    return grown


@njit(cache=True)
def _claim(who: Record, kind: int, now_ms: int, repeat_ms: int) -> bool:
    """Whether a kind may be said of an entity now; if so it counts as said."""
    bit = 1 << kind
    if who["said"] & bit and now_ms - who["said_ms"][kind] < repeat_ms:
        return False
    who["said"] |= bit
    who["said_ms"][kind] = now_ms
    return True


@njit(cache=True)
def _usual_ms(who: Record) -> float:
    usual_ms: float = who["interval_ms"] if who["intervals"] >= MIN_INTERVALS else math.nan
    return usual_ms


@njit(cache=True)
def _limit_ms(who: Record, intervals: float) -> float:
    """Longest silence without a signal, in ms; infinite while the usual interval is unknown.

    It is the given number of usual intervals, or twice the longest usual pause.
    """
    if who["intervals"] < MIN_INTERVALS:
        return math.inf
    limit_ms: float = min(
        max(intervals * who["interval_ms"], USUAL_TWICE * who["pause_ms"]), LONGEST_MS
    )
    return limit_ms


@njit(cache=True)
def _learn_interval(who: Record, dt: int, silent_ms: int, gap_intervals: float) -> None:
    """Follow the usual interval; silent_ms is what of dt does not recur."""
    interval = who["interval_ms"]
    if who["intervals"] == 0:
        interval = np.float64(dt)
    longest = USUAL_TWICE * max(who["pause_ms"], gap_intervals * interval)
    pause = min(np.float64(silent_ms), longest)
    if who["intervals"] < MIN_INTERVALS:
        pause = np.float64(silent_ms)
    lasted = min(np.float64(dt), CLIP * interval)
    who["pause_ms"] = max(who["pause_ms"] * math.exp(-lasted / PAUSE_MEMORY_MS), pause)
    who["intervals"] = min(who["intervals"] + 1, MEMORY)
    who["interval_ms"] = (
        interval + (min(np.float64(dt), CLIP * interval) - interval) / who["intervals"]
    )


@njit(cache=True)
def _forget(who: Record, series: Record, slots: Indices) -> None:
    """Drop what was learned of an entity, but not what was said."""
    who["intervals"] = 0
    who["interval_ms"] = 0.0
    who["pause_ms"] = 0.0
    who["repeats"] = 0
    who["repeated_ms"] = 0
    for bin_ in range(BINS):
        who["present"][bin_] = 0
        who["present_day"][bin_] = 0
    for metric in range(slots.shape[0]):
        if slots[metric] >= 0:
            one = series[slots[metric]]
            one["seen"] = 0
            one["value"] = 0.0
            one["sample_ms"] = 0
            one["since_ms"] = 0
            one["longest_ms"] = 0
            one["changes"] = 0
            one["absent"] = 0
            one["missing_said"] = 0
            one["flat_said"] = 0
            one["longest_absent"] = 0.0


@njit(cache=True)
def _follow_value(one: Record, value: float, time_ms: int, limit_ms: float) -> None:
    """Fold a value into its series.

    A stretch of one value ends where the value changes or values were missing.
    """
    if one["absent"] > 0:
        one["longest_absent"] = max(one["longest_absent"], np.float64(one["absent"]))
        one["absent"] = 0
        one["missing_said"] = 0
    elif one["longest_absent"] > 0.0:
        one["longest_absent"] *= FADE
    same = one["seen"] == 1 and value == one["value"]
    if not same or time_ms - one["sample_ms"] > limit_ms:
        if one["seen"] == 1:
            one["longest_ms"] = max(one["longest_ms"], one["sample_ms"] - one["since_ms"])
        one["changes"] += 1 if one["seen"] == 1 and not same else 0
        one["seen"] = 1
        one["value"] = value
        one["since_ms"] = time_ms
        one["flat_said"] = 0
    one["sample_ms"] = time_ms


@njit(cache=True)
def _is_flat(one: Record, flat_ms: int) -> bool:
    """Whether the current stretch of one value is reported as flat.

    The metric must have varied before, and the stretch must be longer than is usual.
    """
    length = one["sample_ms"] - one["since_ms"]
    if length <= flat_ms or one["flat_said"] == 1 or one["changes"] < MIN_CHANGES:
        return False
    return bool(length > USUAL_TWICE * one["longest_ms"])


@njit(cache=True)
def _is_missed(one: Record) -> bool:
    """Whether the current absence is reported: it is new and longer than is usual."""
    return bool(one["missing_said"] == 0 and one["absent"] > USUAL_TWICE * one["longest_absent"])


@njit(cache=True)
def _say(
    said: int, places: Ints, amounts: Floats,
    row: int, kind: int, entity: int, metric: int, since_ms: int, amount: float, usual_ms: float,
    others: int,
) -> int:  # fmt: skip
    places[said, ROW] = row
    places[said, KIND] = kind
    places[said, ENTITY] = entity
    places[said, METRIC] = metric
    places[said, SINCE_MS] = since_ms
    amounts[said, AMOUNT] = amount
    amounts[said, USUAL_MS] = usual_ms
    amounts[said, OTHERS] = others
    return said + 1


@njit(cache=True)
def _follow_metrics(
    row: int, e: int, time_ms: int, values: Floats, slots: Indices, who: Record, series: Record,
    limit_ms: float, limits: Limits, said: int, places: Ints, amounts: Floats,
) -> int:  # fmt: skip
    """Fold a row's values; add at most one signal for missing and one for flat metrics."""
    later = who["seen"] == 0 or time_ms > who["newest_ms"]
    known = who["intervals"] >= MIN_INTERVALS
    missed, first_missed, flat, first_flat = 0, -1, 0, -1
    for metric in range(values.shape[0]):
        slot = slots[metric]
        if slot < 0:
            continue
        one = series[slot]
        if not math.isnan(values[metric]):
            _follow_value(one, values[metric], time_ms, limit_ms)
            if _is_flat(one, limits.flat_ms):
                flat += 1
                first_flat = metric if first_flat < 0 else first_flat
        elif one["seen"] == 1:
            # a further row of the same time may bring what the first did not
            one["absent"] += 1 if later else 0
            if known and _is_missed(one):
                missed += 1
                first_missed = metric if first_missed < 0 else first_missed
    if missed > 0 and _claim(who, MISSING, time_ms, limits.repeat_ms):
        since_ms = series[slots[first_missed]]["sample_ms"]
        for metric in range(first_missed, values.shape[0]):
            if (
                slots[metric] >= 0
                and math.isnan(values[metric])
                and _is_missed(series[slots[metric]])
            ):
                series[slots[metric]]["missing_said"] = 1
        said = _say(
            said,
            places,
            amounts,
            row,
            MISSING,
            e,
            first_missed,
            since_ms,
            missed,
            _usual_ms(who),
            missed - 1,
        )
    if flat > 0 and _claim(who, FLAT_LINE, time_ms, limits.repeat_ms):
        since_ms = series[slots[first_flat]]["since_ms"]
        for metric in range(first_flat, values.shape[0]):
            if (
                slots[metric] >= 0
                and not math.isnan(values[metric])
                and _is_flat(series[slots[metric]], limits.flat_ms)
            ):
                series[slots[metric]]["flat_said"] = 1
        said = _say(
            said,
            places,
            amounts,
            row,
            FLAT_LINE,
            e,
            first_flat,
            since_ms,
            values[first_flat],
            _usual_ms(who),
            flat - 1,
        )
    return said


@njit(cache=True)
def _contradicts(time_ms: int, values: Floats, slots: Indices, series: Record) -> bool:
    """Whether a metric already has a value for this time."""
    for metric in range(values.shape[0]):
        if slots[metric] >= 0 and not math.isnan(values[metric]):
            one = series[slots[metric]]
            if one["seen"] == 1 and one["sample_ms"] == time_ms:
                return True
    return False


@njit(cache=True)
def _follow_time(
    row: int, e: int, time_ms: int, values: Floats, slots: Indices, who: Record, series: Record,
    forgotten: bool, limit_ms: float, limits: Limits, changes: Ints, shifts: Ints, said: int,
    places: Ints, amounts: Floats,
) -> int:  # fmt: skip
    """Judge and learn the step from the entity's row before to this one, which moves the state."""
    if who["seen"] == 0:
        return said
    dt = time_ms - who["newest_ms"]
    silent_ms = dt
    if dt > limit_ms:
        since_ms, now_ms = (
            local_of(who["newest_ms"], changes, shifts),
            local_of(time_ms, changes, shifts),
        )
        silent_ms -= usual_silence(who, since_ms, now_ms, who["interval_ms"])
    if (forgotten or silent_ms > limit_ms) and _claim(who, GAP, time_ms, limits.repeat_ms):
        said = _say(said, places, amounts, row, GAP, e, -1, who["newest_ms"], dt, _usual_ms(who), 0)
    if forgotten:
        _forget(who, series, slots)
    elif dt > 0:
        _learn_interval(who, dt, silent_ms, limits.gap_intervals)
    elif _contradicts(time_ms, values, slots, series):
        again = who["repeats"] == 1 and time_ms - who["repeated_ms"] <= limit_ms
        who["repeats"] = 1
        who["repeated_ms"] = time_ms
        if again and _claim(who, REPEATED_TIME, time_ms, limits.repeat_ms):
            said = _say(
                said, places, amounts, row, REPEATED_TIME, e, -1, -1, 0.0, _usual_ms(who), 0
            )
    return said


@njit(cache=True)
def _deadline_ms(who: Record, stopped_intervals: float) -> int:
    """The partition's clock after which an entity has stopped, recurring silences excepted.

    Those are considered only then. FAR_MS while the usual interval is not known.
    """
    if who["due_ms"] != 0:
        return int(who["due_ms"])
    limit_ms = _limit_ms(who, stopped_intervals)
    return (
        max(int(who["newest_ms"]), int(who["clock_ms"])) + int(limit_ms)
        if limit_ms <= LONGEST_MS
        else FAR_MS
    )


@njit(cache=True)
def _look_at(who: Record, limits: Limits, changes: Ints, shifts: Ints) -> None:
    """Find when the present silence has lasted too long, silences that recur not counted."""
    limit_ms = _limit_ms(who, limits.stopped_intervals)
    if limit_ms > LONGEST_MS:
        return
    since_ms = max(int(who["newest_ms"]), int(who["clock_ms"]))
    local_ms = local_of(since_ms, changes, shifts)
    end_ms = end_of_silence(who, local_ms, int(limit_ms), who["interval_ms"])
    who["due_ms"] = since_ms + (end_ms - local_ms)


@njit(cache=True)
def _due_ms(who: Record, limits: Limits) -> int:
    """The partition's clock after which an entity is reported as stopped; FAR_MS = never."""
    if who["seen"] == 0 or who["stop_said"] == 1:
        return FAR_MS
    deadline_ms = _deadline_ms(who, limits.stopped_intervals)
    if who["said"] & (1 << STOPPED):
        return max(deadline_ms, int(who["said_ms"][STOPPED]) + limits.repeat_ms - 1)
    return deadline_ms


@njit(cache=True)
def _advance(clock: Record, who: Record, e: int, time_ms: int) -> None:
    """Move the partition's clock by an entity that reported; twin of sorting all newest times."""
    if who["seen"] == 0:
        clock["reporting"] += 1
        clock["entities"] = max(clock["entities"], e + 1)
    if clock["reporting"] == 1 or e == clock["first_entity"] or time_ms > clock["first_ms"]:
        if e != clock["first_entity"]:
            clock["second_ms"] = clock["first_ms"]
        clock["first_entity"] = e
        clock["first_ms"] = time_ms
    elif time_ms > clock["second_ms"] or (clock["reporting"] == 2 and who["seen"] == 0):
        clock["second_ms"] = time_ms
    who["seen"] = 1
    who["newest_ms"] = time_ms
    who["clock_ms"] = clock["second_ms"] if clock["reporting"] >= 2 else time_ms
    who["stop_said"] = 0
    who["due_ms"] = 0


@njit(cache=True)
def _count_overdue(
    entities: Record, clock: Record, limits: Limits, changes: Ints, shifts: Ints
) -> int:
    """Count the entities to report as stopped, and set when to check again."""
    overdue, due_ms = 0, FAR_MS
    for e in range(clock["entities"]):
        its_ms = _due_ms(entities[e], limits)
        if its_ms < clock["second_ms"] and entities[e]["due_ms"] == 0:
            _look_at(entities[e], limits, changes, shifts)
            its_ms = _due_ms(entities[e], limits)
        if its_ms < clock["second_ms"]:
            overdue += 1
        else:
            due_ms = min(due_ms, its_ms)
    clock["due_ms"] = due_ms
    clock["rows"] = 0
    return overdue


@njit(cache=True)
def _say_stopped(
    row: int,
    entities: Record,
    clock: Record,
    limits: Limits,
    said: int,
    places: Ints,
    amounts: Floats,
) -> int:
    now_ms = clock["second_ms"]
    for e in range(clock["entities"]):
        who = entities[e]
        if _due_ms(who, limits) < now_ms:
            who["stop_said"] = 1
            _claim(who, STOPPED, now_ms, limits.repeat_ms)
            since_ms = who["newest_ms"]
            said = _say(
                said,
                places,
                amounts,
                row,
                STOPPED,
                e,
                -1,
                since_ms,
                now_ms - since_ms,
                _usual_ms(who),
                0,
            )
    return said


_LIMITS = types.NamedTuple((types.float64, types.float64, types.int64, types.int64), Limits)  # type: ignore[no-untyped-call]
_RECORDS = [from_dtype(dtype)[::1] for dtype in (ENTITY_DTYPE, SERIES_DTYPE, CLOCK_DTYPE)]
_SIGNALS = types.Tuple((types.int64[:, ::1], types.float64[:, ::1]))  # type: ignore[no-untyped-call]
_INTS, _FLAGS = types.int64[::1], types.boolean[::1]


@njit(
    _SIGNALS(
        types.int32[:, ::1], types.int32[::1], _INTS, types.float64[:, ::1], _INTS, _FLAGS, _FLAGS,
        _FLAGS, _INTS, _INTS,
        *_RECORDS, _LIMITS, _FLAGS
    ),
    cache=True,
)  # fmt: skip
def watch_rows(
    slots: Indices,
    entity: Indices,
    time_ms: Ints,
    values: Floats,
    late_by_ms: Ints,
    ahead: Flags,
    duplicate: Flags,
    forgotten: Flags,
    changes: Ints,
    shifts: Ints,
    entities: Record,
    series: Record,
    clocks: Record,
    limits: Limits,
    stale: Flags,
) -> tuple[Ints, Floats]:
    """Fold rows and say what is wrong with them.

    slots      : int32 (E, M)          slot of each (entity, metric), -1 = never reported
    entity     : int32 (n,)            entity index, any order
    time_ms    : int64 (n,)            event time
    values     : float64 (n, M)        finite or NaN = missing
    late_by_ms : int64 (n,)            behind the entity's newest event, 0 = not late
    ahead      : bool (n,)             too far ahead of its entity: says nothing and moves nothing
    duplicate  : bool (n,)             same time and values as the entity's newest event
    forgotten  : bool (n,)             the entity starts anew with the row
    changes, shifts : int64 (k,)       time zone, see ``clock.local_of``
    entities   : ENTITY_DTYPE (>= E,)
    series     : SERIES_DTYPE (>= slots used,)
    clocks     : CLOCK_DTYPE (1,)
    stale      : bool (n,)             out: the row is its entity's first after it had stopped
    returns    : int64 (k, PLACES), float64 (k, AMOUNTS)   the signals, in order of rows

    Twin: tests/reference/quality.py::watch.  Cost: O(n M); the entities are looked through once in
          E / 64 rows at most.
    """
    clock = clocks[0]
    places = np.empty((16, PLACES), np.int64)
    amounts = np.empty((16, AMOUNTS), np.float64)
    said = 0
    for row in range(entity.shape[0]):
        e = entity[row]
        who = entities[e]
        limit_ms = _limit_ms(who, limits.gap_intervals)
        places = _grow(places, said, 3)
        amounts = _grow(amounts, said, 3)
        stale[row] = False
        if ahead[row]:
            continue
        if late_by_ms[row] > 0:
            kind = LATE if late_by_ms[row] > limit_ms else OUT_OF_ORDER
            if _claim(who, kind, who["newest_ms"], limits.repeat_ms):
                said = _say(
                    said,
                    places,
                    amounts,
                    row,
                    kind,
                    e,
                    -1,
                    who["newest_ms"],
                    late_by_ms[row],
                    _usual_ms(who),
                    0,
                )
            continue
        if duplicate[row]:
            if _claim(who, DUPLICATE, who["newest_ms"], limits.repeat_ms):
                said = _say(
                    said, places, amounts, row, DUPLICATE, e, -1, -1, 0.0, _usual_ms(who), 0
                )
            continue
        if who["seen"] == 1 and clock["reporting"] >= 2:
            stale[row] = clock["second_ms"] > _deadline_ms(who, limits.stopped_intervals)
            if stale[row] and who["due_ms"] == 0:
                _look_at(who, limits, changes, shifts)
                stale[row] = clock["second_ms"] > _deadline_ms(who, limits.stopped_intervals)
        t, mine = time_ms[row], slots[e]
        said = _follow_time(
            row,
            e,
            t,
            values[row],
            mine,
            who,
            series,
            forgotten[row],
            limit_ms,
            limits,
            changes,
            shifts,
            said,
            places,
            amounts,
        )
        local_ms = local_of(t, changes, shifts)
        if who["seen"] == 0 or forgotten[row]:
            who["first_ms"] = local_ms
        mark_present(who, local_ms)
        said = _follow_metrics(
            row, e, t, values[row], mine, who, series, limit_ms, limits, said, places, amounts
        )
        _advance(clock, who, e, t)
        clock["due_ms"] = min(clock["due_ms"], _due_ms(who, limits))
        clock["rows"] += 1
        if (
            clock["reporting"] >= 2
            and clock["second_ms"] > clock["due_ms"]
            and clock["rows"] >= clock["entities"] >> 6
        ):
            overdue = _count_overdue(entities, clock, limits, changes, shifts)
            if overdue > 0:
                places = _grow(places, said, overdue)
                amounts = _grow(amounts, said, overdue)
                said = _say_stopped(row, entities, clock, limits, said, places, amounts)
    return places[:said].copy(), amounts[:said].copy()
