"""What speaks for an episode: the largest ratio among the views of its kind.

Invariant: views of one kind are compared, each in its own ratio; no view silences another kind.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Array, Floats, Record
from shared.ensemble.kernels.codes import clip
from shared.ensemble.kernels.entity.row import Reported
from shared.ensemble.kernels.layout import (
    COMBINED,
    FAST_DOWN,
    JUMP,
    LEVEL_DOWN,
    VALUE,
    EnsembleParams,
)
from shared.ensemble.kernels.metric.warm_up import is_ready
from shared.ensemble.kernels.views import FAST, PATTERN, SHAPELESS, SLOW, column
from shared.kernels.severity import CRITICAL, MAJOR
from shared.kernels.steps import step
from shared.kernels.trained import trained_rows as trained
from shared.kernels.trained.trained_rows import LARGEST_SIZE

KIND_OF_VIEW, IS_MEAN, HAS_LEVEL = (column(name) for name in ("kind", "mean", "owned"))
_PLACES = [np.flatnonzero(kind == KIND_OF_VIEW) for kind in range(PATTERN + 1)]
FIRST_OF, BEHIND = (
    np.array([places.min() for places in _PLACES]),
    np.array([places.max() + 1 for places in _PLACES]),
)
"""Places that hold all views of a kind."""

MEAN_COUNTS = 0.99
"""Most that a mean counts, as a share of the level, while the newest value is usual again."""

KIND_OF = np.array([FAST, FAST, SLOW, SLOW, SHAPELESS, PATTERN])
"""Kinds of views that speak for each of a metric's episodes."""


@njit(cache=True, error_model="numpy")
def severity_of(ratio: float) -> float:
    """Return 0..1: .5 at the level, never falling; NaN for NaN."""
    if math.isnan(ratio):
        return ratio
    return 1.0 - 0.5 / ratio if ratio >= 1.0 else 0.5 * ratio


@njit(cache=True, error_model="numpy")
def class_of(ratio: float) -> int:
    """Return the severity class of a ratio: 1 minor, 2 major, 3 critical."""
    severity = severity_of(ratio)
    return 3 if severity >= CRITICAL else 2 if severity >= MAJOR else 1


@njit(cache=True, error_model="numpy")
def evidence(m: Record, key: int, level: float) -> tuple[float, int]:
    """Return the largest ratio over the entity's level among an episode's views, and that view.

    A mean opens nothing while the newest value is usual again. A stuck value needs no level.
    """
    top, view = 0.0, 0
    kind = KIND_OF[key]
    sign = -1.0 if key in (FAST_DOWN, LEVEL_DOWN) else 1.0
    usual_again = sign * m["deviation"] < 0.1 and m["episodes"][key]["state"] == 0
    for v in range(FIRST_OF[kind], BEHIND[kind]):
        if KIND_OF_VIEW[v] != kind:
            continue
        x: float = np.float64(m["ratio"][v])
        x = abs(x) if kind == SHAPELESS else sign * x
        if kind == FAST and IS_MEAN[v] and usual_again:
            x = min(x, MEAN_COUNTS * level)
        if x > top:
            top, view = x, v
    if kind == PATTERN or (top > 0.0 and not HAS_LEVEL[view]):
        return top, view
    return top / level, view


@njit(cache=True, error_model="numpy")
def most_moved(reported: Reported) -> int:
    """Return the column with the largest jump or deviation of a row; -1 where none was judged."""
    largest, column = -1.0, -1
    for j in range(reported.n):
        if reported.judged[j]:
            q = reported.metrics[reported.slots[j]]["ratio"]
            x = max(abs(np.float64(q[JUMP])), abs(np.float64(q[VALUE])))
            if x > largest:
                largest, column = x, reported.columns[j]
    return column


LEAST_SPREAD = 0.3
"""A usual size of changes below this, in spreads of jumps, counts as this."""


@step
def _keep_largest(features: Floats, sources: Array, feature: int, size: float, column: int) -> None:
    """Keep a metric's size of a feature where no other one is larger."""
    size = min(abs(size), LARGEST_SIZE)
    if sources[feature] < 0 or size > features[feature]:
        features[feature] = size
        sources[feature] = column


@njit(cache=True)
def _residual(e: Record, reported: Reported, place: int) -> float:
    """Return what the other metrics of a row do not explain of one, in its own spread."""
    n = min(reported.n, COMBINED)
    if place >= n or e["pairs_ok"] == 0 or e["combined"] != n:
        return 0.0
    s = 0.0
    for k in range(n):
        if reported.judged[k]:
            plain = reported.metrics[reported.slots[k]]["plain"]
            s += np.float64(e["inverse"][place, k]) * clip(plain, 6.0)
    return clip(s / math.sqrt(np.float64(e["inverse"][place, place])), 6.0)


@njit(cache=True)
def describe_row(
    e: Record, reported: Reported, params: EnsembleParams, features: Floats, sources: Array
) -> bool:
    """Write the features of a row; return whether it has any.

    features : float64 (FEATURES,)  out; untouched where no metric was judged that is warmed up
    sources  : int32 (FEATURES,)    out, the column that each comes from; -1 before

    Twin: tests/reference/trained_rows.py::features_of.  Cost: O(M^2) for M metrics, at most
    COMBINED, O(M) beyond.
    """
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        if not reported.judged[j] or not is_ready(m, params):
            continue
        column = reported.columns[j]
        spread = m["spread_now"] / max(max(m["spread_usual"], m["spread_least"]), LEAST_SPREAD)
        mean = np.float64(e["residual"][j]) if j < COMBINED else 0.0
        _keep_largest(features, sources, trained.DEVIATION, m["deviation"], column)
        _keep_largest(features, sources, trained.JUMP, m["near_jump"], column)
        _keep_largest(features, sources, trained.RESIDUAL, _residual(e, reported, j), column)
        _keep_largest(features, sources, trained.QUARTER_HOUR, m["means"][0], column)
        _keep_largest(features, sources, trained.HOUR, m["means"][1], column)
        _keep_largest(features, sources, trained.RESIDUAL_HOUR, mean, column)
        _keep_largest(features, sources, trained.SPREAD, spread, column)
    if sources[0] < 0:
        return False
    for k in range(features.shape[0]):
        features[k] = math.log1p(features[k])
    return True
