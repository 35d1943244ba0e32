"""Sharing: what made a judged row odd, by metric and part.

Law: shares are of what was added up, sum to 1 with the trained member's, and change no score.
"""

from __future__ import annotations

import math

from numba import njit

from shared.ensemble.kernels.calibration import USUAL
from shared.ensemble.kernels.layout import (
    ABSENCE,
    COMBINATION,
    LONG,
    NEIGHBOURS,
    PARTS,
    SHORT,
    TIME_OF_DAY,
    Floats,
    Knobs,
    Record,
)
from shared.ensemble.kernels.outputs import Ints32


@njit(cache=True)
def _write_shares(state: Record, weight: float, knobs: Knobs, shares: Floats) -> float:
    """Parts of one metric, not normalised; returned: their sum."""
    rarity = state["rarity"]
    shares[LONG] = weight * knobs.weight_long * max(rarity[LONG] - USUAL, 0.0)
    shares[NEIGHBOURS] = weight * knobs.weight_neighbours * max(rarity[NEIGHBOURS] - USUAL, 0.0)
    shares[TIME_OF_DAY] = weight * knobs.weight_time * max(rarity[TIME_OF_DAY] - USUAL, 0.0)
    shares[SHORT] = weight * knobs.weight_short * max(rarity[SHORT] - USUAL, 0.0)
    if state["absence"] > state["score"]:
        shares[ABSENCE] = weight * 3.0 * state["absence"]
    total = 0.0
    for k in range(ABSENCE + 1):
        total += shares[k]
    return total


@njit(cache=True)
def share_out(
    entity: Record,
    metrics: Record,
    slots: Ints32,
    order: Ints32,
    trained: float,
    knobs: Knobs,
    verdict: Record,
    cells: Record,
) -> None:
    """Attribute a row that was judged: a metric counts the more, the stronger it is itself."""
    total = 0.0
    for i in range(order.shape[0]):
        cell = cells[order[i]]
        if not math.isnan(cell["rarity"][0]):
            state = metrics[slots[order[i]]]
            total += _write_shares(state, 10.0 ** min(state["score"], 3.0), knobs, cell["shares"])
    strength = 3.0 * 10.0 ** min(max(verdict["score"], 0.0), 3.0)
    cell = cells[entity["cross_metric"]]
    part = strength * knobs.weight_cross * max(verdict["combination"] - knobs.cross_floor, 0.0)
    if part > 0.0 and not math.isnan(cell["rarity"][0]):
        cell["shares"][COMBINATION] = part
        total += part
    if not math.isnan(trained):
        verdict["trained"] = strength * knobs.weight_trained * max(trained - knobs.cross_floor, 0.0)
        total += verdict["trained"]
    if total <= 0.0:
        return
    verdict["trained"] /= total
    largest = 0.0
    for i in range(order.shape[0]):
        shares = cells[order[i]]["shares"]
        mine = 0.0
        for k in range(PARTS):
            shares[k] /= total
            mine += shares[k]
        if mine > largest:
            largest = mine
            verdict["top_metric"] = order[i]
