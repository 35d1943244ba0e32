"""Anomaly events from what the fold found: one builder for every detector.

Invariant: an event is computed from the row, what the fold computed for it, and the model; it
           changes no verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from shared.anomalies import Origin, Subject, event_of
from shared.batch import Batch
from shared.columns import Columns
from shared.ensemble.fold import VIEW_NAMES
from shared.ensemble.fold import Verdicts as Found
from shared.ensemble.kernels.layout import (
    FAST_DOWN,
    HOURLY,
    LEVEL_UP,
    NO_METRIC,
    SHAPE,
    TRAINED,
    TRAINED_KEY,
)
from shared.ensemble.kernels.outputs import CLOSED, OPEN, WORSE
from shared.events import Anomaly, ClosedBecause, Kind, Phase, State
from shared.identity import event_id
from shared.models.model import Model
from shared.scoring.explaining import Explained, Trained
from shared.scoring.reasons import Speaker
from shared.scoring.state import Folded, PartitionState
from shared.scoring.values_seen import ValuesSeen
from shared.scoring.verdicts import Verdicts

COLD_SEVERITY = 0.5
"""Severity of an alarm that has no calibrated score yet."""

LEAST_RATIO = 0.5
"""Metrics that reach such a share of their level have a part in an alarm."""

_PHASES = {OPEN: Phase.OPEN, WORSE: Phase.WORSE, CLOSED: Phase.CLOSED}
_BECAUSE = tuple(ClosedBecause)


@dataclass(frozen=True, slots=True)
class Context:
    """A batch and all its results."""

    batch: Batch
    columns: Columns
    folded: Folded
    verdicts: Verdicts
    found: Found
    state: PartitionState
    model: Model | None
    trained: Trained | ValuesSeen
    detector_id: str
    speaker: Speaker


def scope_of(key: int) -> str:
    """Name what an episode is about: it tells apart episodes of one metric and direction."""
    if key == NO_METRIC:
        return "joint"
    if key == TRAINED_KEY:
        return "trained"
    if key == HOURLY:
        return "course"
    return "value" if key <= FAST_DOWN else "shape" if key >= SHAPE else "level"


def way_of(key: int) -> str:
    """Return the direction that an episode is about: up, down or none."""
    if key >= SHAPE:
        return ""
    return "up" if key in (0, LEVEL_UP) else "down"


def episode_id(
    batch: Batch, offset: int, detector_id: str, entity: str, metric: str | None, key: int
) -> str:
    """Return the id of an episode: that of the record that opened it."""
    part = _part(metric, key, Phase.OPEN)
    return event_id(batch.topic, batch.partition, offset, detector_id, Kind.ANOMALY, entity, part)


def build(context: Context) -> list[Anomaly]:
    """Build the events of a batch, in the order of their rows."""
    results = context.found
    explained = context.trained.explain(
        context.model, results.events["row"][results.events["view"] == TRAINED]
    )
    return [_anomaly(context, k, explained) for k in range(len(results.events))]


def _part(metric: str | None, key: int, phase: Phase) -> str:
    """Return what tells apart the events of a row: metric, direction, scope and phase."""
    named = metric if metric and key not in (NO_METRIC, TRAINED_KEY) else ""
    return "|".join((named, way_of(key), scope_of(key), phase.value))


@dataclass(frozen=True, slots=True)
class _AlarmEvent:
    """One event of the fold, with its values in Python's types.

    found   : its fields in ``EVENT``
    row     : of the batch
    is_own  : whether the row is one of the entity's own; another entity's only made it known
    metric  : its metric, or the one that the trained model names; None = the entity as a whole
    because : why the episode ended; None = it goes on
    why     : the explanation by the trained model; None = the alarm is one of the ensemble's own
    values  : value, expected, lower and upper; None = unknown
    """

    found: Any
    row: int
    key: int
    entity: str
    is_own: bool
    metric: str | None
    phase: Phase
    because: ClosedBecause | None
    why: Explained | None
    values: dict[str, float | None]

    @property
    def is_closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def is_cold_start(self) -> bool:
        return bool(self.found["cold_start"])


def _alarm_event(context: Context, k: int, explained: dict[int, Explained]) -> _AlarmEvent:
    found = context.found.events[k]
    row, key, column = int(found["row"]), int(found["key"]), int(found["metric"])
    entity = int(found["entity"])
    phase = _PHASES[int(found["phase"])]
    is_closed = phase is Phase.CLOSED
    metric = context.state.metrics[column] if column >= 0 else None
    values = {name: _number(found[name]) for name in ("value", "expected", "lower", "upper")}
    if found["cold_start"]:
        values["expected"] = None
    why = explained.get(row) if key == TRAINED_KEY and not is_closed else None
    if why is not None:
        metric, values = why.metric, why.values
    return _AlarmEvent(
        found=found,
        row=row,
        key=key,
        entity=context.state.entities.name(entity),
        is_own=int(context.columns.entity[row]) == entity,
        metric=metric,
        phase=phase,
        because=_BECAUSE[int(found["reason"])] if is_closed else None,
        why=why,
        values=values,
    )


def _anomaly(context: Context, k: int, explained: dict[int, Explained]) -> Anomaly:
    alarm = _alarm_event(context, k, explained)
    found, row, why = alarm.found, alarm.row, alarm.why
    is_scored = not (alarm.is_closed or alarm.is_cold_start)
    state = State(int(context.verdicts.state[row])) if alarm.is_own else State.STALE
    kind = Kind.EPISODE_CLOSED if alarm.is_closed else Kind.ANOMALY
    part = _part(alarm.metric, alarm.key, alarm.phase)
    event = event_of(
        Origin(context.batch, context.columns, row, context.detector_id),
        Subject(kind, alarm.entity, alarm.metric, part),
        state,
        _reason(context, alarm),
    )
    shares: dict[str, float] = {}
    if is_scored:
        shares = why.shares if why else _shares(context, k)
    top_feature = why.top_feature if why else max(shares, key=shares.__getitem__, default=None)
    event = replace(
        event,
        is_anomaly=not alarm.is_closed,
        event_time=int(found["time_ms"]),
        imputed=bool(context.folded.imputed[row]),
        late_by_ms=int(context.folded.late_by_ms[row]) or None,
        model_id=context.model.model_id if why and context.model else None,
        model_version=context.model.version if why and context.model else None,
        value=alarm.values["value"],
        expected=alarm.values["expected"],
        lower=alarm.values["lower"],
        upper=alarm.values["upper"],
        direction=_direction(found, alarm.values, way_of(alarm.key)),
        score=float(found["score"] * found["threshold"]) if is_scored else None,
        severity=_severity(alarm),
        threshold=float(found["threshold"]) if is_scored else None,
        top_feature=top_feature,
        attributions=shares,
        cold_start=alarm.is_cold_start,
        since=_since(found),
        **_episode(context, alarm),
    )
    if alarm.is_own:
        return event
    seen_ms = int(found["seen_ms"])
    return replace(event, event_time=seen_ms, imputed=False, late_by_ms=None, traceparent=None)


def _episode(context: Context, alarm: _AlarmEvent) -> dict[str, Any]:
    """Return the fields about the episode."""
    found = alarm.found
    opened_at = int(found["episode_at"])
    peak_value = alarm.values["value"] if alarm.why else _number(found["peak_value"])
    peak_severity = COLD_SEVERITY if alarm.is_cold_start else _number(found["peak_severity"])
    return {
        "episode_id": episode_id(
            context.batch, opened_at, context.detector_id, alarm.entity, alarm.metric, alarm.key
        ),
        "phase": alarm.phase,
        "episode_start": int(found["start_ms"]),
        "peak_time": int(found["peak_ms"]),
        "peak_value": peak_value,
        "peak_severity": peak_severity,
        "closed_because": alarm.because,
    }


def _severity(alarm: _AlarmEvent) -> float | None:
    if alarm.is_closed:
        return None
    return COLD_SEVERITY if alarm.is_cold_start else float(alarm.found["severity"])


def _reason(context: Context, alarm: _AlarmEvent) -> str:
    speaker, found, metric = context.speaker, alarm.found, alarm.metric
    if alarm.because is not None:
        return speaker.closed(found, metric, alarm.because)
    if alarm.why is not None:
        return alarm.why.reason
    reported = int((context.folded.slots[alarm.row] >= 0).sum())
    if found["phase"] == WORSE:
        return speaker.worse(found, metric, reported)
    return speaker.opened(found, metric, reported)


def _shares(context: Context, k: int) -> dict[str, float]:
    """Return shares by ``metric.view`` that sum to 1, the alarm's own first.

    The alarm's metric counts by its own view.
    """
    event = context.found.events[k]
    ratios, views = context.found.ratios[k], context.found.views[k]
    names, own = context.state.metrics, int(event["metric"])
    parts: dict[str, float] = {}
    if own >= 0:
        parts[_feature(names[own], event["view"])] = float(event["score"])
    others = [column for column in range(len(ratios)) if column != own]
    for column in sorted(others, key=names.__getitem__):
        if ratios[column] >= LEAST_RATIO:
            parts[_feature(names[column], views[column])] = float(ratios[column])
    total = sum(parts.values())
    return {name: ratio / total for name, ratio in parts.items()} if total > 0 else {}


def _feature(metric: str, view: int) -> str:
    return f"{metric}.{VIEW_NAMES[int(view)]}"


def _since(event: Any) -> int | None:
    """Return when the reported condition began, where that is not the row's time."""
    if event["phase"] == CLOSED:
        return int(event["start_ms"])
    return int(event["since_ms"]) if event["since_ms"] > 0 else None


def _direction(event: Any, values: dict[str, float | None], way: str) -> str | None:
    if way:
        return way
    value, expected = values["value"], values["expected"]
    if value is None or expected is None or value == expected or event["phase"] == CLOSED:
        return None
    return "up" if value > expected else "down"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
