"""The product's fold over a single entity, as all benchmarks of quality run it.

Invariant: nothing is done here that ``shared.scoring.scorer`` does not do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.ensemble.fold import EnsembleParams, EnsembleState, Limits, Rows, fold
from shared.kernels.trained.trained_rows import TrainedModel

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
