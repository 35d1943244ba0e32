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

USUAL = 0.4343
"""Mean rarity of a score like any other: 1 / ln 10."""

SHARE = 0.1
"""An interval heavier than this share of all from it upward is split."""

RESCALE = 64.0
FORGOTTEN = 0.02
"""An entry that has decayed below this weight is dropped."""


@njit(cache=True)
def _remove(sketch: Record, at: int) -> None:
    size = sketch["size"]
    for i in range(at, size - 1):
        sketch["low"][i] = sketch["low"][i + 1]
        sketch["high"][i] = sketch["high"][i + 1]
        sketch["weight"][i] = sketch["weight"][i + 1]
    sketch["size"] = size - 1


@njit(cache=True)
def _insert(sketch: Record, at: int, low: np.float32, high: np.float32, weight: float) -> None:
    size = sketch["size"]
    for i in range(size, at, -1):
        sketch["low"][i] = sketch["low"][i - 1]
        sketch["high"][i] = sketch["high"][i - 1]
        sketch["weight"][i] = sketch["weight"][i - 1]
    sketch["low"][at] = low
    sketch["high"][at] = high
    sketch["weight"][at] = weight
    sketch["size"] = size + 1


@njit(cache=True)
def _merge(sketch: Record) -> int:
    """Join the two neighbours below the exact ones that weigh least; returns the lower's place."""
    weight = sketch["weight"]
    size = sketch["size"]
    above = 0.0
    best = math.inf
    at = 0
    for i in range(size - 1, 0, -1):
        above += np.float64(weight[i])
        if i < size - EXACT:
            pair = np.float64(weight[i]) + np.float64(weight[i - 1])
            cost = pair / (above + np.float64(weight[i - 1]))
            if cost < best:
                best = cost
                at = i - 1
    sketch["high"][at] = sketch["high"][at + 1]
    weight[at] = np.float64(weight[at]) + np.float64(weight[at + 1])
    _remove(sketch, at + 1)
    return at


@njit(cache=True)
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


@njit(cache=True)
def rank(sketch: Record, score: float) -> float:
    """-log10((weight above + half the ties + 1) / (weight + 1)), weights decayed by age.

    0 before the first score.

    Twin: tests/reference/calibration.py::rank.  Cost: O(entries above).
    """
    if sketch["size"] == 0:
        return 0.0
    value = np.float32(score)
    above = 0.0
    for i in range(sketch["size"] - 1, -1, -1):
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


@njit(cache=True)
def exceeds_all(sketch: Record, score: float) -> bool:
    """Whether the sketch remembers something, and nothing as high."""
    return bool(sketch["size"] > 0 and np.float32(score) > sketch["high"][sketch["size"] - 1])


@njit(cache=True)
def _split(sketch: Record, at: int, value: np.float32) -> None:
    """Cut an interval in two at a value, so that one that comes often ends at a border."""
    low = sketch["low"]
    high = sketch["high"]
    cut = value
    if cut <= low[at] or cut >= high[at]:
        cut = np.float32(0.5 * (np.float64(low[at]) + np.float64(high[at])))
    if cut <= low[at] or cut >= high[at] or at >= sketch["size"] - EXACT:
        return
    if sketch["size"] == SKETCH:
        merged = _merge(sketch)
        if merged == at or merged + 1 == at:
            return
        if merged < at:
            at -= 1
    weight = np.float64(sketch["weight"][at])
    top = high[at]
    upper = weight * ((np.float64(top) - np.float64(cut)) / (np.float64(top) - np.float64(low[at])))
    high[at] = cut
    sketch["weight"][at] = weight - upper
    _insert(sketch, at + 1, cut, top, upper)


@njit(cache=True)
def add(sketch: Record, score: float, memory: float) -> None:
    """Remember a finite score >= 0; every older one loses a share 1 / memory of its weight.

    Cost: O(SKETCH).
    """
    value = np.float32(score)
    if sketch["gain"] == 0.0:
        sketch["gain"] = 1.0
    else:
        sketch["gain"] *= math.exp(1.0 / memory)
        if sketch["gain"] > RESCALE:
            _fade(sketch)
    gain = sketch["gain"]
    sketch["total"] += gain
    low = sketch["low"]
    high = sketch["high"]
    weight = sketch["weight"]
    at = sketch["size"]
    above = 0.0
    while at > 0 and low[at - 1] > value:
        at -= 1
        above += np.float64(weight[at])
    while (
        at > 0 and low[at - 1] == value and high[at - 1] > value
    ):  # a border is not inside: ties stay points
        at -= 1
        above += np.float64(weight[at])
    if at > 0 and (high[at - 1] > value or low[at - 1] == value):
        at -= 1
        weight[at] = np.float64(weight[at]) + gain
        heavy = np.float64(weight[at]) > SHARE * (above + np.float64(weight[at]))
        if not heavy or low[at] == high[at]:
            return
        _split(sketch, at, value)
        return
    if sketch["size"] == SKETCH:
        merged = _merge(sketch)
        if merged < at:
            at -= 1
        if at > 0 and high[at - 1] > value:  # the merged pair spans the newcomer
            weight[at - 1] = np.float64(weight[at - 1]) + gain
            return
    _insert(sketch, at, value, value, gain)
