"""Forecast: what the value should be now, and how far it may be off.

Law: computed from what was known before the value; of four simple forecasts the one that has been
     nearest lately is believed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.layout import FORECASTS, TIME_BINS, WEEK_BINS, Record
from shared.ensemble.kernels.scale import LIMIT
from shared.ensemble.kernels.season import DAY_MS, MONDAY_MS, WEEK_MS, WEEKS

RECENT, DAY, SHIFTED, WEEK = range(FORECASTS)
LEVEL_STEP = 0.3
OFFSET_STEP = 0.05
ERROR_STEP = 0.005
FIRST_ERRORS = 20
CLIP = 4.0
BAND_ERRORS = 5.0
"""Half width of the band in mean absolute errors; 4 standard deviations where errors are normal."""

DAYS = 10.0
"""Days that the level of a time of day remembers."""

LEVEL_WEEKS = 5.0
"""Weeks that the level of a time of the week remembers."""

WEEK_CLIP = 2.5
"""Spreads that a value may always teach a time of the week: it may be seen once a week, and a
weekend is no outlier.
"""

FADE = 1.0 / 12.0


@njit(cache=True)
def expect_level(state: Record, time_ms: int) -> float:
    """Level of this time of day and its two neighbours; NaN before any."""
    bins = state["bins"]
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    total = 0.0
    weight = 0.0
    for k in range(-1, 2):
        place = (at + k) % TIME_BINS
        seen = np.float64(bins["plain_seen"][place]) * (2.0 if k == 0 else 1.0)
        total += seen * np.float64(bins["plain"][place])
        weight += seen
    return total / weight if weight > 0.0 else math.nan


@njit(cache=True)
def expect_week_level(state: Record, time_ms: int) -> float:
    """The same for the time of the week."""
    bins = state["bins"]
    at = (time_ms - MONDAY_MS) % WEEK_MS * WEEK_BINS // WEEK_MS
    total = 0.0
    weight = 0.0
    for k in range(-1, 2):
        place = (at + k) % WEEK_BINS
        seen = np.float64(bins["week_plain_seen"][place]) * (2.0 if k == 0 else 1.0)
        total += seen * np.float64(bins["week_plain"][place])
        weight += seen
    return total / weight if weight > 0.0 else math.nan


@njit(cache=True)
def _week_if_nearer(state: Record, time_ms: int) -> float:
    """Level of the time of the week where that has been nearer than the time of day lately; NaN =
    not, or before WEEKS.
    """
    error = state["error"]
    if (
        time_ms - state["origin_ms"] < WEEKS * WEEK_MS
        or state["week_learned"] <= FIRST_ERRORS
        or error[WEEK] >= error[DAY]
    ):
        return math.nan
    return expect_week_level(state, time_ms)


@njit(cache=True)
def forecast(state: Record, time_ms: int) -> tuple[float, float, float, bool, float]:
    """Say what to expect of a metric that is ready, in scaled units; to be asked before the value
    is learned.

    returns : expected value, half the width of its band, level of the season alone, whether the
              expected value and that level are those of the time of the week, and the level of
              whichever season has been nearer lately; NaN, NaN, NaN, False, NaN before the first
              value near this time of day

    Twin: tests/reference/forecast.py::Forecast.  Cost: O(1).
    """
    day = expect_level(state, time_ms)
    if math.isnan(day):
        return math.nan, math.nan, math.nan, False, math.nan
    error = state["error"]
    best = RECENT
    for k in range(DAY, WEEK):
        if error[k] < error[best]:
            best = k
    week = _week_if_nearer(state, time_ms)
    season = day if math.isnan(week) else week
    if not math.isnan(week) and error[WEEK] < error[best]:
        return week, BAND_ERRORS * error[WEEK], week, True, season
    expected = state["level"] if best == RECENT else day if best == DAY else day + state["offset"]
    return expected, BAND_ERRORS * error[best], day, False, season


@njit(cache=True)
def _clip(miss: float, state: Record, least: float) -> float:
    """Limit what one value teaches to a few times the usual miss."""
    if state["learned"] <= FIRST_ERRORS:
        return miss
    most: float = max(CLIP * max(state["error"][DAY], 0.01), least)
    return min(max(miss, -most), most)


@njit(cache=True)
def deviate(state: Record, expected: float, season: float, x: float) -> None:
    """Remember for a while how far a scaled value was above or below both the forecast and the
    season that has been nearer.
    """
    if math.isnan(season):
        return
    state["run_up"] = max(x - max(expected, season), state["run_up"] * (1.0 - FADE))
    state["run_down"] = max(min(expected, season) - x, state["run_down"] * (1.0 - FADE))


@njit(cache=True)
def _follow_error(state: Record, which: int, miss: float, learned: float) -> None:
    """Move the running error of a forecast; ``learned`` counts this miss."""
    error = state["error"]
    if learned > FIRST_ERRORS:
        miss = min(miss, CLIP * error[which] + 1e-9)
    error[which] += max(ERROR_STEP, 1.0 / learned) * (miss - error[which])


@njit(cache=True)
def follow(state: Record, time_ms: int, x: float) -> None:
    """Learn a scaled value: recent level, levels of the time of day and of the week, and the error of each
                      forecast.

    Twin: tests/reference/forecast.py::Forecast.  Cost: O(1).
    """
    bins = state["bins"]
    day = expect_level(state, time_ms)
    week = expect_week_level(state, time_ms)
    first = math.isnan(day)
    if not first:
        state["learned"] += 1.0
        _follow_error(state, RECENT, abs(x - state["level"]), state["learned"])
        _follow_error(state, DAY, abs(x - day), state["learned"])
        _follow_error(state, SHIFTED, abs(x - (day + state["offset"])), state["learned"])
        state["offset"] += OFFSET_STEP * _clip(x - day - state["offset"], state, 0.0)
    if not math.isnan(week):
        state["week_learned"] += 1.0
        _follow_error(state, WEEK, abs(x - week), state["week_learned"])
    state["level"] = (
        x if first else min(max(state["level"] + LEVEL_STEP * (x - state["level"]), -LIMIT), LIMIT)
    )
    per_bin = DAY_MS / TIME_BINS / state["interval_ms"]
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    seen = min(np.float64(bins["plain_seen"][at]) + 1.0, max(DAYS * per_bin, DAYS))
    level = np.float64(bins["plain"][at])
    bins["plain_seen"][at] = seen
    bins["plain"][at] = level + _clip(x - level, state, 0.0) / seen
    at = (time_ms - MONDAY_MS) % WEEK_MS * WEEK_BINS // WEEK_MS
    seen = min(
        np.float64(bins["week_plain_seen"][at]) + 1.0, max(LEVEL_WEEKS * per_bin, LEVEL_WEEKS)
    )
    level = np.float64(bins["week_plain"][at])
    if seen == 1.0:  # a half hour of the week starts at what its time of day is like
        level = np.float64(x if first else day)
    bins["week_plain_seen"][at] = seen
    bins["week_plain"][at] = level + _clip(x - level, state, WEEK_CLIP) / seen
