"""Rolling features of each (entity, metric), folded over rows in log order.

Invariant: a row's output depends only on its own entity's earlier rows; sums are recomputed from
           the ring, oldest first, so no division of the log into batches changes a bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.kernels.clock import CONFIRMED, agrees, follow_interval, follow_pause, furthest

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

RING = 64
"""Samples remembered per (entity, metric); the largest window a model may ask for."""

LIMIT = 1e100
"""Features are clipped to +-LIMIT, so that sums of their squares stay finite."""

BAND_SPREADS = 3.0
"""Half width of the expected band in spreads of the window before."""


class SeriesState(NamedTuple):
    """What is remembered of E entities and S series; the arrays are changed in place.

    slots      : int32 (E, M)        slot of each (entity, metric), -1 = none yet
    used       : int64 (1,)          slots in use; the caller has reserved room for more
    newest_ms  : int64 (E,)          newest event time of each entity
    events     : int64 (E,)          rows folded of each entity
    moves      : int64 (E,)          rows that may have moved anything of each entity
    interval_ms, pause_ms : float64 (E,)   usual interval and longest usual pause
    ahead_ms, ahead_rows  : int64 (E,)     newest row too far ahead, and how many agree with it
    ring       : float64 (S, RING)   newest samples of each slot, at index pushed % RING
    pushed     : int64 (S,)          samples ever pushed into each slot
    newest     : float64 (S,)        value in the entity's newest event, NaN = missing there
    """

    slots: Indices
    used: Ints
    newest_ms: Ints
    events: Ints
    moves: Ints
    interval_ms: Floats
    pause_ms: Floats
    ahead_ms: Ints
    ahead_rows: Ints
    ring: Floats
    pushed: Ints
    newest: Floats


class Folded(NamedTuple):
    """Outputs of folding n rows.

    rolling    : float64 (n, M, 4)    value, mean, spread, difference; all NaN where the metric is
                 missing
    expected, lower, upper : float64 (n, M)   level and band of the window before, NaN until that
                 window is full
    late_by_ms : int64 (n,)           how far behind the entity's newest event, 0 = not late
    ahead      : bool (n,)            further ahead of its entity than is usual, and not confirmed
    duplicate  : bool (n,)            same time and values as the entity's newest event
    imputed    : bool (n,)            a metric that the entity has reported before is missing
    known      : bool (n, M)          the entity has reported this metric, now or before
    forgotten  : bool (n,)            the entity returned after so long that it is reset
    step_ms    : int64 (n,)           time since the entity's previous event; 0 = it is the first,
                 or it does not count
    """

    rolling: Floats
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

    @property
    def counted(self) -> Flags:
        """Rows that moved the series: neither late nor ahead nor duplicate."""
        moved: Flags = (self.late_by_ms == 0) & ~self.duplicate & ~self.ahead
        return moved


def empty_rows(n: int, metrics: int) -> Folded:
    """Allocate the outputs of n rows."""
    return Folded(
        rolling=np.empty((n, metrics, 4)),
        expected=np.empty((n, metrics)),
        lower=np.empty((n, metrics)),
        upper=np.empty((n, metrics)),
        late_by_ms=np.empty(n, np.int64),
        ahead=np.empty(n, np.bool_),
        duplicate=np.empty(n, np.bool_),
        imputed=np.empty(n, np.bool_),
        known=np.empty((n, metrics), np.bool_),
        forgotten=np.empty(n, np.bool_),
        step_ms=np.empty(n, np.int64),
    )


_LONGS = types.int64[::1]
_DOUBLES = types.float64[::1]
_BOOLEANS = types.boolean[::1]
_CELLS = types.float64[:, ::1]
_STATE = types.NamedTuple(  # type: ignore[no-untyped-call]
    (
        types.int32[:, ::1],
        *(_LONGS, _LONGS, _LONGS, _LONGS),
        *(_DOUBLES, _DOUBLES, _LONGS, _LONGS),
        *(_CELLS, _LONGS, _DOUBLES),
    ),
    SeriesState,
)
_OUT = types.NamedTuple(  # type: ignore[no-untyped-call]
    (
        types.float64[:, :, ::1],
        *(_CELLS, _CELLS, _CELLS),
        *(_LONGS, _BOOLEANS, _BOOLEANS, _BOOLEANS),
        *(types.boolean[:, ::1], _BOOLEANS, _LONGS),
    ),
    Folded,
)


@njit("i8(i4[::1], f8[:, ::1], i4[:, ::1])", cache=True)
def count_new_slots(entity: Indices, values: Floats, slots: Indices) -> int:
    """Count the (row, metric) cells that may need a slot: an upper bound, for reserving room.

    entity  : int32 (n,)      entity index
    values  : float64 (n, M)  NaN = missing
    slots   : int32 (E, M)    slot of each (entity, metric), -1 = none
    """
    count = 0
    for row in range(entity.shape[0]):
        for metric in range(values.shape[1]):
            if slots[entity[row], metric] < 0 and not math.isnan(values[row, metric]):
                count += 1
    return count


@njit(cache=True)
def _window_mean_spread(
    ring: Floats, pushed: int, window: int, value: float, with_value: bool
) -> tuple[float, float]:
    """Return mean and population spread of a ring's newest samples, oldest first.

    Optionally one more value is added at the end.

    With ``with_value`` the window holds that value and up to window - 1 samples before it; without,
    up to window samples.
    """
    before = min(pushed, window - 1 if with_value else window)
    samples = before + 1 if with_value else before
    if samples == 0:
        return 0.0, 0.0
    mean = 0.0
    for back in range(before, 0, -1):
        mean += ring[(pushed - back) % RING] / samples
    if with_value:
        mean += value / samples
    square = 0.0
    for back in range(before, 0, -1):
        deviation = ring[(pushed - back) % RING] - mean
        square += deviation * deviation / samples
    if with_value:
        square += (value - mean) * (value - mean) / samples
    return mean, math.sqrt(square)


@njit(cache=True)
def _clip(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT)


@njit(cache=True)
def _features_of(
    out: Folded, row: int, metric: int, value: float, history: Floats, samples: int, window: int
) -> None:
    """Write the features of one value as if it came after its series' samples."""
    rolling = out.rolling[row, metric]
    for k in range(4):
        rolling[k] = math.nan
    out.expected[row, metric] = out.lower[row, metric] = out.upper[row, metric] = math.nan
    if samples >= window:
        mean, spread = _window_mean_spread(history, samples, window, 0.0, False)
        out.expected[row, metric] = _clip(mean)
        out.lower[row, metric] = _clip(mean - BAND_SPREADS * spread)
        out.upper[row, metric] = _clip(mean + BAND_SPREADS * spread)
    if math.isnan(value):
        return
    mean, spread = _window_mean_spread(history, samples, window, value, True)
    rolling[0] = _clip(value)
    rolling[1] = _clip(mean)
    rolling[2] = _clip(spread)
    rolling[3] = _clip(value - history[(samples - 1) % RING]) if samples > 0 else 0.0


