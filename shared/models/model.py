"""A model as arrays: its member, a usual row, a threshold and a calibration.

Invariant: a row's score, severity and attribution are a function of that row and the model's arrays
alone. These classes refuse arrays that would make a kernel read out of bounds, loop without end or
return a score that is not a number. The checks take a fraction of the arrays' memory, because the
arrays may come from an untrusted file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.events import Detector
from shared.features.vectors import FEATURES
from shared.kernels.trained import trained_rows
from shared.kernels.trained.forest import MAX_FEATURES, MAX_TREE_NODES, pack_nodes, score_forest
from shared.kernels.trained.peers import FIRST_METRIC
from shared.kernels.trained.svm import LANES, score_svm
from shared.kernels.trained.trained_rows import (
    KNOTS_PER_DECADE,
    RAREST,
    WITHOUT_MODEL,
    TrainedModel,
)
from shared.models.array_checks import kernel_rows, need_array
from shared.models.attribution import attribute
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]

MAX_DEPTH = 64
MAX_TREES = 1000
MAX_KNOTS = 4096
LARGEST, SMALLEST = 1e100, 1e-200
"""Limits within which sums, differences and slopes of scores cannot overflow."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Isolation trees, each with its nodes in breadth-first order.

    feature     : int32 (N,)      -1 = leaf
    threshold   : float32 (N,)    a row goes left if its feature, as float32, is <= this; 0 at
                  leaves
    left        : int32 (N,)      left child, relative to the tree's root; -1 at leaves. The right
                  child is the next node
    path_length : float64 (N,)    at leaves: depth + average path length of the training samples
                  there; 0 elsewhere
    offsets     : int64 (T + 1,)  first node of each tree
    denominator : T times the average path length of the training samples
    features    : d

    Source: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008.

    raises : ValueError naming the array and what is wrong with it
    """

    feature: Indices
    threshold: npt.NDArray[np.float32]
    left: Indices
    path_length: Floats
    offsets: npt.NDArray[np.int64]
    denominator: float
    features: int

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        for name, dtype in {
            "feature": np.int32,
            "threshold": np.float32,
            "left": np.int32,
            "path_length": np.float64,
        }.items():
            need_array(self, name, dtype, (nodes,))
        need_array(self, "offsets", np.int64, (len(self.offsets),))
        if not 1 <= len(self.offsets) - 1 <= MAX_TREES:
            raise ValueError(f"offsets do not divide the nodes into 1 to {MAX_TREES} trees")
        sizes = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != nodes or not (sizes > 0).all():
            raise ValueError("offsets do not divide the nodes into trees")
        if sizes.max() > MAX_TREE_NODES or not 0 < self.features <= MAX_FEATURES:
            raise ValueError(
                f"more than {MAX_TREE_NODES} nodes in a tree, or not 1 to {MAX_FEATURES} features"
            )
        leaf = self.feature < 0
        if not ((self.feature >= -1) & (self.feature < self.features)).all():
            raise ValueError(f"feature is outside -1..{self.features - 1}")
        if not np.isfinite(self.threshold).all():
            raise ValueError("threshold is not finite")
        if not (np.isfinite(self.path_length) & (self.path_length >= 0)).all():
            raise ValueError("path_length is not finite and >= 0")
        if not (np.isfinite(self.denominator) and self.denominator > 0):
            raise ValueError(f"denominator is {self.denominator}, not finite and > 0")
        if self.threshold[leaf].any() or self.path_length[~leaf].any():
            raise ValueError("a leaf has a threshold, or an inner node a path_length")
        for low, high in self._trees():
            self._check_children(low, high)
        if self.depth > MAX_DEPTH:
            raise ValueError(f"a tree is deeper than {MAX_DEPTH}")

    def _trees(self) -> Iterator[tuple[int, int]]:
        """Return the first node of each tree, and the one after its last."""
        return pairwise(self.offsets.tolist())

    def _check_children(self, low: int, high: int) -> None:
        leaf = self.feature[low:high] < 0
        nodes_so_far = 1 + 2 * np.cumsum(~leaf)  # up to and including this node's children
        expected = np.where(leaf, -1, nodes_so_far - 2)
        is_after_parent = leaf | (expected > np.arange(high - low))
        if not np.array_equal(self.left[low:high], expected) or not is_after_parent.all():
            raise ValueError("left: children are not in breadth-first order within their tree")
        if nodes_so_far[-1] != high - low:
            raise ValueError("left: a tree has nodes that are no node's children")

    @cached_property
    def depth(self) -> int:
        """Steps of the longest path from a root to a leaf; not counted beyond MAX_DEPTH + 1."""
        deepest = 0
        for low, high in self._trees():
            nodes_so_far = 1 + 2 * np.cumsum(self.feature[low:high] >= 0)
            level_end = 1
            depth = 0
            while level_end < high - low and depth <= MAX_DEPTH:
                level_end = int(nodes_so_far[level_end - 1])
                depth += 1
            deepest = max(deepest, depth)
        return deepest

    @cached_property
    def _nodes(self) -> npt.NDArray[np.int64]:
        nodes = np.empty(len(self.feature), np.int64)
        for low, high in self._trees():
            feature = self.feature[low:high]
            left = np.where(feature < 0, np.arange(high - low, dtype=np.int32), self.left[low:high])
            pack_nodes(feature, self.threshold[low:high], left, nodes[low:high])
        return nodes

    def as_kernels_take_it(self) -> TrainedModel:
        """Return the forest's part of what kernels take."""
        return WITHOUT_MODEL._replace(
            kind=trained_rows.FOREST,
            nodes=self._nodes,
            path_length=_writable(self.path_length),
            offsets=_writable(self.offsets),
            depth=self.depth,
            denominator=float(self.denominator),
        )

    def score(self, X: Floats) -> Floats:
        """Score rows; see ``Model.score``."""
        X = kernel_rows(X, self.features)
        scores = np.empty(len(X))
        score_forest(
            X, self._nodes, self.path_length, self.offsets, self.depth, self.denominator, scores
        )
        return scores


