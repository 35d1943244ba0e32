"""Calibration: a score becomes -log10 of its rank among the older scores of its own series.

In bounded memory.

Invariant: ranks decay with age and nothing else; the EXACT largest scores are kept one by one,
below them an entry never holds more than a small share of the weight above it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.course.course_layout import EXACT, SKETCH

SHARE = 0.1
"""An interval heavier than this share of all from it upward is split."""

RESCALE = 64.0
FORGOTTEN = 0.02
"""An entry that has decayed below this weight is dropped."""


@njit(cache=True, error_model="numpy")
def _insert(
    sketch: Record, free: int, at: int, low: np.float32, high: np.float32, weight: float
) -> None:
    """Put an entry in its place; those between a free place and it move by one.

    free : place that no entry has; its entry has been removed, or it is the one behind the last
    at   : place among the others
    """
    lows = sketch["low"]
    highs = sketch["high"]
    weights = sketch["weight"]
    for i in range(free, at):
        lows[i] = lows[i + 1]
        highs[i] = highs[i + 1]
        weights[i] = weights[i + 1]
    for i in range(free, at, -1):
        lows[i] = lows[i - 1]
        highs[i] = highs[i - 1]
        weights[i] = weights[i - 1]
    lows[at] = low
    highs[at] = high
    weights[at] = weight


@njit(cache=True, error_model="numpy")
def _merge(sketch: Record) -> int:
    """Join the two neighbours below the exact ones that weigh least; returns the lower's place.

    The upper one's place is free then.
    """
    weight = sketch["weight"]
    size = sketch["size"]
    above = 0.0
    best = math.inf
    at = 0
    for i in range(size - 1, size - EXACT - 1, -1):
        above += np.float64(weight[i])
    for i in range(size - EXACT - 1, 0, -1):
        above += np.float64(weight[i])
        pair = np.float64(weight[i]) + np.float64(weight[i - 1])
        cost = pair / (above + np.float64(weight[i - 1]))
        if cost < best:
            best = cost
            at = i - 1
    sketch["high"][at] = sketch["high"][at + 1]
    weight[at] = np.float64(weight[at]) + np.float64(weight[at + 1])
    return at


@njit(cache=True, error_model="numpy")
def _fade(sketch: Record) -> None:
    """Express weights in the newest score's unit again, and drop what has faded."""
    gain = sketch["gain"]
    kept = 0
    total = 0.0
    for i in range(sketch["size"]):
        weight = np.float32(np.float64(sketch["weight"][i]) / gain)
        if np.float64(weight) >= FORGOTTEN:
            sketch["low"][kept] = sketch["low"][i]
            sketch["high"][kept] = sketch["high"][i]
            sketch["weight"][kept] = weight
            total += np.float64(weight)
            kept += 1
    for i in range(kept, SKETCH):
        sketch["low"][i] = sketch["high"][i] = sketch["weight"][i] = 0.0
    sketch["size"] = kept
    sketch["gain"] = 1.0
    sketch["total"] = total


@njit(cache=True, error_model="numpy")
def _find(sketch: Record, value: np.float32) -> tuple[int, float]:
    """Return the entries that do not lie above a value, and the weight of those that do."""
    low = sketch["low"]
    weight = sketch["weight"]
    at = sketch["size"]
    above = 0.0
    while at > 0 and low[at - 1] > value:
        at -= 1
        above += np.float64(weight[at])
    return at, above


@njit(cache=True, error_model="numpy")
def _rank_at(sketch: Record, value: np.float32, at: int, above: float) -> float:
    """Return the rank of a value that was found."""
    for i in range(at - 1, -1, -1):
        low = sketch["low"][i]
        high = sketch["high"][i]
        weight = np.float64(sketch["weight"][i])
        if low > value:
            above += weight
        elif high < value:
            break
        elif low == high:
            above += 0.5 * weight
        else:
            above += weight * (
                (np.float64(high) - np.float64(value)) / (np.float64(high) - np.float64(low))
            )
    gain = sketch["gain"]
    return max(math.log10(sketch["total"] / gain + 1.0) - math.log10(above / gain + 1.0), 0.0)


@njit(cache=True, error_model="numpy")
def rank(sketch: Record, score: float) -> float:
    """-log10((weight above + half the ties + 1) / (weight + 1)), weights decayed by age.

    0 before the first score.

    Twin: tests/reference/calibration.py::rank.  Cost: O(entries above).
    """
    if sketch["size"] == 0:
        return 0.0
    value = np.float32(score)
    at, above = _find(sketch, value)
    return _rank_at(sketch, value, at, above)


