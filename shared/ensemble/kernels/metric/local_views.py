"""A value against the few before it.

Jump, spread of changes, equal values, range of the first days.

Invariant: what a value moves is bounded by a step, whatever its size.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.codes import clip, fade, median
from shared.ensemble.kernels.fades import (
    GAP,
    INTERVAL,
    OF_DAY,
    OF_SPREAD,
    OF_WEEK,
    RUN_LEFT,
    spread_span,
)
from shared.ensemble.kernels.layout import (
    BACK,
    JUMP,
    SEASONS,
    SPREAD,
    STUCK,
)
from shared.ensemble.kernels.metric.deviation import Sample, baseline_at, may_excuse
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS

LEAST_CHANGE = 0.3
"""Usual size of a change at least, in spreads of jumps no smaller than half the floor."""

EVERY_HOUR = 24
"""Place of the jumps of all hours among those by hour of day."""


@step
def _nearer(least: float, e: float) -> float:
    """Return the smaller of two jumps; 0 where they have not the same sign."""
    if e * least <= 0.0:
        least = 0.0
    elif abs(e) < abs(least):
        least = e
    return least


@step
def _median_residual(m: Record, season: int, tmp: Floats) -> float:
    """Return the median of the newest residuals of a season; SEASONS = of the value expected."""
    for k in range(BACK):
        tmp[k] = m["newest_residuals"][season, k]
    return median(tmp, BACK)


@step
def _least_jump(m: Record, sample: Sample, residual: float, tmp: Floats) -> tuple[float, float]:
    """Return the least jump, plain and after each season, and the jump after the season believed.

    residual : of the sample, from the value expected
    """
    season, x, near = m["season"], sample.x, sample.near
    for k in range(BACK):
        tmp[k] = m["newest_values"][k]
    m["jump_from"] = median(tmp, BACK)
    low = (tmp[(BACK - 1) // 2] - m["centre"]) / m["scale"]
    high = (tmp[BACK // 2] - m["centre"]) / m["scale"]
    least, own = x - 0.5 * (low + high), 0.0
    for c in range(SEASONS):
        u = np.float64(m["baselines"][c, near])
        if (least == 0.0 and c != season) or math.isnan(u) or not may_excuse(m, c, near):
            continue
        e = x - u - _median_residual(m, c, tmp)
        if c == season:
            own = e
        least = _nearer(least, e)
    if least != 0.0:
        before = _median_residual(m, SEASONS, tmp)
        least = _nearer(least, residual - before)
        if abs(residual) < abs(before):
            least = 0.0  # on its way back
    return least, own


@step
def _follow_jumps(m: Record, size: float, hour: int, floor: float, interval_ms: float) -> float:
    """Learn the size of a jump, over all hours and at its hour; return the spread of jumps before.

    floor : under the first size, coded

    Tracked are 80 % quantiles, in logarithms (Robbins, Monro, "A Stochastic Approximation Method",
    1951).
    """
    sizes = m["jump"]
    if m["jumps"] == 0:
        for k in range(EVERY_HOUR + 1):
            sizes[k] = max(size, floor)
    eta = max(0.01, 1.0 / (1.0 + m["jumps"]))
    total: float = np.float64(sizes[EVERY_HOUR])
    total = max(total * math.exp(eta * (0.8 if size > total else -0.2)), 1e-9)
    sizes[EVERY_HOUR] = total
    mine = np.float64(sizes[hour])
    eta = 0.15 * min(1.0, interval_ms / 300_000.0)
    sizes[hour] = max(mine * math.exp(eta * (0.8 if size > mine else -0.2)), 0.1 * total)
    m["jumps"] += 1
    return max(mine, 0.5 * total) / 1.28


@step
def _follow_changes(m: Record, change: float, least: float, fades: Floats, v: Floats) -> None:
    """Judge the mean size of the changes lately by that of the days before.

    change : size of a change, in spreads of jumps
    least  : usual size of a change at least, in the same unit
    """
    m["spread_now"] += (change - m["spread_now"]) * fades[OF_SPREAD]
    m["spread_ms"] += fades[GAP]
    learned = fades[OF_WEEK]
    if m["live_ms"] < 7.0 * DAY_MS:
        learned = fade(fades[GAP], max(m["live_ms"], 0.2 * DAY_MS))
    m["spread_usual"] += (m["spread_now"] - m["spread_usual"]) * learned
    m["spread_least"] = least
    if m["spread_ms"] > spread_span(fades[INTERVAL]):
        v[SPREAD] = m["spread_now"] / max(m["spread_usual"], least)


@step
def judge_jump(
    m: Record,
    sample: Sample,
    floor: float,
    residual: float,
    fades: Floats,
    v: Floats,
    tmp: Floats,
) -> None:
    """Judge the jump from the newest six values, plain and after each season; the least counts.

    floor    : under the spread of values, coded
    residual : of the sample, from the value expected
    """
    x, near = sample.x, sample.near
    if m["newest_n"] >= BACK:
        least, own = _least_jump(m, sample, residual, tmp)
        jumps = _follow_jumps(m, abs(own), sample.hour, floor, fades[INTERVAL])
        spread = max(jumps, 0.5 * floor)
        v[JUMP] = clip(least / spread, 1e3)
        m["near_jump"] = v[JUMP]
        r = x - baseline_at(m, m["season"], near)
        # In units that do not move with the floor, which another season changes within a day.
        change = min(abs(r - m["before_r"]) / jumps, 6.0)
        _follow_changes(m, change, LEAST_CHANGE * spread / jumps, fades, v)
    k = m["newest_n"] % BACK
    for c in range(SEASONS):
        m["newest_residuals"][c, k] = x - baseline_at(m, c, near)
    m["newest_residuals"][SEASONS, k] = residual
    m["newest_values"][k] = sample.value
    m["newest_n"] += 1


@njit(cache=True, error_model="numpy")
def restart_spread(m: Record) -> None:
    """Judge the spread by later changes alone: after a gap, and after an incident."""
    m["spread_now"] = m["spread_usual"]
    m["spread_ms"] = 0.0


@njit(cache=True, error_model="numpy")
def judge_stuck(
    m: Record, t: int, value: float, gap: float, iv: float, fades: Floats, v: Floats
) -> None:
    """Stretch of equal values, against the longest one before."""
    m["flat"] = 0
    if m["samples"] > 0 and value == m["last"] and gap < 6.0 * iv + 1_800_000.0:
        m["run_n"] += 1
        length = np.float64(t - m["run_ms"])
        if m["run_n"] > 12 and m["varied"] > 0.5:
            if m["live_ms"] > 1.5 * DAY_MS:
                v[STUCK] = min(
                    length / 5_400_000.0,
                    length / (3.0 * m["run_longest"]) if m["run_longest"] > 0.0 else 1e3,
                )
            if v[STUCK] >= 1.0 or length > DAY_MS:
                m["flat"] = 1
                m["stuck_ms"] = t
    else:
        if m["run_n"] > 0 and m["stuck_ms"] < m["sample_ms"]:
            m["run_longest"] = max(m["run_longest"], np.float64(m["sample_ms"] - m["run_ms"]))
        m["run_longest"] *= fades[RUN_LEFT]
        m["run_n"] = 0
        m["run_ms"] = t
    if m["samples"] > 0 and m["flat"] == 0:
        m["varied"] += ((1.0 if value != m["last"] else 0.0) - m["varied"]) * fades[OF_DAY]


@njit(cache=True, error_model="numpy")
def follow_range(m: Record, value: float, x: float) -> None:
    """Typical size of a change and range of the values; a value moves each by a step at most."""
    if m["samples"] > 0 and value != m["last"] and m["scale"] > 0.0:
        size = abs(value - m["last"]) / m["scale"]
        m["step"] = (
            size
            if m["steps"] == 0
            else m["step"]
            * math.exp(min(0.05, 1.0 / m["steps"]) * (1.0 if size > m["step"] else -1.0))
        )
        m["steps"] += 1
    if m["samples"] == 0:
        m["range_low"] = m["range_high"] = x
    pace = 0.02 * max(m["typical"], m["step"]) * max(1.0, 400.0 / (1.0 + m["samples"]))
    m["range_low"] += pace * (0.05 if x > m["range_low"] else -0.95)
    m["range_high"] += pace * (0.95 if x > m["range_high"] else -0.05)
