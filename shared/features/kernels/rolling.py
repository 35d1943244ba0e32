"""Places, clocks and newest values of entities, and the band of each metric before it is warm.

Invariant: a row's output depends only on its own entity's earlier rows; sums are recomputed from
           the ring, oldest first, so no division of the log into batches changes a bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.features.kernels.places import (
    CLOCK_MS,
    FORGOTTEN,
    MAX_METRICS,
    NONE,
    PLACES,
    RELEASES,
    REPORTED,
    TAKEN_SLOTS,
    Places,
    Releases,
    advance_clock,
    drop_expired,
    forget_after_ms,
    note_record,
    place_for,
    release,
    take_slot,
)
from shared.kernels.borrowing import borrowed
from shared.kernels.clock import CONFIRMED, agrees, follow_interval, follow_longest_gap, furthest
from shared.kernels.wire import group

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

RING = 64
"""Samples remembered per (entity, metric); the largest ``features.window``."""

LIMIT = 1e100
"""Level and band are clipped to +-LIMIT, so that what is computed from them stays finite."""

BAND_SPREADS = 3.0
"""Half width of the expected band in spreads of the window before."""


class Inputs(NamedTuple):
    """Rows to fold.

    name    : int32 (n,)      index of the entity's name
    time_ms : int64 (n,)      event time
    values  : float64 (n, M)  finite or NaN = missing
    offsets : int64 (n,)      place in the log, increasing
    layout  : int32 (n,)      row of ``layouts``
    layouts : int32 (L, M)    the metrics of a record in its own order, then NONE
    """

    name: Indices
    time_ms: Ints
    values: Floats
    offsets: Ints
    layout: Indices
    layouts: Indices


class Outputs(NamedTuple):
    """Outputs of folding n rows.

    expected, lower, upper : float64 (n, M)   level and band of the window before, NaN until that
                 window is full
    late_by_ms : int64 (n,)          how far behind the entity's newest event, 0 = not late
    ahead      : bool (n,)           further ahead of its entity than is usual, and not confirmed
    duplicate  : bool (n,)           same time and values as the entity's newest event
    imputed    : bool (n,)           a metric that the entity has reported before is missing
    known      : bool (n, M)         the entity has reported this metric, now or before
    forgotten  : bool (n,)           what was remembered of the entity was dropped before this row
    step_ms    : int64 (n,)          time since the entity's previous event; 0 = it is the first, or
                 it does not count
    place      : int32 (n,)          the entity's place
    slots      : int32 (n, M)        its slots after the row
    listed     : int32 (n, M)        its known metrics in order of their first appearance, then NONE
    surplus    : int32 (n,)          values beyond MAX_METRICS, which are not folded
    surplus_metric : int32 (n,)      the first of them where this was not reported before, else NONE
    """

    expected: Floats
    lower: Floats
    upper: Floats
    late_by_ms: Ints
    ahead: Flags
    duplicate: Flags
    imputed: Flags
    known: Flags
    forgotten: Flags
    step_ms: Ints
    place: Indices
    slots: Indices
    listed: Indices
    surplus: Indices
    surplus_metric: Indices


_I4S, _I8S, _B1S = types.int32[::1], types.int64[::1], types.boolean[::1]
_I4SS, _F8SS = types.int32[:, ::1], types.float64[:, ::1]
_INPUTS = group(Inputs, _I4S, _I8S, _F8SS, _I8S, _I4S, _I4SS)
_OUTPUTS = group(
    Outputs, _F8SS, _F8SS, _F8SS, _I8S, _B1S, _B1S, _B1S,
    types.boolean[:, ::1], _B1S, _I8S, _I4S, _I4SS, _I4SS, _I4S, _I4S
)  # fmt: skip


@njit(cache=True, forceinline=True)
def _window_mean_spread(ring: Floats, pushed: int, window: int) -> tuple[float, float]:
    """Return mean and population spread of a ring's newest ``window`` samples, oldest first."""
    first = (pushed - window) % RING
    mean, at = 0.0, first
    for _ in range(window):
        mean += ring[at] / window
        at = at + 1 if at + 1 < RING else 0
    square, at = 0.0, first
    for _ in range(window):
        deviation = ring[at] - mean
        square += deviation * deviation / window
        at = at + 1 if at + 1 < RING else 0
    return mean, math.sqrt(square)


