"""Slow and obviously right: isolation trees walked node by node, and the order of float32."""

from __future__ import annotations

import math
import struct

import numpy as np

from shared.models.model import Forest


def order_key(value: float) -> int:
    """Return an integer that sorts a float32 among all others.

    It is the bit pattern of the absolute value, negated if the value is negative.
    """
    bits = struct.unpack(">I", struct.pack(">f", abs(value)))[0]
    return -bits - 1 if value < 0 else bits


def path_length(forest: Forest, tree: int, row: np.ndarray) -> float:
    root = int(forest.offsets[tree])
    node = 0
    while forest.feature[root + node] >= 0:
        goes_left = np.float32(row[forest.feature[root + node]]) <= forest.threshold[root + node]
        node = int(forest.left[root + node]) + (0 if goes_left else 1)
    return float(forest.path_length[root + node])


def score_forest(forest: Forest, X: np.ndarray) -> np.ndarray:
    scores = []
    for row in X:
        total = 0.0
        for tree in range(len(forest.offsets) - 1):
            total += path_length(forest, tree, row)
        scores.append(math.pow(2.0, -(total / forest.denominator)))
    return np.array(scores)
