"""Absence: a usual event that does not come, seen as a silence longer than any before.

Invariant: nothing is reported before a week and twenty silences (five, if they are alike) have been
seen.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.layout import EnsembleParams
from shared.kernels.units import HOUR_MS

MIN_HOURS = 168.0
MAX_HOURS = 1440.0
MIN_GAPS = 20
MIN_REGULAR_GAPS = 5
REGULAR = 0.1
"""Silences are alike when their typical length is less than this below the longest.

In natural logarithms.
"""

MARGIN = 1.1
"""A silence is unusual when it is longer than the longest by this factor."""

LONG_HOURS = 12.0
"""Shorter silences are the business of the other members.

This one is for what happens a few times a day at most.
"""

MEMORY = 100


@njit(cache=True, error_model="numpy")
def watch_silence(
    state: Record, active: bool, time_ms: int, shortest: int, params: EnsembleParams
) -> None:
    """Follow the silences of a series, and judge the present one.

    active           : whether the value left the resting level
    shortest         : values; shorter pauses belong to one burst
    state["absence"] : out: Z of the present silence: by how many powers of ten it is rarer than
                       once an hour, if the longest of those seen in T hours is exceeded about once
                       in T hours and longer ones fall off as a power of their length (the Hill
                       estimate of the earlier ones, at least ``params.absence_slope``); 0 while it
                       is usual

    Twin: tests/reference/absence.py::silences.  Cost: O(1).
    """
    state["absence"] = 0.0
    state["longest"] -= state["longest"] / (
        2.0 * params.rank_memory * state["warmup"] * state["fold"]
    )
    if active:
        length = np.float64(state["quiet"])
        if length >= shortest and state["last_active"] == 1:
            state["gaps"] += 1
            state["mean_log"] += (math.log(length) - state["mean_log"]) / min(state["gaps"], MEMORY)
            state["longest"] = max(state["longest"], length)
        state["quiet"] = 0
        state["last_active"] = 1
        return
    state["quiet"] += 1
    length = np.float64(state["quiet"])
    longest = state["longest"]
    if (
        longest <= 0.0
        or length <= MARGIN * longest
        or length * state["interval_ms"] < LONG_HOURS * HOUR_MS
    ):
        return
    hours = min((time_ms - state["origin_ms"]) / HOUR_MS, MAX_HOURS)
    typical = math.log(longest) - state["mean_log"]
    gaps = state["gaps"]
    if hours < MIN_HOURS or gaps < MIN_REGULAR_GAPS or (gaps < MIN_GAPS and typical > REGULAR):
        return
    slope = max(params.absence_slope, 1.0 / (max(typical, 0.0) + 0.05))
    state["absence"] = params.absence * (math.log10(hours) + slope * math.log10(length / longest))
