"""The clock of one entity: its usual interval, its local time, and rows too far ahead of it.

Invariant: what is usual is robust against single pauses; a row alone never moves the clock by more
           than is usual.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.kernels.units import DAY_MS

Ints = npt.NDArray[np.int64]

AHEAD_INTERVALS = 24.0
"""Usual intervals that a row is ahead by at most: a day of hourly data, too."""

CONFIRMED = 3
"""Rows that must agree, one after the other, before a clock that was ahead is believed."""

PAUSE_MEMORY_MS = 20.0 * DAY_MS
LONGEST_PAUSE_MS = 30.0 * DAY_MS


@njit(cache=True)
def follow_interval(interval: float, pause: float) -> float:
    """Return the time-weighted median of the pauses: half of the time lies in longer ones.

    It is tracked in logarithms.

    interval, pause : ms, > 0; interval 0 = not known yet
    """
    if interval <= 0.0:
        return pause
    ratio = min(pause, 4.0 * interval) / interval
    most = min(0.15 * ratio, 0.1)
    return interval * math.exp(min(max(math.log(pause / interval), -most), most))


@njit(cache=True)
def follow_pause(longest: float, pause: float, interval: float) -> float:
    """Return the longest usual pause, in ms; it fades with the time that rows cover."""
    faded = longest * math.exp(-min(pause, 4.0 * interval) / PAUSE_MEMORY_MS)
    return max(faded, min(pause, LONGEST_PAUSE_MS))


@njit(cache=True)
def furthest(interval: float, pause: float) -> float:
    """Return how far ahead of its entity a row may lie, in ms."""
    return max(DAY_MS, AHEAD_INTERVALS * max(interval, 1.0), 2.0 * pause)


@njit(cache=True)
def agrees(time_ms: int, ahead_ms: int, interval: float) -> bool:
    """Whether a row that is ahead agrees with the one before that was."""
    return bool(
        time_ms > ahead_ms
        and time_ms - ahead_ms < max(DAY_MS, AHEAD_INTERVALS * max(interval, 1.0))
    )


@njit(cache=True)
def is_weekend(day: int) -> bool:
    """Whether a day since 1970-01-01, a Thursday, is a Saturday or Sunday."""
    return (day + 3) % 7 >= 5


@njit(cache=True)
def local_of(time_ms: int, changes: Ints, shifts: Ints) -> int:
    """Return the local time of an event time, in ms.

    changes, shifts : int64 (k,)  increasing UTC ms from which on shifts[k] ms hold; before the
                      first, shifts[0]
    """
    low, high = 0, changes.shape[0]
    while low < high:
        middle = (low + high) // 2
        if changes[middle] <= time_ms:
            low = middle + 1
        else:
            high = middle
    local: int = time_ms + shifts[max(low - 1, 0)]
    return local
