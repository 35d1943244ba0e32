"""Why an alarm: shares per metric, the feature that stands out, and one plain sentence.

Law: an explanation is computed from the row, its entity's state and the model alone; it changes no
     score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.events import Anomaly, Kind, State
from shared.features.vectors import ROLLING, feature_names
from shared.identity import event_id
from shared.models.model import Model
from shared.scoring.state import Folded, PartitionState
from shared.scoring.verdicts import Verdicts
from shared.wording import against, short

TIME = "time_of_day"
"""The share of the time features in ``attributions``."""


def explain(
    model: Model,
    batch: Batch,
    columns: Columns,
    folded: Folded,
    verdicts: Verdicts,
    X: npt.NDArray[np.float64],
    alarms: npt.NDArray[np.int64],
    state: PartitionState,
) -> list[Anomaly]:
    """Build the anomaly of each alarm.

    X      : float64 (a, d)   feature vectors of the alarms
    alarms : int64 (a,)       rows of columns, folded and verdicts
    """
    shares, top = model.attribute(X)
    names = feature_names(model.metrics)
    return [
        _anomaly(
            model, batch, columns, folded, verdicts, int(row), shares[k], names[int(top[k])], state
        )
        for k, row in enumerate(alarms)
    ]


def _anomaly(
    model: Model,
    batch: Batch,
    columns: Columns,
    folded: Folded,
    verdicts: Verdicts,
    row: int,
    shares: npt.NDArray[np.float64],
    top_feature: str,
    state: PartitionState,
) -> Anomaly:
    source = int(columns.accepted[row])
    offset = int(batch.offsets[source])
    detector_id = model.detector.value
    entity = state.entities.name(int(columns.entity[row]))
    column = int(np.argmax(shares[:-1]))
    metric = model.metrics[column]
    place = state.metrics.index(metric) if metric in state.metrics else -1
    value, expected, lower, upper = (
        number_or_none(array[row, place]) if place >= 0 else None
        for array in (columns.values, verdicts.expected, verdicts.lower, verdicts.upper)
    )
    centre = model.scale.centre[model.entity_rows([entity])[0], column]
    feature = (
        top_feature.removeprefix(f"{metric}.") if top_feature.startswith(f"{metric}.") else "value"
    )
    rolling = folded.rolling[row, place] if place >= 0 else np.full(len(ROLLING), np.nan)
    usual = number_or_none(centre[0])
    traceparent = dict(batch.headers.get(source, ())).get("traceparent")
    return Anomaly(
        event_id=event_id(
            batch.topic, batch.partition, offset, detector_id, Kind.ANOMALY, entity, metric
        ),
        detector_id=detector_id,
        model_id=model.model_id,
        model_version=model.version,
        kind=Kind.ANOMALY,
        entity=entity,
        metric=metric,
        event_time=int(columns.time_ms[row]),
        value=value,
        expected=expected,
        lower=lower,
        upper=upper,
        direction=direction_of(value, usual if expected is None else expected),
        score=float(verdicts.score[row]),
        severity=float(verdicts.severity[row]),
        threshold=model.threshold,
        state=State(int(verdicts.state[row])),
        top_feature=top_feature,
        attributions=dict(
            zip((*model.metrics, TIME), (float(share) for share in shares), strict=True)
        ),
        reason=_sentence(
            metric,
            feature,
            rolling,
            centre,
            model.window,
            int(verdicts.run[row]),
            float(shares[-1]),
        ),
        imputed=bool(folded.imputed[row]),
        late_by_ms=int(folded.late_by_ms[row]) or None,
        source_topic=batch.topic,
        source_partition=batch.partition,
        source_offset=offset,
        traceparent=traceparent,
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
            f" {against(mean, float(centre[1]))}"
        )
    elif feature == "spread":
        said = (
            f"{metric} varies by {short(spread)} over {window} samples,"
            f" {against(spread, float(centre[2]))}"
        )
    elif feature == "difference":
        said = (
            f"{metric} {'rose' if difference > 0 else 'fell'} by {short(abs(difference))} in one"
            f" step to {short(value)}"
        )
    else:
        said = f"{metric} is {short(value)}, {against(value, float(centre[0]))}"
    if time_share >= 0.4:
        said += ", at an unusual hour"
    return said + (f"; {run} in a row" if run > 1 else "")


def direction_of(value: float | None, expected: float | None) -> str | None:
    """Say where a value lies from the expected one."""
    if value is None or expected is None or value == expected:
        return None
    return "up" if value > expected else "down"


def number_or_none(value: float) -> float | None:
    """Turn NaN into None."""
    return None if np.isnan(value) else float(value)