@njit(cache=True, error_model="numpy")
def _split(sketch: Record, at: int, value: np.float32) -> None:
    """Cut an interval in two at a value, so that one that comes often ends at a border."""
    low = sketch["low"]
    high = sketch["high"]
    weight = sketch["weight"]
    size = sketch["size"]
    cut = value
    if cut <= low[at] or cut >= high[at]:
        cut = np.float32(0.5 * (np.float64(low[at]) + np.float64(high[at])))
    if cut <= low[at] or cut >= high[at] or at >= size - EXACT:
        return
    free = size
    if size == SKETCH:
        merged = _merge(sketch)
        free = merged + 1
        if merged == at or free == at:
            _close(sketch, free)
            return
    whole = np.float64(weight[at])
    top = high[at]
    upper = whole * ((np.float64(top) - np.float64(cut)) / (np.float64(top) - np.float64(low[at])))
    high[at] = cut
    weight[at] = whole - upper
    _insert(sketch, free, at + 1 if free > at else at, cut, top, upper)
    sketch["size"] = min(size + 1, SKETCH)


@njit(cache=True, error_model="numpy")
def _close(sketch: Record, free: int) -> None:
    """Let the entries above a free place move down by one."""
    last = sketch["size"] - 1
    _insert(sketch, free, last, sketch["low"][last], sketch["high"][last], sketch["weight"][last])
    sketch["size"] = last


@njit(cache=True, error_model="numpy")
def growth_of(memory: float) -> float:
    """Weight of a new entry, in that of the one before it, which loses a share 1 / memory."""
    return math.exp(1.0 / memory)


@njit(cache=True, error_model="numpy")
def _grow(sketch: Record, growth: float) -> bool:
    """Let all weights fade; returns whether entries have moved.

    growth : weight of a new entry, in that of the newest one
    """
    if sketch["gain"] == 0.0:
        sketch["gain"] = 1.0
        return False
    sketch["gain"] *= growth
    if sketch["gain"] > RESCALE:
        _fade(sketch)
        return True
    return False


@njit(cache=True, error_model="numpy")
def _add_at(sketch: Record, value: np.float32, at: int, above: float) -> None:
    """Remember a value that was found, with the weight of a new one."""
    gain = sketch["gain"]
    sketch["total"] += gain
    low = sketch["low"]
    high = sketch["high"]
    weight = sketch["weight"]
    while (
        at > 0 and low[at - 1] == value and high[at - 1] > value
    ):  # a border is not inside: ties stay points
        at -= 1
        above += np.float64(weight[at])
    if at > 0 and (high[at - 1] > value or low[at - 1] == value):
        at -= 1
        weight[at] = np.float64(weight[at]) + gain
        heavy = np.float64(weight[at]) > SHARE * (above + np.float64(weight[at]))
        if heavy and low[at] != high[at]:
            _split(sketch, at, value)
        return
    free = sketch["size"]
    if free == SKETCH:
        merged = _merge(sketch)
        free = merged + 1
        if merged < at:
            at -= 1
        lower = at - 1 if at - 1 <= merged else at
        if at > 0 and high[lower] > value:  # the merged pair spans the newcomer
            weight[lower] = np.float64(weight[lower]) + gain
            _close(sketch, free)
            return
    else:
        sketch["size"] = free + 1
    _insert(sketch, free, at, value, value, gain)


@njit(cache=True, error_model="numpy")
def add(sketch: Record, score: float, memory: float) -> None:
    """Remember a finite score >= 0; every older one loses a share 1 / memory of its weight.

    Cost: O(SKETCH).
    """
    value = np.float32(score)
    _grow(sketch, growth_of(memory))
    at, above = _find(sketch, value)
    _add_at(sketch, value, at, above)


@njit(cache=True, error_model="numpy")
def rank_and_add(sketch: Record, score: float, growth: float) -> float:
    """Return the rank of a score, as ``rank`` does, and remember it, as ``add`` does.

    growth : of the memory
    """
    value = np.float32(score)
    at, above = _find(sketch, value)
    found = _rank_at(sketch, value, at, above) if sketch["size"] > 0 else 0.0
    if _grow(sketch, growth):
        at, above = _find(sketch, value)
    _add_at(sketch, value, at, above)
    return found
