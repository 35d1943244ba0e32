"""One (entity, metric): from a value to how unusual each view finds it.

Invariant: a pure fold over the metric's values in order of time; every memory is in time, none is
in rows.
"""

from __future__ import annotations

import numpy as np

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.layout import DAY_MS, MINUTE_MS, EnsembleParams, Settings
from shared.ensemble.kernels.metric.interval import FASTEST_MS, follow_interval
from shared.ensemble.kernels.metric.sample import MetricWork, fold_sample
from shared.ensemble.kernels.metric.totals import recognise_counter
from shared.kernels.steps import step


@step
def fold_value(
    m: Record,
    t: int,
    local_ms: int,
    value: float,
    settings: Settings,
    params: EnsembleParams,
    work: MetricWork,
) -> bool:
    """Fold one finite value in order of time.

    returns : whether it made a sample that was judged; else the views keep their last figures

    Cost: O(1), see DESIGN.md.
    """
    if m["seen"] == 0:
        m["origin_ms"] = t
        m["last_ms"] = t
        m["up_since_ms"] = t
        m["total"] = value
        m["total_ms"] = t
    pause = t - m["last_ms"]
    if pause > 0:
        m["interval_ms"] = follow_interval(m["interval_ms"], np.float64(pause), m["seen"])
    m["seen"] += 1
    m["last_ms"] = t
    m["newest"] = value
    if m["seen"] > 1:
        changed = recognise_counter(m, t, value)
        if changed:
            return False
    if m["counter"] == 1:
        step, since = value - m["total"], t - m["total_ms"]
        if since <= 0:
            return False
        m["total"] = value
        m["total_ms"] = t
        if step < 0.0:
            return False
        value = step / (since / 1000.0)
    elif pause > 0 or m["seen"] == 1:
        m["total"] = value
        m["total_ms"] = t
    iv = m["interval_ms"]
    if 0.0 < iv < FASTEST_MS:
        minute = t // MINUTE_MS
        if m["minute_n"] > 0 and minute == m["minute"]:
            m["minute_sum"] += value
            m["minute_n"] += 1
            m["minute_ms"] = t
            return False
        judged = False
        if m["minute_n"] > 0:
            shift = local_ms - t
            judged = fold_sample(
                m,
                m["minute_ms"],
                m["minute_ms"] + shift,
                m["minute_sum"] / m["minute_n"],
                settings,
                params,
                work,
            )
        m["minute"] = minute
        m["minute_sum"] = value
        m["minute_n"] = 1
        m["minute_ms"] = t
        return judged
    m["minute_n"] = 0
    if m["samples"] > 0 and t - m["sample_ms"] < min(0.5 * iv, 60_000.0):
        m["crowded"] = int(local_ms // DAY_MS) + 1
        return False
    return fold_sample(m, t, local_ms, value, settings, params, work)
