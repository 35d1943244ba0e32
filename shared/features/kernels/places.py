"""Places: which entity has which place in a partition's arrays, and when it must leave it.

Invariant: who has a place follows from the log alone, row by row. A free place is all zero, and the
           lowest free one is taken first, so equal logs give equal bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.kernels.units import DAY_MS
from shared.kernels.wire import group

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER_MS = 1 << 62
"""As the longest time after which an entity is forgotten: entities are never forgotten."""

NONE = -1
MAX_METRICS = 256
"""Metrics remembered of one entity; further ones are counted, reported once and not scored."""

LEAST_FORGET_MS = 3 * DAY_MS // 2
"""An entity with rows once a day is remembered though they come a little late."""

LIFETIMES = 3
"""An entity is forgotten after this many times its own lifetime, within the limits."""

RECLAIM = 2
"""Its place is reclaimed when the partition's clock is this many times that far ahead."""

STEP_MS = 3_600_000
"""Most that one row moves the clock of places, so that wrong clocks evict nobody at once."""

EVICTIONS_PER_STEP = 100
"""Evictions reported while the clock passes one step; all of them are counted."""

CLOCK = 9
REPORTED, FIRST_MS, FIRST_PLACE, SECOND_MS, CLOCK_MS = range(5)
SWEPT, LIVE, EVICTION_STEP, EVICTIONS = range(5, CLOCK)
"""Fields of the clock.

REPORTED            : entities that ever had a row, counted anew after they lost their place
FIRST_MS, SECOND_MS : the newest event time of all of them, and of the others
FIRST_PLACE         : whose FIRST_MS is; NONE = it has left
CLOCK_MS            : follows SECOND_MS by at most STEP_MS a row; meaningless below two entities
SWEPT               : the step of CLOCK_MS for which silent entities were last dropped
LIVE                : places that are taken
EVICTION_STEP       : the newest step with an eviction
EVICTIONS           : evictions that were reported in it
"""

USED = 7
USED_PLACES, USED_SLOTS, TAKEN_SLOTS, FREE_PLACE, FREE_SLOT, OLDEST, NEWEST = range(USED)
"""What follows from the rest: places and slots in use (up to the last one taken), how many slots
are taken, from where on to search for a free place or slot, and whose newest record lies furthest
back and least far back in the log."""

EXPIRED, EVICTED, EVICTED_QUIETLY, FORGOTTEN = range(4)
"""Why an entity was dropped.

EXPIRED   : it has been silent for long, by the clock of its partition
EVICTED   : there was no place left; QUIETLY = not reported, there were too many
FORGOTTEN : it has just returned after long, by its own rows, and keeps its place
"""


class Places(NamedTuple):
    """All that is remembered by place or slot, apart from what other packages remember.

    place_of      : int32 (I,)       place of each known name, NONE = it has none
    owner         : int32 (P,)       name at each place, NONE = free
    slots         : int32 (P, M)     slot of each (place, metric), NONE = not reported
    first_ms      : int64 (P,)       first event time
    newest_ms     : int64 (P,)       newest event time
    events        : int64 (P,)       rows folded
    moves         : int64 (P,)       offset behind the newest row that may have changed anything
    interval_ms, pause_ms : float64 (P,)   usual interval and longest usual pause
    ahead_ms, ahead_rows  : int64 (P,)     newest row too far ahead, and how many agree with it
    seen_at       : int64 (P,)       offset of the newest record, of whatever time
    seen_clock_ms : int64 (P,)       CLOCK_MS at that record
    reported      : int64 (P,)       metrics that have a slot
    surplus       : int64 (P,)       1 = it was reported that there are too many metrics
    older, newer  : int32 (P,)       place whose newest record is the next one back, or the next one
                    on, in the log; NONE = none
    slot_place    : int32 (S,)       place of each slot, NONE = free
    slot_moves    : int64 (S,)       offset behind the row that took or freed the slot
    rank          : int64 (S,)       how many metrics the entity reported before this one
    ring          : float64 (S, RING)   newest samples, at index pushed % RING
    pushed        : int64 (S,)       samples ever pushed
    newest        : float64 (S,)     value in the entity's newest event, NaN = missing there
    clock         : int64 (CLOCK,)
    used          : int64 (USED,)
    """

    place_of: Int32s
    owner: Int32s
    slots: Int32s
    first_ms: Int64s
    newest_ms: Int64s
    events: Int64s
    moves: Int64s
    interval_ms: Floats
    pause_ms: Floats
    ahead_ms: Int64s
    ahead_rows: Int64s
    seen_at: Int64s
    seen_clock_ms: Int64s
    reported: Int64s
    surplus: Int64s
    older: Int32s
    newer: Int32s
    slot_place: Int32s
    slot_moves: Int64s
    rank: Int64s
    ring: Floats
    pushed: Int64s
    newest: Floats
    clock: Int64s
    used: Int64s


