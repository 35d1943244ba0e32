"""The clock of one entity: its usual interval, its local time, and rows too far ahead of it.

Invariant: the usual interval is robust against single gaps; a single row never moves the clock by
           more than is usual.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.kernels.units import DAY_MS
from shared.kernels.wire import group

Ints = npt.NDArray[np.int64]


class Zone(NamedTuple):
    """A time zone.

    changes : int64 (k,)  increasing UTC ms from which on a shift holds
    shifts  : int64 (k,)  the shifts, in ms
    """

    changes: Ints
    shifts: Ints


ZONE = group(Zone, types.int64[::1], types.int64[::1])
UTC = Zone(np.full(1, np.iinfo(np.int64).min), np.zeros(1, np.int64))
"""The zone without changes."""

LEAST_AHEAD_MS = 1.5 * DAY_MS
"""Least distance of a row far ahead: rows of daily data that come a little late are not."""

AHEAD_INTERVALS = 24.0
"""Usual intervals that a row is ahead by at most: a day of hourly data, too."""

CONFIRMED = 3
"""Rows that must agree, one after the other, before a clock that was ahead is believed."""

GAP_MEMORY_MS = 20.0 * DAY_MS
LONGEST_GAP_MS = 30.0 * DAY_MS


@njit(cache=True)
def follow_interval(interval: float, gap: float) -> float:
    """Return the time-weighted median of the gaps between rows.

    interval, gap : ms, > 0; interval 0 = not known yet

    Half of the time lies in longer gaps. Tracked in logarithms, by a step towards each gap that
    grows with its share of the time (Robbins, Monro, "A Stochastic Approximation Method", 1951).
    """
    if interval <= 0.0:
        return gap
    ratio = min(gap, 4.0 * interval) / interval
    most = min(0.15 * ratio, 0.1)
    return interval * math.exp(min(max(math.log(gap / interval), -most), most))


@njit(cache=True)
def follow_longest_gap(longest: float, gap: float, interval: float) -> float:
    """Return the longest usual gap, in ms; it fades with the time that rows cover."""
    faded = longest * math.exp(-min(gap, 4.0 * interval) / GAP_MEMORY_MS)
    return max(faded, min(gap, LONGEST_GAP_MS))


@njit(cache=True)
def furthest(interval: float, gap: float) -> float:
    """Return how far ahead of its entity a row may lie, in ms."""
    return max(LEAST_AHEAD_MS, AHEAD_INTERVALS * max(interval, 1.0), 2.0 * gap)


@njit(cache=True)
def agrees(time_ms: int, ahead_ms: int, interval: float) -> bool:
    """Whether a row that is ahead agrees with the one before that was."""
    reach = max(LEAST_AHEAD_MS, AHEAD_INTERVALS * max(interval, 1.0))
    return bool(time_ms > ahead_ms and time_ms - ahead_ms < reach)


@njit(cache=True)
def is_weekend(day: int) -> bool:
    """Whether a day since 1970-01-01, a Thursday, is a Saturday or Sunday."""
    return (day + 3) % 7 >= 5


@njit(cache=True)
def local_of(time_ms: int, zone: Zone) -> int:
    """Return the local time of an event time, in ms; before the first change its shift holds."""
    low, high = 0, zone.changes.shape[0]
    while low < high:
        middle = (low + high) // 2
        if zone.changes[middle] <= time_ms:
            low = middle + 1
        else:
            high = middle
    local: int = time_ms + zone.shifts[max(low - 1, 0)]
    return local
