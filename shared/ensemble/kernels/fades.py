"""Shares that a metric's running means learn from a sample.

Invariant: what stands here follows from the gap and the usual interval alone, so samples that
come as usual need no exponential of their own, whichever metric they are of.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.array_types import Floats
from shared.ensemble.kernels.codes import fade
from shared.ensemble.kernels.layout import (
    HOUR,
    HOURS4,
    QUARTER,
)
from shared.ensemble.kernels.metric.interval import span_of
from shared.kernels.units import DAY_MS, HOUR_MS

SHARE_MS = 5.0 * DAY_MS
"""Memory of the share of values that deviate."""

ERROR_MS = 8.0 * DAY_MS
"""Memory of the error of each season."""

RUN_MS = 20.0 * DAY_MS
"""Memory of the longest stretch of equal values."""

FADES = 12
(
    GAP, INTERVAL, OF_QUARTER, OF_HOUR, OF_HOURS4, OF_ERROR, OF_SHARE, OF_OFTEN, OF_SPREAD,
    OF_DAY, OF_WEEK, RUN_LEFT
) = range(FADES)  # fmt: skip
"""Places: gap and interval, what is learned of each mean, and what stays of a stretch."""


@njit(cache=True, error_model="numpy")
def spread_span(interval_ms: float) -> float:
    """Return the time over which the spread of changes is averaged, ms."""
    return max(1.5 * HOUR_MS, 8.0 * interval_ms)


@njit(cache=True, error_model="numpy")
def write_fades(dt: float, interval_ms: float, fades: Floats) -> None:
    """Write what running means learn from a sample.

    dt, interval_ms : ms since the sample before, and usual
    fades           : float64 (FADES,)  in and out; zeros, or what an earlier call wrote
    """
    if fades[GAP] == dt and fades[INTERVAL] == interval_ms:
        return
    fades[GAP] = dt
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