class Releases(NamedTuple):
    """Who was dropped, in the order of the rows.

    used       : int64 (1,)       how many
    row        : int64 (K,)       it was dropped before this row
    place      : int32 (K,)
    owner      : int32 (K,)       its name
    reason     : int64 (K,)       EXPIRED ... FORGOTTEN
    newest_ms  : int64 (K,)       its newest event time
    slots      : int32 (K, M)     its slots
    slot_moves : int64 (K, M)     their slot_moves before
    """

    used: Int64s
    row: Int64s
    place: Int32s
    owner: Int32s
    reason: Int64s
    newest_ms: Int64s
    slots: Int32s
    slot_moves: Int64s


_I4S, _I8S, _F8S = types.int32[::1], types.int64[::1], types.float64[::1]
_I4SS, _I8SS, _F8SS = types.int32[:, ::1], types.int64[:, ::1], types.float64[:, ::1]
PLACES = group(
    Places, _I4S, _I4S, _I4SS, _I8S, _I8S, _I8S, _I8S, _F8S, _F8S, _I8S, _I8S, _I8S, _I8S, _I8S,
    _I8S, _I4S, _I4S, _I4S, _I8S, _I8S, _F8SS, _I8S, _F8S, _I8S, _I8S
)  # fmt: skip
RELEASES = group(Releases, _I8S, _I8S, _I4S, _I4S, _I8S, _I8S, _I4SS, _I8SS)
"""numba types, for the signatures of kernels."""


@njit(cache=True, forceinline=True)
def forget_after_ms(first_ms: int, newest_ms: int, most_ms: int) -> int:
    """Return after which silence an entity is forgotten, by its own rows; at most ``most_ms``."""
    if most_ms >= NEVER_MS:
        return most_ms
    return min(most_ms, max(LEAST_FORGET_MS, LIFETIMES * (newest_ms - first_ms)))


@njit(cache=True)
def _is_expired(m: Places, place: int, most_ms: int) -> bool:
    """Whether an entity has been silent for so long that its place is reclaimed.

    The silence counts from its newest event time, and from where the clock was at its last record:
    an entity whose own clock is behind all others is not dropped while it reports.
    """
    if m.owner[place] < 0:
        return False
    after_ms = forget_after_ms(m.first_ms[place], m.newest_ms[place], most_ms)
    since_ms = max(m.newest_ms[place], m.seen_clock_ms[place])
    return bool(m.clock[CLOCK_MS] - since_ms > RECLAIM * after_ms)


@njit(cache=True)
def _append(m: Places, place: int) -> None:
    """Put a place at the end of the order of newest records."""
    newest = m.used[NEWEST]
    m.older[place] = newest
    m.newer[place] = NONE
    if newest >= 0:
        m.newer[newest] = place
    else:
        m.used[OLDEST] = place
    m.used[NEWEST] = place


@njit(cache=True)
def _take_out(m: Places, place: int) -> None:
    """Take a place out of the order of newest records."""
    older, newer = m.older[place], m.newer[place]
    if older >= 0:
        m.newer[older] = newer
    else:
        m.used[OLDEST] = newer
    if newer >= 0:
        m.older[newer] = older
    else:
        m.used[NEWEST] = older
    m.older[place] = NONE
    m.newer[place] = NONE


@njit(cache=True, forceinline=True)
def note_record(m: Places, place: int, offset: int) -> None:
    """Remember the offset of an entity's newest record; no other entity has a newer one."""
    m.seen_at[place] = offset
    if m.used[NEWEST] != place:
        _take_out(m, place)
        _append(m, place)


@njit(cache=True)
def _free_slot(m: Places, slot: int, offset: int) -> None:
    m.slot_place[slot] = NONE
    m.slot_moves[slot] = offset + 1
    m.rank[slot] = 0
    m.pushed[slot] = 0
    m.newest[slot] = 0.0
    m.ring[slot, :] = 0.0
    m.used[TAKEN_SLOTS] -= 1
    m.used[FREE_SLOT] = min(m.used[FREE_SLOT], slot)


@njit(cache=True)
def release(m: Places, log: Releases, row: int, offset: int, place: int, reason: int) -> None:
    """Drop what is remembered of an entity; it loses its place, unless it is FORGOTTEN.

    log : has room for one more
    """
    k = log.used[0]
    log.used[0] = k + 1
    log.row[k] = row
    log.place[k] = place
    log.owner[k] = m.owner[place]
    log.reason[k] = reason
    log.newest_ms[k] = m.newest_ms[place]
    for metric in range(log.slots.shape[1]):
        slot = m.slots[place, metric]
        log.slots[k, metric] = slot
        log.slot_moves[k, metric] = 0
        if slot >= 0:
            log.slot_moves[k, metric] = m.slot_moves[slot]
            _free_slot(m, slot, offset)
        m.slots[place, metric] = NONE
    m.first_ms[place] = 0
    m.newest_ms[place] = 0
    m.events[place] = 0
    m.moves[place] = offset + 1
    m.interval_ms[place] = 0.0
    m.pause_ms[place] = 0.0
    m.ahead_ms[place] = 0
    m.ahead_rows[place] = 0
    m.reported[place] = 0
    m.surplus[place] = 0
    if reason == FORGOTTEN:
        return
    _take_out(m, place)
    m.seen_at[place] = 0
    m.seen_clock_ms[place] = 0
    m.place_of[m.owner[place]] = NONE
    m.owner[place] = NONE
    m.clock[LIVE] -= 1
    m.used[FREE_PLACE] = min(m.used[FREE_PLACE], place)
    if m.clock[FIRST_PLACE] == place:
        m.clock[FIRST_PLACE] = NONE


