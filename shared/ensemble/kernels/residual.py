"""Cross-metric residual: what each metric is against what the entity's other metrics say it should be.

Law: least squares on decayed sums with a ridge, solved afresh, so nothing winds up; rows that fit
     badly are learned little.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.ensemble.kernels.calibration import add, rank
from shared.ensemble.kernels.layout import CROSS, TIME_BINS, Floats, Knobs, Record
from shared.ensemble.kernels.scale import rescale
from shared.ensemble.kernels.season import DAY_MS

FIRST_SCORE = 50
OFTEN = 64
"""Rows after which the fit is solved every EVERY rows only."""

EVERY = 8
CLIP = 4.0
"""Deviations beyond which a residual teaches less."""

SLOW = 0.002
FAR = 1e3
APART_DAYS = 5.0
"""Days that a time of day remembers how far a metric usually is off."""

FARTHEST_APART = 16.0


@njit(cache=True)
def invert(packed: Floats, size: int, ridge: float, inverse: Floats) -> None:
    """Invert a positive semidefinite matrix after adding a ridge: ``ridge`` of each diagonal
    element, plus .01.

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
    """Let a metric into the fit, which starts anew; beyond CROSS metrics nothing happens.

    The order in which metrics come in is that of the fit: of those that are ready in the same row,
    the caller's.
    """
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
def fold_cross(entity: Record, vector: Floats, usual: Floats, memory: float, knobs: Knobs) -> None:
    """Judge the combination of an entity's scaled metrics, and learn it.

    vector               : float64 (>= metrics + 1,)  scaled values in the order of ``columns``, all
                           present; changed here
    usual                : float64 (>= metrics,)      >= 1, how many deviations are usual for each
                           metric now
    memory               : rows, of the ranks
    entity["cross"]      : out: rarity of the largest mean residual of three rows, each in its running deviation times ``usual``

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
            mean = (residual + np.float64(before[0, i]) + np.float64(before[1, i])) / (
                3.0 * usual[i]
            )
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


@njit(cache=True)
def usual_apart(state: Record, time_ms: int, knobs: Knobs) -> float:
    """Return how many deviations the metric is usually off at this time of day, half an hour more
    or less; at least 1.

    So a job that runs every night, which the other metrics do not account for, is nothing new.
    """
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    largest = 0.0
    for k in range(-1, 2):
        largest = max(largest, np.float64(state["apart"][(at + k) % TIME_BINS]))
    return max(1.0, knobs.cross_usual * largest)


@njit(cache=True)
def learn_apart(state: Record, time_ms: int, residual: float) -> None:
    """Learn how far a metric is off at this time of day; residual in its running deviations."""
    at = time_ms % DAY_MS * TIME_BINS // DAY_MS
    rate = min(state["interval_ms"] * TIME_BINS / (APART_DAYS * DAY_MS), 0.2)
    old = np.float64(state["apart"][at])
    state["apart"][at] = old + (min(abs(residual), FARTHEST_APART) - old) * rate


@njit(cache=True)
def fold_combination(
    entity: Record,
    metrics: Record,
    slots: npt.NDArray[np.int32],
    time_ms: int,
    values: Floats,
    vector: Floats,
    usual: Floats,
    knobs: Knobs,
) -> None:
    """Judge the combination when all metrics of the fit that still report are there; else it says
    nothing.

    vector, usual : float64 (WIDTH,)  scratch
    """
    entity["cross"] = 0.0
    if entity["metrics"] < 2:
        return
    judged = entity["fitted"] > 0
    for k in range(entity["metrics"]):
        column = entity["columns"][k]
        value = values[column]
        if math.isnan(value):
            if entity["rows"] - entity["seen"][k] <= entity["warmup"]:
                return
            vector[k] = 0.0
            usual[k] = 1.0
            continue
        entity["seen"][k] = entity["rows"]
        state = metrics[slots[column]]
        vector[k] = rescale(value, state["centre"], state["spread"])
        usual[k] = usual_apart(state, time_ms, knobs)
    fold_cross(entity, vector, usual, knobs.rank_memory * entity["warmup"], knobs)
    for k in range(entity["metrics"] if judged else 0):
        column = entity["columns"][k]
        if not math.isnan(values[column]):
            learn_apart(metrics[slots[column]], time_ms, np.float64(entity["before"][0, k]))
