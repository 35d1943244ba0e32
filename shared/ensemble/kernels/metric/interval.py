"""The usual interval of a metric or an entity, and how values are judged by it.

Invariant: an estimate in milliseconds of event time; no single gap moves it by more than a tenth
once it is known.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.codes import clip
from shared.ensemble.kernels.layout import (
    HOUR,
    QUARTER,
)
from shared.kernels.units import HOUR_MS, MINUTE_MS

FASTEST_MS = 45_000.0
"""A metric that is faster is judged by means of a minute."""


@njit(cache=True, error_model="numpy")
def follow_interval(interval: float, gap: float, seen: int) -> float:
    """Return the usual interval after one more gap: between the gaps' median and time-weighted one.

    interval, gap : ms; interval 0 = not known
    seen          : values so far; the first gaps raise it faster

    Tracked in logarithms, by steps that grow with the share of time that a gap is. A step down is
    at most half of a step up: of two gaps that take turns (two scrapers, seconds apart) the
    longer one is the interval.
    Twin: tests/reference/episodes.py::interval (the time-weighted median).
    """
    if interval <= 0.0 or gap == interval:
        return gap
    ratio = min(gap, 4.0 * interval) / interval
    most = min(0.15 * ratio, 0.05) if gap < interval else max(0.1, 4.0 / (2.0 + seen))
    return interval * math.exp(clip(math.log(gap / interval), most))


@njit(cache=True, error_model="numpy")
def span_of(view: int, interval_ms: float) -> float:
    """Return the time over which QUARTER, HOUR or HOURS4 averages, ms; longer on coarse data.

    interval_ms : usual, at least a minute
    """
    if view == QUARTER:
        return max(15.0 * MINUTE_MS, 1.5 * interval_ms)
    if view == HOUR:
        return max(1.0 * HOUR_MS, 3.0 * interval_ms)
    return max(4.0 * HOUR_MS, 6.0 * interval_ms)
