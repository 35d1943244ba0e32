"""What a small network makes of a row's metrics, and how far the row lies from it.

Source: Sakurada and Yairi, "Anomaly Detection Using Autoencoders with Nonlinear Dimensionality
Reduction", MLSDA 2014: a network with a narrow middle reproduces what metrics usually have in
common; what it cannot reproduce is unusual.

Invariant: a row's score is computed from that row and the model's arrays alone, in fixed order and
by exactly rounded operations, so that its bits depend neither on the batch nor on the machine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.kernels.trained.peers import FIRST_METRIC, NUMBER

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

LARGEST_INPUT = 8.0
"""Deviations from an entity's median beyond this many spreads count as this."""


@njit(cache=True)
def _standardise(X: Floats, row: int, center: Floats, spread: Floats, inputs: Floats) -> int:
    """Write a row's deviations in spreads, 0 where a value is missing; return how many it has."""
    present = 0
    for m in range(center.shape[0]):
        value = X[row, FIRST_METRIC + m]
        inputs[m] = 0.0
        if math.isnan(value) or math.isnan(center[m]):
            continue
        present += 1
        z = (value - center[m]) / spread[m]
        inputs[m] = min(max(z, -LARGEST_INPUT), LARGEST_INPUT)
    return present


@njit(cache=True)
def _propagate(
    sizes: Indices, weights: Floats, biases: Floats, is_linear: int, now: Floats, after: Floats
) -> None:
    """Pass what is in ``now`` through all layers; the result is in ``now``."""
    weight, bias = 0, 0
    for layer in range(sizes.shape[0] - 1):
        width, height = sizes[layer], sizes[layer + 1]
        for j in range(height):
            total = biases[bias + j]
            for i in range(width):
                total += weights[weight + i * height + j] * now[i]
            is_last = layer == sizes.shape[0] - 2
            after[j] = total if is_linear or is_last else max(total, 0.0)
        for j in range(height):
            now[j] = after[j]
        weight += width * height
        bias += height


@njit(
    "void(f8[:, ::1], f8[:, ::1], f8[:, ::1], i4[::1], f8[::1], f8[::1], i8, f8[:, ::1],"
    " f8[::1], f8[:, ::1])",
    cache=True,
)
def score_reconstruction(
    X: Floats,
    center: Floats,
    spread: Floats,
    sizes: Indices,
    weights: Floats,
    biases: Floats,
    is_linear: int,
    noise: Floats,
    scores: Floats,
    errors: Floats,
) -> None:
    """Score rows: the root mean square of the metrics' errors, each in its usual size.

    X              : float64 (n, FIRST_METRIC + M)  NUMBER outside of 0..E-1 = an unknown entity;
                     NaN = missing value
    center, spread : float64 (E, M)  of each entity; NaN = the metric is not used
    sizes          : int32 (L + 1,)  units of each layer, the first and the last one M
    weights        : float64         of layer after layer, (units, units of the next) each
    biases         : float64         of layer after layer
    is_linear      : 1 = no layer bends; else negative sums of inner layers count as 0
    noise          : float64 (E, M)  usual error of each entity's metrics, > 0
    scores         : float64 (n,)    out; 0 where fewer than two metrics are there
    errors         : float64 (n, M)  out: deviation minus reconstruction, in spreads; NaN = no value

    Twin: tests/reference/reconstruction.py::score_reconstruction.  Cost: O(n W) for W weights.
    """
    metrics = center.shape[1]
    widest = 1
    for layer in range(sizes.shape[0]):
        widest = max(widest, int(sizes[layer]))
    inputs, now, after = np.empty(metrics), np.empty(widest), np.empty(widest)
    for row in range(X.shape[0]):
        scores[row] = 0.0
        errors[row, :] = math.nan
        number = X[row, NUMBER]
        if not 0.0 <= number < center.shape[0]:
            continue
        own = int(number)
        present = _standardise(X, row, center[own], spread[own], inputs)
        if present < 2:
            continue
        for m in range(metrics):
            now[m] = inputs[m]
        _propagate(sizes, weights, biases, is_linear, now, after)
        total = 0.0
        for m in range(metrics):
            if math.isnan(X[row, FIRST_METRIC + m]) or math.isnan(center[own, m]):
                continue
            error = inputs[m] - now[m]
            errors[row, m] = error
            total += (error / noise[own, m]) * (error / noise[own, m])
        scores[row] = math.sqrt(total / present)
