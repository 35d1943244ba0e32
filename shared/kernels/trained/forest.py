"""Isolation Forest scores, by walking eight packed trees at a time.

Source: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008: anomalies are isolated by fewer random
splits, so a short mean path gives a high score.

Invariant: a row's score is a sum in tree order, computed from that row alone, so that its bits do
not depend on the batch. Only exactly rounded operations are used, so that they do not depend on the
machine.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

CHILD_BITS = 17
FEATURE_BITS = 15
MAX_TREE_NODES = 1 << CHILD_BITS
MAX_FEATURES = 1 << FEATURE_BITS
"""A node is a 64-bit word: 32 bits of threshold, 17 of left child, 15 of feature."""

_CHILD_MASK = MAX_TREE_NODES - 1
_FEATURE_MASK = MAX_FEATURES - 1
_ABOVE_ALL = 0x7FFFFFFF
_BLOCK = 64

# Taylor coefficients of 2**x: ln(2)**i / i!, each rounded to the nearest double.
_E1, _E2, _E3 = 0.6931471805599453, 0.24022650695910072, 0.05550410866482158
_E4, _E5, _E6 = 0.009618129107628477, 0.0013333558146428443, 0.0001540353039338161
_E7, _E8, _E9 = 1.5252733804059841e-05, 1.321548679014431e-06, 1.01780860092397e-07
_E10, _E11, _E12 = 7.054911620801123e-09, 4.4455382718708116e-10, 2.5678435993488206e-11
_E13 = 1.3691488853904128e-12


@njit("void(f4[::1], i8[::1])", cache=True)
def order_keys(values: Singles, keys: Ints) -> None:
    """Map float32 values to integers of the same order; -0 and +0 are equal.

    values : float32 (n,)
    keys   : int64 (n,)   out; within int32. NaN lies beyond the infinity of its sign

    Twin: tests/reference/forest.py::order_key.
    """
    zeroed = values + np.float32(0.0)
    bits = zeroed.view(np.int32)
    for i in range(values.shape[0]):
        word = np.int64(bits[i])
        keys[i] = word ^ 0x7FFFFFFF if word < 0 else word


@njit("void(i4[::1], f4[::1], i4[::1], i8[::1])", cache=True)
def pack_nodes(feature: Indices, threshold: Singles, left: Indices, nodes: Ints) -> None:
    """Pack each node into one word, so that a step costs two loads.

    feature   : int32 (N,)    -1 = leaf, else < MAX_FEATURES
    threshold : float32 (N,)  a row goes left if its feature <= threshold
    left      : int32 (N,)    left child, relative to the tree's root, < MAX_TREE_NODES; the right
                child is the next node. The caller sets it to the node's own index at leaves
    nodes     : int64 (N,)    out; a leaf leads to itself: it is its own left child, and its
                threshold is above every value
    """
    order_keys(threshold, nodes)
    for i in range(feature.shape[0]):
        column = 0
        if feature[i] < 0:
            nodes[i] = _ABOVE_ALL
        else:
            column = feature[i]
        nodes[i] = nodes[i] * (1 << 32) + np.int64(left[i]) * MAX_FEATURES + column


@njit(cache=True)
def _child(node: int, keys: Ints, row: int) -> int:
    """Return the next node of a walk, relative to the tree's root."""
    goes_right = 1 if keys[row, node & _FEATURE_MASK] > (node >> 32) else 0
    return ((node >> FEATURE_BITS) & _CHILD_MASK) + goes_right


@njit(cache=True)
def _exp2(exponent: float) -> float:
    """Return 2 ** exponent for an exponent <= 0, within one unit in the last place.

    The bits are equal on every machine.
    """
    exponent = max(exponent, -1000.0)
    whole = math.floor(exponent + 0.5)
    x = exponent - whole
    power = _E13
    power = power * x + _E12
    power = power * x + _E11
    power = power * x + _E10
    power = power * x + _E9
    power = power * x + _E8
    power = power * x + _E7
    power = power * x + _E6
    power = power * x + _E5
    power = power * x + _E4
    power = power * x + _E3
    power = power * x + _E2
    power = power * x + _E1
    return math.ldexp(power * x + 1.0, int(whole))


