"""Calibration: what a view reaches once in a return period, by the daily maxima of its own past.

Invariant: quantiles of at most DAYS maxima, extended as a Gumbel law of their logarithms; a day of
alarms counts as one that just reached the level, so that what alarmed is learned late.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats
from shared.ensemble.kernels.codes import sort_first
from shared.ensemble.kernels.layout import DAYS

_Q30, _Q50, _Q80 = -math.log(-math.log(0.3)), -math.log(-math.log(0.5)), -math.log(-math.log(0.8))
LEAST_SLOPE = 0.06
FIRST_WEEK = 7
FEW = 3
"""Days from which on one of the first week can be told from the others."""


@njit(cache=True, error_model="numpy")
def quantile(ordered: Floats, n: int, q: float) -> float:
    """Quantile of n sorted numbers, between the two nearest."""
    place = q * (n - 1)
    k = min(int(place), n - 1)
    up = min(k + 1, n - 1)
    return float(ordered[k] + (place - k) * (ordered[up] - ordered[k]))


@njit(cache=True, error_model="numpy")
def return_level(
    maxima: Floats, n: int, least: float, days: float, prior: float, trust: float, tmp: Floats
) -> float:
    """Return the level that is reached once in a return period.

    maxima : float32 (DAYS,) or float64, may be tmp  the first n count, in any order, n >= 1
    least  : > 0  smaller maxima count as this
    days   : > 1  return period
    prior  : slope of the logarithms where nothing is known
    trust  : 0..1 weight of the slope that the n maxima tell
    tmp    : float64 (>= DAYS,)  scratch

    Logarithms of daily maxima follow about a Gumbel law, x_p = m + s (-ln(-ln p) - c), with p the
    share of days below it; m is their median, s the steeper of the slopes between the 30 %, 50 %
    and 80 % quantiles. In the first week the largest of three days and more tells nothing about the
    law (of two, neither is the exception), and the level is higher, above the second largest.
    Source: Coles, "An Introduction to Statistical Modeling of Extreme Values", 3.1.3 (return levels
    of block maxima). Twin: tests/reference/episodes.py::return_level.
    """
    for k in range(n):
        tmp[k] = math.log(max(np.float64(maxima[k]), least))
    sort_first(tmp, n)
    counted = n - 1 if FEW <= n < FIRST_WEEK else n  # one day of the first week rules nothing
    middle, high, low = (
        quantile(tmp, counted, 0.5),
        quantile(tmp, counted, 0.8),
        quantile(tmp, counted, 0.3),
    )
    slope = max((high - middle) / (_Q80 - _Q50), (high - low) / (_Q80 - _Q30), LEAST_SLOPE)
    slope = trust * slope + (1.0 - trust) * prior
    level = math.exp(middle + slope * (-math.log(-math.log(1.0 - 1.0 / days)) - _Q50))
    if n < FIRST_WEEK:
        level = max(level * (1.0 + 1.0 / n), 1.1 * math.exp(tmp[max(n - 2, 0)]))
    return level


@njit(cache=True, error_model="numpy")
def bound(size: float, limit: float, count: int) -> float:
    """Return what a day's largest figure counts: its level at most (thrice in week one)."""
    return min(size, limit if count >= FIRST_WEEK else 3.0 * limit)


@njit(cache=True, error_model="numpy")
def push(maxima: Floats, count: int, x: float) -> int:
    """Put a day's maximum into a ring; returns the new count."""
    maxima[count % DAYS] = x
    return count + 1
