"""Slow and obviously right: a One-Class SVM's decision function, vector by vector."""

from __future__ import annotations

import math

import numpy as np

from shared.models.model import Svm


def score_svm(svm: Svm, X: np.ndarray) -> np.ndarray:
    scores = []
    for row in X:
        values = []
        for vector, coefficient in zip(svm.vectors, svm.coefficients, strict=True):
            distance = math.fsum(
                (float(a) - float(b)) ** 2 for a, b in zip(row, vector, strict=True)
            )
            values.append(float(coefficient) * math.exp(-svm.gamma * distance))
        scores.append(svm.rho - math.fsum(values))
    return np.array(scores)
