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
    DAYS,
    QUARTER,
    RING,
    SEASONS,
    VALUE,
)
from shared.ensemble.kernels.metric.deviation import (
    LARGEST_CODED,
    LARGEST_DEVIATION,
    nearest_baseline,
    season_at,
    spread_in_force,
    spread_of,
)
from shared.ensemble.kernels.season.digest import digest_ring
from shared.ensemble.kernels.season.extremes import HIGH_AT
from shared.ensemble.kernels.season.season_memory import bin_of, near_of, read, write
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS

BASELINE_AT = 200
MEDIAN_AT = BASELINE_AT + SEASONS * RING
QUANTILE_AT = MEDIAN_AT + RING
"""Places of the scratch that hold what the ring shows of the newest value."""

if not 5 * DAYS <= BASELINE_AT <= QUANTILE_AT + RING <= HIGH_AT:
    raise ImportError("a late value's scratch overlaps that of digest or extremes")


@step
def _keep_ring(m: Record, tmp: Floats) -> None:
    """Keep what the ring shows of the newest value in the scratch."""
    for c in range(SEASONS):
        for k in range(RING):
            tmp[BASELINE_AT + c * RING + k] = m["baselines"][c, k]
    for k in range(RING):
        tmp[MEDIAN_AT + k] = m["median_spread"][k]
        tmp[QUANTILE_AT + k] = m["quantile_spread"][k]


@step
def _restore_ring(m: Record, tmp: Floats) -> None:
    """Write back what ``_keep_ring`` has kept."""
    for c in range(SEASONS):
        for k in range(RING):
            m["baselines"][c, k] = tmp[BASELINE_AT + c * RING + k]
    for k in range(RING):
        m["median_spread"][k] = tmp[MEDIAN_AT + k]
        m["quantile_spread"][k] = tmp[QUANTILE_AT + k]


@step
def _expect(m: Record, x: float, near: int) -> float:
    """Write what is expected at a late value's time; return its deviation in spreads."""
    remembered, floor = spread_of(m, near)
    spread = spread_in_force(m, remembered, floor, m["level"][m["season"]])
    z, _, nearest = nearest_baseline(m, x, near, spread)
    z = clip(z, LARGEST_DEVIATION)
    season = season_at(m, near)
    expected = np.float64(m["baselines"][season, near]) + m["level"][season]
    m["expected"] = nearest if abs(z) < 3.0 else expected
    m["spread"] = spread
    return z


@step
def _follow_mean(m: Record, t: int, z: float) -> float:
    """Follow the mean of the late values of a quarter of an hour; return it."""
    away = abs(np.float64(t - m["late_ms"]))
    if away > max(6.0 * m["interval_ms"], 1_800_000.0):
        m["late_ew"] = 0.0
    span_ms = max(900_000.0, 1.5 * m["interval_ms"])
    learn = fade(min(away, 4.0 * m["interval_ms"]), span_ms)
    m["late_ew"] += (clip(z, 15.0) - m["late_ew"]) * learn
    m["late_ms"] = t
    mean: float = m["late_ew"]
    return mean


@step
def _ratio_of(m: Record, t: int, z: float) -> float:
    """Return the larger ratio of a late value and of the mean of late values to their levels."""
    limit = np.float64(m["return_level"][VALUE, 0 if z > 0.0 else 1])
    ratio = z / limit if limit > 0.0 else math.nan
    mean = _follow_mean(m, t, z)
    limit = np.float64(m["return_level"][QUARTER, 0 if mean > 0.0 else 1])
    if limit > 0.0 and abs(mean) / limit > abs(ratio) and abs(z) > 3.0 and mean * z > 0.0:
        ratio = mean / limit
    return ratio


@njit(cache=True, error_model="numpy")
def judge_late(m: Record, t: int, local_ms: int, value: float, tmp: Floats) -> float:
    """Judge a value that is older than the newest by its own time of day, and remember it there.

    returns : ratio to the level of single values, signed; NaN where it cannot be judged
    tmp     : float64 (SCRATCH,)  scratch
    """
    if m["scale"] <= 0.0 or m["counter"] == 1:
        return math.nan
    near = near_of(m["width"])
    day, bin_ = int(local_ms // DAY_MS), bin_of(local_ms, m["width"])
    _keep_ring(m, tmp)
    digest_ring(m, day, bin_, 0, tmp)
    ratio = math.nan
    x = clip((value - m["centre"]) / m["scale"], LARGEST_CODED)
    if not math.isnan(m["baselines"][ALL, near]):
        z = _expect(m, x, near)
        ratio = _ratio_of(m, t, z)
    _restore_ring(m, tmp)
    if read(m, bin_, day) == MISSING:
        write(m, bin_, day, x)
    else:
        m["crowded"] = max(m["crowded"], day + 1)
    return ratio
