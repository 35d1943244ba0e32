"""Linear scale from the warm-up, running median and range.

The deadband that keeps noise from looking novel.

Invariant: amplitude is never warped: what leaves here is an affine function of what came in, or
zero.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats, Record
from shared.ensemble.kernels.course.course_layout import MEDIAN

LIMIT = 1e9
"""Scaled values are clipped to +-LIMIT, so that sums of their squares stay finite in float32."""


@njit(cache=True, error_model="numpy")
def robust_scale(values: Floats) -> tuple[float, float]:
    """Centre and spread of a warm-up.

    values  : float64 (n,), n >= 1, finite
    returns : median (upper of the middle two); the larger of (q90 - q10) / 2.56 and a tenth of the
              standard deviation, but at least 1 % of |median|, and > 0

    Cost: O(n log n).
    """
    ordered = np.sort(values)
    n = ordered.size
    centre = np.float64(ordered[n // 2])
    half = 0.5 * np.float64(ordered[n - 1]) - 0.5 * np.float64(ordered[0])
    middle = 0.5 * np.float64(ordered[n - 1]) + 0.5 * np.float64(ordered[0])
    mean = 0.0
    square = 0.0
    if half > 0.0:
        for i in range(n):
            mean += (np.float64(values[i]) - middle) / half / n
        for i in range(n):
            deviation = (np.float64(values[i]) - middle) / half - mean
            square += deviation * deviation / n
    spread = max(
        (np.float64(ordered[int(n * 0.9)]) / 2.56 - np.float64(ordered[int(n * 0.1)]) / 2.56),
        0.1 * half * math.sqrt(square),
    )
    spread = np.float64(max(spread, 0.01 * abs(centre)))
    if spread < 1e-290:
        return centre, 1e-6
    return centre, spread


@njit(cache=True, error_model="numpy")
def rescale(value: float, centre: float, spread: float) -> float:
    """Scale one finite value; clipped to +-LIMIT."""
    return min(max(value / spread - centre / spread, -LIMIT), LIMIT)


@njit(cache=True, error_model="numpy")
def push_median(median: Record, value: float) -> None:
    """Add a value to the running median; beyond MEDIAN values the oldest leaves.

    Cost: O(MEDIAN).
    """
    ring, order = median["ring"], median["order"]
    size, place = median["size"], median["next"]
    new = np.float32(value)
    if size == MEDIAN:
        at = 0
        while order[at] != place:
            at += 1
        for i in range(at, size - 1):
            order[i] = order[i + 1]
        size -= 1
    at = size
    while at > 0 and ring[order[at - 1]] > new:
        order[at] = order[at - 1]
        at -= 1
    order[at] = place
    ring[place] = new
    median["size"] = size + 1
    median["next"] = (place + 1) % MEDIAN


@njit(cache=True, error_model="numpy")
def middle_of(median: Record) -> float:
    """Return the running median, of at least one value; the upper of the middle two."""
    middle: float = np.float64(median["ring"][median["order"][median["size"] // 2]])
    return middle


@njit(cache=True, error_model="numpy")
def deadband(value: float, middle: float, width: float) -> float:
    """Distance from the middle; zero when less than width."""
    distance = value - middle
    return 0.0 if abs(distance) < width else distance