@njit(cache=True, forceinline=True)
def _clip(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


@njit(cache=True, forceinline=True)
def _write_band(
    out: Outputs, row: int, metric: int, history: Floats, samples: int, window: int
) -> None:
    """Write level and band of a series before a row."""
    out.expected[row, metric] = out.lower[row, metric] = out.upper[row, metric] = math.nan
    if samples >= window:
        mean, spread = _window_mean_spread(history, samples, window)
        out.expected[row, metric] = _clip(mean)
        out.lower[row, metric] = _clip(mean - BAND_SPREADS * spread)
        out.upper[row, metric] = _clip(mean + BAND_SPREADS * spread)


@njit(cache=True, forceinline=True)
def _slots_needed(m: Places, place: int, values: Floats, all_of_them: bool) -> int:
    """Count the slots that a row may take."""
    needed = 0
    for metric in range(values.shape[0]):
        if not math.isnan(values[metric]) and (all_of_them or m.slots[place, metric] < 0):
            needed += 1
    return needed


@njit(cache=True, forceinline=True)
def _is_ahead(m: Places, place: int, time_ms: int) -> bool:
    """Return whether a row is too far ahead of its entity; a few that agree are confirmed."""
    interval_ms = m.interval_ms[place]
    step = time_ms - m.newest_ms[place]
    if m.events[place] == 0 or step <= furthest(interval_ms, m.pause_ms[place]):
        m.ahead_rows[place] = 0
        return False
    again = m.ahead_rows[place] > 0 and agrees(time_ms, m.ahead_ms[place], interval_ms)
    m.ahead_rows[place] = m.ahead_rows[place] + 1 if again else 1
    m.ahead_ms[place] = time_ms
    if m.ahead_rows[place] < CONFIRMED:
        return True
    m.ahead_rows[place] = 0
    return False


@njit(cache=True, forceinline=True)
def _list_metrics(m: Places, place: int, given: Inputs, out: Outputs, row: int) -> None:
    """Write which metrics an entity has with this row; at most MAX_METRICS, the first ones."""
    known = m.reported[place]
    out.surplus[row] = 0
    out.surplus_metric[row] = NONE
    for metric in range(given.values.shape[1]):
        slot = m.slots[place, metric]
        out.known[row, metric] = slot >= 0
        out.listed[row, metric] = NONE
    for metric in range(given.values.shape[1]):
        slot = m.slots[place, metric]
        if slot >= 0:
            out.listed[row, m.rank[slot]] = metric
    layout = given.layouts[given.layout[row]]
    for k in range(layout.shape[0]):
        metric = layout[k]
        if metric < 0:
            break
        if m.slots[place, metric] >= 0 or math.isnan(given.values[row, metric]):
            continue
        if known < MAX_METRICS:
            out.known[row, metric] = True
            out.listed[row, known] = metric
            known += 1
            continue
        out.surplus[row] += 1
        if m.surplus[place] == 0:
            m.surplus[place] = 1
            out.surplus_metric[row] = metric


@njit(cache=True, forceinline=True)
def _describe(m: Places, place: int, values: Floats, window: int, out: Outputs, row: int) -> bool:
    """Write what is known of a row's cells; return whether they equal the newest event's."""
    same = True
    out.imputed[row] = False
    for metric in range(values.shape[0]):
        value = values[metric] if out.known[row, metric] else math.nan
        slot = m.slots[place, metric]
        missing = math.isnan(value)
        before = m.newest[slot] if slot >= 0 else math.nan
        if missing != math.isnan(before) or (not missing and value != before):
            same = False
        if missing and slot >= 0:
            out.imputed[row] = True
        samples = m.pushed[slot] if slot >= 0 else 0
        _write_band(out, row, metric, m.ring[max(slot, 0)], samples, window)
    return same


@njit(cache=True, forceinline=True)
def _remember(m: Places, place: int, values: Floats, offset: int, out: Outputs, row: int) -> None:
    """Push a row's values; new metrics take slots in the order of ``listed``."""
    for k in range(values.shape[0]):
        metric = out.listed[row, k]
        if metric < 0:
            break
        slot = m.slots[place, metric]
        if slot < 0:
            slot = take_slot(m, place, metric, offset)
        value = values[metric]
        m.newest[slot] = value
        if not math.isnan(value):
            m.ring[slot, m.pushed[slot] % RING] = value
            m.pushed[slot] += 1


@njit(cache=True, forceinline=True)
def _follow_time(m: Places, place: int, time_ms: int, first: bool) -> int:
    """Follow how often an entity reports; return the time since its previous event."""
    if first:
        m.first_ms[place] = time_ms
        m.newest_ms[place] = time_ms
        m.events[place] = 1
        return 0
    step = time_ms - m.newest_ms[place]
    if step > 0:
        interval_ms = m.interval_ms[place]
        m.pause_ms[place] = follow_longest_gap(m.pause_ms[place], np.float64(step), interval_ms)
        m.interval_ms[place] = follow_interval(interval_ms, np.float64(step))
    m.newest_ms[place] = time_ms
    m.events[place] += 1
    return int(step)


@njit(types.int64(_INPUTS, types.int64, types.int64, types.int64, types.int64, PLACES, RELEASES,
    _OUTPUTS), cache=True, nogil=True)  # fmt: skip
def fold_rows(
    given: Inputs,
    start: int,
    window: int,
    forget_ms: int,
    max_entities: int,
    m: Places,
    log: Releases,
    out: Outputs,
) -> int:
    """Fold rows into the state and write what is known of each.

    start        : first row to fold
    window       : 2..RING  samples in the band
    forget_ms    : > 0      longest silence after which an entity is forgotten, see
                   ``places.forget_after_ms``; NEVER_MS = entities are never forgotten
    max_entities : >= 1     entities that have a place
    log          : out: the entities that were dropped
    returns      : first row that was not folded, because ``log`` or the arrays of places or slots
                   have no room; call it again with that row

    A row that is late, ahead or a duplicate gets a band as if it came next, and moves nothing of
    the series.
    Twin: tests/reference/rolling.py::fold_rows.  Cost: O(n M window) time; O(P) once an hour of
    event time.
    """
    given, m, log, out = borrowed(given), borrowed(m), borrowed(log), borrowed(out)
    for row in range(start, given.time_ms.shape[0]):
        name, time_ms, values = given.name[row], given.time_ms[row], given.values[row]
        offset = given.offsets[row]
        if not drop_expired(m, log, row, offset, name, forget_ms):
            return row
        e = place_for(m, log, row, offset, name, max_entities)
        if e < 0 or log.used[0] == log.row.shape[0]:
            return row
        step = time_ms - m.newest_ms[e]
        is_long = m.events[e] > 0 and step > forget_after_ms(
            m.first_ms[e], m.newest_ms[e], forget_ms
        )
        if m.used[TAKEN_SLOTS] + _slots_needed(m, e, values, is_long) > m.ring.shape[0]:
            return row
        m.moves[e] = offset + 1
        out.ahead[row] = _is_ahead(m, e, time_ms)
        out.forgotten[row] = is_long and not out.ahead[row]
        if out.forgotten[row]:
            release(m, log, row, offset, e, FORGOTTEN)
        first = m.events[e] == 0
        late = not first and time_ms < m.newest_ms[e]
        out.late_by_ms[row] = m.newest_ms[e] - time_ms if late else 0
        _list_metrics(m, e, given, out, row)
        same = _describe(m, e, values, window, out, row)
        same = same and not first and time_ms == m.newest_ms[e]
        out.duplicate[row] = same
        out.step_ms[row] = 0
        if not (late or same or out.ahead[row]):
            out.step_ms[row] = _follow_time(m, e, time_ms, first)
            _remember(m, e, values, offset, out, row)
            advance_clock(m, e, time_ms, first and not out.forgotten[row])
        note_record(m, e, offset)
        m.seen_clock_ms[e] = m.clock[CLOCK_MS] if m.clock[REPORTED] >= 2 else 0
        out.place[row] = e
        out.slots[row, :] = m.slots[e, : values.shape[0]]
    return int(given.time_ms.shape[0])
