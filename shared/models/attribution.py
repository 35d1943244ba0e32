"""Attribution of a row's score to metrics, by scoring changed copies of the row.

Invariant: shares depend on the row and the model alone; attribution never changes a score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shared.features.vectors import ROLLING, TIME_FEATURES

Floats = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]

_HALF = float(np.sqrt(0.5))
_HOURS = np.array(
    [
        (0, 1),
        (_HALF, _HALF),
        (1, 0),
        (_HALF, -_HALF),
        (0, -1),
        (-_HALF, -_HALF),
        (-1, 0),
        (-_HALF, _HALF),
    ],
    np.float64,
)
"""Sine and cosine of 0, 3, 6 ... 21 o'clock."""

_BUSINESS = np.array([0, 0, 0, 1, 1, 1, 0, 0], np.float64)
_ROWS_AT_ONCE = 256


def attribute(score: Callable[[Floats], Floats], X: Floats, metrics: int) -> tuple[Floats, Columns]:
    """Attribute each row's score to its metrics and the time of day.

    score   : scores of rows, (n, d) -> (n,), each row independently
    X       : float64 (n, d), columns as ``features.feature_names``
    returns : shares float64 (n, M + 1), >= 0, sum 1, last = time of day; int64 (n,) feature with
              the largest effect, within the metric or time that has the largest share

    A metric's effect is the mean of two differences: how much the score falls when the metric is
    set to its expected value (scaled 0, flag 0), and how much it rises when only that metric has
    its actual value. Either one alone fails where the score saturates. This is the Shapley value
    restricted to the first and the last position of an ordering. The time of day is compared with
    the mean over eight hours of the day. Where no effect is positive, shares follow the distance
    from the expected values. Cost: 2 M + 28 scores a row.
    """
    shares = np.empty((len(X), metrics + 1))
    top = np.empty(len(X), np.int64)
    for start in range(0, len(X), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        shares[rows], top[rows] = _attribute(score, X[rows], metrics)
    return shares, top


def metric_columns(metric: int, metrics: int) -> Columns:
    """Return the columns of one metric: its rolling features, then its missing flag."""
    rolling = len(ROLLING)
    return np.append(
        np.arange(metric * rolling, (metric + 1) * rolling), metrics * rolling + metric
    )


def _attribute(
    score: Callable[[Floats], Floats], X: Floats, metrics: int
) -> tuple[Floats, Columns]:
    groups = [metric_columns(metric, metrics) for metric in range(metrics)]
    groups.append(np.arange(X.shape[1] - len(TIME_FEATURES), X.shape[1]))
    expected = np.zeros_like(X)
    expected[:, groups[-1]] = X[:, groups[-1]]
    full = score(X)
    base = score(expected)
    effects = np.empty((len(X), metrics + 1))
    for metric, columns in enumerate(groups[:-1]):
        without = X.copy()
        without[:, columns] = 0.0
        alone = expected.copy()
        alone[:, columns] = X[:, columns]
        effects[:, metric] = (full - score(without)) + (score(alone) - base)
    effects[:, -1] = (full - _mean_over_day(score, X)) + (base - _mean_over_day(score, expected))
    shares = _normalised(np.maximum(effects, 0.0), X, groups)
    return shares, _strongest_features(score, X, full, groups, shares.argmax(axis=1))


def _mean_over_day(score: Callable[[Floats], Floats], X: Floats) -> Floats:
    """Return the mean score of each row over eight times of the day."""
    total = np.zeros(len(X))
    for hour, business in zip(_HOURS, _BUSINESS, strict=True):
        moved = X.copy()
        moved[:, -3:-1] = hour
        moved[:, -1] = business
        total += score(moved)
    return total / len(_HOURS)


def _normalised(effects: Floats, X: Floats, groups: list[Columns]) -> Floats:
    distance = np.stack([_row_sums(np.abs(X[:, columns])) for columns in groups], axis=1)
    distance[:, -1] = 0.0
    distance[~distance.any(axis=1)] = 1.0
    effects = np.where(effects.any(axis=1, keepdims=True), effects, distance)
    return effects / _row_sums(effects)[:, None]


def _row_sums(values: Floats) -> Floats:
    """Return row sums, added in column order whatever the memory layout."""
    total = np.zeros(len(values))
    for column in range(values.shape[1]):
        total += values[:, column]
    return total


def _strongest_features(
    score: Callable[[Floats], Floats],
    X: Floats,
    full: Floats,
    groups: list[Columns],
    group: Columns,
) -> Columns:
    """Return the feature with the largest effect within each row's group.

    Among equal effects, the feature that is farthest from 0 wins.
    """
    widest = max(map(len, groups))
    columns = np.array([np.resize(features, widest) for features in groups])[group]
    rows = np.arange(len(X))
    expected = X.copy()
    np.put_along_axis(expected, columns, 0.0, axis=1)
    base = score(expected)
    effect = np.empty(columns.shape)
    for k in range(widest):
        without = X.copy()
        without[rows, columns[:, k]] = 0.0
        alone = expected.copy()
        alone[rows, columns[:, k]] = X[rows, columns[:, k]]
        effect[:, k] = (full - score(without)) + (score(alone) - base)
    best = effect.max(axis=1, keepdims=True)
    distance = np.where(effect == best, np.abs(np.take_along_axis(X, columns, axis=1)), -1.0)
    strongest: Columns = columns[rows, distance.argmax(axis=1)]
    return strongest
