"""Peer groups as arrays: which entities are alike, and what is usual among them.

Invariant: a row is compared with profiles that were learned in training, never with other
           entities' present rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.kernels.trained.peers import FIRST_METRIC, HOUR, HOURS, part_of_day, score_peers
from shared.kernels.trained.trained_rows import WITHOUT_MODEL, TrainedModel
from shared.models.array_checks import kernel_rows, need_array

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

LEAST_SPREAD, LARGEST_VALUE = 1e-200, 1e200
"""Limits within which differences and quotients cannot overflow to something that is no number."""

MAX_GROUPS = 1024

BAND = 3.0
"""Spreads on either side of a median that an explanation calls usual."""


@dataclass(frozen=True, eq=False)
class Peers:
    """Groups of entities, and the median and spread of each metric in each group.

    entities : uint64 (E,)        increasing; ``value_rows.hash_of`` each entity of the training
    group    : int32 (E,)         of each entity, 0..G-1; -1 = it has no peers
    center   : float64 (G, T, M)  median of a metric in a group at each of T equal parts of the day;
               NaN = not compared
    spread   : float64 (G, T, M)  its interquartile range, in standard deviations of a Gaussian;
               NaN where ``center`` is

    raises : ValueError naming the array and what is wrong with it
    """

    entities: npt.NDArray[np.uint64]
    group: Indices
    center: Floats
    spread: Floats

    def __post_init__(self) -> None:
        size = len(self.entities)
        need_array(self, "entities", np.uint64, (size,))
        need_array(self, "group", np.int32, (size,))
        if self.center.ndim != 3 or 0 in self.center.shape:
            raise ValueError(f"center has shape {self.center.shape}, not three lengths above 0")
        groups, parts, metrics = self.center.shape
        need_array(self, "center", np.float64, (groups, parts, metrics))
        need_array(self, "spread", np.float64, (groups, parts, metrics))
        if groups > MAX_GROUPS or HOURS % parts != 0:
            raise ValueError(
                f"center has {groups} groups and {parts} parts of a day: allowed are"
                f" {MAX_GROUPS}, and divisors of {HOURS}"
            )
        if not (self.entities[1:] > self.entities[:-1]).all():
            raise ValueError("entities are not increasing")
        if not ((self.group >= -1) & (self.group < groups)).all():
            raise ValueError(f"group is outside -1..{groups - 1}")
        for of_group in range(groups):
            self._check_profile(self.center[of_group], self.spread[of_group])

    def _check_profile(self, center: Floats, spread: Floats) -> None:
        is_known = ~np.isnan(center)
        if not np.array_equal(is_known, ~np.isnan(spread)):
            raise ValueError("spread is NaN at other places than center")
        if not (np.abs(center[is_known]) <= LARGEST_VALUE).all():
            raise ValueError(f"center is beyond {LARGEST_VALUE}")
        known = spread[is_known]
        if not ((known >= LEAST_SPREAD) & (known <= LARGEST_VALUE)).all():
            raise ValueError(f"spread is outside {LEAST_SPREAD}..{LARGEST_VALUE}")

    @property
    def features(self) -> int:
        """Number of columns of a row."""
        return FIRST_METRIC + int(self.center.shape[2])

    def as_kernels_take_it(self) -> TrainedModel:
        """Return what the fold takes: nothing, because rows are scored before it."""
        return WITHOUT_MODEL

    def score(self, X: Floats) -> Floats:
        """Score rows; see ``Model.score``."""
        return self._compare(X)[0]

    def knows(self, X: Floats) -> npt.NDArray[np.bool_]:
        """Return whether each row was compared with a group; bool (n,)."""
        return self._compare(X)[1] >= 0

    def shares(self, X: Floats) -> Floats:
        """Return the share of each column in a row's squared distance, float64 (n, features).

        Of a row without any distance all metrics have the same share.
        """
        X = kernel_rows(X, self.features)
        found = np.zeros(X.shape)
        for row in range(len(X)):
            distance = self._distances(X[row : row + 1])
            total = float((distance * distance).sum())
            share = distance * distance / total if total > 0.0 else 1.0 / len(distance)
            found[row, FIRST_METRIC:] = share
        return found

    def expected(self, row: Floats, metric: int) -> tuple[float, float, float]:
        """Return the median of a metric in a row's group, and both ends of the usual range.

        row     : float64 (features,)
        returns : NaN where the row was not compared
        """
        group, part = self._place(row[None, :])
        if group < 0:
            return np.nan, np.nan, np.nan
        center = float(self.center[group, part, metric])
        reach = BAND * float(self.spread[group, part, metric])
        return center, center - reach, center + reach

    def peers_of(self, row: Floats) -> int:
        """Return how many entities of the training are in a row's group."""
        group, _ = self._place(row[None, :])
        return int((self.group == group).sum()) if group >= 0 else 0

    def _place(self, X: Floats) -> tuple[int, int]:
        group = int(self._compare(X)[1][0])
        return group, int(part_of_day(float(X[0, HOUR]), self.center.shape[1]))

    def _distances(self, X: Floats) -> Floats:
        """Return one row's distance by metric, 0 where it was not compared; float64 (M,)."""
        group, part = self._place(X)
        if group < 0:
            return np.zeros(self.center.shape[2])
        with np.errstate(over="ignore"):
            distance = np.abs(X[0, FIRST_METRIC:] - self.center[group, part])
            distance /= self.spread[group, part]
        return np.minimum(np.where(np.isnan(distance), 0.0, distance), 1e6)

    def _compare(self, X: Floats) -> tuple[Floats, Ints]:
        X = kernel_rows(X, self.features)
        scores, chosen = np.empty(len(X)), np.empty(len(X), np.int64)
        score_peers(X, self.group, self.center, self.spread, scores, chosen)
        return scores, chosen
