"""Season: the same time of day on the days before, as neighbours and as an average.

Invariant: what was on the days before is read from the metric's memory, which the season view has
as well; a gap is bridged by the last level and costs no more than the rows around now.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats32, Record
from shared.ensemble.kernels.codes import MISSING, decode
from shared.ensemble.kernels.course.course_layout import (
    COLUMNS,
    ROWS,
    SEASON_BLOCK,
    SEASON_WINDOW,
    SHIFTS,
    TIME_BINS,
)
from shared.ensemble.kernels.course.scale import LIMIT, deadband
from shared.ensemble.kernels.layout import BIN_MS, BINS, DAYS
from shared.ensemble.kernels.season.season_memory import newest_day
from shared.kernels.units import DAY_MS

FIRST_ROW = SHIFTS * COLUMNS
"""Place of the windows in the scratch, behind the distances to them."""

FEWEST_BINS = 16
"""A day of fewer bins has no neighbours."""


class Window(NamedTuple):
    """What windows are compared.

    block : bins of a mean, 1..SEASON_BLOCK
    slack : blocks by which one may be shifted, 0..SLACK
    days  : before, 1..SEASON_DAYS
    """

    block: int
    slack: int
    days: int


class Unit(NamedTuple):
    """How the memory's numbers become the course's: scaled, and zero near the middle.

    gain, shift   : of a code's number
    middle, width : of ``deadband``
    """

    gain: float
    shift: float
    middle: float
    width: float


@njit(cache=True, error_model="numpy")
def _read_bin(m: Record, bin_: int, days: int, unit: Unit) -> None:
    """Read a bin on the days before it; where one has no value, the bin before it counts.

    bin_ : counted from local 1970
    """
    season = m["course"]["season"]
    width = season["width"]
    day, place = divmod(bin_, BINS // width)
    place *= width
    last = newest_day(m, place, day)
    row = m["memory"][place]
    now, before = season["ahead"][bin_ % SEASON_BLOCK], season["ahead"][(bin_ - 1) % SEASON_BLOCK]
    at = (day - 1) % DAYS
    for age in range(1, days + 1):
        now[age] = before[age]
        if last >= 0 and last - DAYS < day - age <= last and row[at] != MISSING:
            x = min(max(decode(row[at]) * unit.gain + unit.shift, -LIMIT), LIMIT)
            now[age] = deadband(x, unit.middle, unit.width)
        at = at - 1 if at > 0 else DAYS - 1


@njit(cache=True, error_model="numpy")
def _write_days(season: Record, bin_: int, block: int) -> None:
    """Write the means of a block that ends in a bin, on the days before it."""
    means, ahead = season["means"][bin_ % ROWS], season["ahead"]
    share = np.float32(1.0 / block)
    for k in range(1, COLUMNS):
        means[k] = 0.0
    for back in range(block):
        bins = ahead[(bin_ - back) % SEASON_BLOCK]
        for k in range(1, COLUMNS):
            means[k] += bins[k] * share


@njit(cache=True, error_model="numpy")
def _write_own(season: Record, block: int) -> None:
    """Write the mean of the newest block, the open bin included."""
    recent, bins = season["recent"], season["bins"]
    samples = min(block, bins)
    recent[(bins - 1) % SEASON_BLOCK] = season["sum"] / season["in_bin"]
    total = 0.0
    for back in range(samples - 1, -1, -1):
        total += np.float64(recent[(bins - 1 - back) % SEASON_BLOCK])
    season["means"][season["newest"] % ROWS, 0] = total / samples


@njit(cache=True, error_model="numpy")
def _start_rows(m: Record, bin_: int, window: Window, unit: Unit) -> None:
    """Begin at a bin: the days before are read, and the last level, 0 before any, is the window."""
    season = m["course"]["season"]
    level = season["sum"] / season["in_bin"] if season["in_bin"] > 0 else 0.0
    season["newest"] = bin_
    season["recent"][:] = level
    season["ahead"][:] = np.inf
    season["means"][:, 0] = level
    newest = bin_ + window.slack * window.block
    for other in range(newest - ROWS - SEASON_BLOCK + 1, newest + 1):
        _read_bin(m, other, window.days, unit)
        _write_days(season, other, window.block)


@njit(cache=True, error_model="numpy")
def push_season(m: Record, local_ms: int, value: float, window: Window, unit: Unit) -> None:
    """Add a value to the bin of its time.

    m : METRIC_DTYPE; the course's width is set
    """
    season = m["course"]["season"]
    bin_ = local_ms // (season["width"] * BIN_MS)
    passed = bin_ - season["newest"]
    if season["bins"] == 0 or passed < 0 or passed >= ROWS:
        _start_rows(m, bin_, window, unit)
        season["bins"] += 1 if season["bins"] == 0 else min(max(passed, 0), ROWS)
        season["in_bin"] = 0
        season["sum"] = 0.0
    while season["newest"] < bin_:
        season["newest"] += 1
        season["bins"] += 1
        ahead = season["newest"] + window.slack * window.block
        _read_bin(m, ahead, window.days, unit)
        _write_days(season, ahead, window.block)
        if season["newest"] < bin_:
            _write_own(season, window.block)
        else:
            season["in_bin"] = 0
            season["sum"] = 0.0
    season["in_bin"] += 1
    season["sum"] += value
    _write_own(season, window.block)


@njit(cache=True, error_model="numpy")
def score_neighbours(season: Record, window: Window, windows: Floats32) -> float:
    """Return how far the newest window is from the best one at the same time of day, per block.

    windows : float32 (WINDOWS,)  scratch

    Windows are SEASON_WINDOW block means, of the last days, shifted by up to ``slack`` blocks; 0
    until there is one. All distances are summed at once, day by day in vector registers: what is
    infinite never counts.
    Twin: tests/reference/neighbours.py::neighbour_scores. Cost: O(days slack SEASON_WINDOW).
    """
    block, slack = window.block, window.slack
    length = SEASON_WINDOW * block
    if season["bins"] <= length or BINS // season["width"] < FEWEST_BINS:
        return 0.0
    _copy_rows(season, window, windows)
    for i in range(FIRST_ROW):
        windows[i] = 0.0
    for k in range(SEASON_WINDOW):
        first = FIRST_ROW + k * COLUMNS
        mine = windows[first + slack * COLUMNS]
        for i in range(FIRST_ROW):
            gap = mine - windows[first + i]
            windows[i] += gap * gap
    _leave_out(windows, season["width"], window)
    bits = windows.view(np.int32)
    best = bits[0]
    for i in range(1, FIRST_ROW):
        best = min(best, bits[i])
    least = np.float64(np.int32(best).view(np.float32))
    return math.sqrt(least / SEASON_WINDOW) if least < math.inf else 0.0


@njit(cache=True, error_model="numpy")
def _copy_rows(season: Record, window: Window, windows: Floats32) -> None:
    """Copy the rows that are compared, one a block, from the one furthest on back.

    Four numbers are read before they are written: the compiler does not know that the arrays do not
    overlap, and copies one by one otherwise.
    """
    means = season["means"]
    at = (season["newest"] + window.slack * window.block) % ROWS
    for row in range(SEASON_WINDOW + SHIFTS - 1):
        first, others = FIRST_ROW + row * COLUMNS, means[at]
        for k in range(0, COLUMNS, 4):
            a, b, c, d = others[k], others[k + 1], others[k + 2], others[k + 3]
            windows[first + k] = a
            windows[first + k + 1] = b
            windows[first + k + 2] = c
            windows[first + k + 3] = d
        at -= window.block
        if at < 0:
            at += ROWS


@njit(cache=True, error_model="numpy")
def _leave_out(distances: Floats32, width: int, window: Window) -> None:
    """Let no window count that is none, or that shares a bin with the newest one."""
    block, slack, days = window
    for i in range((2 * slack + 1) * COLUMNS, FIRST_ROW):
        distances[i] = np.inf
    for shift in range(2 * slack + 1):
        distances[shift * COLUMNS] = np.inf
        for age in range(days + 1, COLUMNS):
            distances[shift * COLUMNS + age] = np.inf
    length, per_day = SEASON_WINDOW * block, BINS // width
    age = 1
    while age <= days and age * per_day < length + slack * block:
        for shift in range(2 * slack + 1):
            if age * per_day - (slack - shift) * block < length:
                distances[shift * COLUMNS + age] = np.inf
        age += 1


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

    The mean of the last ``memory`` values, at most 255.
    """
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    seen = min(bins["seen"][at] + 1, int(memory))
    level = np.float64(bins["level"][at])
    bins["seen"][at] = seen
    bins["level"][at] = level + (value - level) / seen
