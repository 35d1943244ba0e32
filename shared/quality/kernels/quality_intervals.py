"""An entity's usual interval between rows, and how long it may be silent.

Invariant: an interval moves the state of its own entity only.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.quality.kernels.quality_layout import (
    CLIP,
    LONGEST_MS,
    MEMORY,
    MIN_INTERVALS,
    PAUSE_MEMORY_MS,
    USUAL_TWICE,
)
from shared.quality.kernels.quality_signals import Record


@njit(cache=True)
def usual_interval_ms(state: Record) -> float:
    """Usual interval of an entity in ms; NaN while it is unknown."""
    usual_ms: float = state["interval_ms"] if state["intervals"] >= MIN_INTERVALS else math.nan
    return usual_ms


@njit(cache=True)
def silence_limit_ms(state: Record, intervals: float) -> float:
    """Longest silence without a signal, in ms; infinite while the usual interval is unknown.

    It is the given number of usual intervals, or twice the longest usual pause.
    """
    if state["intervals"] < MIN_INTERVALS:
        return math.inf
    limit_ms: float = min(
        max(intervals * state["interval_ms"], USUAL_TWICE * state["pause_ms"]), LONGEST_MS
    )
    return limit_ms


@njit(cache=True)
def learn_interval(state: Record, dt: int, silent_ms: int, gap_intervals: float) -> None:
    """Update the usual interval; silent_ms is the part of dt that does not recur."""
    interval = state["interval_ms"]
    if state["intervals"] == 0:
        interval = np.float64(dt)
    longest = USUAL_TWICE * max(state["pause_ms"], gap_intervals * interval)
    pause = min(np.float64(silent_ms), longest)
    if state["intervals"] < MIN_INTERVALS:
        pause = np.float64(silent_ms)
    lasted = min(np.float64(dt), CLIP * interval)
    state["pause_ms"] = max(state["pause_ms"] * math.exp(-lasted / PAUSE_MEMORY_MS), pause)
    state["intervals"] = min(state["intervals"] + 1, MEMORY)
    state["interval_ms"] = (
        interval + (min(np.float64(dt), CLIP * interval) - interval) / state["intervals"]
    )
