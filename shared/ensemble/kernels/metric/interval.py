"""The usual interval of a metric or an entity, and how values are judged by it.

Invariant: an estimate in milliseconds of event time; no single pause moves it by more than a tenth
once it is known.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.array_types import Floats
from shared.ensemble.kernels.codes import clip, fade
from shared.ensemble.kernels.layout import DAY_MS, HOUR, HOUR_MS, HOURS4, MINUTE_MS, QUARTER

FASTEST_MS = 45_000.0
"""A metric that is faster is judged by means of a minute."""

SHARE_MS = 5.0 * DAY_MS
"""Memory of the share of values that deviate."""

ERROR_MS = 8.0 * DAY_MS
"""Memory of the error of each season."""

RUN_MS = 20.0 * DAY_MS
"""Memory of the longest stretch of equal values."""

FADES = 12
(
    PAUSE, INTERVAL, OF_QUARTER, OF_HOUR, OF_HOURS4, OF_ERROR, OF_SHARE, OF_OFTEN, OF_SPREAD,
    OF_DAY, OF_WEEK, RUN_LEFT
) = range(FADES)  # fmt: skip
"""Places: pause and interval, what is learned of each mean, and what stays of a stretch."""


@njit(cache=True)
def follow_interval(interval: float, pause: float, seen: int) -> float:
    """Return the usual pause after one more: between their median and their time-weighted median.

    interval, pause : ms; interval 0 = not known
    seen            : values so far; the first pauses raise it faster

    Tracked in logarithms, by steps that grow with the share of time that a pause is. A step down is
    at most half of a step up: of two pauses that take turns (two scrapers, seconds apart) the
    longer
    one is the interval. Twin: tests/reference/episodes.py::interval (the time-weighted median).
    """
    if interval <= 0.0 or pause == interval:
        return pause
    ratio = min(pause, 4.0 * interval) / interval
    most = min(0.15 * ratio, 0.05) if pause < interval else max(0.1, 4.0 / (2.0 + seen))
    return interval * math.exp(clip(math.log(pause / interval), most))


@njit(cache=True)
def span_of(view: int, interval_ms: float) -> float:
    """Return the time over which QUARTER, HOUR or HOURS4 averages, ms; longer on coarse data.

    interval_ms : usual, at least a minute
    """
    if view == QUARTER:
        return max(15.0 * MINUTE_MS, 1.5 * interval_ms)
    if view == HOUR:
        return max(1.0 * HOUR_MS, 3.0 * interval_ms)
    return max(4.0 * HOUR_MS, 6.0 * interval_ms)


@njit(cache=True)
def spread_span(interval_ms: float) -> float:
    """Return the time over which the spread of changes is averaged, ms."""
    return max(1.5 * HOUR_MS, 8.0 * interval_ms)


@njit(cache=True)
def write_fades(dt: float, interval_ms: float, fades: Floats) -> None:
    """Write what running means learn from a sample.

    It follows from pause and usual interval alone, so samples that come as usual need no
    exponential of their own, whichever metric they are of.

    dt, interval_ms : ms since the sample before, and usual
    fades           : float64 (FADES,)  in and out; zeros, or what an earlier call wrote
    """
    if fades[PAUSE] == dt and fades[INTERVAL] == interval_ms:
        return
    fades[PAUSE] = dt
    fades[INTERVAL] = interval_ms
    fades[OF_QUARTER] = fade(dt, span_of(QUARTER, interval_ms))
    fades[OF_HOUR] = fade(dt, span_of(HOUR, interval_ms))
    fades[OF_HOURS4] = fade(dt, span_of(HOURS4, interval_ms))
    fades[OF_ERROR] = fade(dt, ERROR_MS)
    fades[OF_SHARE] = fade(dt, SHARE_MS)
    fades[OF_OFTEN] = fade(dt, max(1.0 * HOUR_MS, 4.0 * interval_ms))
    fades[OF_SPREAD] = fade(dt, spread_span(interval_ms))
    fades[OF_DAY] = fade(dt, 1.0 * DAY_MS)
    fades[OF_WEEK] = fade(dt, 7.0 * DAY_MS)
    fades[RUN_LEFT] = math.exp(-dt / RUN_MS)
