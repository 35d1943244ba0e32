"""The usual level of each view of a metric, and each view's ratio to it.

Invariant: a level comes from days before the one that is judged; what a day adds to it is bounded by the level.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    COURSE,
    CROSS,
    DAY_MS,
    DAYS,
    HOUR,
    HOUR_MS,
    HOURS4,
    JUMP,
    LEVEL,
    MISSED,
    OFTEN,
    QUARTER,
    SPREAD,
    STUCK,
    TWO,
    VALUE,
    Floats,
    Knobs,
    Record,
)
from shared.ensemble.kernels.return_levels import bound, return_level

NORMAL_99 = 2.6
"""99 % quantile of the size of a normal deviation, in spreads: least levels are meant for it."""


@njit(cache=True)
def least_level(knobs: Knobs, view: int) -> float:
    """Least level of a view."""
    if view == VALUE:
        return knobs.floor_value
    if view == TWO:
        return knobs.floor_two
    if view == QUARTER:
        return knobs.floor_quarter
    if view == HOUR:
        return knobs.floor_hour
    if view == HOURS4:
        return knobs.floor_hours4
    if view == JUMP:
        return knobs.floor_jump
    if view == MISSED:
        return knobs.floor_missed
    if view == LEVEL:
        return knobs.floor_level
    if view == SPREAD:
        return knobs.floor_spread
    if view == OFTEN:
        return knobs.floor_often
    if view == STUCK:
        return knobs.floor_stuck
    if view == COURSE:
        return knobs.floor_course
    return knobs.floor_cross


@njit(cache=True)
def _tail_slope(m: Record, side: int) -> float:
    """Slope of the logarithms of daily maxima that the tail of all deviations suggests.

    The ratio of the 99 % to the 80 % quantile is 2.0 for normal, 2.9 for Laplace and 4.6 for lognormal (sigma .6) deviations; the
    slopes of their daily maxima are .1, .16 and .26.
    """
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    if low <= 0.0:
        return 0.0
    return min(max(0.1 + 0.06 * (high / low - 2.0), 0.0), 0.5)


@njit(cache=True)
def follow_tail(m: Record, z: float) -> None:
    """Track the 80 % and 99 % quantile of the deviations of one sign."""
    side = 0 if z > 0.0 else 1
    size = abs(z)
    if m["tail"][side, 0] <= 0.0:
        m["tail"][side, 0] = 1.28
        m["tail"][side, 1] = 2.8
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    m["tail"][side, 0] = low * math.exp(0.02 * (0.8 if size > low else -0.2))
    m["tail"][side, 1] = high * math.exp(0.06 * (0.99 if size > high else -0.01))


@njit(cache=True)
def calibrate(m: Record, knobs: Knobs, tmp: Floats) -> None:
    """Set the level of every view from its daily maxima."""
    n = min(m["maxima_n"], DAYS)
    for view in range(ALL_VIEWS):
        floor = least_level(knobs, view)
        if QUARTER <= view <= HOURS4:  # the mean of fewer samples varies more
            floor *= 1.0 + knobs.coarse * min(m["interval_ms"] / HOUR_MS, 1.0)
        for side in range(2):
            least = floor
            if n == 0:
                m["bar"][view, side] = 2.0 * floor
                continue
            prior = knobs.slope
            if view <= QUARTER or view == JUMP:
                prior = max(prior, _tail_slope(m, side))
                least *= max(1.0, np.float64(m["tail"][side, 1]) / NORMAL_99) ** knobs.heavy
            level = return_level(
                m["maxima"][view, side],
                n,
                0.3 * floor,
                knobs.return_view,
                prior,
                knobs.trust_view,
                tmp,
            )
            m["bar"][view, side] = max(level, least * (1.0 + knobs.early / n))


@njit(cache=True)
def compare_with_levels(m: Record, v: Floats, knobs: Knobs, use: int) -> None:
    """Put each view over its level; today's largest is remembered, at most as large as the level."""
    watched = m["live_ms"] > 0.5 * DAY_MS
    for view in range(COURSE):
        side = 0 if v[view] > 0.0 else 1
        size = abs(v[view])
        bar = np.float64(m["bar"][view, side]) if view != STUCK else 1.0
        if bar <= 0.0:
            bar = 2.0 * least_level(knobs, view)
        if watched and size > m["most"][view, side]:
            m["most"][view, side] = bound(size, bar, m["maxima_n"])
        m["q"][view] = v[view] / bar if (use >> view) & 1 else 0.0
    m["q"][CROSS] = 0.0
    m["q"][COURSE] = (
        max(m["course"]["score"], 0.0) / knobs.course if m["course"]["phase"] == 2 else 0.0
    )
