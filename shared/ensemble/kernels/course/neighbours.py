"""Season: the same time of day on the days before, as neighbours and as an average.

Invariant: places in the day come from event time alone; a gap is bridged by the last level and
costs no more than the ring.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.course.course_layout import (
    SEASON_BLOCK,
    SEASON_DAYS,
    SEASON_WINDOW,
    SHIFTS,
    TIME_BINS,
)
from shared.kernels.units import DAY_MS

FIRST_ROW = SHIFTS * SEASON_DAYS
"""Place of the windows in the scratch, behind the distances to them."""


@njit(cache=True, error_model="numpy")
def _write_mean(season: Record, bins_per_day: int, block: int) -> None:
    """Mean of the newest ``block`` bins, the open one included."""
    recent = season["recent"]
    bins = season["bins"]
    samples = min(block, bins)
    recent[(bins - 1) % SEASON_BLOCK] = season["sum"] / season["in_bin"]
    total = 0.0
    for back in range(samples - 1, -1, -1):
        total += np.float64(recent[(bins - 1 - back) % SEASON_BLOCK])
    day, place = divmod(bins - 1, bins_per_day)
    season["means"][place, day % SEASON_DAYS] = total / samples


@njit(cache=True, error_model="numpy")
def push_season(season: Record, since_ms: int, bins_per_day: int, block: int, value: float) -> None:
    """Add a value to the bin of its time.

    since_ms     : time since the series' first value
    bins_per_day : 1..DAY_BINS, the same for all values of a series
    """
    place = (since_ms * bins_per_day + DAY_MS // 2) // DAY_MS
    if season["bins"] == 0:
        season["bin"] = place
        season["bins"] = 1
    elif place > season["bin"]:
        missed = place - season["bin"] - 1
        ring = SEASON_DAYS * bins_per_day
        if missed >= ring:
            season["bins"] += missed - ring
            missed = ring
        for _ in range(missed):
            season["bins"] += 1
            _write_mean(season, bins_per_day, block)
        season["bins"] += 1
        season["bin"] = place
        season["in_bin"] = 0
        season["sum"] = 0.0
    season["in_bin"] += 1
    season["sum"] += value
    _write_mean(season, bins_per_day, block)


@njit(cache=True, error_model="numpy")
def _read_windows(season: Record, bins_per_day: int, block: int, slack: int, out: Floats) -> int:
    """Write the block means of all windows, those of one bin of the day in a row.

    out     : float64 (WINDOWS,)  behind FIRST_ROW: from the latest block back; a day has the same
              place in every row
    returns : place of the newest bin's day
    """
    newest = season["bins"] - 1
    today = newest // bins_per_day
    day, place = divmod(newest + slack * block, bins_per_day)
    for j in range(SEASON_WINDOW + 2 * slack):
        means = season["means"][place]
        at = FIRST_ROW + j * SEASON_DAYS
        if day == today:
            for k in range(SEASON_DAYS):
                out[at + k] = means[k]
        else:
            for k in range(SEASON_DAYS):
                out[at + k] = means[(k + day - today) % SEASON_DAYS]
        place -= block
        if place < 0:
            place += bins_per_day
            day -= 1
    here: int = today % SEASON_DAYS
    return here


@njit(cache=True, error_model="numpy")
def score_neighbours(
    season: Record, bins_per_day: int, block: int, slack: int, days: int, windows: Floats
) -> float:
    """Return how far the newest window is from the best one at the same time of day, per block.

    slack   : 0..SLACK
    days    : 1..SEASON_DAYS - 1
    windows : float64 (WINDOWS,)  scratch

    Windows are SEASON_WINDOW block means, of the last ``days`` days, shifted by up to ``slack``
    blocks; 0 until there is one. All distances are summed at once, day by day in vector registers.
    Twin: tests/reference/neighbours.py::neighbour_scores. Cost: O(days slack SEASON_WINDOW).
    """
    newest = season["bins"] - 1
    length = SEASON_WINDOW * block
    if newest < length or bins_per_day < 16:
        return 0.0
    today = _read_windows(season, bins_per_day, block, slack, windows)
    size = (2 * slack + 1) * SEASON_DAYS
    for i in range(size):
        windows[i] = 0.0
    for k in range(SEASON_WINDOW):
        at = FIRST_ROW + k * SEASON_DAYS
        mine = windows[at + slack * SEASON_DAYS + today]
        for i in range(size):
            gap = mine - windows[at + i]
            windows[i] += gap * gap
    best = math.inf
    for day in range(1, days + 1):
        place = (today - day) % SEASON_DAYS
        for shift in range(-slack, slack + 1):
            other = newest - day * bins_per_day + shift * block
            old = newest - other + length > SEASON_DAYS * bins_per_day
            if other < length or other > newest - length or old:
                continue
            best = min(best, windows[(slack - shift) * SEASON_DAYS + place])
    return math.sqrt(best / SEASON_WINDOW) if best < math.inf else 0.0


@njit(cache=True, error_model="numpy")
def expect_time_of_day(bins: Record, time_ms: int) -> float:
    """Return the level of this and both neighbouring bins of the day, by weight; NaN before any."""
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    total = 0.0
    weight = 0.0
    for k in range(-1, 2):
        place = (at + k) % TIME_BINS
        total += np.float64(bins["seen"][place]) * np.float64(bins["level"][place])
        weight += np.float64(bins["seen"][place])
    return total / weight if weight > 0.0 else math.nan


@njit(cache=True, error_model="numpy")
def push_time_of_day(bins: Record, time_ms: int, value: float, memory: float) -> None:
    """Move the level of this time of day towards a value.

    The mean of the last ``memory`` values.
    """
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    seen = min(np.float64(bins["seen"][at]) + 1.0, memory)
    level = np.float64(bins["level"][at])
    bins["seen"][at] = seen
    bins["level"][at] = level + (value - level) / seen