@njit(cache=True)
def _is_ahead(state: SeriesState, e: int, time_ms: int) -> bool:
    """Return whether a row is too far ahead of its entity; a few that agree are confirmed."""
    interval_ms = state.interval_ms[e]
    step = time_ms - state.newest_ms[e]
    if state.events[e] == 0 or step <= furthest(interval_ms, state.pause_ms[e]):
        state.ahead_rows[e] = 0
        return False
    again = state.ahead_rows[e] > 0 and agrees(time_ms, state.ahead_ms[e], interval_ms)
    state.ahead_rows[e] = state.ahead_rows[e] + 1 if again else 1
    state.ahead_ms[e] = time_ms
    if state.ahead_rows[e] < CONFIRMED:
        return True
    state.ahead_rows[e] = 0
    return False


@njit(cache=True)
def _forget(state: SeriesState, e: int) -> None:
    state.events[e] = 0
    for metric in range(state.slots.shape[1]):
        slot = state.slots[e, metric]
        if slot >= 0:
            state.pushed[slot] = 0
            state.newest[slot] = math.nan


@njit(cache=True)
def _describe(
    state: SeriesState, out: Folded, row: int, e: int, values: Floats, window: int
) -> bool:
    """Write what is known of a row's cells; return whether they equal the newest event's."""
    same = True
    out.imputed[row] = False
    for metric in range(values.shape[1]):
        value = values[row, metric]
        slot = state.slots[e, metric]
        missing = math.isnan(value)
        before = state.newest[slot] if slot >= 0 else math.nan
        if missing != math.isnan(before) or (not missing and value != before):
            same = False
        out.known[row, metric] = slot >= 0 or not missing
        if missing and slot >= 0:
            out.imputed[row] = True
        samples = state.pushed[slot] if slot >= 0 else 0
        _features_of(out, row, metric, value, state.ring[max(slot, 0)], samples, window)
    return same


@njit(cache=True)
def _remember(state: SeriesState, e: int, values: Floats, row: int) -> None:
    """Push a row's values; a metric's first value takes a slot."""
    for metric in range(values.shape[1]):
        value = values[row, metric]
        slot = state.slots[e, metric]
        if slot < 0:
            if math.isnan(value):
                continue
            slot = state.used[0]
            state.slots[e, metric] = slot
            state.used[0] = slot + 1
        state.newest[slot] = value
        if not math.isnan(value):
            state.ring[slot, state.pushed[slot] % RING] = value
            state.pushed[slot] += 1


