"""What a trained model saw of a row: its features, and the path or support vectors that decide.

Invariant: pure; computed from the row's features and the model's arrays alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shared.features.vectors import FEATURE_NAMES
from shared.kernels.trained.peers import FIRST_METRIC
from shared.models.model import Forest, Model, Svm
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction
from shared.scoring.explaining import Trained
from shared.scoring.values_seen import ValuesSeen

Floats = npt.NDArray[np.float64]

MOST_VECTORS = 3


def model_evidence(
    model: Model | None, trained: Trained | ValuesSeen, row: int
) -> dict[str, Any] | None:
    """Return what a model saw of a row; None without a model or where it does not know the row."""
    if model is None:
        return None
    if isinstance(trained, ValuesSeen):
        member = model.member
        if not isinstance(member, Peers | Reconstruction) or not trained.known[row]:
            return None
        return _of_values(model, member, np.ascontiguousarray(trained.rows[row : row + 1]))
    if row >= len(trained.features) or np.isnan(trained.features[row]).any():
        return None
    features = np.ascontiguousarray(trained.features[row : row + 1])
    shares, _ = model.attribute(features)
    named = [
        {
            "feature": _name(trained, row, k),
            "value": float(features[0, k]),
            "usual": float(model.usual[k]),
            "share": float(shares[0, k]),
        }
        for k in np.argsort(-shares[0], kind="stable").tolist()
    ]
    shown = _scored(model, features) | {"features": named}
    match model.member:
        case Forest() as forest:
            return shown | {"shortest_path": shortest_path(forest, features[0])}
        case Svm() as svm:
            return shown | {"support_vectors": heaviest_vectors(svm, features[0])}
        case _:
            return shown


def _scored(model: Model, rows: Floats) -> dict[str, Any]:
    """Return what is shown of any model: its name, and the score of one row."""
    scores = model.score(rows)
    return {
        "model_id": model.model_id,
        "version": model.version,
        "detector": model.detector.value,
        "score": float(scores[0]),
        "threshold": float(model.threshold),
        "rarity": float(model.rarity(scores)[0]),
    }


def _of_values(model: Model, member: Peers | Reconstruction, rows: Floats) -> dict[str, Any]:
    """Return how the metrics of one row compare with its peers, or with the other metrics.

    rows : float64 (1, FIRST_METRIC + M)
    """
    shares, _ = model.attribute(rows)
    named = [
        {
            "feature": metric,
            "value": _number(rows[0, FIRST_METRIC + place]),
            "usual": _number(member.expected(rows[0], place)[0]),
            "share": float(shares[0, FIRST_METRIC + place]),
        }
        for place, metric in enumerate(model.metrics)
    ]
    named.sort(key=lambda one: -float(one["share"] or 0.0))
    shown = _scored(model, rows) | {"features": named}
    if isinstance(member, Peers):
        shown["peers"] = member.peers_of(rows[0])
    return shown


def shortest_path(forest: Forest, x: Floats) -> dict[str, Any]:
    """Return the tree that isolates a row soonest: its conditions from the root to the leaf.

    x : float64 (d,)
    """
    paths = [_path(forest, int(root), x) for root in forest.offsets[:-1]]
    lengths = [length for _, length in paths]
    tree = int(np.argmin(lengths))
    return {
        "tree": tree,
        "trees": len(paths),
        "path_length": lengths[tree],
        "mean_path_length": float(np.mean(lengths)),
        "conditions": paths[tree][0],
    }


def _path(forest: Forest, root: int, x: Floats) -> tuple[list[dict[str, Any]], float]:
    """Return the conditions that hold on the way to a row's leaf, and the leaf's path length."""
    conditions = []
    node = root
    while forest.feature[node] >= 0:
        feature, threshold = int(forest.feature[node]), float(forest.threshold[node])
        is_left = bool(np.float32(x[feature]) <= forest.threshold[node])
        conditions.append(
            {
                "feature": FEATURE_NAMES[feature],
                "value": float(x[feature]),
                "is": "<=" if is_left else ">",
                "threshold": threshold,
            }
        )
        node = root + int(forest.left[node]) + (0 if is_left else 1)
    return conditions, float(forest.path_length[node])


def heaviest_vectors(svm: Svm, x: Floats) -> list[dict[str, Any]]:
    """Return the support vectors whose kernel values weigh most at a row, the heaviest first.

    x       : float64 (d,)
    weight  : coefficient times kernel value
    share   : of the sum of all weights
    """
    distance = np.sqrt(((svm.vectors - x) ** 2).sum(axis=1))
    weights = svm.coefficients * np.exp(-svm.gamma * distance**2)
    total = float(weights.sum())
    return [
        {
            "vector": int(k),
            "weight": float(weights[k]),
            "share": float(weights[k]) / total if total > 0.0 else 0.0,
            "distance": float(distance[k]),
            "features": dict(zip(FEATURE_NAMES, svm.vectors[k].tolist(), strict=True)),
        }
        for k in np.argsort(-weights, kind="stable")[:MOST_VECTORS].tolist()
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _name(trained: Trained, row: int, feature: int) -> str:
    column = int(trained.sources[row, feature])
    metric = f"{trained.metrics[column]}." if column >= 0 else ""
    return metric + FEATURE_NAMES[feature]
