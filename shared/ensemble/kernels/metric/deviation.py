"""How far a value is from what its time of day has shown, and whether what usually comes has not.

Invariant: only days before the one that is judged are compared with.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import MISSING, decode
from shared.ensemble.kernels.layout import (
    ALL,
    BIN_MS,
    BINS,
    DAYS,
    RECENT,
    RING,
    SEASONS,
    EnsembleParams,
)
from shared.ensemble.kernels.season.extremes import (
    belongs,
    days_of,
    extremes,
    extremes_of,
    recurring,
)
from shared.ensemble.kernels.season.season_memory import near_of
from shared.kernels.clock import is_weekend

LARGEST_DEVIATION = 1e4

USUAL_HIGH, USUAL_LOW = 0.15, 0.85
"""Quantiles of the largest and smallest values of days, which what comes usually reaches."""


LARGEST_CODED = 1e9
"""Largest coded value that is judged; the memory holds less, but a new unit may lie beyond."""


COMPLETE = 0.95
"""Share of the samples of half an hour that must be there where a bin has none."""


LEVEL_DEAD_ZONE = 0.3
"""Share of the typical spread that a level may be off before it is taken off."""


class Sample(NamedTuple):
    """A sample as the views see it."""

    time_ms: int
    hour: int  # of the local day
    value: float
    x: float  # the same, coded
    near: int  # samples on either side that count as about the same time
    turned: bool  # the first of its bin


@njit(cache=True, error_model="numpy")
def season_at(m: Record, near: int) -> int:
    """Return the season that is believed, or that of all days where it has no value yet."""
    season: int = m["season"]
    return ALL if math.isnan(m["baselines"][season, near]) else season


@njit(cache=True, error_model="numpy")
def baseline_at(m: Record, season: int, near: int) -> float:
    """Return the value that a season shows at this time, or that of all days; coded."""
    value = np.float64(m["baselines"][season, near])
    return value if not math.isnan(value) else np.float64(m["baselines"][ALL, near])


@njit(cache=True, error_model="numpy")
def spread_in_force(m: Record, remembered: float, floor: float, level: float) -> float:
    """Return the spread that deviations are measured by: wider on a day that is off, coded."""
    off: float = max(0.0, abs(level) - LEVEL_DEAD_ZONE * m["typical"])
    spread: float = max(remembered * m["stretch"], floor)
    return spread + 0.2 * off


@njit(cache=True, error_model="numpy")
def spread_of(m: Record, near: int) -> tuple[float, float]:
    """Spread of the bins around now, and the floor under it, both coded."""
    total = wide = 0.0
    n = 0
    for k in range(max(near - 2, 0), min(near + 3, 2 * near + 1)):
        if not math.isnan(m["median_spread"][k]):
            total += np.float64(m["median_spread"][k])
            wide += np.float64(m["quantile_spread"][k])
            n += 1
    spread = max(total, wide) / n if n > 0 else m["typical"]
    floor = max(0.02 * (m["range_high"] - m["range_low"]), 0.25 * m["step"])
    if m["share"] < 0.35 and m["sizes"] > 0:
        floor = max(floor, 0.7 * m["size"])
    floor = max(floor, 0.3 * m["typical"])
    floor = max(floor, 1e-9 * abs(m["centre"]) / m["scale"])
    return spread, max(floor, 1e-9)


@njit(cache=True, error_model="numpy")
def _offset(level: float, dead: float) -> float:
    """Level beyond its dead zone."""
    if level > dead:
        return level - dead
    if level < -dead:
        return level + dead
    return 0.0


@njit(cache=True, error_model="numpy")
def may_excuse(m: Record, c: int, near: int) -> bool:
    """Whether a season may excuse a value."""
    season = m["season"]
    return not (
        season != ALL and c in (ALL, RECENT) and not math.isnan(m["baselines"][season, near])
    )


@njit(cache=True, error_model="numpy")
def nearest_baseline(m: Record, x: float, near: int, spread: float) -> tuple[float, float, float]:
    """Return the deviation of a coded value from the nearest baseline of about this time.

    returns : deviation in spreads (a little more for a value of another time or season), residual,
              that baseline with its level
    """
    best, residual, expected = 1e300, 0.0, 0.0
    dead = LEVEL_DEAD_ZONE * m["typical"]
    season = m["season"]
    for c in range(SEASONS):
        if not may_excuse(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        for k in range(2 * near + 1):
            u = np.float64(m["baselines"][c, k])
            if math.isnan(u):
                continue
            z = (x - u - offset) / spread
            penalty = (0.0 if k == near else 0.3) + (0.0 if c == season else 0.3)
            if abs(z) + penalty < abs(best):
                best = z + penalty if z > 0.0 else z - penalty
                if penalty == 0.0:
                    best = z
                residual = x - u - offset
                expected = u + offset
    return best, residual, expected


@njit(cache=True, error_model="numpy")
def excuse_recurring(
    m: Record, x: float, z: float, near: int, spread: float, params: EnsembleParams, tmp: Floats
) -> float:
    """Reduce a deviation that most days of a season show within a quarter of an hour of now."""
    high, low = extremes_of(tmp)
    if extremes(m, m["day"], m["bin"], high, low) < 3:
        return z
    dead = LEVEL_DEAD_ZONE * m["typical"]
    sign = 1.0 if z > 0.0 else -1.0
    for c in range(SEASONS):
        if not may_excuse(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        reach, n = recurring(high if z > 0.0 else low, m["day"], c, 0.5, tmp)
        if n < 3:
            continue
        beyond = (x - reach - offset) / spread
        left = params.excuse + max(sign * beyond, 0.0)
        z = sign * min(sign * z, left)
    return z


@njit(cache=True, error_model="numpy")
def _may_miss(
    m: Record, day: int, near: int, most: float, least: float, high: Floats, low: Floats
) -> bool:
    """Whether what came stays below what usually comes, or above, by every season that may excuse.

    most, least : largest and smallest value that came
    high, low   : float64 (DAYS,)  as ``extremes`` writes them

    A quantile lies below what came where enough days do: counting them needs no order.
    """
    dead = LEVEL_DEAD_ZONE * m["typical"]
    weekend = is_weekend(day)
    may_high = may_low = True
    for c in range(SEASONS):
        if not may_excuse(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        days = days_of(c)
        n = below = above = 0
        for age in range(1, DAYS + 1):
            if math.isnan(high[age - 1]) or not belongs(c, day, age, weekend):
                continue
            n += 1
            below += 1 if high[age - 1] + offset - most <= 0.0 else 0
            above += 1 if least - low[age - 1] - offset <= 0.0 else 0
            if n >= days:
                break
        if n < 3:
            continue
        may_high = may_high and below <= int(USUAL_HIGH * n)
        may_low = may_low and above < n - min(n - 1, int(USUAL_LOW * n))
        if not may_high and not may_low:
            return False
    return True


@njit(cache=True, error_model="numpy")
def beyond_range(m: Record, x: float, z: float, spread: float) -> float:
    """Reduce a deviation to what lies outside of the metric's usual range at all times of day."""
    above: float = (x - m["range_high"]) / spread
    below: float = (x - m["range_low"]) / spread
    if z > 0.0:
        return min(z, max(above, 0.0))
    return max(z, min(below, 0.0))


