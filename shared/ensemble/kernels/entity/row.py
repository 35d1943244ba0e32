"""A row of an entity as the steps after its values see it.

Invariant: nothing here outlives the row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import bounded
from shared.ensemble.kernels.layout import (
    EnsembleParams,
)
from shared.kernels.units import HOUR_MS


class Row(NamedTuple):
    """Where and when a row stands."""

    place: int  # in its batch
    offset: int  # in the log
    entity: int
    time_ms: int
    local_ms: int
    passed_ms: float  # since the entity's row before; of a gap, four intervals at most
    interval_ms: float  # usual, at least a minute


class Reported(NamedTuple):
    """The metrics that an entity has, in the order in which they are judged.

    metrics : METRIC_DTYPE (S,)
    slots   : int64 (>= n,)  of the entity's metrics
    columns : int64 (>= n,)
    judged  : bool (>= n,)   whether the row made a sample of it that was judged
    ratios  : float64 (>= n,) largest ratio of any view but the course to its level, NaN = not
              judged; ``largest_ratio`` writes them
    """

    metrics: Record
    slots: Array
    columns: Array
    judged: Array
    ratios: Floats
    n: int


class Gate(NamedTuple):
    """What a row's ratios are measured by."""

    threshold: float  # in force: the asked one times that of the budget
    level: float  # the entity's level times the threshold
    quiet_ms: float  # without evidence, after which an episode ends


@njit(cache=True, error_model="numpy")
def gate_of(e: Record, interval_ms: float, params: EnsembleParams) -> Gate:
    """Return what the ratios of an entity's row are measured by.

    interval_ms : usual, at least a minute
    """
    threshold = params.threshold * e["threshold"]
    quiet_ms = max(params.quiet_hours * HOUR_MS, 6.0 * interval_ms)
    return Gate(threshold, e["return_level"] * threshold, quiet_ms)


@njit(cache=True, error_model="numpy")
def joining_ms(interval_ms: float) -> float:
    """Return how long after an opening the entity's other evidence joins it, ms.

    interval_ms : usual

    Three intervals, so that what one cause moves is one alarm, but no more than an hour where one
    interval is less: hours later it is another incident.
    """
    return max(min(3.0 * interval_ms, 1.0 * HOUR_MS), interval_ms)


@njit(cache=True, error_model="numpy")
def decode_value(m: Record, x: float) -> float:
    """Return a coded value in the metric's own unit."""
    return np.float64(m["centre"] + m["scale"] * x)


@njit(cache=True, error_model="numpy")
def is_duplicate(reported: Reported, values: Floats, t: int) -> bool:
    """Whether a row repeats time and values of the newest one.

    values : float64 (M,)  NaN = missing
    """
    same = False
    for j in range(reported.n):
        x, m = values[reported.columns[j]], reported.metrics[reported.slots[j]]
        if math.isnan(x):
            continue
        if m["seen"] == 0 or m["last_ms"] != t or m["newest"] != bounded(x):
            return False
        same = True
    return same
