"""The verdicts on a batch, one per accepted row, and the alarms among them as events.

Invariant: a verdict is a value; who made it and why stands elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shared.anomalies import event_of
from shared.batch import Batch
from shared.columns import Columns
from shared.events import Anomaly, Kind, State
from shared.models.model import Model
from shared.scoring.state import Folded, PartitionState

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict per accepted row; metric columns follow ``PartitionState.metrics``.

    score, severity, threshold : float64 (n,)   NaN while WARMING
    is_anomaly          : bool (n,)             an alarm; a detector with a policy holds repetitions
                          back
    cold_start          : bool (n,)             an alarm of the robust band, before the warm-up has
                          ended
    state               : uint8 (n,)            events.State
    warmup_percent      : float64 (n,)          0..100, NaN = not tracked
    warmup_minutes_left : float64 (n,)          NaN = not known
    top_metric          : int32 (n,)            metric that deviates most, -1 = none known
    run                 : int64 (n,)            anomalous rows of the entity in a row, this one
                          included
    expected, lower, upper : float64 (n, M)     NaN = not known yet
    metric_severity     : float64 (n, M)        NaN = the detector judges the entity as a whole, or
                          nothing to judge
    """

    score: Floats
    severity: Floats
    threshold: Floats
    is_anomaly: Flags
    cold_start: Flags
    state: npt.NDArray[np.uint8]
    warmup_percent: Floats
    warmup_minutes_left: Floats
    top_metric: npt.NDArray[np.int32]
    run: npt.NDArray[np.int64]
    expected: Floats
    lower: Floats
    upper: Floats
    metric_severity: Floats


@dataclass(frozen=True, slots=True)
class Scored:
    """A batch and all that was said of it; ``model`` is None where there is none."""

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    state: PartitionState
    model: Model | None
    detector_id: str


def alarm_of(scored: Scored, row: int, metric: str | None, reason: str) -> Anomaly:
    """Build the event of an alarm; its direction, top feature and attributions are the caller's.

    row    : of columns, folded and verdicts
    metric : that is to blame; None = the entity as a whole
    """
    columns, verdicts, names = scored.columns, scored.verdicts, scored.state.metrics
    column = names.index(metric) if metric in names else -1
    value, expected, lower, upper = (
        number_or_none(array[row, column]) if column >= 0 else None
        for array in (columns.values, verdicts.expected, verdicts.lower, verdicts.upper)
    )
    entity, state = (
        scored.state.entities.name(int(columns.entity[row])),
        State(int(verdicts.state[row])),
    )
    event = event_of(
        scored.batch, columns, row, scored.detector_id, Kind.ANOMALY, entity, metric, state, reason
    )
    return replace(
        event,
        value=value,
        expected=expected,
        lower=lower,
        upper=upper,
        score=number_or_none(verdicts.score[row]),
        severity=float(verdicts.severity[row]),
        threshold=number_or_none(verdicts.threshold[row]),
        imputed=bool(scored.folded.imputed[row]),
        late_by_ms=int(scored.folded.late_by_ms[row]) or None,
        cold_start=bool(verdicts.cold_start[row]),
    )


def direction_of(value: float | None, expected: float | None) -> str | None:
    """Say where a value lies from the expected one."""
    if value is None or expected is None or value == expected:
        return None
    return "up" if value > expected else "down"


def number_or_none(value: float) -> float | None:
    """Turn NaN into None."""
    return None if np.isnan(value) else float(value)
