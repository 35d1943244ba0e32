"""What a trained model sees of an entity's row, and how rare it finds the row.

Invariant: a row's rarity is computed from that row's features and the model's arrays alone, so that
its bits do not depend on the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit, types

from shared.kernels.trained.forest import score_forest
from shared.kernels.trained.svm import score_svm
from shared.kernels.wire import group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEATURE_NAMES = (
    "deviation",
    "jump",
    "residual",
    "quarter_hour",
    "hour",
    "residual_hour",
    "spread",
)
"""The features of a row.

Each is log(1 + the largest size among the entity's metrics) of

deviation     : from the nearest expected value (time of day and level), in usual spreads
jump          : from the newest six values, in usual jumps
residual      : what the other metrics do not explain, in its own spread
quarter_hour, hour : the means of the deviation
residual_hour : the mean of the residual over an hour
spread        : of the changes lately, over the usual one
"""

FEATURES = len(FEATURE_NAMES)
DEVIATION, JUMP, RESIDUAL, QUARTER_HOUR, HOUR, RESIDUAL_HOUR, SPREAD = range(FEATURES)

LARGEST_SIZE = 30.0
"""Larger sizes count as this one."""

NO_MODEL, FOREST, SVM = range(3)

KNOTS_PER_DECADE = 32
"""Calibration entries per decade of the tail of the training scores."""

RAREST = 8.0
"""Largest rarity; beyond it nothing is extrapolated."""


class TrainedModel(NamedTuple):
    """A trained model as kernels take it.

    kind         : NO_MODEL, FOREST or SVM; what belongs to another kind is empty or 0
    nodes, path_length, offsets, depth, denominator : as ``forest.score_forest`` takes them
    vectors, coefficients, gamma, rho               : as ``svm.score_svm`` takes them
    knots        : float64 (q,)  ``Model.calibration``
    slope        : knots per unit of score beyond the last of them
    """

    kind: int
    nodes: Ints
    path_length: Floats
    offsets: Ints
    depth: int
    denominator: float
    vectors: Floats
    coefficients: Floats
    gamma: float
    rho: float
    knots: Floats
    slope: float


_I8, _F8 = types.int64, types.float64
TRAINED_MODEL = group(
    TrainedModel, _I8, _I8[::1], _F8[::1], _I8[::1], _I8, _F8, _F8[:, ::1], _F8[::1], _F8, _F8,
    _F8[::1], _F8
)  # fmt: skip
_NONE, _NO_NODES = np.empty(0), np.empty(0, np.int64)
WITHOUT_MODEL = TrainedModel(
    NO_MODEL, _NO_NODES, _NONE, _NO_NODES, 0, 1.0, np.empty((0, 0)), _NONE, 1.0, 0.0, _NONE, 0.0
)


@njit(cache=True)
def knot_of(score: float, knots: Floats, slope: float) -> float:
    """Return the interpolated index of a score in a calibration.

    Beyond the last entry it goes on with the slope.
    """
    last = knots.shape[0] - 1
    if score >= knots[last]:
        return float(last + (score - knots[last]) * slope)
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= score:
            low = middle
        else:
            high = middle
    width = knots[low + 1] - knots[low]
    if width <= 0.0:
        width = 1.0
    return float(low + min(max((score - knots[low]) / width, 0.0), 1.0))


@njit(cache=True)
def rarity_of(model: TrainedModel, features: Floats) -> float:
    """Return how rare a model finds a row among its training rows.

    model    : kind FOREST or SVM
    features : float64 (FEATURES,)  no NaN
    returns  : -log10 of the share of training rows that reach the row's score, at most RAREST

    Twin: tests/reference/trained_rows.py::rarity_of.  Cost: that of one score.
    """
    row = np.empty((1, features.shape[0]))
    row[0, :] = features
    score = np.empty(1)
    if model.kind == FOREST:
        score_forest(
            row, model.nodes, model.path_length, model.offsets, model.depth, model.denominator,
            score
        )  # fmt: skip
    else:
        score_svm(row, model.vectors, model.coefficients, model.gamma, model.rho, score)
    return min(knot_of(score[0], model.knots, model.slope) / KNOTS_PER_DECADE, RAREST)
