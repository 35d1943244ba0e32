"""Fits scikit-learn estimators and exports their arrays; no other service imports scikit-learn.

Invariant: the arrays score each row as the estimator does, to within 1e-8 and with the same flag.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

from consumer_training.fitting.peer_groups import fit_peers
from consumer_training.fitting.reconstruction import Watch, fit_reconstruction
from consumer_training.fitting.sampling import seeded_rows
from shared.events import Detector
from shared.models.model import Forest, Member, Svm
from shared.settings import TrainSettings

Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
NO_ENTITIES = np.empty(0, np.uint64)


def fit(
    detector: Detector,
    X: Floats,
    train: TrainSettings,
    entities: Hashes = NO_ENTITIES,
    watch: Watch | None = None,
) -> tuple[Any, Member]:
    """Fit the detector's estimator; return it with its arrays.

    X        : float64 (n, d) as ``Model.score`` takes it, in a fixed order, because the seed
               selects row numbers; those of an entity in order of time
    entities : uint64 (E,)  what ``value_rows`` number
    watch    : is called after each pass over the rows, where there are several
    raises   : NoPeers, NoCommonMetrics
    """
    if detector is Detector.PEER_GROUPS:
        peers = fit_peers(X, entities, train.seed)
        return {"group": peers.group, "center": peers.center, "spread": peers.spread}, peers
    if detector is Detector.RECONSTRUCTION:
        is_linear = train.reconstruction == "pca"
        return fit_reconstruction(X, entities, train.seed, is_linear=is_linear, watch=watch)
    if detector is Detector.ISOLATION_FOREST:
        forest = IsolationForest(
            n_estimators=train.trees,
            max_samples=min(train.samples, len(X)),
            random_state=train.seed,
            n_jobs=1,
        ).fit(X.astype(np.float32))
        return forest, forest_of(forest)
    rows = seeded_rows(len(X), train.svm_rows, train.seed)
    svm = OneClassSVM(kernel="rbf", nu=train.nu, gamma=_gamma(X[rows], train.gamma)).fit(X[rows])
    return svm, svm_of(svm)


def forest_of(estimator: IsolationForest) -> Forest:
    """Export the arrays of a fitted forest, its nodes in breadth-first order.

    raises : ValueError when the trees were not grown on all features
    """
    features = estimator.n_features_in_
    if any(tree.tree_.n_features != features for tree in estimator.estimators_):
        raise ValueError("max_features must be 1.0: every tree has to see all features")
    trees = [_breadth_first(tree.tree_) for tree in estimator.estimators_]
    feature, threshold, left, path_length = (
        np.concatenate(parts) for parts in zip(*trees, strict=True)
    )
    offsets = np.concatenate([[0], np.cumsum([len(tree[0]) for tree in trees])]).astype(np.int64)
    denominator = len(trees) * float(average_path_length(np.array([estimator.max_samples_]))[0])
    return Forest(feature, threshold, left, path_length, offsets, denominator, features)


def svm_of(estimator: OneClassSVM) -> Svm:
    """Export the arrays of a fitted One-Class SVM with kernel "rbf" and a numeric gamma."""
    return Svm(
        np.ascontiguousarray(estimator.support_vectors_, np.float64),
        np.ascontiguousarray(estimator.dual_coef_.ravel(), np.float64),
        float(estimator.gamma),
        float(np.ravel(estimator.offset_)[0]),
    )


def floor_to_float32(values: Floats) -> npt.NDArray[np.float32]:
    """Return the largest float32 not above each value.

    For a float32 x, ``x <= floor_to_float32(value)`` is true exactly where ``x <= value`` is.
    """
    floor = values.astype(np.float32)
    above = floor.astype(np.float64) > values
    floor[above] = np.nextafter(floor[above], np.float32(-np.inf))
    return floor


def average_path_length(samples: npt.NDArray[np.int64]) -> Floats:
    """Return the mean depth of a leaf in a tree that isolates this number of samples.

    Source: Liu, Ting, Zhou 2008, Isolation Forest, equation 1.
    """
    n = np.maximum(samples, 3).astype(np.float64)
    length = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(samples > 2, length, np.where(samples == 2, 1.0, 0.0))


def _breadth_first(tree: Any) -> tuple[npt.NDArray[Any], ...]:
    """Return feature, threshold, left child and path length of each node, level by level."""
    order = []
    depth = []
    level = np.zeros(1, np.int64)
    steps = 0
    while len(level):
        order.append(level)
        depth.append(np.full(len(level), steps))
        inner = level[tree.children_left[level] >= 0]
        level = np.column_stack([tree.children_left[inner], tree.children_right[inner]]).ravel()
        steps += 1
    nodes = np.concatenate(order)
    depths = np.concatenate(depth)
    leaf = tree.children_left[nodes] < 0
    left = np.where(leaf, -1, 2 * np.cumsum(~leaf) - 1)
    # the order of scikit-learn's own sum: depth counted from 1, plus the average, minus 1
    length = (depths + 1.0) + average_path_length(tree.n_node_samples[nodes]) - 1.0
    return (
        np.where(leaf, -1, tree.feature[nodes]).astype(np.int32),
        floor_to_float32(np.where(leaf, 0.0, tree.threshold[nodes])),
        left.astype(np.int32),
        np.where(leaf, length, 0.0),
    )


def _gamma(X: Floats, gamma: float | str) -> float:
    """Return scikit-learn's gamma as a number, also for "scale" and "auto"."""
    if isinstance(gamma, float):
        return gamma
    variance = float(X.var()) if gamma == "scale" else 1.0
    return 1.0 / (X.shape[1] * variance) if variance > 0 else 1.0
