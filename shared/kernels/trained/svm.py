"""One-Class SVM scores with the RBF kernel.

Source: Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural
Computation 13 (2001): the score is the signed distance from a boundary around the training rows.

Invariant: distances are summed feature by feature and kernel values in eight fixed lanes, from the
row alone, so that a score's bits do not depend on the batch. Only exactly rounded operations are
used, so that they do not depend on the machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]

LANES = 8
"""Number of interleaved sums of kernel values; support vectors are padded to a multiple of it."""

_SMALLEST = -708.0
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding and subtracting it rounds to the nearest integer
_C2, _C3, _C4, _C5 = 1 / 2, 1 / 6, 1 / 24, 1 / 120
_C6, _C7, _C8, _C9 = 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880
_C10, _C11, _C12, _C13 = 1 / 3628800, 1 / 39916800, 1 / 479001600, 1 / 6227020800


@njit(cache=True)
def _squared_distances(X: Floats, row: int, vectors: Floats, distance: Floats) -> None:
    """Compute one row's squared distances from all support vectors, summed in feature order.

    Each pass over memory adds four features.
    """
    features, size = vectors.shape
    for s in range(size):
        distance[s] = 0.0
    f = 0
    while f + 4 <= features:
        x0, x1, x2, x3 = X[row, f], X[row, f + 1], X[row, f + 2], X[row, f + 3]
        for s in range(size):
            d0 = x0 - vectors[f, s]
            d1 = x1 - vectors[f + 1, s]
            d2 = x2 - vectors[f + 2, s]
            d3 = x3 - vectors[f + 3, s]
            distance[s] = (((distance[s] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
        f += 4
    while f < features:
        x0 = X[row, f]
        for s in range(size):
            d0 = x0 - vectors[f, s]
            distance[s] += d0 * d0
        f += 1


@njit(cache=True)
def _sum_in_lanes(value: Floats) -> float:
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for s in range(0, value.shape[0], LANES):
        s0 += value[s]
        s1 += value[s + 1]
        s2 += value[s + 2]
        s3 += value[s + 3]
        s4 += value[s + 4]
        s5 += value[s + 5]
        s6 += value[s + 6]
        s7 += value[s + 7]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit("void(f8[:, ::1], f8[:, ::1], f8[::1], f8, f8, f8[::1])", cache=True)
def score_svm(
    X: Floats, vectors: Floats, coefficients: Floats, gamma: float, rho: float, scores: Floats
) -> None:
    """Score rows: rho - sum of coefficient * exp(-gamma * squared distance).

    This is scikit-learn's ``-decision_function``.

    X            : float64 (n, d)  no NaN (it would make the score NaN)
    vectors      : float64 (d, S)  support vectors, one per column; S a multiple of LANES
    coefficients : float64 (S,)    0 for padding
    gamma        : > 0
    rho          : the estimator's ``offset_``
    scores       : float64 (n,)    out; higher = more anomalous, at most rho where coefficients are
                   positive

    exp is within one unit in the last place; below exp(-708) it is that value. The loops over S
    have no branches and no dependence between iterations, so that the compiler vectorises them.
    Twin: tests/reference/svm.py::score_svm.  Cost: O(n d S).
    """
    size = vectors.shape[1]
    value = np.empty(size, np.float64)
    bits = np.empty(size, np.int64)
    power = bits.view(np.float64)
    for row in range(X.shape[0]):
        _squared_distances(X, row, vectors, value)
        for s in range(size):
            y = max(-gamma * value[s], _SMALLEST)
            whole = (y * _LOG2_E + _ROUND) - _ROUND
            x = (y - whole * _LN2_HIGH) - whole * _LN2_LOW
            e = _C13
            e = e * x + _C12
            e = e * x + _C11
            e = e * x + _C10
            e = e * x + _C9
            e = e * x + _C8
            e = e * x + _C7
            e = e * x + _C6
            e = e * x + _C5
            e = e * x + _C4
            e = e * x + _C3
            e = e * x + _C2
            value[s] = (e * x * x + x) + 1.0
            bits[s] = (np.int64(whole) + 1023) << 52
        for s in range(size):
            value[s] = coefficients[s] * (value[s] * power[s])
        scores[row] = rho - _sum_in_lanes(value)
