"""Usual values and spread of the bins around now, by the days before.

Invariant: only days before the one that is judged are read; work is done for the bins around now
and never for a whole day.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import LARGEST, MISSING, decode, median, sort_first
from shared.ensemble.kernels.layout import ALL, BINS, DAYS, KIND, RECENT, SEASONS, WEEK
from shared.ensemble.kernels.season.season_memory import near_of, newest_day, on_its_day
from shared.kernels.clock import is_weekend

FULL = 14
"""Days of the season of all days."""

SAME_KIND = 10
FEW = 3
"""Days that a special season needs."""

LAST = 4
WEEKEND = (2, 3)
"""Saturday and Sunday in days of the week from Thursday, that of 1970-01-01."""

SCARCE = np.array([0.0, 3.0, 2.5, 1.8, 1.5, 1.25, 1.15])
"""Factors on a spread that so few days have told."""


def _ages_of_kind() -> npt.NDArray[np.int64]:
    """Return the ages of the newest days of a day's kind, a row for each day of the week.

    Behind the last one within DAYS follow ages that no day has.
    """
    ages = np.full((7, SAME_KIND), DAYS + 1)
    for weekday in range(7):
        same = [
            age
            for age in range(1, DAYS + 1)
            if (weekday in WEEKEND) == ((weekday - age) % 7 in WEEKEND)
        ]
        ages[weekday, : len(same[:SAME_KIND])] = same[:SAME_KIND]
    return ages


NO_VALUE = -2.0 * LARGEST
"""What MISSING would stand for lies below, all that is a value above."""

AGES_OF_KIND = _ages_of_kind()


@njit(cache=True, error_model="numpy")
def _decode_days(row: Array, day: int, oldest: int, values: Floats) -> int:
    """Decode the days before a day, most recent first; return how many there are, -1 = with gaps.

    row    : int16 (DAYS,), in which every day before is
    oldest : age of the oldest day that counts
    values : float64 (>= DAYS,)  out

    Unsigned places are never counted from the end, so the loops run in vector registers.
    """
    before = (day - 1) % DAYS + 1
    for k in range(before):
        values[k] = decode(row[np.uint64(before - 1 - k)])
    for k in range(before, DAYS):
        values[k] = decode(row[np.uint64(DAYS - 1 + before - k)])
    there = gaps = 0
    for k in range(oldest):
        there += 1 if values[k] > NO_VALUE else 0
    for k in range(there):
        gaps += 1 if values[k] <= NO_VALUE else 0
    return there if gaps == 0 else -1


@njit(cache=True, error_model="numpy")
def _group_days(day: int, n: int, tmp: Floats) -> tuple[int, int, int]:
    """Write the values of each season, where no day is missing between the newest and the oldest.

    n   : days there are, >= 0
    tmp : float64 (>= 5 DAYS,)  the last DAYS hold their values, most recent first

    returns : days of the kind, of the weekday, and recent ones
    """
    values = 4 * DAYS
    for k in range(min(n, FULL)):
        tmp[k] = tmp[values + k]
    n_recent = min(n, LAST)
    for k in range(n_recent):
        tmp[3 * DAYS + k] = tmp[values + k]
    n_week = n // 7
    for k in range(n_week):
        tmp[2 * DAYS + k] = tmp[values + 7 * k + 6]
    ages = AGES_OF_KIND[day % 7]
    n_kind = 0
    while n_kind < SAME_KIND and ages[n_kind] <= n:
        tmp[DAYS + n_kind] = tmp[values + ages[n_kind] - 1]
        n_kind += 1
    return n_kind, n_week, n_recent


@njit(cache=True, error_model="numpy")
def _collect_days(row: Array, day: int, last: int, tmp: Floats) -> tuple[int, int, int, int]:
    """Write the values of each season, whatever days are missing; return how many each has.

    last : newest day of the bin
    """
    weekend = is_weekend(day)
    n_all = n_kind = n_week = n_recent = 0
    newest, oldest = min(day - 1, last), max(day - DAYS, last - DAYS + 1)
    place = newest % DAYS
    for d in range(newest, oldest - 1, -1):
        code = row[place]
        place = place - 1 if place > 0 else DAYS - 1
        same_weekday = (day - d) % 7 == 0
        told = n_all == FULL and n_kind == SAME_KIND and not same_weekday
        if told or code == MISSING:
            continue
        x = decode(code)
        if n_all < FULL:
            tmp[n_all] = x
            n_all += 1
        if n_recent < LAST:
            tmp[3 * DAYS + n_recent] = x
            n_recent += 1
        if n_kind < SAME_KIND and is_weekend(d) == weekend:
            tmp[DAYS + n_kind] = x
            n_kind += 1
        if same_weekday:
            tmp[2 * DAYS + n_week] = x
            n_week += 1
    return n_all, n_kind, n_week, n_recent


@njit(cache=True, error_model="numpy")
def digest(m: Record, bin_: int, day: int, at: int, tmp: Floats) -> None:
    """Write usual values and spread of a bin on a day into place ``at`` of the ring.

    tmp  : float64 (>= 5 DAYS,)  scratch

    Usual are medians over the days of each season. Spread is the larger of 1.4826 MAD and of the
    80 % quantile of the absolute deviations over 1.28: both are the standard deviation of normal
    values, and the first has the breakdown point of a half (Rousseeuw, Croux, "Alternatives to the
    Median Absolute Deviation", 1993). Few days tell too small a spread: SCARCE.
    Twin: tests/reference/season.py::digest. Cost: O(DAYS).
    """
    usual = m["baselines"]
    for c in range(SEASONS):
        usual[c, at] = np.nan
    m["median_spread"][at] = np.nan
    m["quantile_spread"][at] = np.nan
    last = newest_day(m, bin_, day)
    if last < 0 or day - last > DAYS:
        return
    row = m["memory"][bin_]
    there = -1
    if last == day or last == day - 1:
        there = _decode_days(row, day, DAYS - (last + 1 - day), tmp[4 * DAYS :])
    if there >= 0:
        n_all = min(there, FULL)
        n_kind, n_week, n_recent = _group_days(day, there, tmp)
    else:
        n_all, n_kind, n_week, n_recent = _collect_days(row, day, last, tmp)
    if n_all == 0:
        return
    u = median(tmp, n_all)
    usual[ALL, at] = u
    if n_kind >= 2:
        usual[KIND, at] = median(tmp[DAYS : 2 * DAYS], n_kind)
    if n_week >= FEW:
        usual[WEEK, at] = median(tmp[2 * DAYS : 3 * DAYS], n_week)
    if n_recent >= FEW:
        usual[RECENT, at] = median(tmp[3 * DAYS : 4 * DAYS], n_recent)
    season = m["season"]
    low, n = 0, n_all
    if season == KIND and n_kind >= 2:
        low, n, u = DAYS, n_kind, np.float64(usual[KIND, at])
    elif season == WEEK and n_week >= FEW:
        low, n, u = 2 * DAYS, n_week, np.float64(usual[WEEK, at])
    if (
        n == 1
    ):  # one day tells nothing about its spread: what values change by, or a part of their range
        m["median_spread"][at] = max(m["step"], 0.1 * (m["range_high"] - m["range_low"]))
        m["quantile_spread"][at] = m["median_spread"][at]
        return
    work = tmp[4 * DAYS :]
    for k in range(n):
        work[k] = abs(tmp[low + k] - u)
    sort_first(work, n)
    scarce = SCARCE[n] if n < SCARCE.shape[0] else 1.0
    m["median_spread"][at] = scarce * 1.4826 * (0.5 * (work[(n - 1) // 2] + work[n // 2]))
    m["quantile_spread"][at] = scarce * work[min(n - 1, int(0.8 * n))] / 1.28


@njit(cache=True, error_model="numpy")
def turn(m: Record, day: int, bin_: int, tmp: Floats) -> None:
    """Bring the ring of digested bins to a new bin; a step costs one bin, a jump the whole ring."""
    width, near = m["width"], near_of(m["width"])
    step = (day - m["day"]) * BINS + bin_ - m["bin"]
    first = 0
    size = 2 * near + 1
    if m["bin_n"] > 0 and step == width:
        for k in range(size - 1):
            for c in range(SEASONS):
                m["baselines"][c, k] = m["baselines"][c, k + 1]
            m["median_spread"][k] = m["median_spread"][k + 1]
            m["quantile_spread"][k] = m["quantile_spread"][k + 1]
        first = size - 1
    digest_ring(m, day, bin_, first, tmp)
    if math.isnan(m["baselines"][ALL, near]) and m["samples"] > 0:
        _borrow(m, day, bin_, near, tmp)


@njit(cache=True, error_model="numpy")
def digest_ring(m: Record, day: int, bin_: int, first: int, tmp: Floats) -> None:
    """Write the ring of digested bins around a bin, from place ``first`` on."""
    near = near_of(m["width"])
    for k in range(first, 2 * near + 1):
        d, b = on_its_day(day, bin_ + (k - near) * m["width"])
        digest(m, b, d, k, tmp)


@njit(cache=True, error_model="numpy")
def _borrow(m: Record, day: int, bin_: int, at: int, tmp: Floats) -> None:
    """Take the nearest bin within two hours that has been seen, for one that has not."""
    for k in range(1, 25):
        for sign in (-1, 1):
            b = bin_ + sign * k
            if 0 <= b < BINS and m["written"][b] > 0:
                digest(m, b, day, at, tmp)
                if not math.isnan(m["baselines"][ALL, at]):
                    return
