"""Why the ensemble, or one of its members, alarms: shares per metric and member, and one plain
sentence.

Law: an explanation is computed from the row's own verdict; it changes no score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.ensemble.fold import MEMBER_NAMES, PART_NAMES
from shared.ensemble.kernels.layout import ABSENCE, COMBINATION, MEMBERS
from shared.ensemble.kernels.outputs import Verdicts as Joint
from shared.events import Anomaly, Kind, State
from shared.identity import event_id
from shared.models.model import Model
from shared.scoring.explaining import direction_of, number_or_none
from shared.scoring.state import Folded, PartitionState
from shared.scoring.verdicts import Verdicts
from shared.wording import against, days, duration, short, time_of_day

TRAINED = "trained"
"""The trained member's share in ``attributions``."""

_SEEN_AS = {
    "novelty": "a course of hours",
    "neighbours": "a course at this time of day",
    "time_of_day": "so far from the time of day",
    "burst": "a course of minutes",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What the ensemble said of a batch, and all that is needed to put it into words."""

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    joint: Joint
    state: PartitionState
    model: Model | None
    detector_id: str


def explain_alarms(judged: Judged, rows: npt.NDArray[np.int64]) -> list[Anomaly]:
    """Build the anomaly of each alarm; rows are int64 (a,) of columns, folded and verdicts."""
    return [_anomaly(judged, int(row)) for row in rows]


def _anomaly(judged: Judged, row: int) -> Anomaly:
    batch, columns, verdicts, joint = judged.batch, judged.columns, judged.verdicts, judged.joint
    source = int(columns.accepted[row])
    offset = int(batch.offsets[source])
    entity = judged.state.entities.name(int(columns.entity[row]))
    column = int(verdicts.top_metric[row])
    metric = judged.state.metrics[column] if column >= 0 else None
    value, expected, lower, upper = (
        number_or_none(array[row, column]) if column >= 0 else None
        for array in (columns.values, verdicts.expected, verdicts.lower, verdicts.upper)
    )
    cold = bool(verdicts.cold[row])
    shares = _attributions(judged, row)
    top = max(shares, key=lambda name: shares[name], default=None)
    model = judged.model if TRAINED in shares else None
    return Anomaly(
        event_id=event_id(
            batch.topic,
            batch.partition,
            offset,
            judged.detector_id,
            Kind.ANOMALY,
            entity,
            metric or "",
        ),
        detector_id=judged.detector_id,
        model_id=model.model_id if model else None,
        model_version=model.version if model else None,
        kind=Kind.ANOMALY,
        entity=entity,
        metric=metric,
        event_time=int(columns.time_ms[row]),
        value=value,
        expected=expected,
        lower=lower,
        upper=upper,
        direction=direction_of(value, expected),
        score=number_or_none(verdicts.score[row]),
        severity=float(verdicts.severity[row]),
        threshold=number_or_none(verdicts.threshold[row]),
        state=State(int(verdicts.state[row])),
        top_feature=top,
        attributions=shares,
        reason=_cold(judged, row, column) if cold else _sentence(judged, row, column, top),
        imputed=bool(judged.folded.imputed[row]),
        late_by_ms=int(judged.folded.late_by_ms[row]) or None,
        source_topic=batch.topic,
        source_partition=batch.partition,
        source_offset=offset,
        traceparent=dict(batch.headers.get(source, ())).get("traceparent"),
        cold_start=cold,
        since=(
            int(columns.time_ms[row] - joint.quiet_ms[row, column])
            if top and top.endswith(".absence")
            else None
        ),
    )


def _attributions(judged: Judged, row: int) -> dict[str, float]:
    """Shares by ``metric.member`` that sum to 1, in the order of the metrics' names; empty for a
    cold alarm.
    """
    if judged.verdicts.cold[row]:
        return {}
    joint, names = judged.joint, judged.state.metrics
    parts = {
        f"{names[column]}.{PART_NAMES[part]}": float(joint.shares[row, column, part])
        for column in sorted(range(joint.shares.shape[1]), key=lambda column: names[column])
        for part in range(joint.shares.shape[2])
    }
    parts[TRAINED] = float(joint.trained[row])
    return {name: share for name, share in parts.items() if share > 0.0}


def _cold(judged: Judged, row: int, column: int) -> str:
    if column < 0:
        return "far outside everything seen so far, while still warming up"
    metric, value = judged.state.metrics[column], float(judged.columns.values[row, column])
    watched = duration(float(judged.joint.history_ms[row, column]))
    return (
        f"{metric} is {short(value)}, far outside everything in its first {watched} (still"
        " warming up)"
    )


def _sentence(judged: Judged, row: int, column: int, top: str | None) -> str:
    if column < 0:
        return "the entity as a whole is rarely so"
    joint, metric = judged.joint, judged.state.metrics[column]
    part = int(np.argmax(joint.shares[row, column]))
    watched = days(float(joint.history_ms[row, column]))
    if part == ABSENCE:
        quiet, longest = float(joint.quiet_ms[row, column]), float(joint.longest_ms[row, column])
        return (
            f"{metric} has been quiet for {duration(quiet)}; its longest pause in {watched} was"
            f" {duration(longest)}"
        )
    said = _against_usual(judged, row, column)
    if top == TRAINED and judged.model:
        return (
            f"{said}; the {judged.model.detector.value.replace('_', ' ')} finds the metrics"
            " together rare"
        )
    if part == COMBINATION:
        return f"{said}; the other metrics do not account for it"
    return f"{said}; {_rarity(judged, row, column, part, watched)}"


def _against_usual(judged: Judged, row: int, column: int) -> str:
    metric, time_ms = judged.state.metrics[column], int(judged.columns.time_ms[row])
    value, level = float(judged.columns.values[row, column]), float(judged.joint.level[row, column])
    if math.isnan(value):
        return f"{metric} is missing"
    if math.isnan(level):
        return f"{metric} is {short(value)}"
    when = time_of_day(time_ms, weekly=bool(judged.joint.weekly[row, column]))
    return f"{metric} is {short(value)}, {against(value, level)} for {when}"


def _rarity(judged: Judged, row: int, column: int, part: int, watched: str) -> str:
    name = MEMBER_NAMES[part] if part < MEMBERS else MEMBER_NAMES[0]
    if judged.joint.unseen[row, column, part]:
        return f"{_SEEN_AS[name]} never seen in {watched}"
    one_in = 10.0 ** float(judged.joint.rarity[row, column, part])
    return f"{_SEEN_AS[name]} seen once in {one_in:,.0f} samples"
