"""Largest and smallest values of a time of day on each day before, and what recurs of them.

Invariant: only days before the one that is judged are read.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import MISSING, decode, sort_first
from shared.ensemble.kernels.layout import ALL, DAYS, KIND, WEEK
from shared.ensemble.kernels.season.digest import FULL, LAST, SAME_KIND
from shared.ensemble.kernels.season.season_memory import near_of, newest_day, on_its_day
from shared.kernels.clock import is_weekend

EXTREMES = DAYS + DAYS // 4
"""Size of an array of ``extremes``: a number for each day, and behind them room for its code."""

HIGH_AT = 300
LOW_AT = HIGH_AT + EXTREMES
SCRATCH = LOW_AT + EXTREMES
"""Size of a metric's scratch, and the places in it of ``extremes``, behind all other uses of it."""

NONE_LOW, NONE_HIGH = np.int16(MISSING), np.int16(-MISSING - 1)
"""Codes that no maximum and no minimum of codes keeps."""


@njit(cache=True, error_model="numpy")
def extremes_of(tmp: Floats) -> tuple[Floats, Floats]:
    """Return the places of the scratch for the largest and smallest value of each day.

    tmp : float64 (SCRATCH,)
    """
    return tmp[HIGH_AT:LOW_AT], tmp[LOW_AT:SCRATCH]


@njit(cache=True, error_model="numpy")
def extremes(m: Record, day: int, bin_: int, high: Floats, low: Floats) -> int:
    """Largest and smallest value within a quarter of an hour of a bin, on each day before.

    Most recent first.

    high, low : float64 (EXTREMES,)  out; NaN where a day has none
    returns   : days with values
    Cost      : O(DAYS RING)
    """
    width, near = m["width"], near_of(m["width"])
    highest, lowest = high.view(np.int16)[4 * DAYS :], low.view(np.int16)[4 * DAYS :]
    for k in range(DAYS):
        highest[k] = NONE_LOW
        lowest[k] = NONE_HIGH
    for k in range(-near, near + 1):
        d, b = on_its_day(day, bin_ + k * width)
        last = newest_day(m, b, d)
        if last < 0:
            continue
        if d == day and (last == day or last == day - 1):
            _widen(m["memory"][b], day % DAYS, last == day, highest, lowest)
        else:
            _widen_by_day(m["memory"][b], d, last, day - d, highest, lowest)
    before = (day - 1) % DAYS + 1
    _decode_extremes(highest, lowest, before - 1, 0, before, high, low)
    _decode_extremes(highest, lowest, DAYS - 1 + before, before, DAYS, high, low)
    found = 0
    for k in range(DAYS):
        found += 1 if highest[k] > NONE_LOW else 0
    return found


@njit(cache=True, error_model="numpy")
def _widen(row: Array, today: int, has_today: bool, highest: Array, lowest: Array) -> None:
    """Widen the ranges of days by the codes of a bin that has every day before in its own place.

    row             : int16 (DAYS,)
    today           : place of the day itself
    has_today       : whether it is there, where the oldest day was
    highest, lowest : int16 (DAYS,)  codes, in the places of their days

    The loop runs in vector registers because all its numbers have two bytes; what numba's minimum
    and maximum return has eight.
    """
    top, bottom = highest[today], lowest[today]
    for k in range(DAYS):
        code = row[k]
        highest[k] = np.int16(max(highest[k], code))
        lowest[k] = np.int16(min(lowest[k], code if code != NONE_LOW else NONE_HIGH))
    if has_today:
        highest[today], lowest[today] = top, bottom


@njit(cache=True, error_model="numpy")
def _widen_by_day(
    row: Array, day: int, last: int, shift: int, highest: Array, lowest: Array
) -> None:
    """Widen the ranges of days by the codes of any bin, day by day.

    day   : of the bin
    last  : newest one that it has
    shift : days that it lies before the one whose ranges these are
    """
    for d in range(max(day - DAYS, last - DAYS + 1), min(day - 1, last) + 1):
        code, place = row[d % DAYS], (d + shift) % DAYS
        if code != NONE_LOW:
            highest[place] = max(highest[place], code)
            lowest[place] = min(lowest[place], code)


@njit(cache=True, error_model="numpy")
def _decode_extremes(
    highest: Array, lowest: Array, place: int, first: int, stop: int, high: Floats, low: Floats
) -> None:
    """Decode the ranges of days from one age to another, whose places fall from ``place`` - age."""
    for k in range(first, stop):
        at = np.uint64(place - k)
        there = highest[at] > NONE_LOW
        high[k] = decode(highest[at]) if there else np.nan
        low[k] = decode(lowest[at]) if there else np.nan


@njit(cache=True, error_model="numpy")
def days_of(season: int) -> int:
    """Return the days of a season at most."""
    if season == ALL:
        return FULL
    return SAME_KIND if season == KIND else LAST


@njit(cache=True, error_model="numpy")
def belongs(season: int, day: int, age: int, weekend: bool) -> bool:
    """Whether the day ``age`` days before is one of a season.

    weekend : whether the day itself is of a weekend
    """
    if season == WEEK:
        return age % 7 == 0
    return season != KIND or is_weekend(day - age) == weekend


@njit(cache=True, error_model="numpy")
def recurring(
    values: Floats, day: int, season: int, quantile: float, tmp: Floats
) -> tuple[float, int]:
    """Quantile of a day's figure over the days of a season, and how many days those are.

    values : float64 (DAYS,)  most recent first, NaN = none
    """
    weekend = is_weekend(day)
    n = 0
    most = days_of(season)
    for age in range(1, DAYS + 1):
        x = values[age - 1]
        if math.isnan(x) or not belongs(season, day, age, weekend):
            continue
        tmp[n] = x
        n += 1
        if n >= most:
            break
    if n == 0:
        return np.nan, 0
    sort_first(tmp, n)
    return tmp[min(n - 1, int(quantile * n))], n
