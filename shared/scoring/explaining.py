"""Why a trained model alarms: shares per metric, the feature that stands out, and one sentence.

Invariant: an explanation is computed from the row, its entity's state and the model alone; it
changes no score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.events import Anomaly
from shared.features.vectors import ROLLING, feature_names
from shared.models.model import Model
from shared.scoring.verdicts import Scored, alarm_of, direction_of, number_or_none
from shared.wording import relative_to_usual, short

TIME = "time_of_day"
"""The share of the time features in ``attributions``."""


def explain(
    scored: Scored, model: Model, X: npt.NDArray[np.float64], alarms: npt.NDArray[np.int64]
) -> list[Anomaly]:
    """Build the anomaly of each alarm.

    X      : float64 (a, d)   feature vectors of the alarms
    alarms : int64 (a,)       rows of columns, folded and verdicts
    """
    shares, top = model.attribute(X)
    names = feature_names(model.metrics)
    return [
        _anomaly(scored, model, int(row), shares[k], names[int(top[k])])
        for k, row in enumerate(alarms)
    ]


def _anomaly(
    scored: Scored, model: Model, row: int, shares: npt.NDArray[np.float64], top_feature: str
) -> Anomaly:
    entity = scored.state.entities.name(int(scored.columns.entity[row]))
    column = int(np.argmax(shares[:-1]))
    metric, names = model.metrics[column], scored.state.metrics
    place = names.index(metric) if metric in names else -1
    centre = model.scale.centre[model.entity_rows([entity])[0], column]
    feature = (
        top_feature.removeprefix(f"{metric}.") if top_feature.startswith(f"{metric}.") else "value"
    )
    rolling = scored.folded.rolling[row, place] if place >= 0 else np.full(len(ROLLING), np.nan)
    run, time_share = int(scored.verdicts.run[row]), float(shares[-1])
    reason = _sentence(metric, feature, rolling, centre, model.window, run, time_share)
    event = alarm_of(scored, row, metric, reason)
    usual = number_or_none(centre[0])
    named = zip((*model.metrics, TIME), (float(share) for share in shares), strict=True)
    return replace(
        event,
        model_id=model.model_id,
        model_version=model.version,
        direction=direction_of(event.value, usual if event.expected is None else event.expected),
        top_feature=top_feature,
        attributions=dict(named),
    )


def _sentence(
    metric: str,
    feature: str,
    rolling: npt.NDArray[np.float64],
    centre: npt.NDArray[np.float64],
    window: int,
    run: int,
    time_share: float,
) -> str:
    value, mean, spread, difference = (float(x) for x in rolling)
    if feature == "missing" or np.isnan(value):
        said = f"{metric} is missing"
    elif feature == "mean":
        said = (
            f"{metric} averages {short(mean)} over {window} samples,"
            f" {relative_to_usual(mean, float(centre[1]))}"
        )
    elif feature == "spread":
        said = (
            f"{metric} varies by {short(spread)} over {window} samples,"
            f" {relative_to_usual(spread, float(centre[2]))}"
        )
    elif feature == "difference":
        said = (
            f"{metric} {'rose' if difference > 0 else 'fell'} by {short(abs(difference))} in one"
            f" step to {short(value)}"
        )
    else:
        said = f"{metric} is {short(value)}, {relative_to_usual(value, float(centre[0]))}"
    if time_share >= 0.4:
        said += ", at an unusual hour"
    return said + (f"; {run} in a row" if run > 1 else "")
