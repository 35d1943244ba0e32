"""The usual level of each view of a metric, and each view's ratio to it.

Invariant: a level comes from days before the one that is judged; what a day adds to it is bounded
by the level.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import lengthen
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    COURSE,
    DAYS,
    FIRST_LEVEL,
    SIDES,
    EnsembleParams,
)
from shared.ensemble.kernels.return_levels import FIRST_WEEK, bound, return_level
from shared.ensemble.kernels.views import BY_SAMPLE, column
from shared.kernels.units import DAY_MS, HOUR_MS

NORMAL_99 = 2.6
"""99 % quantile of the size of a normal deviation, in spreads: least levels are meant for it."""


UP_80, DOWN_80 = math.exp(0.02 * 0.8), math.exp(0.02 * -0.2)
UP_99, DOWN_99 = math.exp(0.06 * 0.99), math.exp(0.06 * -0.01)
"""Steps of the quantiles of a tail."""

WITH_TAIL, IS_MEAN, HAS_LEVEL, BY = (column(name) for name in ("tail", "mean", "owned", "by"))


@njit(cache=True, error_model="numpy")
def least_level(params: Record, view: int) -> float:
    """Return the least level of a view, in spreads.

    params : PARAMS_DTYPE
    """
    least: float = params.least[view]
    return least


@njit(cache=True, error_model="numpy")
def _trust(params: Record, view: int, n: int) -> float:
    """Return the weight of the slope that n daily maxima of a view tell, at most 1."""
    trust: float = params.trust[view]
    left = max(1.0 - n / FIRST_WEEK, 0.0)
    trust += params.trust_early * left
    return min(trust, 1.0)


@njit(cache=True, error_model="numpy")
def _tail_slope(m: Record, side: int) -> float:
    """Slope of the logarithms of daily maxima that the tail of all deviations suggests.

    The ratio of the 99 % to the 80 % quantile is 2.0 for normal, 2.9 for Laplace and 4.6 for
    lognormal (sigma .6) deviations; the slopes of their daily maxima are .1, .16 and .26.
    """
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    if low <= 0.0:
        return 0.0
    return min(max(0.1 + 0.06 * (high / low - 2.0), 0.0), 0.5)


@njit(cache=True, error_model="numpy")
def follow_tail(m: Record, z: float) -> None:
    """Track the 80 % and 99 % quantile of the deviations of one sign.

    z : deviation in spreads

    A step up by the share below, down by the share above: in equilibrium the quantile is where both
    are as frequent (Robbins, Monro, "A Stochastic Approximation Method", 1951), in logarithms.
    """
    side = 0 if z > 0.0 else 1
    size = abs(z)
    if m["tail"][side, 0] <= 0.0:
        m["tail"][side, 0] = 1.28
        m["tail"][side, 1] = 2.8
    low, high = np.float64(m["tail"][side, 0]), np.float64(m["tail"][side, 1])
    m["tail"][side, 0] = low * (UP_80 if size > low else DOWN_80)
    m["tail"][side, 1] = high * (UP_99 if size > high else DOWN_99)


@njit(cache=True, error_model="numpy")
def calibrate(m: Record, params: EnsembleParams, tmp: Floats) -> None:
    """Set the level of every view from its daily maxima; twice its least level before the first.

    tmp : float64 (>= DAYS,)  scratch
    """
    n = min(m["maxima_n"], DAYS)
    for view in range(ALL_VIEWS):
        floor = least_level(params, view)
        if IS_MEAN[view]:  # the mean of fewer samples varies more
            floor *= 1.0 + params.coarse * min(m["interval_ms"] / HOUR_MS, 1.0)
        for side in range(SIDES[view]):
            least = floor
            if n == 0:
                m["return_level"][view, side] = 2.0 * floor
                continue
            prior = params.slope
            if WITH_TAIL[view]:
                prior = max(prior, _tail_slope(m, side))
                least *= max(1.0, np.float64(m["tail"][side, 1]) / NORMAL_99) ** params.heavy
            maxima = m["maxima"][FIRST_LEVEL[view] + side]
            for k in range(n):
                tmp[k] = lengthen(maxima[k])
            level = return_level(
                tmp,
                n,
                0.3 * floor,
                params.return_view,
                prior,
                _trust(params, view, n),
                tmp,
            )
            m["return_level"][view, side] = max(level, least * (1.0 + params.early / n))


@njit(cache=True, error_model="numpy")
def compare_with_levels(m: Record, v: Floats, params: EnsembleParams, use: int) -> None:
    """Put each view over its level; today's largest counts as the level at most."""
    watched = m["live_ms"] > 0.5 * DAY_MS
    for view in range(ALL_VIEWS):
        m["ratio"][view] = 0.0
        if BY[view] != BY_SAMPLE:
            continue
        side = 0 if v[view] > 0.0 else 1
        size = abs(v[view])
        limit = np.float64(m["return_level"][view, side]) if HAS_LEVEL[view] else 1.0
        if limit <= 0.0:
            limit = 2.0 * least_level(params, view)
        if watched and size > m["daily_maximum"][view, side]:
            m["daily_maximum"][view, side] = bound(size, limit, m["maxima_n"])
        m["ratio"][view] = v[view] / limit if (use >> view) & 1 else 0.0
    m["ratio"][COURSE] = (
        max(m["course"]["score"], 0.0) / params.course if m["course"]["phase"] == 2 else 0.0
    )
