"""Calibration: a score becomes -log10 of its rank among the older scores of its own series.

In bounded memory.

Invariant: ranks decay with age and nothing else; the EXACT largest scores are kept one by one,
below them an entry never holds more than a small share of the weight above it. Entries are in
order, and what each remembers is the weight from it upward, so that a rank is looked up.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats32, Record
from shared.ensemble.kernels.codes import lengthen, shorten
from shared.ensemble.kernels.course.course_layout import EXACT, SKETCH

SHARE = 0.1
"""An interval heavier than this share of all from it upward is split."""

RESCALE = 64.0
FORGOTTEN = 0.02
"""An entry that has decayed below this weight is dropped."""


@njit(cache=True, error_model="numpy")
def _insert(sketch: Record, free: int, at: int, low: int, high: int, upward: float) -> None:
    """Put an entry in its place; those between a free place and it move by one.

    free   : place that no entry has; its entry has been removed, or it is the one behind the last
    at     : place among the others
    upward : weight from it upward
    """
    lows, highs, weights = sketch["low"], sketch["high"], sketch["upward"]
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
    weights[at] = upward


@njit(cache=True, error_model="numpy")
def _close(sketch: Record, free: int) -> None:
    """Let the entries above a free place move down by one."""
    last = sketch["size"] - 1
    lows, highs, weights = sketch["low"], sketch["high"], sketch["upward"]
    for i in range(free, last):
        lows[i] = lows[i + 1]
        highs[i] = highs[i + 1]
        weights[i] = weights[i + 1]
    lows[last] = highs[last] = 0
    weights[last] = 0.0
    sketch["size"] = last


@njit(cache=True, error_model="numpy")
def _merge(sketch: Record, shares: Floats32) -> int:
    """Join the two neighbours below the exact ones that weigh least; returns the lower's place.

    The upper one's place is free then. Least is the weight of a pair as a share of all from it
    upward.

    shares : float32 (>= SKETCH,)  scratch
    """
    weights = sketch["upward"]
    pairs = sketch["size"] - EXACT - 1
    for i in range(pairs):
        shares[i] = weights[i + 2] / weights[i]
    bits = shares.view(np.int32)
    most = bits[0]
    for i in range(1, pairs):
        most = max(most, bits[i])
    at: int = pairs - 1
    while bits[at] != most:
        at -= 1
    sketch["high"][at] = sketch["high"][at + 1]
    return at


@njit(cache=True, error_model="numpy")
def _fade(sketch: Record) -> None:
    """Express weights in the newest score's unit again, and drop what has faded."""
    gain = sketch["gain"]
    low, high, upward = sketch["low"], sketch["high"], sketch["upward"]
    size = sketch["size"]
    kept = 0
    for i in range(size):
        weight = (np.float64(upward[i]) - np.float64(upward[i + 1])) / gain
        if weight >= FORGOTTEN:
            low[kept] = low[i]
            high[kept] = high[i]
            upward[kept] = weight
            kept += 1
    for i in range(kept, size):
        low[i] = high[i] = 0
        upward[i] = 0.0
    for i in range(kept - 2, -1, -1):
        upward[i] = np.float64(upward[i]) + np.float64(upward[i + 1])
    sketch["size"] = kept
    sketch["gain"] = 1.0


@njit(cache=True, error_model="numpy")
def _find(low: Array, size: int, value: int) -> int:
    """Return how many entries do not lie above a value.

    low : int16 (SKETCH,)  halves >= 0
    """
    first, behind = 0, size
    while first < behind:
        middle = (first + behind) >> 1
        if low[middle] <= value:
            first = middle + 1
        else:
            behind = middle
    return first


@njit(cache=True, error_model="numpy")
def _rank_at(sketch: Record, value: int, at: int) -> float:
    """Return the rank of a value that was found."""
    upward = sketch["upward"]
    above = np.float64(upward[at])
    for i in range(at - 1, -1, -1):
        low, high = sketch["low"][i], sketch["high"][i]
        weight = np.float64(upward[i]) - np.float64(upward[i + 1])
        if high < value:
            break
        if low == high:
            above += 0.5 * weight
        else:
            top, bottom = np.float64(lengthen(high)), np.float64(lengthen(low))
            above += weight * ((top - np.float64(lengthen(value))) / (top - bottom))
    gain = sketch["gain"]
    return max(math.log10((np.float64(upward[0]) + gain) / (above + gain)), 0.0)


