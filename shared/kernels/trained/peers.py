"""Distance of a row from what is usual in its entity's peer group.

Invariant: a row's distance is computed from that row and the profiles of the groups alone, by
exactly rounded operations, so that its bits depend neither on the batch nor on the machine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

NUMBER, HOUR, FIRST_METRIC = range(3)
"""Columns of a row: its entity's number, the local hour, and from there on a value per metric."""

HOURS = 24

LARGEST_DISTANCE = 1e6
"""Larger distances count as this one."""


@njit(cache=True)
def part_of_day(hour: float, parts: int) -> int:
    """Return which of the equal parts of a day an hour lies in; 0 where it is no hour."""
    if not 0.0 <= hour < HOURS:
        return 0
    return int(hour) * parts // HOURS


@njit(cache=True)
def _from_group(X: Floats, row: int, center: Floats, spread: Floats) -> tuple[float, int, int]:
    """Return a row's largest distance from a group, the metrics compared and those present.

    center, spread : float64 (M,)  of the group at the row's time of day; NaN = not compared
    """
    largest, compared, present = 0.0, 0, 0
    for m in range(center.shape[0]):
        value = X[row, FIRST_METRIC + m]
        if math.isnan(value):
            continue
        present += 1
        if math.isnan(center[m]):
            continue
        compared += 1
        largest = max(largest, min(abs(value - center[m]) / spread[m], LARGEST_DISTANCE))
    return largest, compared, present


@njit("void(f8[:, ::1], i4[::1], f8[:, :, ::1], f8[:, :, ::1], f8[::1], i8[::1])", cache=True)
def score_peers(
    X: Floats,
    group: Indices,
    center: Floats,
    spread: Floats,
    scores: Floats,
    chosen: npt.NDArray[np.int64],
) -> None:
    """Score rows: the largest distance of a metric from the group's median, in its spreads.

    X              : float64 (n, FIRST_METRIC + M)  NUMBER outside of 0..E-1 = an unknown entity;
                     NaN = missing value
    group          : int32 (E,)        of each entity; -1 = it has no peers
    center, spread : float64 (G, T, M) of each group at each part of the day; NaN = not compared
    scores         : float64 (n,)      out; 0 where nothing was compared
    chosen         : int64 (n,)        out: the group that a row was compared with, -1 = none

    An unknown entity's row is compared with the group that it is nearest to, among those that have
    at least half of its metrics. Twin: tests/reference/peers.py::score_peers.  Cost: O(n M), for
    unknown entities O(n G M).
    """
    parts = center.shape[1]
    for row in range(X.shape[0]):
        scores[row] = 0.0
        chosen[row] = -1
        part = part_of_day(X[row, HOUR], parts)
        number = X[row, NUMBER]
        if 0.0 <= number < group.shape[0]:
            own = group[int(number)]
            if own >= 0:
                distance, compared, _ = _from_group(X, row, center[own, part], spread[own, part])
                if compared > 0:
                    scores[row] = distance
                    chosen[row] = own
            continue
        for other in range(center.shape[0]):
            distance, compared, present = _from_group(
                X, row, center[other, part], spread[other, part]
            )
            if compared == 0 or 2 * compared < present:
                continue
            if chosen[row] < 0 or distance < scores[row]:
                scores[row] = distance
                chosen[row] = other
