"""Why a trained model finds a row unusual: shares, the decisive feature, one plain sentence.

Invariant: an explanation is computed from the row's features and the model alone; it changes no
           score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.features.vectors import FEATURE_NAMES
from shared.models.model import Model
from shared.wording import short

Floats = npt.NDArray[np.float64]

_SENTENCES = {
    "deviation": "{metric} is {value}, expected {expected}",
    "jump": "{metric} changed to {value} in an unusual step",
    "residual": "{metric}, at {value}, does not follow the other metrics",
    "quarter_hour": "{metric} deviates over the last quarter of an hour, now {value}, expected"
    " {expected}",
    "hour": "{metric} deviates over the last hour, now {value}, expected {expected}",
    "residual_hour": "{metric}, now {value}, has not followed the other metrics over the last hour",
    "spread": "{metric}, now {value}, varies more than usual from one value to the next",
}
"""What is said of each feature."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a model finds a row unusual.

    values : value and expected, lower, upper of the metric that contributes most
    shares : by metric; they sum to 1
    """

    metric: str
    values: dict[str, float | None]
    shares: dict[str, float]
    top_feature: str
    reason: str


class Trained(NamedTuple):
    """What a trained model sees of a batch.

    features : float64 (n, FEATURES)  of each row; NaN = the model does not know it
    sources  : int32 (n, FEATURES)    the column that each comes from, -1 = none
    values   : float64 (n, M)
    cells    : CELL_DTYPE (n, M)
    metrics  : (M,) names of the columns
    """

    features: Floats
    sources: npt.NDArray[np.int32]
    values: Floats
    cells: npt.NDArray[Any]
    metrics: list[str]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Return whether the model knows each row; bool (n,)."""
        return ~np.isnan(self.features[:, 0])

    def explain(self, model: Model | None, wanted: npt.NDArray[np.int64]) -> dict[int, Explained]:
        """Explain rows; those that the model does not know are left out.

        wanted : int64 (a,)  rows of the batch
        """
        if model is None or not len(self.features):
            return {}
        rows = np.unique(wanted[self.known[wanted]])
        if not len(rows):
            return {}
        shares, top = model.attribute(self.features[rows])
        return {
            int(row): self._explained(model, int(row), shares[k], int(top[k]))
            for k, row in enumerate(rows)
        }

    def _explained(self, model: Model, row: int, shares: Floats, top: int) -> Explained:
        column, feature = int(self.sources[row, top]), FEATURE_NAMES[top]
        cell, metric = self.cells[row, column], self.metrics[column]
        values = {name: _number(cell[name]) for name in ("expected", "lower", "upper")}
        values = {"value": _number(self.values[row, column]), **values}
        sentence = _sentence(metric, feature, values)
        kind = model.detector.value.replace("_", " ")
        return Explained(
            metric,
            values,
            self._by_metric(row, shares),
            f"{metric}.{feature}",
            f"the {kind} finds the metrics together unusual, most of all {sentence}",
        )

    def _by_metric(self, row: int, shares: Floats) -> dict[str, float]:
        """Add up the shares of each metric's features."""
        found: dict[str, float] = {}
        for column, share in zip(self.sources[row].tolist(), shares.tolist(), strict=True):
            if share > 0.0:
                metric = self.metrics[column]
                found[metric] = found.get(metric, 0.0) + share
        return found


def _sentence(metric: str, feature: str, values: dict[str, float | None]) -> str:
    shown = {name: "unknown" if x is None else short(x) for name, x in values.items()}
    return _SENTENCES[feature].format(metric=metric, **shown)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