@njit(
    types.void(types.int32[::1], _LONGS, _CELLS, types.int64, types.int64, _STATE, _OUT),
    cache=True,
)
def fold_rows(
    entity: Indices,
    time_ms: Ints,
    values: Floats,
    window: int,
    forget_ms: int,
    state: SeriesState,
    out: Folded,
) -> None:
    """Fold rows into the state and write each row's features.

    entity     : int32 (n,)          entity index, any order
    time_ms    : int64 (n,)          event time
    values     : float64 (n, M)      finite or NaN = missing
    window     : 2..RING             samples in mean and spread
    forget_ms  : > 0                 an entity that returns after longer is reset
    state, out : changed in place, and written

    A row that is late, ahead or a duplicate gets features as if it came next, and moves nothing of
    the series.
    Twin: tests/reference/rolling.py::fold_rows.  Cost: O(n M window) time.
    """
    for row in range(entity.shape[0]):
        e = entity[row]
        state.moves[e] += 1
        step = time_ms[row] - state.newest_ms[e]
        ahead = _is_ahead(state, e, time_ms[row])
        out.ahead[row] = ahead
        out.forgotten[row] = not ahead and state.events[e] > 0 and step > forget_ms
        if out.forgotten[row]:
            _forget(state, e)
        first = state.events[e] == 0
        late = not first and step < 0
        out.late_by_ms[row] = -step if late else 0
        same = _describe(state, out, row, e, values, window) and not first and step == 0
        out.duplicate[row] = same
        out.step_ms[row] = 0
        if late or same or ahead:
            continue
        if not first:
            out.step_ms[row] = step
            if step > 0:
                interval_ms = state.interval_ms[e]
                state.pause_ms[e] = follow_pause(state.pause_ms[e], np.float64(step), interval_ms)
                state.interval_ms[e] = follow_interval(interval_ms, np.float64(step))
        state.newest_ms[e] = time_ms[row]
        state.events[e] += 1
        _remember(state, e, values, row)


@njit(
    "void(f8[:, :, ::1], i4[::1], i8[::1], f8[:, :, ::1], f8[:, :, ::1], i8[::1], i8[::1], i8[::1],"
    " b1[::1], f8[:, ::1])",
    cache=True,
)
def build_vectors(
    rolling: Floats,
    entity_row: Indices,
    time_ms: Ints,
    centre: Floats,
    spread: Floats,
    transitions_ms: Ints,
    offsets_ms: Ints,
    business_minutes: Ints,
    business_days: Flags,
    X: Floats,
) -> None:
    """Scale rolling features per entity and add time features and missing flags.

    rolling          : float64 (n, M, 4)   in the model's metric order, NaN = missing
    entity_row       : int32 (n,) >= 0     row of the entity in centre and spread
    time_ms          : int64 (n,)          event time, UTC
    centre, spread   : float64 (E, M, 4)   NaN where the entity never reported the metric; spread >
                       0
    transitions_ms   : int64 (k,)          UTC instants from which offsets_ms[i] holds, increasing,
                       first = smallest int64
    offsets_ms       : int64 (k,)          local time minus UTC
    business_minutes : int64 (2,)          start and exclusive end, minutes of the local day
    business_days    : bool (7,)           Monday first
    X                : float64 (n, 5M + 3) out: 4M scaled features clipped to +-1e6, M missing
                       flags, hour as sine and cosine, business hour; never NaN

    Twin: tests/reference/rolling.py::build_vectors.  Cost: O(n (M + log k)).
    """
    metrics = rolling.shape[1]
    for row in range(rolling.shape[0]):
        e = entity_row[row]
        for metric in range(metrics):
            missing = math.isnan(rolling[row, metric, 0]) or math.isnan(centre[e, metric, 0])
            X[row, 4 * metrics + metric] = 1.0 if missing else 0.0
            for k in range(4):
                scaled = 0.0
                if not missing:
                    scaled = (rolling[row, metric, k] - centre[e, metric, k]) / spread[e, metric, k]
                X[row, 4 * metric + k] = min(max(scaled, -1e6), 1e6)
        period = np.searchsorted(transitions_ms, time_ms[row], side="right") - 1
        local_min = (time_ms[row] + offsets_ms[period]) // 60_000
        minute = local_min % 1440
        weekday = (local_min // 1440 + 3) % 7
        angle = 2.0 * math.pi * minute / 1440.0
        X[row, 5 * metrics] = math.sin(angle)
        X[row, 5 * metrics + 1] = math.cos(angle)
        inside = business_minutes[0] <= minute < business_minutes[1]
        X[row, 5 * metrics + 2] = 1.0 if inside and business_days[weekday] else 0.0
