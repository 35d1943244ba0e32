"""The first days of a metric: whether it is ready, how long it takes, what stands out before.

Invariant: a warm-up is a time, with so few samples that daily data get through it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.layout import (
    EnsembleParams,
)
from shared.kernels.units import DAY_MS

READY_SAMPLES = 14
COLD_SAMPLES = 30
"""Samples after which a value far outside of all so far is reported."""


@njit(cache=True, error_model="numpy")
def is_ready(m: Record, params: EnsembleParams) -> bool:
    """Whether a metric's warm-up is over: after its days, and not before its samples."""
    return bool(m["live_ms"] >= params.ready_days * DAY_MS and m["samples"] >= READY_SAMPLES)


@njit(cache=True, error_model="numpy")
def warmup_share(m: Record, params: EnsembleParams) -> float:
    """Share of a metric's warm-up that is done, 1 = ready."""
    done: float = min(
        m["live_ms"] / (params.ready_days * DAY_MS), np.float64(m["samples"]) / READY_SAMPLES
    )
    return min(done, 1.0)


@njit(cache=True, error_model="numpy")
def time_left_ms(m: Record, params: EnsembleParams) -> float:
    """Milliseconds until a metric is ready, at its usual interval."""
    by_time = params.ready_days * DAY_MS - m["live_ms"]
    by_samples = (READY_SAMPLES - m["samples"]) * m["interval_ms"]
    left: float = max(max(by_time, by_samples), 0.0)
    return left


@njit(cache=True, error_model="numpy")
def judge_cold(m: Record, value: float, params: EnsembleParams) -> None:
    """Judge whether a value of the first days lies far outside of all so far.

    Ten times on day one. The range stays that of the values before while the row is described.
    """
    if m["cold"] != 0 and m["low"] == m["high"]:  # all before were equal: now it is one of them
        m["low"] = min(m["low"], m["last"])
        m["high"] = max(m["high"], m["last"])
    m["cold"] = 0
    if is_ready(m, params):
        return
    if m["samples"] == 0:
        m["low"] = m["high"] = value
        return
    width = m["high"] - m["low"]
    times = 1.0 if m["live_ms"] >= DAY_MS else 10.0
    if m["samples"] >= COLD_SAMPLES:
        beyond = max(m["low"] - value, value - m["high"])
        typical = max(m["step"] * m["scale"], 0.01 * abs(m["centre"]))
        if beyond > times * width and beyond > times * 8.0 * typical:
            m["cold"] = 1 if value > m["high"] else -1
            return
    m["low"] = min(m["low"], value)
    m["high"] = max(m["high"], value)