@njit(cache=True, forceinline=True)
def drop_expired(m: Places, log: Releases, row: int, offset: int, name: int, most_ms: int) -> bool:
    """Once a step of the clock, drop the entities that have been silent for long.

    name    : of the row's own entity, which reports and is not dropped
    returns : False = ``log`` has no room for more; call it again
    """
    step = m.clock[CLOCK_MS] // STEP_MS
    if m.clock[REPORTED] < 2 or step <= m.clock[SWEPT] or most_ms >= NEVER_MS:
        return True
    for place in range(m.used[USED_PLACES]):
        if place != m.place_of[name] and _is_expired(m, place, most_ms):
            if log.used[0] == log.row.shape[0]:
                return False
            release(m, log, row, offset, place, EXPIRED)
    m.clock[SWEPT] = step
    return True


@njit(cache=True)
def _evict(m: Places, log: Releases, row: int, offset: int) -> None:
    """Drop the entity whose last record lies furthest back in the log; O(1)."""
    step = m.clock[CLOCK_MS] // STEP_MS
    if step != m.clock[EVICTION_STEP]:
        m.clock[EVICTION_STEP] = step
        m.clock[EVICTIONS] = 0
    is_reported = m.clock[EVICTIONS] < EVICTIONS_PER_STEP
    m.clock[EVICTIONS] += 1 if is_reported else 0
    reason = EVICTED if is_reported else EVICTED_QUIETLY
    release(m, log, row, offset, int(m.used[OLDEST]), reason)


@njit(cache=True, forceinline=True)
def place_for(m: Places, log: Releases, row: int, offset: int, name: int, max_entities: int) -> int:
    """Return the place of a name, which gets one if it has none.

    returns : NONE = ``log`` or the arrays have no room for it; call it again
    """
    if m.place_of[name] >= 0:
        return int(m.place_of[name])
    while m.clock[LIVE] >= max_entities:
        if log.used[0] == log.row.shape[0]:
            return NONE
        _evict(m, log, row, offset)
    place = m.used[FREE_PLACE]
    while place < m.used[USED_PLACES] and m.owner[place] >= 0:
        place += 1
    m.used[FREE_PLACE] = place
    if place == m.owner.shape[0]:
        return NONE
    m.owner[place] = name
    m.place_of[name] = place
    m.clock[LIVE] += 1
    m.used[USED_PLACES] = max(m.used[USED_PLACES], place + 1)
    is_full = m.clock[LIVE] == m.used[USED_PLACES]
    m.used[FREE_PLACE] = m.used[USED_PLACES] if is_full else place + 1
    _append(m, place)
    return int(place)


@njit(cache=True)
def take_slot(m: Places, place: int, metric: int, offset: int) -> int:
    """Give a metric of an entity a slot; there is room for one."""
    slot = m.used[FREE_SLOT]
    while slot < m.used[USED_SLOTS] and m.slot_place[slot] >= 0:
        slot += 1
    m.used[USED_SLOTS] = max(m.used[USED_SLOTS], slot + 1)
    m.used[TAKEN_SLOTS] += 1
    is_full = m.used[TAKEN_SLOTS] == m.used[USED_SLOTS]
    m.used[FREE_SLOT] = m.used[USED_SLOTS] if is_full else slot + 1
    m.slots[place, metric] = slot
    m.slot_place[slot] = place
    m.slot_moves[slot] = offset + 1
    m.rank[slot] = m.reported[place]
    m.reported[place] += 1
    return int(slot)


@njit(cache=True, forceinline=True)
def advance_clock(m: Places, place: int, time_ms: int, first: bool) -> None:
    """Move the clock by a row that moved its entity.

    first : it is the entity's first row since it got its place

    Twin of this file: tests/reference/places.py::dropped.
    """
    c = m.clock
    if first:
        c[REPORTED] += 1
    if c[REPORTED] == 1 or place == c[FIRST_PLACE] or time_ms > c[FIRST_MS]:
        if place != c[FIRST_PLACE] and c[REPORTED] > 1:
            c[SECOND_MS] = c[FIRST_MS]
        c[FIRST_PLACE] = place
        c[FIRST_MS] = time_ms
    elif time_ms > c[SECOND_MS] or (c[REPORTED] == 2 and first):
        c[SECOND_MS] = time_ms
    if c[REPORTED] == 2 and first:
        c[CLOCK_MS] = c[SECOND_MS]
        c[SWEPT] = c[SECOND_MS] // STEP_MS
    elif c[REPORTED] >= 2:
        c[CLOCK_MS] += min(max(c[SECOND_MS] - c[CLOCK_MS], 0), STEP_MS)