@njit(cache=True)
def _add_eight_trees(
    keys: Ints,
    rows: int,
    nodes: Ints,
    path_length: Floats,
    offsets: Ints,
    tree: int,
    depth: int,
    total: Floats,
) -> None:
    """Add the path lengths of eight trees to each row's total.

    Eight interleaved walks hide each other's memory latency.
    """
    root0 = offsets[tree]
    root1 = offsets[tree + 1]
    root2 = offsets[tree + 2]
    root3 = offsets[tree + 3]
    root4 = offsets[tree + 4]
    root5 = offsets[tree + 5]
    root6 = offsets[tree + 6]
    root7 = offsets[tree + 7]
    for row in range(rows):
        p0, p1, p2, p3, p4, p5, p6, p7 = root0, root1, root2, root3, root4, root5, root6, root7
        for _ in range(depth):
            p0 = root0 + _child(nodes[p0], keys, row)
            p1 = root1 + _child(nodes[p1], keys, row)
            p2 = root2 + _child(nodes[p2], keys, row)
            p3 = root3 + _child(nodes[p3], keys, row)
            p4 = root4 + _child(nodes[p4], keys, row)
            p5 = root5 + _child(nodes[p5], keys, row)
            p6 = root6 + _child(nodes[p6], keys, row)
            p7 = root7 + _child(nodes[p7], keys, row)
        length = total[row]
        length += path_length[p0]
        length += path_length[p1]
        length += path_length[p2]
        length += path_length[p3]
        length += path_length[p4]
        length += path_length[p5]
        length += path_length[p6]
        length += path_length[p7]
        total[row] = length


@njit("void(f8[:, ::1], i8[::1], f8[::1], i8[::1], i8, f8, f8[::1])", cache=True)
def score_forest(
    X: Floats,
    nodes: Ints,
    path_length: Floats,
    offsets: Ints,
    depth: int,
    denominator: float,
    scores: Floats,
) -> None:
    """Score rows: 2 ** -(sum of path lengths / denominator).

    This is scikit-learn's ``-score_samples``.

    X           : float64 (n, d)  rounded to float32 as scikit-learn does; no NaN (its path would
                  mean nothing)
    nodes       : int64 (N,)      from ``pack_nodes``
    path_length : float64 (N,)    expected path length of each leaf
    offsets     : int64 (T + 1,)  first node of each tree
    depth       : steps of the longest path from a root to a leaf
    denominator : T times the average path length of the training samples, > 0
    scores      : float64 (n,)    out; 0..1, higher = more anomalous

    Twin: tests/reference/forest.py::score_forest.  Cost: O(n T depth); blocks of rows share a group
          of trees in cache.
    """
    n, features = X.shape
    trees = offsets.shape[0] - 1
    rows = min(n, _BLOCK)
    single = np.empty(features, np.float32)
    keys = np.empty((rows, features), np.int64)
    total = np.empty(rows, np.float64)
    for start in range(0, n, _BLOCK):
        rows = min(n - start, _BLOCK)
        for row in range(rows):
            for f in range(features):
                single[f] = np.float32(X[start + row, f])
            order_keys(single, keys[row])
            total[row] = 0.0
        tree = 0
        while tree + 8 <= trees:
            _add_eight_trees(keys, rows, nodes, path_length, offsets, tree, depth, total)
            tree += 8
        while tree < trees:
            root = offsets[tree]
            for row in range(rows):
                node = root
                for _ in range(depth):
                    node = root + _child(nodes[node], keys, row)
                total[row] += path_length[node]
            tree += 1
        for row in range(rows):
            scores[start + row] = _exp2(-(total[row] / denominator))
