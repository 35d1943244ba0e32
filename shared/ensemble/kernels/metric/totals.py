"""Totals that only grow: recognised, judged by their growth per second; a reset is no anomaly.

Invariant: a metric that becomes a total, or ceases to be one, starts its memory anew.
"""

from __future__ import annotations

from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    BINS,
    HOURS,
    SEASONS,
)
from shared.kernels.units import DAY_MS


@njit(cache=True, error_model="numpy")
def recognise_counter(m: Record, t: int, value: float) -> bool:
    """Recognise a total that only grows; returns whether its meaning has changed."""
    if value > m["total"]:
        m["ups"] += 1
    elif value < m["total"]:
        if value < 0.0 or value > 0.1 * m["total"]:
            m["downs"] += 1
            m["ups"] = 0
            m["equals"] = 0
            m["up_since_ms"] = t
    else:
        m["equals"] += 1
    if m["counter"] == 0:
        n = m["ups"] + m["equals"]
        if (
            m["ups"] >= 60
            and m["ups"] > 0.5 * n
            and t - m["up_since_ms"] > 1.5 * DAY_MS
            and m["samples"] < 2000 + 0 * n
        ):
            forget_values(m, 1)
            m["total"] = value
            m["total_ms"] = t
            return True
        return False
    if m["downs"] >= 3:
        forget_values(m, 0)
        m["total"] = value
        m["total_ms"] = t
        return True
    return False


@njit(cache=True, error_model="numpy")
def forget_values(m: Record, counter: int) -> None:
    """Forget what was learned in another meaning of the value."""
    m["counter"] = counter
    m["downs"] = 0
    m["samples"] = 0
    m["scale"] = 0.0
    m["live_ms"] = 0.0
    m["minute_n"] = 0
    m["bin_n"] = 0
    m["hour_n"] = 0
    m["hour_x"] = 0.0
    m["steps"] = m["sizes"] = m["jumps"] = m["newest_n"] = m["fresh"] = 0
    for side in range(2):
        m["tail"][side, 0] = m["tail"][side, 1] = 0.0
    m["typical"] = m["step"] = m["size"] = m["share"] = m["often"] = m["daily"] = 0.0
    m["maxima_n"] = m["levels_n"] = 0
    m["season"] = 0
    for c in range(SEASONS):
        m["level"][c] = 0.0
        m["error"][c] = 0.0
        m["hour_r"][c] = 0.0
        m["hour_c"][c] = 0
    for k in range(HOURS):
        m["hours"][k] = 0
    for k in range(BINS):
        m["written"][k] = 0
    m["old_until_ms"] = 0
    m["run_n"] = 0
    m["run_longest"] = 0.0
    m["missed"] = 0.0
    clear_views(m)


@njit(cache=True, error_model="numpy")
def clear_views(m: Record) -> None:
    """Report nothing of a value that is not judged."""
    for view in range(ALL_VIEWS):
        m["ratio"][view] = 0.0
