"""A value that is older than the newest one, judged by its own time of day.

Invariant: it changes its own place in the memory and nothing that the next value in order reads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import MISSING, clip, fade
from shared.ensemble.kernels.layout import (
    ALL,
    BIN_MS,
    BINS,
    DAY_MS,
    DAYS,
    QUARTER,
    RING,
    SEASONS,
    VALUE,
)
from shared.ensemble.kernels.metric.deviation import (
    LARGEST_CODED,
    LARGEST_DEVIATION,
    LEVEL_DEAD_ZONE,
    nearest_usual,
    spread_of,
)
from shared.ensemble.kernels.season import HIGH_AT, digest, near_of, read, write

USUAL_AT = 200
MEDIAN_AT = USUAL_AT + SEASONS * RING
QUANTILE_AT = MEDIAN_AT + RING
"""Places of the scratch that hold what the ring shows of the newest value."""

if not 5 * DAYS <= USUAL_AT <= QUANTILE_AT + RING <= HIGH_AT:
    raise ImportError("a late value's scratch overlaps that of digest or extremes")


@njit(cache=True)
def judge_late(m: Record, t: int, local_ms: int, value: float, tmp: Floats) -> float:
    """Judge a value that is older than the newest by its own time of day, and remember it there.

    returns : ratio to the level of single values, signed; NaN where it cannot be judged
    tmp     : float64 (SCRATCH,)  scratch
    """
    if m["scale"] <= 0.0 or m["counter"] == 1:
        return math.nan
    day = int(local_ms // DAY_MS)
    width, near = m["width"], near_of(m["width"])
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    bin_ -= bin_ % width
    for c in range(SEASONS):
        for k in range(RING):
            tmp[USUAL_AT + c * RING + k] = m["usual_values"][c, k]
    for k in range(RING):
        tmp[MEDIAN_AT + k] = m["median_spread"][k]
        tmp[QUANTILE_AT + k] = m["quantile_spread"][k]
    for k in range(2 * near + 1):
        b = bin_ + (k - near) * width
        d = day
        if b < 0:
            b += BINS
            d -= 1
        elif b >= BINS:
            b -= BINS
            d += 1
        digest(m, b, d, k, tmp)
    ratio = math.nan
    x = clip((value - m["centre"]) / m["scale"], LARGEST_CODED)
    if not math.isnan(m["usual_values"][ALL, near]):
        remembered, floor = spread_of(m, near)
        spread = max(remembered * m["stretch"], floor)
        spread += 0.2 * max(0.0, abs(m["level"][m["season"]]) - LEVEL_DEAD_ZONE * m["typical"])
        z, _, expected = nearest_usual(m, x, near, spread)
        z = clip(z, LARGEST_DEVIATION)
        limit = np.float64(m["return_level"][VALUE, 0 if z > 0.0 else 1])
        ratio = z / limit if limit > 0.0 else math.nan
        season = m["season"]
        if math.isnan(m["usual_values"][season, near]):
            season = ALL
        usual = np.float64(m["usual_values"][season, near]) + m["level"][season]
        m["expected"] = expected if abs(z) < 3.0 else usual
        m["spread"] = spread
        far = abs(np.float64(t - m["late_ms"])) > max(6.0 * m["interval_ms"], 1_800_000.0)
        if far:
            m["late_ew"] = 0.0
        m["late_ew"] += (clip(z, 15.0) - m["late_ew"]) * fade(
            min(abs(np.float64(t - m["late_ms"])), 4.0 * m["interval_ms"]),
            max(900_000.0, 1.5 * m["interval_ms"]),
        )
        m["late_ms"] = t
        limit = np.float64(m["return_level"][QUARTER, 0 if m["late_ew"] > 0.0 else 1])
        if (
            limit > 0.0
            and abs(m["late_ew"]) / limit > abs(ratio)
            and abs(z) > 3.0
            and m["late_ew"] * z > 0.0
        ):
            ratio = m["late_ew"] / limit
    for c in range(SEASONS):
        for k in range(RING):
            m["usual_values"][c, k] = tmp[USUAL_AT + c * RING + k]
    for k in range(RING):
        m["median_spread"][k] = tmp[MEDIAN_AT + k]
        m["quantile_spread"][k] = tmp[QUANTILE_AT + k]
    if read(m, bin_, day) == MISSING:
        write(m, bin_, day, x)
    else:
        m["crowded"] = max(m["crowded"], day + 1)
    return ratio
