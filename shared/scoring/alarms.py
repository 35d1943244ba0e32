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
    trained: Trained
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


def _anomaly(context: Context, k: int, explained: dict[int, Explained]) -> Anomaly:
    alarm_event, columns = context.found.events[k], context.columns
    row, key, column = int(alarm_event["row"]), int(alarm_event["key"]), int(alarm_event["metric"])
    is_own_row = int(columns.entity[row]) == int(alarm_event["entity"])
    entity = context.state.entities.name(int(alarm_event["entity"]))
    phase = _PHASES[int(alarm_event["phase"])]
    closed, cold_start = phase is Phase.CLOSED, bool(alarm_event["cold_start"])
    because = _BECAUSE[int(alarm_event["reason"])] if closed else None
    why = explained.get(row) if key == TRAINED_KEY and not closed else None
    metric = context.state.metrics[column] if column >= 0 else None
    values = {name: _number(alarm_event[name]) for name in ("value", "expected", "lower", "upper")}
    if cold_start:
        values["expected"] = None
    if why is not None:
        metric, values = why.metric, why.values
    shares = {} if closed or cold_start else why.shares if why else _shares(context, k)
    kind = Kind.EPISODE_CLOSED if closed else Kind.ANOMALY
    state = State(int(context.verdicts.state[row])) if is_own_row else State.STALE
    reason = _reason(context, alarm_event, metric, because, why)
    origin = Origin(context.batch, columns, row, context.detector_id)
    subject = Subject(kind, entity, metric, _part(metric, key, phase))
    event = event_of(origin, subject, state, reason)
    event = replace(
        event,
        is_anomaly=not closed,
        event_time=int(alarm_event["time_ms"]),
        imputed=bool(context.folded.imputed[row]),
        late_by_ms=int(context.folded.late_by_ms[row]) or None,
        model_id=context.model.model_id if why and context.model else None,
        model_version=context.model.version if why and context.model else None,
        value=values["value"],
        expected=values["expected"],
        lower=values["lower"],
        upper=values["upper"],
        direction=_direction(alarm_event, values, way_of(key)),
        score=None
        if closed or cold_start
        else float(alarm_event["score"] * alarm_event["threshold"]),
        severity=_severity(alarm_event, closed, cold_start),
        threshold=None if closed or cold_start else float(alarm_event["threshold"]),
        top_feature=why.top_feature if why else max(shares, key=shares.__getitem__, default=None),
        attributions=shares,
        cold_start=cold_start,
        since=_since(alarm_event),
        episode_id=episode_id(
            context.batch, int(alarm_event["episode_at"]), context.detector_id, entity, metric, key
        ),
        phase=phase,
        episode_start=int(alarm_event["start_ms"]),
        peak_time=int(alarm_event["peak_ms"]),
        peak_value=values["value"] if why else _number(alarm_event["peak_value"]),
        peak_severity=COLD_SEVERITY if cold_start else _number(alarm_event["peak_severity"]),
        closed_because=because,
    )
    if is_own_row:
        return event
    seen_ms = int(alarm_event["seen_ms"])  # the row is another entity's, which only made it known
    return replace(event, event_time=seen_ms, imputed=False, late_by_ms=None, traceparent=None)


def _severity(event: Any, closed: bool, cold_start: bool) -> float | None:
    if closed:
        return None
    return COLD_SEVERITY if cold_start else float(event["severity"])


def _reason(
    context: Context, event: Any, metric: str | None, because: ClosedBecause | None,
    why: Explained | None
) -> str:  # fmt: skip
    speaker = context.speaker
    if because is not None:
        return speaker.closed(event, metric, because)
    if why is not None:
        return why.reason
    reported = int((context.folded.slots[int(event["row"])] >= 0).sum())
    if event["phase"] == WORSE:
        return speaker.worse(event, metric, reported)
    return speaker.opened(event, metric, reported)


def _shares(context: Context, k: int) -> dict[str, float]:
    """Shares by ``metric.view`` that sum to 1, the alarm's own first.

    The alarm's metric counts by its own view.
    """
    event, ratios, views = context.found.events[k], context.found.ratios[k], context.found.views[k]
    names, own = context.state.metrics, int(event["metric"])
    parts: dict[str, float] = {}
    if own >= 0:
        parts[f"{names[own]}.{VIEW_NAMES[int(event['view'])]}"] = float(event["score"])
    for column in sorted(range(len(ratios)), key=lambda column: names[column]):
        if column != own and ratios[column] >= LEAST_RATIO:
            parts[f"{names[column]}.{VIEW_NAMES[int(views[column])]}"] = float(ratios[column])
    total = sum(parts.values())
    return {name: ratio / total for name, ratio in parts.items()} if total > 0 else {}


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