@dataclass(frozen=True, eq=False)
class Svm:
    """A One-Class SVM with the RBF kernel.

    vectors      : float64 (S, d)  support vectors
    coefficients : float64 (S,)    their weights
    gamma        : > 0, kernel width
    rho          : the estimator's ``offset_``

    Source: Schoelkopf et al., "Estimating the Support of a High-Dimensional Distribution", Neural
            Computation 13 (2001).

    raises : ValueError naming the array and what is wrong with it
    """

    vectors: Floats
    coefficients: Floats
    gamma: float
    rho: float

    def __post_init__(self) -> None:
        size = len(self.coefficients)
        need_array(self, "coefficients", np.float64, (size,))
        if self.vectors.ndim != 2 or size == 0 or self.vectors.shape[1] == 0:
            raise ValueError(f"vectors have shape {self.vectors.shape}, not (1 or more, 1 or more)")
        need_array(self, "vectors", np.float64, (size, self.features))
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.coefficients).all()):
            raise ValueError("vectors or coefficients are not finite")
        if not (np.isfinite(self.gamma) and self.gamma > 0 and np.isfinite(self.rho)):
            raise ValueError(
                f"gamma is {self.gamma}, not finite and > 0, or rho is {self.rho}, not finite"
            )
        with np.errstate(over="ignore"):
            largest = float(np.abs(self.coefficients).sum()) + abs(self.rho)
        if not largest <= LARGEST:
            raise ValueError(f"coefficients and rho allow scores beyond {LARGEST}")

    @property
    def features(self) -> int:
        """Number of columns of a feature vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def _columns(self) -> tuple[Floats, Floats]:
        size = len(self.coefficients)
        padding = -size % LANES
        columns = np.zeros((self.features, size + padding))
        columns[:, :size] = self.vectors.T
        return columns, np.pad(self.coefficients, (0, padding))

    def as_kernels_take_it(self) -> TrainedModel:
        """Return the SVM's part of what kernels take."""
        vectors, coefficients = self._columns
        return WITHOUT_MODEL._replace(
            kind=trained_rows.SVM,
            vectors=vectors,
            coefficients=coefficients,
            gamma=float(self.gamma),
            rho=float(self.rho),
        )

    def score(self, X: Floats) -> Floats:
        """Score rows; see ``Model.score``."""
        X = kernel_rows(X, self.features)
        scores = np.empty(len(X))
        score_svm(X, *self._columns, self.gamma, self.rho, scores)
        return scores


