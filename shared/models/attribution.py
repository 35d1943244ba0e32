"""Which metric made a row odd, found by asking the model itself about changed rows.

Law: shares depend on the row and the model alone; nothing here changes a score.
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
    """Share each row's oddness out to its metrics and the time of day.

    score   : scores of rows, (n, d) -> (n,), each row by itself
    X       : float64 (n, d), columns as ``features.feature_names``
    returns : shares float64 (n, M + 1), >= 0, sum 1, last = time of day; int64 (n,) feature that
              stands out most, taken from the part with the largest share

    A metric's part is the mean of two effects: how much the score falls when the metric is put to
    "as expected" (scaled 0, flag 0), and how much it rises when only that metric is as it was. One
    alone fails where the score saturates. The time's part is measured against the mean over eight
    hours of the day. Where no part raises the score, the distance from the expected decides.
    Cost: 2 M + 28 scores a row.
    """
    shares, top = np.empty((len(X), metrics + 1)), np.empty(len(X), np.int64)
    for start in range(0, len(X), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        shares[rows], top[rows] = _attribute(score, X[rows], metrics)
    return shares, top


def metric_columns(metric: int, metrics: int) -> Columns:
    """Columns of one metric: its rolling features, then its missing flag."""
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
    full, bare = score(X), score(expected)
    parts = np.empty((len(X), metrics + 1))
    for metric, columns in enumerate(groups[:-1]):
        without, alone = X.copy(), expected.copy()
        without[:, columns] = 0.0
        alone[:, columns] = X[:, columns]
        parts[:, metric] = (full - score(without)) + (score(alone) - bare)
    parts[:, -1] = (full - _over_the_day(score, X)) + (bare - _over_the_day(score, expected))
    shares = _normalised(np.maximum(parts, 0.0), X, groups)
    return shares, _strongest_features(score, X, full, groups, shares.argmax(axis=1))


def _over_the_day(score: Callable[[Floats], Floats], X: Floats) -> Floats:
    """Mean score of each row at eight times of the day."""
    total = np.zeros(len(X))
    for hour, business in zip(_HOURS, _BUSINESS, strict=True):
        moved = X.copy()
        moved[:, -3:-1], moved[:, -1] = hour, business
        total += score(moved)
    return total / len(_HOURS)


def _normalised(parts: Floats, X: Floats, groups: list[Columns]) -> Floats:
    distance = np.stack([_row_sums(np.abs(X[:, columns])) for columns in groups], axis=1)
    distance[:, -1] = 0.0
    distance[~distance.any(axis=1)] = 1.0
    parts = np.where(parts.any(axis=1, keepdims=True), parts, distance)
    return parts / _row_sums(parts)[:, None]


def _row_sums(values: Floats) -> Floats:
    """Sums in column order, whatever the memory layout."""
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
    """Within each row's group, the feature that the score owes most to; of equals the one farthest
    from 0.
    """
    widest = max(map(len, groups))
    columns = np.array([np.resize(g, widest) for g in groups])[group]
    rows = np.arange(len(X))
    bare = X.copy()
    np.put_along_axis(bare, columns, 0.0, axis=1)
    effect, base = np.empty(columns.shape), score(bare)
    for k in range(widest):
        without, alone = X.copy(), bare.copy()
        without[rows, columns[:, k]] = 0.0
        alone[rows, columns[:, k]] = X[rows, columns[:, k]]
        effect[:, k] = (full - score(without)) + (score(alone) - base)
    best = effect.max(axis=1, keepdims=True)
    distance = np.where(effect == best, np.abs(np.take_along_axis(X, columns, axis=1)), -1.0)
    strongest: Columns = columns[rows, distance.argmax(axis=1)]
    return strongest
