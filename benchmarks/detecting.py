"""The product's fold over a single entity, as all benchmarks of quality run it.

Invariant: nothing is done here that ``shared.scoring.scorer`` does not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.ensemble.fold import EnsembleParams, EnsembleState, Limits, Rows, fold
from shared.kernels.clock import UTC
from shared.kernels.trained.trained_rows import TrainedModel
from shared.models.model import Model
from shared.models.value_rows import local_hours, numbers_of, value_rows

Floats = npt.NDArray[np.float64]


class EntityVerdicts(NamedTuple):
    """The verdicts on an entity's rows.

    score, severity, threshold : float64 (n,)  NaN while warming up
    is_anomaly                 : bool (n,)     an episode opens or becomes worse
    opened                     : bool (n,)     an episode opens
    features                   : float64 (n, FEATURES)  what the model sees; empty without one
    """

    score: Floats
    severity: Floats
    threshold: Floats
    is_anomaly: npt.NDArray[np.bool_]
    opened: npt.NDArray[np.bool_]
    features: Floats


def fold_entity(
    time_ms: npt.NDArray[np.int64],
    values: Floats,
    limits: Limits,
    params: EnsembleParams,
    model: TrainedModel | None = None,
    rarity: Floats | None = None,
) -> EntityVerdicts:
    """Fold one entity's rows.

    values : float64 (n, M)
    model  : a trained model; None = there is none
    rarity : float64 (n,)  by a model of values, which scores rows before the fold
    """
    rows, metrics = values.shape
    slots = np.tile(np.arange(metrics, dtype=np.int32), (rows, 1))
    given = Rows(np.zeros(rows, np.int32), time_ms, values, slots, trained=rarity)
    found = fold(EnsembleState(1, metrics), given, limits, params, model=model)
    opened = np.zeros(rows, np.bool_)
    opened[found.events["row"][found.events["phase"] == 0]] = True
    return EntityVerdicts(
        found.rows["score"].copy(),
        found.rows["severity"].copy(),
        found.rows["threshold"].copy(),
        found.rows["is_anomaly"] == 1,
        opened,
        found.features,
    )


def fold_with(
    model: Model | None,
    name: str,
    time_ms: npt.NDArray[np.int64],
    values: Floats,
    metrics: Sequence[str],
    limits: Limits,
    params: EnsembleParams,
) -> EntityVerdicts:
    """Fold one entity's rows with a model of either kind, or none; the entity's clock is UTC.

    metrics : names of the columns of ``values``
    """
    if model is None:
        return fold_entity(time_ms, values, limits, params)
    if not model.sees_values:
        return fold_entity(time_ms, values, limits, params, model.arrays)
    rarity = rarity_of(model, name, time_ms, values, metrics)
    return fold_entity(time_ms, values, limits, params, rarity=rarity)


def rarity_of(
    model: Model,
    name: str,
    time_ms: npt.NDArray[np.int64],
    values: Floats,
    metrics: Sequence[str],
) -> Floats:
    """Return the rarity of one entity's rows by a model of values, NaN where it has no verdict."""
    numbers = np.full(len(time_ms), numbers_of([name], model.entities)[0])
    columns = [list(metrics).index(metric) for metric in model.metrics]
    X = value_rows(numbers, local_hours(time_ms, UTC), values, columns)
    return np.where(model.knows(X), model.rarity(model.score(X)), np.nan)
