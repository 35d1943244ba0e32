"""When rows and values usually come: gaps, absences, repeated rows.

Invariant: silence that recurs is expected; nothing is said before a day has been seen.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.entity.row import Reported
from shared.ensemble.kernels.layout import BIN_MS, BINS, DAY_MS, DAYS, HOUR_MS
from shared.ensemble.kernels.season import is_weekend


@njit(cache=True)
def expected_rows(e: Record, local_before: int, local_now: int) -> float:
    """Return the rows that one would expect between two rows; silence that recurs expects none.

    local_before, local_now : local ms of both

    Per bin of the gap, at most three days of them: the share of the last days of the same kind
    (working day, weekend) on which rows came. Cost: O(bins of the gap).
    """
    first, last = local_before // BIN_MS + 1, local_now // BIN_MS
    last = min(last, first + 3 * BINS)
    expected = 0.0
    for place in range(first, last):
        day, bin_ = place // BINS, place % BINS
        newest = e["present_day"][bin_] - 1
        weekend = is_weekend(day)
        days = there = 0
        for age in range(1, 15):
            d = day - age
            if d * DAY_MS + bin_ * BIN_MS < e["first_ms"] or is_weekend(d) != weekend:
                continue
            if d > newest:
                days += 1
                continue
            if newest - d >= DAYS:
                break
            days += 1
            there += (e["present"][bin_] >> np.uint32(d % DAYS)) & np.uint32(1)
        if days > 0:
            expected += there / days
    return expected


@njit(cache=True)
def mark_present(e: Record, local_ms: int) -> None:
    """Remember that rows came in this bin of this day."""
    day, bin_ = local_ms // DAY_MS, (local_ms % DAY_MS) // BIN_MS
    last = e["present_day"][bin_] - 1
    bits = e["present"][bin_]
    if last < 0 or day - last >= DAYS:
        bits = np.uint32(0)
    else:
        for d in range(last + 1, day):
            bits &= ~(np.uint32(1) << np.uint32(d % DAYS))
    if day >= last:
        e["present_day"][bin_] = day + 1
    e["present"][bin_] = bits | (np.uint32(1) << np.uint32(day % DAYS))


@njit(cache=True)
def is_absent(m: Record, local_ms: int) -> bool:
    """Say whether a metric that its entity's rows leave out has been missing for long.

    Asked once an hour: bins since its newest value add the share of the last week's days on which
    it
    came then; at twelve expected values it is missing, and said once.
    """
    m["absent_hour"] = local_ms // HOUR_MS
    if m["absent_reported"] == 1 or m["live_ms"] < DAY_MS:
        return False
    day, bin_ = local_ms // DAY_MS, (local_ms % DAY_MS) // BIN_MS
    newest = np.int64(m["day"]) * BINS + m["bin"]
    for back in range(1, 13):
        d, b = day, bin_ - back
        if b < 0:
            b += BINS
            d -= 1
        if d * BINS + b <= newest:
            break  # it came then
        last = m["written"][b] - 1
        if last < 0:
            continue
        days = there = 0
        for age in range(1, 8):
            if d - age <= last and last - (d - age) < DAYS:
                there += 1 if m["memory"][b, (d - age) % DAYS] != -32768 else 0
            days += 1
        m["expected_absent"] += there / days
    if m["expected_absent"] >= 12.0:
        m["absent_reported"] = 1
        return True
    return False


@njit(cache=True)
def is_duplicate(of: Reported, values: Floats, t: int) -> bool:
    """Whether a row repeats time and values of the newest one.

    values : float64 (M,)  NaN = missing
    """
    same = False
    for j in range(of.n):
        x, m = values[of.columns[j]], of.metrics[of.slots[j]]
        if math.isnan(x):
            continue
        if m["seen"] == 0 or m["last_ms"] != t or m["newest"] != bounded(x):
            return False
        same = True
    return same
