"""An entity's clock: its interval, its longest gap, and rows far ahead of it.

Invariant: a single row far ahead moves nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.entity.row import Reported, Row, is_duplicate
from shared.ensemble.kernels.layout import JOINT
from shared.ensemble.kernels.metric.interval import follow_interval
from shared.kernels.clock import CONFIRMED, agrees, follow_longest_gap, furthest


@njit(cache=True, error_model="numpy")
def begin(e: Record, t: int) -> None:
    """Set what is not zero before an entity's first row."""
    e["newest_ms"] = t
    e["day"] = -1
    e["return_level"] = 1.0
    e["threshold"] = 1.0
    for r in range(JOINT):
        e["joint_levels"][r] = 0.0


@njit(cache=True, error_model="numpy")
def is_ahead(e: Record, t: int) -> bool:
    """Whether a row lies far ahead of its entity, and fewer than two others have confirmed it."""
    if e["rows"] == 0 or t - e["newest_ms"] <= furthest(e["interval_ms"], e["usual_gap_ms"]):
        return False
    confirms = e["ahead_n"] > 0 and agrees(t, e["ahead_ms"], e["interval_ms"])
    e["ahead_n"] = e["ahead_n"] + 1 if confirms else 1
    e["ahead_ms"] = t
    return bool(e["ahead_n"] < CONFIRMED)


@njit(cache=True, error_model="numpy")
def is_repeated(e: Record, reported: Reported, values: Floats, t: int) -> bool:
    """Whether a row repeats time and values of the entity's newest one."""
    return t == e["newest_ms"] and e["rows"] > 0 and is_duplicate(reported, values, t)


@njit(cache=True, error_model="numpy")
def follow_clock(e: Record, row: Row) -> Row:
    """Learn the entity's interval and longest gap; return the row with the time that has passed."""
    step = row.time_ms - e["newest_ms"]
    if step > 0:
        passed = np.float64(step)
        e["usual_gap_ms"] = follow_longest_gap(
            e["usual_gap_ms"], passed, max(e["interval_ms"], 1.0)
        )
        e["interval_ms"] = follow_interval(e["interval_ms"], passed, e["rows"])
    e["rows"] += 1
    e["newest_ms"] = row.time_ms
    interval_ms = max(e["interval_ms"], 60_000.0)
    passed_ms = min(np.float64(step), 4.0 * interval_ms)
    e["live_ms"] += passed_ms
    return Row(row.place, row.offset, row.entity, row.time_ms, row.local_ms, passed_ms, interval_ms)