@njit(cache=True, error_model="numpy")
def rank(sketch: Record, score: float) -> float:
    """-log10((weight above + half the ties + 1) / (weight + 1)), weights decayed by age.

    0 before the first score.

    Twin: tests/reference/calibration.py::rank.  Cost: O(log SKETCH).
    """
    if sketch["size"] == 0:
        return 0.0
    value = shorten(score)
    return _rank_at(sketch, value, _find(sketch["low"], sketch["size"], value))


@njit(cache=True, error_model="numpy")
def _split(sketch: Record, at: int, value: int, shares: Floats32) -> None:
    """Cut an interval in two at a value, so that one that comes often ends at a border."""
    low, high, upward = sketch["low"], sketch["high"], sketch["upward"]
    size = sketch["size"]
    bottom, top = np.float64(lengthen(low[at])), np.float64(lengthen(high[at]))
    cut = value
    if cut <= low[at] or cut >= high[at]:
        cut = shorten(0.5 * (bottom + top))
    if cut <= low[at] or cut >= high[at] or at >= size - EXACT:
        return
    free = size
    if size == SKETCH:
        merged = _merge(sketch, shares)
        free = merged + 1
        if merged == at or free == at:
            _close(sketch, free)
            return
    above = np.float64(upward[at + 1])
    part = (top - np.float64(lengthen(cut))) / (top - bottom)
    upper = above + (np.float64(upward[at]) - above) * part
    border = high[at]
    high[at] = cut
    _insert(sketch, free, at + 1 if free > at else at, cut, border, upper)
    sketch["size"] = min(size + 1, SKETCH)


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
def _weigh(sketch: Record, behind: int, gain: float) -> None:
    """Add a weight to those from the entries upward that lie before a place."""
    upward = sketch["upward"]
    more = np.float32(gain)
    for i in range(behind):
        upward[i] += more


@njit(cache=True, error_model="numpy")
def _add_at(sketch: Record, value: int, at: int, shares: Floats32) -> None:
    """Remember a value that was found, with the weight of a new one."""
    gain = sketch["gain"]
    low, high, upward = sketch["low"], sketch["high"], sketch["upward"]
    while at > 0 and low[at - 1] == value and high[at - 1] > value:
        at -= 1  # a border is not inside: ties stay points
    if at > 0 and (high[at - 1] > value or low[at - 1] == value):
        at -= 1
        _weigh(sketch, at + 1, gain)
        weight = np.float64(upward[at]) - np.float64(upward[at + 1])
        if weight > SHARE * np.float64(upward[at]) and low[at] != high[at]:
            _split(sketch, at, value, shares)
        return
    above = np.float64(upward[at])
    free = sketch["size"]
    if free == SKETCH:
        merged = _merge(sketch, shares)
        free = merged + 1
        if free == at:  # the newcomer lies between the two
            _weigh(sketch, at, gain)
            _close(sketch, free)
            return
        if merged < at:
            at -= 1
    else:
        sketch["size"] = free + 1
    _insert(sketch, free, at, value, value, above + gain)
    _weigh(sketch, at, gain)


@njit(cache=True, error_model="numpy")
def rank_and_add(sketch: Record, score: float, growth: float, shares: Floats32) -> float:
    """Return the rank of a finite score >= 0, as ``rank`` does, and remember it.

    growth : of the memory: every older score loses a share 1 / memory of its weight
    shares : float32 (>= SKETCH,)  scratch

    Cost: O(SKETCH).
    """
    value = shorten(score)
    at = _find(sketch["low"], sketch["size"], value)
    found = _rank_at(sketch, value, at) if sketch["size"] > 0 else 0.0
    if _grow(sketch, growth):
        at = _find(sketch["low"], sketch["size"], value)
    _add_at(sketch, value, at, shares)
    return found
