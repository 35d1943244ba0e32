"""Forecast: what the value should be now, and how far it may be off.

Law: computed from what was known before the value; of three simple forecasts the one that has been nearest lately is believed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.kernels.layout import TIME_BINS, Record
from shared.kernels.scale import LIMIT
from shared.kernels.season import DAY_MS

LEVEL_STEP = 0.3
OFFSET_STEP = 0.05
ERROR_STEP = 0.005
FIRST_ERRORS = 20
CLIP = 4.0
BAND_ERRORS = 5.0
"""Half width of the band in mean absolute errors; 4 standard deviations where errors are normal."""

DAYS = 10.0
"""Days that the level of a time of day remembers."""

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
def forecast(state: Record, time_ms: int) -> tuple[float, float]:
    """Return the expected scaled value at a time, and half the width of its band; NaN before the first value."""
    error = state["error"]
    season = expect_level(state, time_ms)
    if math.isnan(season):
        return math.nan, math.nan
    best = 0
    for k in range(1, 3):
        if error[k] < error[best]:
            best = k
    expected = state["level"] if best == 0 else season if best == 1 else season + state["offset"]
    return expected, BAND_ERRORS * error[best]


@njit(cache=True)
def _clip(miss: float, state: Record) -> float:
    """Limit what one value teaches to a few times the usual miss."""
    if state["learned"] <= FIRST_ERRORS:
        return miss
    most: float = CLIP * max(state["error"][1], 0.01)
    return min(max(miss, -most), most)


@njit(cache=True)
def deviate(state: Record, time_ms: int, x: float) -> None:
    """Remember for a while how far a scaled value was above or below both the forecast and the level of its time of day."""
    expected, _ = forecast(state, time_ms)
    season = expect_level(state, time_ms)
    if math.isnan(season):
        return
    state["run_up"] = max(x - max(expected, season), state["run_up"] * (1.0 - FADE))
    state["run_down"] = max(min(expected, season) - x, state["run_down"] * (1.0 - FADE))


@njit(cache=True)
def follow(state: Record, time_ms: int, x: float) -> None:
    """Learn a scaled value: recent level, level of the time of day, both together, and the error of each."""
    bins = state["bins"]
    season = expect_level(state, time_ms)
    known = not math.isnan(season)
    first = not known
    if known:
        error = state["error"]
        shifted = season + state["offset"]
        step = max(ERROR_STEP, 1.0 / (state["learned"] + 1.0))
        state["learned"] += 1.0
        for k in range(3):
            miss = abs(x - (state["level"] if k == 0 else season if k == 1 else shifted))
            if state["learned"] > FIRST_ERRORS:
                miss = min(miss, CLIP * error[k] + 1e-9)
            error[k] += step * (miss - error[k])
        state["offset"] += OFFSET_STEP * _clip(x - season - state["offset"], state)
    state["level"] = x if first else min(max(state["level"] + LEVEL_STEP * (x - state["level"]), -LIMIT), LIMIT)
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    memory = max(DAYS * DAY_MS / TIME_BINS / state["interval_ms"], DAYS)
    seen = min(np.float64(bins["plain_seen"][at]) + 1.0, memory)
    level = np.float64(bins["plain"][at])
    bins["plain_seen"][at] = seen
    bins["plain"][at] = level + _clip(x - level, state) / seen
