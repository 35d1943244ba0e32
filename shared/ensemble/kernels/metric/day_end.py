"""What a metric learns when an hour or a day ends: levels, stretch, season, limits.

Invariant: medians of hours and days, so that no single hour rules.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import median, shorten, sort_first
from shared.ensemble.kernels.layout import (
    ALL,
    ALL_VIEWS,
    DAYS,
    FIRST_LEVEL,
    HOURS,
    KIND,
    SEASONS,
    SIDES,
    WEEK,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.relearning import recode
from shared.ensemble.kernels.metric.view_levels import calibrate
from shared.kernels.units import DAY_MS

MEAN_Z = 0.8
"""Mean size of a deviation in spreads."""


@njit(cache=True, error_model="numpy")
def close_metric_day(m: Record, day: int, params: EnsembleParams, tmp: Floats) -> None:
    """End the metric's day."""
    if m["day"] >= 0 and m["live_ms"] > DAY_MS:
        count = m["maxima_n"]
        for view in range(ALL_VIEWS):
            for side in range(SIDES[view]):
                largest = shorten(np.float64(m["daily_maximum"][view, side]))
                m["maxima"][FIRST_LEVEL[view] + side, count % DAYS] = largest
        m["maxima_n"] = count + 1
    for view in range(ALL_VIEWS):
        for side in range(2):
            m["daily_maximum"][view, side] = 0.0
    calibrate(m, params, tmp)
    if m["day"] >= 0:
        n = m["levels_n"]
        m["levels"][n % DAYS] = m["level"][m["season"]]
        m["levels_n"] = n + 1
        n = min(n + 1, DAYS)
        daily = m["typical"]
        if n >= 3:
            for k in range(n):
                tmp[k] = abs(np.float64(m["levels"][k]))
            sort_first(tmp, n)
            daily = max(0.5 * m["typical"], 1.4826 * tmp[n // 2])
            daily = max(daily, tmp[min(n - 1, int(0.8 * n))] / 1.28 * (1.0 if n > 5 else 1.5))
        m["daily"] = daily
    season = ALL
    if m["live_ms"] > 14.0 * DAY_MS:
        error = m["error"]
        for c in (KIND, WEEK):
            if error[c] < 0.8 * error[ALL] and error[c] < error[season]:
                season = c
    m["season"] = season
    if m["typical"] > 1e-6 and not 0.02 < m["typical"] < 50.0:
        recode(m, m["centre"], m["scale"] * m["typical"])


@njit(cache=True, error_model="numpy")
def close_hour(m: Record, hour: int, gap: float, tmp: Floats) -> None:
    """End an hour.

    gap : ms since the newest sample
    tmp : float64 (>= HOURS,)  scratch

    Levels are medians of the hours of a day, the stretch is that of their mean deviations.
    """
    if m["hour_n"] > 0:
        k = m["hour"] % HOURS
        m["hours"][k] = m["hour"]
        for c in range(SEASONS):
            m["hours_r"][c, k] = m["hour_r"][c] / m["hour_c"][c] if m["hour_c"][c] > 0 else np.nan
            m["hour_r"][c] = 0.0
            m["hour_c"][c] = 0
        m["hours_x"][k] = m["hour_x"] / m["hour_n"]
        m["hours_u"][k] = m["hour_u"] / m["hour_n"]
        m["hours_z"][k] = m["hour_z"] / m["hour_n"]
        m["hour_n"] = 0
        m["hour_x"] = 0.0
        m["hour_u"] = 0.0
        m["hour_z"] = 0.0
    m["hour"] = hour
    for c in range(SEASONS):
        n = 0
        for k in range(HOURS):
            if (
                m["hours"][k] >= hour - 25
                and m["hours"][k] > 0
                and not math.isnan(m["hours_r"][c, k])
            ):
                tmp[n] = m["hours_r"][c, k]
                n += 1
        if n >= 6:
            m["level"][c] = median(tmp, n)
        elif gap >= DAY_MS:
            m["level"][c] = 0.0
    n = 0
    for k in range(HOURS):
        if m["hours"][k] >= hour - 25 and m["hours"][k] > 0:
            tmp[n] = m["hours_z"][k]
            n += 1
    if n >= 8:
        ratio = median(tmp, n) / MEAN_Z
        m["stretch"] = 1.0
        if ratio > 1.4:
            m["stretch"] = min(ratio / 1.4, 8.0)
        elif 0.0 < ratio < 0.7:
            m["stretch"] = max(ratio * 1.4, 0.2)
