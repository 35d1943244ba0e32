"""One (entity, metric): from a value to how unusual each view finds it.

Invariant: a pure fold over the metric's values in order of time; every memory is in time, none is
in rows.
"""

from __future__ import annotations

import math

import numpy as np

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.fetching import Ahead
from shared.ensemble.kernels.layout import (
    EnsembleParams,
    Settings,
)
from shared.ensemble.kernels.metric.interval import FASTEST_MS, follow_interval
from shared.ensemble.kernels.metric.sample import MetricWork, fold_sample
from shared.ensemble.kernels.metric.totals import recognise_counter
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS, MINUTE_MS


@step
def _begin(m: Record, t: int, value: float) -> None:
    """Set what is not zero before a metric's first value."""
    m["origin_ms"] = t
    m["last_ms"] = t
    m["up_since_ms"] = t
    m["total"] = value
    m["total_ms"] = t


@step
def _growth(m: Record, t: int, value: float) -> float:
    """Return the growth of a total per second since the value before; NaN where there is none."""
    growth, passed_ms = value - m["total"], t - m["total_ms"]
    if passed_ms <= 0:
        return math.nan
    m["total"] = value
    m["total_ms"] = t
    return growth / (passed_ms / 1000.0) if growth >= 0.0 else math.nan


@step
def _start_minute(m: Record, minute: int, t: int, value: float) -> None:
    """Start the mean of a minute at its first value."""
    m["minute"] = minute
    m["minute_sum"] = value
    m["minute_n"] = 1
    m["minute_ms"] = t


@step
def fold_value(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    settings: Settings,
    params: EnsembleParams,
    work: MetricWork,
    ahead: Ahead,
) -> bool:
    """Fold one finite value in order of time.

    returns : whether it made a sample that was judged; else the views keep their last figures

    A total is judged by its growth, a metric faster than FASTEST_MS by the means of its minutes:
    the first value of a minute ends the one before. Cost: O(1).
    """
    if m["seen"] == 0:
        _begin(m, t, value)
    gap = t - m["last_ms"]
    if gap > 0:
        m["interval_ms"] = follow_interval(m["interval_ms"], np.float64(gap), m["seen"])
    m["seen"] += 1
    m["last_ms"] = t
    m["newest"] = value
    if m["seen"] > 1 and recognise_counter(m, t, value):
        return False
    if m["counter"] == 1:
        value = _growth(m, t, value)
        if math.isnan(value):
            return False
    elif gap > 0 or m["seen"] == 1:
        m["total"] = value
        m["total_ms"] = t
    sample_ms, minute = t, t // MINUTE_MS
    is_fast = 0.0 < m["interval_ms"] < FASTEST_MS
    if is_fast:
        if m["minute_n"] > 0 and minute == m["minute"]:
            m["minute_sum"] += value
            m["minute_n"] += 1
            m["minute_ms"] = t
            return False
        mean, n, sample_ms = m["minute_sum"], m["minute_n"], m["minute_ms"]
        _start_minute(m, minute, t, value)
        if n == 0:
            return False
        value = mean / n
    else:
        m["minute_n"] = 0
        if m["samples"] > 0 and t - m["sample_ms"] < min(0.5 * m["interval_ms"], 60_000.0):
            m["crowded"] = int(local_ms // DAY_MS) + 1
            return False
    return fold_sample(
        m, sample_ms, sample_ms + (local_ms - t), value, settings, params, work, ahead
    )
