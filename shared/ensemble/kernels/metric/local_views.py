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
from shared.ensemble.kernels.layout import ALL, BACK, DAY_MS, JUMP, SEASONS, SPREAD, STUCK
from shared.ensemble.kernels.metric.deviation import may_excuse
from shared.ensemble.kernels.metric.interval import (
    INTERVAL,
    OF_DAY,
    OF_SPREAD,
    OF_WEEK,
    PAUSE,
    RUN_LEFT,
    spread_span,
)


@njit(cache=True)
def judge_jump(
    m: Record,
    x: float,
    value: float,
    hour: int,
    floor: float,
    residual: float,
    near: int,
    fades: Floats,
    v: Floats,
    tmp: Floats,
) -> None:
    """Judge the jump from the newest six values, plain and after each season; the least counts."""
    season = m["season"]
    if m["newest_n"] >= BACK:
        for k in range(BACK):
            tmp[k] = m["newest_values"][k]
        m["jump_from"] = median(tmp, BACK)
        low = (tmp[(BACK - 1) // 2] - m["centre"]) / m["scale"]
        high = (tmp[BACK // 2] - m["centre"]) / m["scale"]
        least, own = x - 0.5 * (low + high), 0.0
        for c in range(SEASONS):
            u = np.float64(m["usual_values"][c, near])
            if (least == 0.0 and c != season) or math.isnan(u) or not may_excuse(m, c, near):
                continue
            for k in range(BACK):
                tmp[k] = m["newest_residuals"][c, k]
            e: float = x - u - median(tmp, BACK)
            if c == season:
                own = e
            if e * least <= 0.0:
                least = 0.0
            elif abs(e) < abs(least):
                least = e
        if least != 0.0:
            for k in range(BACK):
                tmp[k] = m["newest_residuals"][SEASONS, k]
            before = median(tmp, BACK)
            e = residual - before
            if e * least <= 0.0:
                least = 0.0
            elif abs(e) < abs(least):
                least = e
            if abs(residual) < abs(before):
                least = 0.0  # on its way back
        size = abs(own)
        every = m["jump"]
        if m["jumps"] == 0:
            for k in range(25):
                every[k] = max(size, floor)
        eta = max(0.01, 1.0 / (1.0 + m["jumps"]))
        total: float = np.float64(every[24])
        total = max(total * math.exp(eta * (0.8 if size > total else -0.2)), 1e-9)
        every[24] = total
        mine = np.float64(every[hour])
        usual = max(max(mine, 0.5 * total) / 1.28, 0.5 * floor)
        v[JUMP] = clip(least / usual, 1e3)
        m["near_jump"] = v[JUMP]
        eta = 0.15 * min(1.0, fades[INTERVAL] / 300_000.0)
        every[hour] = max(mine * math.exp(eta * (0.8 if size > mine else -0.2)), 0.1 * total)
        m["jumps"] += 1
        r0 = x - np.float64(
            m["usual_values"][
                season if not math.isnan(m["usual_values"][season, near]) else ALL, near
            ]
        )
        step = min(abs(r0 - m["before_r"]) / usual, 6.0)
        m["spread_now"] += (step - m["spread_now"]) * fades[OF_SPREAD]
        m["spread_ms"] += fades[PAUSE]
        learned = fades[OF_WEEK]
        if m["live_ms"] < 7.0 * DAY_MS:
            learned = fade(fades[PAUSE], max(m["live_ms"], 0.2 * DAY_MS))
        m["spread_usual"] += (m["spread_now"] - m["spread_usual"]) * learned
        if m["spread_ms"] > spread_span(fades[INTERVAL]):
            v[SPREAD] = m["spread_now"] / max(m["spread_usual"], 0.3)
    k = m["newest_n"] % BACK
    for c in range(SEASONS):
        u = np.float64(m["usual_values"][c, near])
        m["newest_residuals"][c, k] = x - (
            u if not math.isnan(u) else np.float64(m["usual_values"][ALL, near])
        )
    m["newest_residuals"][SEASONS, k] = residual
    m["newest_values"][k] = value
    m["newest_n"] += 1


@njit(cache=True)
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


@njit(cache=True)
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
