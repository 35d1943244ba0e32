"""Season: what the same time of day has shown on the days before.

Invariant: only days before the one that is judged are read; work is done for the bins around now
and never for a whole day.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import MISSING, decode, encode, median, sort_first
from shared.ensemble.kernels.layout import (
    ALL,
    BIN_MS,
    BINS,
    DAYS,
    KIND,
    NEAR,
    RECENT,
    SEASONS,
    WEEK,
)
from shared.kernels.clock import is_weekend
from shared.kernels.units import DAY_MS

FULL = 14
"""Days of the season of all days."""

SAME_KIND = 10
FEW = 3
"""Days that a special season needs."""

LAST = 4
WRITTEN = 65_535
"""Days that a bin's newest day can be told apart from."""

HIGH_AT = 300
LOW_AT = HIGH_AT + DAYS
SCRATCH = LOW_AT + DAYS
"""Size of a metric's scratch, and the places in it of ``extremes``, behind all other uses of it."""

SCARCE = np.array([0.0, 3.0, 2.5, 1.8, 1.5, 1.25, 1.15])
"""Factors on a spread that so few days have told."""


@njit(cache=True, error_model="numpy")
def width_of(interval_ms: float) -> int:
    """Bins per sample: a divisor of the day."""
    bins = interval_ms / 300_000.0
    for width in (288, 144, 96, 72, 48, 36, 24, 18, 12, 9, 8, 6, 4, 3, 2):
        if bins >= 0.8 * width:
            return width
    return 1


@njit(cache=True, error_model="numpy")
def near_of(width: int) -> int:
    """Samples on either side that count as about the same time."""
    if width == 1:
        return NEAR
    if width == 2:
        return 2
    return 1


@njit(cache=True, error_model="numpy")
def first_day_of(m: Record, shift_ms: int) -> int:
    """Return a metric's first local day; one that began after noon does not count.

    shift_ms : local time minus UTC
    """
    return int((m["origin_ms"] + shift_ms + DAY_MS // 2) // DAY_MS)


@njit(cache=True, error_model="numpy")
def is_new_kind(first_day: int, day: int) -> bool:
    """Whether a day is of a kind, working day or weekend, that fewer than two before it were of.

    At least two days of the other kind came before.

    first_day : of the metric, local
    """
    first = max(first_day, day - 7)
    seen = 0
    for before in range(first, day):
        seen += 1 if is_weekend(before) == is_weekend(day) else 0
    return seen < 2 and day - first - seen >= 2


@njit(cache=True, error_model="numpy")
def bin_of(local_ms: int, width: int) -> int:
    """Return the first bin of a sample that is ``width`` bins wide, at a local time."""
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    return bin_ - bin_ % width


@njit(cache=True, error_model="numpy")
def on_its_day(day: int, bin_: int) -> tuple[int, int]:
    """Return day and bin of a bin that may lie up to a day before or after a day."""
    if bin_ < 0:
        return day - 1, bin_ + BINS
    if bin_ >= BINS:
        return day + 1, bin_ - BINS
    return day, bin_


@njit(cache=True, error_model="numpy")
def newest_day(m: Record, bin_: int, day: int) -> int:
    """Return the day that a bin was last written, -1 = never; it is kept in two bytes.

    day : any within 32,767 days of it
    """
    kept = int(m["written"][bin_])
    if kept == 0:
        return -1
    return kept - 1 + (day - kept + 1 + WRITTEN // 2) // WRITTEN * WRITTEN


@njit(cache=True, error_model="numpy")
def write(m: Record, bin_: int, day: int, mean: float) -> None:
    """Remember the mean of a bin so far; days left out since the bin's last one are missing."""
    row = m["memory"][bin_]
    last = newest_day(m, bin_, day)
    if last < 0 or day - last >= DAYS:
        for k in range(DAYS):
            row[k] = MISSING
    else:
        for d in range(last + 1, day):
            row[d % DAYS] = MISSING
    if last <= day or last < 0:
        m["written"][bin_] = day % WRITTEN + 1
        row[day % DAYS] = encode(mean)
    elif last - day < DAYS:
        row[day % DAYS] = encode(mean)  # a late row


@njit(cache=True, error_model="numpy")
def read(m: Record, bin_: int, day: int) -> int:
    """Code of a bin on a day; MISSING where there is none."""
    last = newest_day(m, bin_, day)
    if last < 0 or day > last or last - day >= DAYS:
        return MISSING
    code: int = m["memory"][bin_, day % DAYS]
    return code


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

    high, low : float64 (DAYS,)  out; NaN where a day has none
    returns   : days with values
    Cost      : O(DAYS RING)
    """
    width, near = m["width"], near_of(m["width"])
    for k in range(DAYS):
        high[k] = MISSING
        low[k] = -MISSING
    for k in range(-near, near + 1):
        b = bin_ + k * width
        d = day
        if b < 0:
            b += BINS
            d -= 1
        elif b >= BINS:
            b -= BINS
            d += 1
        last = newest_day(m, b, d)
        if last < 0:
            continue
        newest, oldest = min(d - 1, last), max(d - DAYS, last - DAYS + 1)
        if newest >= oldest:
            _widen(m["memory"][b], newest % DAYS, newest - oldest + 1, d - 1 - newest, high, low)
    found = 0
    for k in range(DAYS):
        found += 1 if high[k] > MISSING else 0
        high[k] = decode(int(high[k])) if high[k] > MISSING else np.nan
        low[k] = decode(int(low[k])) if low[k] < -MISSING else np.nan
    return found


@njit(cache=True, error_model="numpy")
def _widen(row: Array, place: int, days: int, at: int, high: Floats, low: Floats) -> None:
    """Widen the ranges of days by the codes of a bin.

    row       : int16 (DAYS,)
    place     : of the newest day in it; older ones lie before it, the ring is passed once at most
    days      : that are read
    at        : of the newest day in high and low
    high, low : float64 (DAYS,)  codes

    Unsigned places are never counted from the end, so both loops run in vector registers.
    """
    before = min(place + 1, days)
    for k in range(before):
        code = row[np.uint64(place - k)]
        high[np.uint64(at + k)] = max(high[np.uint64(at + k)], np.float64(code))
        code = code if code != MISSING else -MISSING
        low[np.uint64(at + k)] = min(low[np.uint64(at + k)], np.float64(code))
    at += before
    for k in range(days - before):
        code = row[np.uint64(DAYS - 1 - k)]
        high[np.uint64(at + k)] = max(high[np.uint64(at + k)], np.float64(code))
        code = code if code != MISSING else -MISSING
        low[np.uint64(at + k)] = min(low[np.uint64(at + k)], np.float64(code))


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