@njit(cache=True, error_model="numpy")
def judge_missing(m: Record, spread: float, iv: float, tmp: Floats) -> None:
    """Judge whether a peak or dip that usually comes in the half hour just ended is missing.

    iv : usual interval, ms, at least a minute

    A bin without a sample hides nothing where no sample is missing: jitter moves it into the next.
    """
    near = near_of(m["width"])
    size = 2 * near + 1
    m["missed"] = 0.0
    width = m["width"]
    last_day, last_bin = m["day"], m["bin"]
    now = last_day * BINS + last_bin
    most, least = MISSING, 32767
    filled = samples = 0
    for k in range(RING):
        place = m["window_bin"][RING - 1 - k]
        if not now - size * width <= place < now:
            break
        code = m["window"][0, RING - 1 - k]
        most, least = max(most, code), min(least, code)
        filled += 1
        samples += m["window"][1, RING - 1 - k]
    if filled < size and samples < COMPLETE * size * width * BIN_MS / iv:
        return
    place = now - (near + 1) * width
    day, bin_ = place // BINS, place % BINS
    high, low = extremes_of(tmp)
    if extremes(m, day, bin_, high, low) < 5:
        return
    if not _may_miss(m, day, near, decode(most), decode(least), high, low):
        return
    found_high, found_low = 1e300, 1e300
    usual_high = usual_low = 0.0
    dead = LEVEL_DEAD_ZONE * m["typical"]
    for c in range(SEASONS):
        if not may_excuse(m, c, near):
            continue
        offset = _offset(m["level"][c], dead)
        reach, n = recurring(high, day, c, USUAL_HIGH, tmp)
        if n < 3:
            continue
        middle = tmp[n // 2]
        z = (reach + offset - decode(most)) / max(spread, middle - reach)
        if z < found_high:
            found_high, usual_high = z, middle
        reach, n = recurring(low, day, c, USUAL_LOW, tmp)
        middle = tmp[n // 2]
        z = (decode(least) - reach - offset) / max(spread, reach - middle)
        if z < found_low:
            found_low, usual_low = z, middle
    if found_high < 1e299 and found_high > max(found_low, 0.0):
        m["missed"] = -found_high
        m["missed_usual"] = usual_high
        m["missed_most"] = decode(most)
    elif found_low < 1e299 and found_low > 0.0:
        m["missed"] = found_low
        m["missed_usual"] = usual_low
        m["missed_most"] = decode(least)