Member = Forest | Svm | Peers | Reconstruction
MEMBERS: Mapping[Detector, type[Member]] = {
    Detector.ISOLATION_FOREST: Forest,
    Detector.ONE_CLASS_SVM: Svm,
    Detector.PEER_GROUPS: Peers,
    Detector.RECONSTRUCTION: Reconstruction,
}
"""Trained detectors, and what scores their rows."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: scores feature vectors, and returns severity and attribution.

    sha256      : 64 hex digits of the published artefact; "" before it is published
    version     : end of the training range, ISO 8601 UTC
    metrics     : (M,) of the training rows; a row is scored whatever its metrics
    usual       : float64 (FEATURES,)  a usual row, which attributions compare with; empty where the
                  member sees values
    threshold   : a score above it is an anomaly
    calibration : float64 (q,) increasing; entry k is the score that a share of
                  10 ** (-k / KNOTS_PER_DECADE) of the training rows reaches

    raises : ValueError naming the part and what is wrong with it
    """

    sha256: str
    version: str
    detector: Detector
    metrics: tuple[str, ...]
    usual: Floats
    member: Member
    threshold: float
    calibration: Floats

    def __post_init__(self) -> None:
        if not self.metrics or len(set(self.metrics)) != len(self.metrics) or not all(self.metrics):
            raise ValueError("metrics: there are none, or a name is empty or duplicate")
        width = FIRST_METRIC + len(self.metrics) if self.sees_values else FEATURES
        if self.member.features != width:
            raise ValueError(
                f"the detector takes {self.member.features} features, a row has {width}"
            )
        if type(self.member) is not MEMBERS.get(self.detector):
            raise ValueError(f"detector is {self.detector}, but the arrays are of another detector")
        need_array(self, "usual", np.float64, (0 if self.sees_values else FEATURES,))
        if not np.isfinite(self.usual).all():
            raise ValueError("usual is not finite")
        if not np.isfinite(self.threshold):
            raise ValueError("threshold is not finite")
        need_array(self, "calibration", np.float64, (len(self.calibration),))
        if (
            not KNOTS_PER_DECADE < len(self.calibration) <= MAX_KNOTS
            or not (np.abs(self.calibration) <= LARGEST).all()
        ):
            raise ValueError(
                f"calibration does not have {KNOTS_PER_DECADE + 1} to {MAX_KNOTS} entries, or one"
                " is not finite"
            )
        if not (np.diff(self.calibration) >= 0).all():
            raise ValueError("calibration is not sorted")

    @property
    def sees_values(self) -> bool:
        """Whether its rows are ``value_rows``: of values, not of what the fold's views see."""
        return isinstance(self.member, Peers | Reconstruction)

    @property
    def entities(self) -> npt.NDArray[np.uint64]:
        """Hashes of the entities that the model lists, increasing; none unless it sees values."""
        return (
            self.member.entities
            if isinstance(self.member, Peers | Reconstruction)
            else np.empty(0, np.uint64)
        )

    @property
    def features(self) -> int:
        """Number of columns of a row."""
        return self.member.features

    @property
    def model_id(self) -> str:
        """First 16 digits of the artefact's SHA-256, as results carry it."""
        return self.sha256[:16]

    @cached_property
    def arrays(self) -> TrainedModel:
        """The model as kernels take it."""
        return self.member.as_kernels_take_it()._replace(
            knots=_writable(self.calibration), slope=self._slope
        )

    def score(self, X: Floats) -> Floats:
        """Score feature vectors.

        X       : float64 (n, d), no NaN but for missing values in ``value_rows``
        returns : float64 (n,), higher = more anomalous; a row's bits are equal in any batch
        raises  : ValueError when X has another number of columns
        Cost    : 100 trees of 256 samples about 0.7 us a row in batches, 1.6 us for a single one
        """
        return self.member.score(X)

    def knows(self, X: Floats) -> npt.NDArray[np.bool_]:
        """Return whether the model can say anything of each row; bool (n,)."""
        if isinstance(self.member, Peers | Reconstruction):
            return self.member.knows(X)
        return ~np.isnan(X[:, 0])

    def severity(self, scores: Floats) -> Floats:
        """Map scores to 0..1 by their rarity among the training rows.

        scores  : float64 (n,)
        returns : float64 (n,), monotonic in the score; below .5 under the threshold, .5 at it, and
                  1 - .5 / (1 + v) above it, where a score is 10 ** v times rarer than the
                  threshold: .75 for ten times rarer
        """
        rarity = self._rarity(scores)
        at_threshold = self._threshold_rarity
        above = 1.0 - 0.5 / (1.0 + np.maximum(rarity - at_threshold, 0.0) / KNOTS_PER_DECADE)
        below = 0.5 * rarity / at_threshold if at_threshold > 0 else np.zeros_like(rarity)
        below = np.minimum(below, np.nextafter(0.5, 0.0))
        return np.where(
            scores > self.threshold,
            np.maximum(above, 0.5),
            np.where(scores == self.threshold, 0.5, below),
        )

    def rarity(self, scores: Floats) -> Floats:
        """Return how rare scores are among the training rows.

        scores  : float64 (n,)
        returns : float64 (n,), -log10 of the share of training rows that reach the score, at most
                  RAREST
        """
        return np.minimum(self._rarity(scores) / KNOTS_PER_DECADE, RAREST)

    def attribute(self, X: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Attribute the scores of rows to features; see ``attribution.attribute``.

        X       : float64 (n, d) as ``score`` takes it
        returns : shares float64 (n, d) that sum to 1; int64 (n,) feature with the largest
        """
        if isinstance(self.member, Peers | Reconstruction):
            shares = self.member.shares(X)
            return shares, shares.argmax(axis=1)
        return attribute(self.score, X, self.usual)

    @cached_property
    def _threshold_rarity(self) -> float:
        return float(self._rarity(np.array([self.threshold]))[0])

    def _rarity(self, scores: Floats) -> Floats:
        """Return the interpolated index into the calibration.

        Beyond the last entry it is extrapolated with the slope of the upper decades.
        """
        knots = self.calibration
        last = len(knots) - 1
        knot = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, last - 1)
        width = knots[knot + 1] - knots[knot]
        within = knot + np.clip((scores - knots[knot]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        return np.where(scores >= knots[last], last + (scores - knots[last]) * self._slope, within)

    @property
    def _slope(self) -> float:
        """Entries per unit of score beyond the last one."""
        knots = self.calibration
        last = len(knots) - 1
        rise = float(knots[last] - knots[KNOTS_PER_DECADE])
        if rise > SMALLEST and last > KNOTS_PER_DECADE:
            return (last - KNOTS_PER_DECADE) / rise
        return self._usual_slope

    @property
    def _usual_slope(self) -> float:
        """Entries per unit of score for a flat tail: a decade per tenth of the top score."""
        return 10 * KNOTS_PER_DECADE / max(abs(float(self.calibration[-1])), 1e-6)


def calibrate(scores: Floats) -> Floats:
    """Sample the tail of the training scores for ``Model.calibration``.

    scores : float64 (n,), n >= 20
    """
    decades = max(np.log10(len(scores)), 1.0)
    knots = int(decades * KNOTS_PER_DECADE) + 1
    tail = 10.0 ** (-np.arange(max(knots, KNOTS_PER_DECADE + 2)) / KNOTS_PER_DECADE)
    quantiles: Floats = np.quantile(scores, 1.0 - tail)
    return np.maximum.accumulate(quantiles)


def _writable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array as the kernels' signatures require it."""
    return np.require(array, None, ["C", "W"])
