"""Cross-metric residual: what each metric is against what the entity's other metrics say it should be.

Law: least squares on decayed sums with a ridge, solved afresh, so nothing winds up; rows that fit badly are learned little.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.kernels.calibration import add, rank
from shared.kernels.layout import CROSS, Floats, Knobs, Record

FIRST_SCORE = 50
OFTEN = 64
"""Rows after which the fit is solved every EVERY rows only."""

EVERY = 8
CLIP = 4.0
"""Deviations beyond which a residual teaches less."""

SLOW = 0.002
FAR = 1e3


@njit(cache=True)
def invert(packed: Floats, size: int, ridge: float, inverse: Floats) -> None:
    """Invert a positive semidefinite matrix after adding a ridge: ``ridge`` of each diagonal element, plus .01.

    packed  : float64 (size (size + 1) / 2,)  lower triangle, row by row
    inverse : float64 (>= size, >= size) out

    Cost: O(size^3).
    """
    lower = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = packed[i * (i + 1) // 2 + j]
            if i == j:
                total += ridge * total + 0.01
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / lower[j, j]
    for column in range(size):
        for i in range(size):
            total = 1.0 if i == column else 0.0
            for k in range(i):
                total -= lower[i, k] * inverse[k, column]
            inverse[i, column] = total / lower[i, i]
        for i in range(size - 1, -1, -1):
            total = inverse[i, column]
            for k in range(i + 1, size):
                total -= lower[k, i] * inverse[k, column]
            inverse[i, column] = total / lower[i, i]


@njit(cache=True)
def join_fit(entity: Record, column: int) -> None:
    """Let a metric into the fit, which starts anew; beyond CROSS metrics nothing happens."""
    metrics = entity["metrics"]
    if metrics == CROSS:
        return
    for k in range(metrics):
        if entity["columns"][k] == column:
            return
    entity["columns"][metrics] = column
    entity["seen"][metrics] = entity["rows"]
    entity["metrics"] = metrics + 1
    entity["fitted"] = 0
    entity["gram"][:] = 0.0
    entity["variance"][:] = 1.0
    entity["before"][:] = 0.0


@njit(cache=True)
def _learn(entity: Record, vector: Floats, size: int, weight: float, knobs: Knobs) -> None:
    gram = entity["gram"]
    keep = 1.0 - 1.0 / knobs.cross_memory
    for i in range(size):
        for j in range(i + 1):
            at = i * (i + 1) // 2 + j
            gram[at] = keep * gram[at] + weight * vector[i] * vector[j]
    fitted = entity["fitted"] + 1
    entity["fitted"] = fitted
    if fitted <= OFTEN or fitted % EVERY == 0:
        inverse = np.empty((size, size))
        invert(gram, size, knobs.cross_ridge, inverse)
        for i in range(size):
            for j in range(size):
                entity["precision"][i, j] = inverse[i, j]


@njit(cache=True)
def fold_cross(entity: Record, vector: Floats, memory: float, knobs: Knobs) -> None:
    """Judge the combination of an entity's scaled metrics, and learn it.

    vector               : float64 (>= metrics + 1,)  scaled values in the order of ``columns``, all present; changed here
    memory               : rows, of the ranks
    entity["cross"]      : out: rarity of the largest mean residual of three rows, each in its running deviation

    Cost: O(metrics^2), every EVERY rows O(metrics^3).
    """
    metrics = entity["metrics"]
    size = metrics + 1
    for i in range(metrics):
        vector[i] = min(max(vector[i], -FAR), FAR)
    vector[metrics] = 1.0
    precision = entity["precision"]
    before = entity["before"]
    worst = 0.0
    largest = 0.0
    entity["cross_metric"] = entity["columns"][0]
    if entity["fitted"] > 0:
        for i in range(metrics):
            total = 0.0
            for j in range(size):
                total += np.float64(precision[i, j]) * vector[j]
            variance = np.float64(entity["variance"][i])
            residual = total / np.float64(precision[i, i]) / math.sqrt(variance)
            mean = (residual + np.float64(before[0, i]) + np.float64(before[1, i])) / 3.0
            if abs(mean) > largest:
                largest = abs(mean)
                entity["cross_metric"] = entity["columns"][i]
            worst = max(worst, abs(residual))
            before[1, i] = before[0, i]
            before[0, i] = residual
            near = min(abs(residual), CLIP)
            entity["variance"][i] = max(variance + SLOW * (near * near * variance - variance), 1e-6)
    entity["cross"] = 0.0
    if entity["fitted"] >= FIRST_SCORE:
        entity["cross"] = rank(entity["sketch"], largest)
        add(entity["sketch"], largest, memory)
    weight = min(1.0, CLIP * CLIP / (worst * worst)) if worst > 0.0 else 1.0
    _learn(entity, vector, size, weight, knobs)
