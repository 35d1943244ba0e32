"""When an entity usually reports, by bin and day, and which silences recur.

One bit per day and bin of the local day remembers whether rows came.

Invariant: a silence is usual only where at least two earlier days of its kind were silent then too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from shared.quality.kernels.quality_layout import BINS, DAYS

DAY_MS = 86_400_000
BIN_MS = DAY_MS // BINS
LOOK_BACK = 14
"""Days that a time of day is compared with, those of its kind only: working days, or weekends."""

LEAST_DAYS = 2
SELDOM = 1 / 3
"""Share of the days on which it may have reported nevertheless."""

LONGEST_CELL = BINS // 2
LONGEST_MS = 10 * DAY_MS
"""Longest silence that is examined."""

Record = Any


@njit(cache=True)
def is_weekend(day: int) -> bool:
    """Whether a day since 1970 is a Saturday or Sunday."""
    return (day + 3) % 7 >= 5


@njit(cache=True)
def mark_present(state: Record, local_ms: int) -> None:
    """Remember that a row came."""
    day, bin_ = local_ms // DAY_MS, (local_ms % DAY_MS) // BIN_MS
    last = state["present_day"][bin_] - 1
    bits = state["present"][bin_]
    if last < 0 or day - last >= DAYS:
        bits = np.uint32(0)
    else:
        for d in range(last + 1, day):
            bits &= ~(np.uint32(1) << np.uint32(d % DAYS))
    if day >= last:
        state["present_day"][bin_] = day + 1
    state["present"][bin_] = bits | (np.uint32(1) << np.uint32(day % DAYS))


@njit(cache=True)
def _was_there(state: Record, day: int, first: int, last: int) -> bool:
    """Whether a row came on a day in any of the bins first to last - 1."""
    for bin_ in range(first, last):
        newest = state["present_day"][bin_] - 1
        bit = (state["present"][bin_] >> np.uint32(day % DAYS)) & np.uint32(1)
        if day <= newest and newest - day < DAYS and bit:
            return True
    return False


@njit(cache=True)
def is_usually_silent(state: Record, local_bin: int, cell: int) -> bool:
    """Whether the entity usually does not report then.

    local_bin : bin since 1970, local
    cell      : bins that are checked together
    """
    day, bin_ = local_bin // BINS, local_bin % BINS
    first = bin_ - bin_ % cell
    last = min(first + cell, BINS)
    weekend = is_weekend(day)
    days = there = weeks = there_weeks = 0
    for age in range(1, DAYS):
        d = day - age
        if d * DAY_MS + first * BIN_MS < state["first_ms"]:
            break
        weekly = age % 7 == 0
        kind = age <= LOOK_BACK and is_weekend(d) == weekend
        if not weekly and not kind:
            continue
        came = _was_there(state, d, first, last)
        if kind:
            days += 1
            there += came
        if weekly:
            weeks += 1
            there_weeks += came
    if weeks >= LEAST_DAYS and there_weeks == 0:
        return True
    return days >= LEAST_DAYS and there <= SELDOM * days


@njit(cache=True)
def usual_silence(state: Record, since_ms: int, now_ms: int, interval_ms: float) -> int:
    """Return how much of a silence recurs, in ms.

    since_ms, now_ms : local times of its ends
    Cost             : O(bins of the silence x LOOK_BACK), at most LONGEST_MS of it
    """
    cell = max(1, math.ceil(2.0 * interval_ms / BIN_MS))
    if cell > LONGEST_CELL:
        return 0
    silent = 0
    for local_bin in range(since_ms // BIN_MS + 1, min(now_ms, since_ms + LONGEST_MS) // BIN_MS):
        if is_usually_silent(state, local_bin, cell):
            silent += BIN_MS
    return silent


@njit(cache=True)
def end_of_silence(state: Record, since_ms: int, limit_ms: int, interval_ms: float) -> int:
    """Return when a silence has lasted for longer than its limit, silences that recur not counted.

    since_ms : local time; so is what is returned
    """
    end_ms = since_ms + limit_ms
    while end_ms - since_ms < LONGEST_MS:
        later_ms = since_ms + limit_ms + usual_silence(state, since_ms, end_ms, interval_ms)
        if later_ms == end_ms:
            break
        end_ms = later_ms
    return end_ms
