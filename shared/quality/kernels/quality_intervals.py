"""Usual interval of an entity's rows, or of a metric's values, and its longest usual reporting gap.

Invariant: one gap counts at most as the silence that is usually allowed; durations are in
           milliseconds of event time, gaps in usual intervals, so that they follow the interval.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.kernels.clock import follow_interval
from shared.kernels.units import DAY_MS
from shared.quality.kernels.quality_arguments import Record
from shared.quality.kernels.quality_layout import (
    DAYS_A_RANK,
    GAP_DAYS,
    LONGER,
    LONGER_ROWS,
    LONGEST_MS,
    MIN_COVERED_MS,
    MIN_INTERVALS,
    USUAL_TWICE,
)

_RANKS = 1 + GAP_DAYS // DAYS_A_RANK


@njit(cache=True)
def is_known(rhythm: Record) -> bool:
    """Whether enough intervals were seen to say what is usual."""
    return bool(rhythm["intervals"] >= MIN_INTERVALS and rhythm["covered_ms"] >= MIN_COVERED_MS)


@njit(cache=True)
def usual_interval_ms(rhythm: Record) -> float:
    """Usual interval in ms; NaN while it is unknown."""
    usual_ms: float = rhythm["interval_ms"] if is_known(rhythm) else math.nan
    return usual_ms


@njit(cache=True)
def silence_limit_ms(rhythm: Record, intervals: float) -> float:
    """Longest silence without a signal, in ms; infinite while the usual interval is unknown.

    It is the given number of usual intervals, or twice the longest usual reporting gap.
    """
    if not is_known(rhythm):
        return math.inf
    most = max(intervals, USUAL_TWICE * rhythm["usual_gap"])
    limit_ms: float = min(most * rhythm["interval_ms"], LONGEST_MS)
    return limit_ms


@njit(cache=True)
def _rank_gaps(rhythm: Record) -> None:
    """Set the longest usual reporting gap: one that came on more than one in DAYS_A_RANK days."""
    highest = np.zeros(_RANKS)
    highest[0] = rhythm["longest"]
    for day in range(rhythm["days"]):
        gap = np.float64(rhythm["longest_before"][day])
        for rank in range(_RANKS):
            if gap > highest[rank]:
                gap, highest[rank] = highest[rank], gap
    rhythm["usual_gap"] = highest[rhythm["days"] // DAYS_A_RANK]


@njit(cache=True)
def _learn_gap(rhythm: Record, gap: float, day: int) -> None:
    """Update the longest gap of the day; of the days with rows the newest are remembered."""
    is_new_day = day >= rhythm["day"]
    if is_new_day and rhythm["day"] > 0:
        for k in range(GAP_DAYS - 1, 0, -1):
            rhythm["longest_before"][k] = rhythm["longest_before"][k - 1]
        rhythm["longest_before"][0] = rhythm["longest"]
        rhythm["days"] = min(rhythm["days"] + 1, GAP_DAYS)
    if is_new_day:
        rhythm["day"] = day + 1
        rhythm["longest"] = 0.0
    if is_new_day or gap > rhythm["longest"]:
        rhythm["longest"] = max(rhythm["longest"], gap)
        _rank_gaps(rhythm)


@njit(cache=True)
def _first_interval_ms(rhythm: Record) -> float:
    """Time-weighted median of the newest intervals: half of the time lies in longer ones.

    As in ``follow_interval`` one counts at most four times as much as is usual.
    """
    lengths = np.sort(rhythm["newest_ms"].astype(np.float64))
    most = 4.0 * lengths[MIN_INTERVALS // 2]
    total, passed = 0.0, 0.0
    for length in lengths:
        total += min(length, most)
    for length in lengths:
        passed += min(length, most)
        if 2.0 * passed >= total:
            return float(length)
    return float(lengths[-1])


@njit(cache=True)
def _learn_first(rhythm: Record, interval_ms: float, silent_ms: float, time_ms: int) -> None:
    """Update what is usual while it is not known."""
    rhythm["newest_ms"][rhythm["intervals"] % MIN_INTERVALS] = interval_ms
    rhythm["intervals"] += 1
    rhythm["covered_ms"] += interval_ms
    rhythm["longest"] = max(rhythm["longest"], silent_ms)
    rhythm["interval_ms"] = interval_ms
    if is_known(rhythm):
        rhythm["interval_ms"] = _first_interval_ms(rhythm)
        gap = rhythm["longest"] / rhythm["interval_ms"]
        rhythm["longest"] = 0.0
        _learn_gap(rhythm, gap, time_ms // DAY_MS)


@njit(cache=True)
def _follow_longer(rhythm: Record, interval_ms: float, is_longer: bool) -> None:
    """Take intervals that are much longer, some in a row, as usual; gaps are learned again."""
    if not is_longer:
        rhythm["longer"] = 0
        return
    is_first = rhythm["longer"] == 0
    rhythm["longer_ms"] = interval_ms if is_first else min(rhythm["longer_ms"], interval_ms)
    rhythm["longer"] += 1
    if rhythm["longer"] >= LONGER_ROWS:
        rhythm["interval_ms"] = rhythm["longer_ms"]
        rhythm["longer"] = 0
        rhythm["days"] = 0
        rhythm["longest"] = 1.0
        _rank_gaps(rhythm)


@njit(cache=True)
def learn_interval(
    rhythm: Record, interval_ms: float, silent_ms: float, time_ms: int, intervals: float
) -> None:
    """Update what is usual by an interval.

    interval_ms : > 0
    silent_ms   : the part of it that does not recur
    time_ms     : its end
    intervals   : silence that is allowed at least, in usual intervals
    """
    if not is_known(rhythm):
        _learn_first(rhythm, interval_ms, silent_ms, time_ms)
        return
    usual_ms = rhythm["interval_ms"]
    allowed_ms = silence_limit_ms(rhythm, intervals)
    _learn_gap(rhythm, min(silent_ms, allowed_ms) / usual_ms, time_ms // DAY_MS)
    if interval_ms != usual_ms:
        rhythm["interval_ms"] = follow_interval(usual_ms, interval_ms)
    _follow_longer(rhythm, interval_ms, silent_ms > LONGER * usual_ms)
