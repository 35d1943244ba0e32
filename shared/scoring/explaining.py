"""Why a trained model finds a row unusual: shares, the decisive feature, one plain sentence.

Invariant: an explanation is computed from the row's feature vector and the model alone; it changes
           no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.features.vectors import feature_names
from shared.models.model import Model
from shared.wording import relative_to_usual, short

Floats = npt.NDArray[np.float64]

TIME = "time_of_day"
"""The share of the time features in ``attributions``."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a model finds a row unusual.

    values : value and expected, lower, upper of the metric that contributes most
    shares : by metric, and TIME; they sum to 1
    """

    metric: str
    values: dict[str, float | None]
    shares: dict[str, float]
    top_feature: str
    reason: str


class Trained(NamedTuple):
    """Rows that the model knows, their feature vectors and scores.

    rows, X, scores : int64 (k,), float64 (k, d), float64 (k,)
    rolling         : float64 (k, M, 4)  of the model's metrics, in its order
    entity_rows     : int32 (k,)         rows of the model's scale
    """

    rows: npt.NDArray[np.int64]
    X: Floats
    scores: Floats
    rolling: Floats
    entity_rows: npt.NDArray[np.int32]

    def explain(self, model: Model | None, wanted: npt.NDArray[np.int64]) -> dict[int, Explained]:
        """Explain rows; those that the model does not know are left out.

        wanted : int64 (a,)  rows of the batch
        """
        known = np.unique(wanted[np.isin(wanted, self.rows)])
        if model is None or not len(known):
            return {}
        places = np.searchsorted(self.rows, known)
        shares, top = model.attribute(self.X[places])
        names = feature_names(model.metrics)
        return {
            int(row): _explained(model, self, int(position), shares[k], names[int(top[k])])
            for k, (row, position) in enumerate(zip(known, places, strict=True))
        }


def _explained(
    model: Model, trained: Trained, position: int, shares: Floats, top_feature: str
) -> Explained:
    column = int(np.argmax(shares[:-1]))
    metric = model.metrics[column]
    feature = (
        top_feature.removeprefix(f"{metric}.") if top_feature.startswith(f"{metric}.") else "value"
    )
    scale, entity_row = model.scale, int(trained.entity_rows[position])
    centre, spread = scale.centre[entity_row, column], scale.spread[entity_row, column]
    rolling = trained.rolling[position, column]
    expected, half = float(centre[0]), 3.0 * float(spread[0])
    values = {
        "value": _number(rolling[0]),
        "expected": _number(expected),
        "lower": _number(expected - half),
        "upper": _number(expected + half),
    }
    sentence = _sentence(metric, feature, rolling, centre, model.window, float(shares[-1]))
    kind = model.detector.value.replace("_", " ")
    return Explained(
        metric,
        values,
        dict(zip((*model.metrics, TIME), (float(share) for share in shares), strict=True)),
        top_feature,
        f"the {kind} finds the metrics together unusual, most of all {sentence}",
    )


def _sentence(
    metric: str, feature: str, rolling: Floats, centre: Floats, window: int, time_share: float
) -> str:
    value, mean, spread, difference = (float(x) for x in rolling)
    if feature == "missing" or np.isnan(value):
        sentence = f"{metric} is missing"
    elif feature == "mean":
        sentence = (
            f"{metric} averages {short(mean)} over {window} samples,"
            f" {relative_to_usual(mean, float(centre[1]))}"
        )
    elif feature == "spread":
        sentence = (
            f"{metric} varies by {short(spread)} over {window} samples,"
            f" {relative_to_usual(spread, float(centre[2]))}"
        )
    elif feature == "difference":
        sentence = (
            f"{metric} {'rose' if difference > 0 else 'fell'} by {short(abs(difference))} in one"
            f" step to {short(value)}"
        )
    else:
        sentence = f"{metric} is {short(value)}, {relative_to_usual(value, float(centre[0]))}"
    return sentence + (", at an unusual hour" if time_share >= 0.4 else "")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
