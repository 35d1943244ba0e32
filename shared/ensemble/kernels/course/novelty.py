"""Novelty: how far the shape of the newest blocks is from all that the series has shown before.

Invariant: a vector joins the library only when it is older than the blocks it is compared with, and
the library covers: when it is full, the vector that is nearest to another one gives way, so what
was rare stays. Vectors are of codes, whole multiples of a unit that follows the range of values, so
that equal shapes have a distance of 0.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats32, Record
from shared.ensemble.kernels.course.course_layout import BLOCKS, LIBRARY, SHAPE

FINE = 14
"""A unit is 2**-FINE of a power of two that is the range or up to eight times as large."""

LARGEST_CODE = 32767.0


@njit(cache=True, error_model="numpy")
def _code(x: float) -> int:
    """Return the nearest code of a number of units."""
    return math.floor(min(max(x, -LARGEST_CODE), LARGEST_CODE) + 0.5)


@njit(cache=True, error_model="numpy")
def fit_unit(member: Record, width: float) -> None:
    """Let the unit follow the range of values; what is remembered is expressed in the new one.

    width : of the range, >= 0; values to come are at most so large

    Cost: O(1), and O(LIBRARY SHAPE) for each factor of four or more by which the range changes.
    """
    unit = np.float64(member["unit"])
    if width <= 0.0 or 2.0 ** (FINE - 3) * unit < width <= 2.0**FINE * unit:
        return
    new = 2.0 ** max(math.frexp(width)[1] - FINE, -100)
    member["unit"] = new
    factor = unit / new
    stats, library, apart = member["stats"], member["library"], member["apart"]
    for at in range(stats.shape[0]):
        for k in range(3):
            stats[at, k] = _code(factor * stats[at, k])
    for k in range(SHAPE):
        for r in range(member["size"]):
            library[k, r] = _code(factor * library[k, r])
    for r in range(member["size"]):
        apart[r] = np.float64(apart[r]) * factor * factor


@njit(cache=True, error_model="numpy")
def push_block(member: Record, block: int, mean: float, high: float, low: float) -> None:
    """Add a sample and remember mean, maximum and minimum of the newest ``block`` samples.

    Cost: O(block).
    """
    values = member["values"]
    stats = member["stats"]
    count = member["count"]
    room = values.shape[0]
    place = count % room
    values[place, 0] = mean
    values[place, 1] = high
    values[place, 2] = low
    samples = min(block, count + 1)
    total = 0.0
    top = np.float32(high)
    bottom = np.float32(low)
    at = place - samples + 1
    if at < 0:
        at += room
    for _ in range(samples):
        total += np.float64(values[at, 0])
        top = max(top, values[at, 1])
        bottom = min(bottom, values[at, 2])
        at = at + 1 if at + 1 < room else 0
    unit = np.float64(member["unit"])
    per_unit = 1.0 / unit if unit > 0.0 else 0.0
    at = count % stats.shape[0]
    stats[at, 0] = _code(total / samples * per_unit)
    stats[at, 1] = _code(np.float64(top) * per_unit)
    stats[at, 2] = _code(np.float64(bottom) * per_unit)
    member["count"] = count + 1


@njit(cache=True, error_model="numpy")
def read_shape(member: Record, block: int, back: int, shape: Floats32) -> None:
    """Write mean, maximum and minimum of each of the BLOCKS blocks, in units.

    As they were ``back`` samples ago.
    """
    stats = member["stats"]
    newest = member["count"] - 1 - back
    for k in range(BLOCKS):
        at = max(0, newest - (BLOCKS - 1 - k) * block) % stats.shape[0]
        shape[k] = stats[at, 0]
        shape[BLOCKS + k] = stats[at, 1]
        shape[2 * BLOCKS + k] = stats[at, 2]


@njit(cache=True, error_model="numpy")
def measure(member: Record, shape: Floats32, distances: Floats32) -> float:
    """Squared Euclidean distances to the library, and the smallest (-1 when the library is empty).

    distances : float32 (LIBRARY,) out: the first ``size`` are written; square units

    The inner loop has a fixed length and is unrolled, so that the outer one runs in vector
    registers. Bits of floats >= 0 are ordered as integers are, and an integer minimum does, too.
    """
    library = member["library"]
    size = member["size"]
    for r in range(size):
        total = np.float32(0.0)
        for k in range(SHAPE):
            gap = shape[k] - np.float32(library[k, r])
            total += gap * gap
        distances[r] = total
    if size == 0:
        return -1.0
    bits = distances.view(np.int32)
    least = bits[0]
    for r in range(1, size):
        least = min(least, bits[r])
    return np.float64(np.int32(least).view(np.float32))


@njit(cache=True, error_model="numpy")
def join_library(member: Record, shape: Floats32, distances: Floats32) -> None:
    """Add a vector to the library; one that is there already changes nothing.

    Cost: O(LIBRARY SHAPE).
    """
    library = member["library"]
    apart = member["apart"]
    size = member["size"]
    nearest = measure(member, shape, distances)
    if nearest == 0.0:
        return
    if size < LIBRARY:
        at = size
        member["size"] = size + 1
    else:
        at = 0
        for r in range(1, size):
            if apart[r] < apart[at]:
                at = r
        if nearest < np.float64(
            apart[at]
        ):  # the newcomer is the most redundant: it takes its neighbour's place
            for r in range(size):
                if np.float64(distances[r]) == nearest:
                    at = r
                    break
    least = np.float32(np.inf)
    for r in range(size):
        if r != at:
            apart[r] = min(apart[r], distances[r])
            least = min(least, distances[r])
    apart[at] = least
    for k in range(library.shape[0]):
        library[k, at] = int(shape[k])


@njit(cache=True, error_model="numpy")
def score_novelty(
    member: Record, block: int, stride: int, shape: Floats32, distances: Floats32
) -> float:
    """Distance of the newest shape to the nearest one in the library; 0 while there is none."""
    age = BLOCKS * block
    settled = member["count"] - 1 - age
    if settled >= 0 and settled % stride == 0:
        read_shape(member, block, age, shape)
        join_library(member, shape, distances)
    read_shape(member, block, 0, shape)
    unit = np.float64(member["unit"])
    return unit * math.sqrt(max(measure(member, shape, distances), 0.0))
