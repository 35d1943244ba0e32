"""When an entity or a metric usually reports, by bin and day, and which silences recur.

One bit per day and bin of the local day remembers whether rows came.

Invariant: a silence is usual only where at least two earlier days of its kind were silent then too.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.kernels.clock import is_weekend
from shared.kernels.units import DAY_MS
from shared.quality.kernels.quality_arguments import Record
from shared.quality.kernels.quality_layout import DAYS

LOOK_BACK = 14
"""Days that a time of day is compared with, those of its kind only: working days, or weekends."""

LEAST_DAYS = 2
SELDOM = 1 / 3
"""Share of the days on which it may have reported nevertheless."""

LONGEST_MS = 10 * DAY_MS
"""Longest silence that is examined."""


@njit(cache=True)
def mark_present(presence: Record, local_ms: int) -> None:
    """Remember that a row came."""
    day = local_ms // DAY_MS
    bin_ = (local_ms % DAY_MS) * presence["rows"].shape[0] // DAY_MS
    last = presence["day"][bin_] - 1
    bits = presence["rows"][bin_]
    if last < 0 or day - last >= DAYS:
        bits = np.uint32(0)
    else:
        for d in range(last + 1, day):
            bits &= ~(np.uint32(1) << np.uint32(d % DAYS))
    if day >= last:
        presence["day"][bin_] = day + 1
    presence["rows"][bin_] = bits | (np.uint32(1) << np.uint32(day % DAYS))


@njit(cache=True)
def clear_presence(presence: Record) -> None:
    """Forget all rows."""
    for bin_ in range(presence["rows"].shape[0]):
        presence["rows"][bin_] = 0
        presence["day"][bin_] = 0


@njit(cache=True)
def _has_rows(presence: Record, first: int, last: int) -> bool:
    """Whether a row came in any of the local bins first to last, counted since 1970."""
    bins = presence["rows"].shape[0]
    for local_bin in range(first, last + 1):
        day, bin_ = local_bin // bins, local_bin % bins
        newest = presence["day"][bin_] - 1
        bit = (presence["rows"][bin_] >> np.uint32(day % DAYS)) & np.uint32(1)
        if day <= newest and newest - day < DAYS and bit:
            return True
    return False


@njit(cache=True)
def is_usually_silent(presence: Record, first_ms: int, local_bin: int, near: int) -> bool:
    """Whether the entity usually does not report about that time.

    first_ms  : local time of its first row
    local_bin : bin since 1970, local
    near      : bins to either side of it that are checked too
    """
    bins = presence["rows"].shape[0]
    weekend = is_weekend(local_bin // bins)
    days = with_rows = weeks = weeks_with_rows = 0
    for age in range(1, DAYS - 1):
        then = local_bin - age * bins
        if (then - near) * (DAY_MS // bins) < first_ms:
            break
        weekly = age % 7 == 0
        same_kind = age <= LOOK_BACK and is_weekend(then // bins) == weekend
        if not weekly and not same_kind:
            continue
        came = _has_rows(presence, then - near, then + near)
        if same_kind:
            days += 1
            with_rows += came
        if weekly:
            weeks += 1
            weeks_with_rows += came
    if weeks >= LEAST_DAYS and weeks_with_rows == 0:
        return True
    return days >= LEAST_DAYS and with_rows <= SELDOM * days


@njit(cache=True)
def usual_silence(
    presence: Record, first_ms: int, since_ms: int, now_ms: int, interval_ms: float
) -> int:
    """Return how much of a silence recurs, in ms.

    presence         : of an entity or a metric
    first_ms         : local time of its first row
    since_ms, now_ms : local times of the silence's ends
    Cost             : O(bins of the silence x bins of two intervals x DAYS), at most LONGEST_MS

    The edges of a usual silence are known by a bin and an interval only; that much counts as part
    of it.
    """
    bins = presence["rows"].shape[0]
    bin_ms = DAY_MS // bins
    near = math.ceil(interval_ms / bin_ms) if interval_ms >= bin_ms / 2.0 else 0
    if near > bins // 2:
        return 0
    end_ms = min(now_ms, since_ms + LONGEST_MS)
    silent_ms, counted_ms = 0, since_ms
    for local_bin in range(since_ms // bin_ms + 1, end_ms // bin_ms + 1):
        if is_usually_silent(presence, first_ms, local_bin, near):
            from_ms = max((local_bin - near - 1) * bin_ms, counted_ms)
            counted_ms = min((local_bin + near + 2) * bin_ms, end_ms)
            silent_ms += max(counted_ms - from_ms, 0)
    return silent_ms


@njit(cache=True)
def end_of_silence(
    presence: Record, first_ms: int, since_ms: int, limit_ms: int, interval_ms: float
) -> int:
    """Return when a silence has lasted for longer than its limit, silences that recur not counted.

    first_ms, since_ms : local times; so is what is returned
    """
    end_ms = since_ms + limit_ms
    while end_ms - since_ms < LONGEST_MS:
        silent_ms = usual_silence(presence, first_ms, since_ms, end_ms, interval_ms)
        later_ms = since_ms + limit_ms + silent_ms
        if later_ms <= end_ms:
            break
        end_ms = later_ms
    return end_ms
