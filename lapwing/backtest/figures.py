"""The figures of a backtest: alarms, budget, labels, data quality, and a comparison of two.

Invariant: the figures are JSON values and depend only on the records, the configurations and the
           labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from lapwing.backtest.run import BacktestResult, Series
from shared.ensemble.fold import VIEW_NAMES
from shared.events import Anomaly, Phase, SeverityClass, State, severity_class
from shared.incidents.grouping import Rules
from shared.incidents.of_anomalies import incidents_of
from shared.kernels.units import DAY_MS
from shared.labels import AlarmEvaluation, Outcome, Window, evaluate_alarms
from shared.wording import moment

TOP_ALARMS = 10
TOLERANCE_INTERVALS = 6
"""Two alarms of an entity are the same if they are at most this many usual intervals apart."""

FORTNIGHT_MS = 14 * DAY_MS

Key = tuple[str, int]
Since = Mapping[Key, int]


@dataclass(frozen=True, slots=True)
class Entity:
    """Figures of one entity.

    closed     : ends of episodes
    days       : observed time; a silence counts as one day at most
    ready_days : of these, after the warm-up
    evaluation : None without labels
    """

    series: Series
    days: float
    ready_days: float
    alarms: tuple[Anomaly, ...]
    closed: tuple[Anomaly, ...]
    quality: int
    evaluation: AlarmEvaluation | None


def count(
    result: BacktestResult, windows: Mapping[str, Sequence[Window]] | None, since: Since
) -> list[Entity]:
    """Count each entity's results; sort by alarms, then by missed windows, largest first.

    since : {(entity, partition): event time}, what is older is not counted; a model was trained on
            it
    """
    alarms: dict[Key, list[Anomaly]] = {}
    for alarm in result.alarms:
        key = (alarm.entity, alarm.source_partition)
        if alarm.event_time >= since.get(key, alarm.event_time):
            alarms.setdefault(key, []).append(alarm)
    closed: dict[Key, list[Anomaly]] = {}
    for alarm in result.closed:
        closed.setdefault((alarm.entity, alarm.source_partition), []).append(alarm)
    quality = Counter((verdict.entity, verdict.source_partition) for verdict in result.quality)
    counted = []
    for series in result.series:
        rows = series.time_ms >= since.get(series.key, int(series.time_ms.min()))
        ready = rows & (series.state != State.WARMING)
        evaluation = None
        if windows is not None:
            evaluation = evaluate_alarms(
                series.time_ms[rows],
                series.is_anomaly[rows],
                ready[rows],
                windows.get(series.entity, ()),
            )
        days, ready_days = observed_days(series, rows), observed_days(series, ready)
        entity_alarms = tuple(alarms.get(series.key, ()))
        ends = tuple(closed.get(series.key, ()))
        counted.append(
            Entity(series, days, ready_days, entity_alarms, ends, quality[series.key], evaluation)
        )
    return sorted(
        counted, key=lambda entity: (-len(entity.alarms), -_missed(entity), entity.series.key)
    )


def observed_days(series: Series, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Return the days that the records of ``rows`` cover; one step counts as a day at most."""
    chosen = rows & series.counted
    steps = np.diff(series.time_ms[series.counted], prepend=series.time_ms[:1])
    return float(np.minimum(steps[chosen[series.counted]], DAY_MS).sum()) / DAY_MS


def interval_ms(series: Series) -> float:
    """Return the usual step from record to record, 0 for a single one."""
    steps = np.diff(series.time_ms[series.counted])
    return float(np.median(steps)) if len(steps) else 0.0


def by_fortnight(entities: Sequence[Entity]) -> list[float]:
    """Return the false alarms per entity and day, by fortnights of each entity's own time.

    False alarms lie outside of labelled windows; without labels all alarms count.
    """
    false: Counter[int] = Counter()
    days: Counter[int] = Counter()
    for entity in entities:
        first, last = int(entity.series.time_ms.min()), int(entity.series.time_ms.max())
        outcomes = entity.evaluation.outcomes if entity.evaluation else []
        windows = [outcome.window for outcome in outcomes]
        for alarm in entity.alarms:
            if not any(w.start_ms <= alarm.event_time <= w.end_ms for w in windows):
                false[(alarm.event_time - first) // FORTNIGHT_MS] += 1
        for number in range((last - first) // FORTNIGHT_MS + 1):
            end = min(last, first + (number + 1) * FORTNIGHT_MS)
            days[number] += end - first - number * FORTNIGHT_MS
    return [_ratio(false[number], days[number] / DAY_MS) for number in sorted(days)]


def figures(result: BacktestResult, entities: Sequence[Entity], rules: Rules) -> dict[str, Any]:
    """Gather the figures of one variant.

    rules : by which episodes become incidents
    """
    alarms = sorted(
        chain.from_iterable(item.alarms for item in entities),
        key=lambda a: (a.event_time, a.entity),
    )
    days, ready_days = (
        sum(item.days for item in entities),
        sum(item.ready_days for item in entities),
    )
    configuration, model = result.variant.configuration, result.variant.model
    anomalies = [*result.alarms, *result.closed, *result.quality]
    requested = configuration.detection.alarms_per_day
    warm = [alarm for alarm in alarms if not alarm.cold_start]
    opened = sum(alarm.phase is not Phase.WORSE for alarm in warm)
    achieved = _ratio(opened, ready_days)
    times = [
        int(series.time_ms[at])
        for series in result.series
        for at in (series.time_ms.argmin(), series.time_ms.argmax())
    ]
    classes = Counter(severity_class(alarm.severity or 0.0) for alarm in alarms)
    return {
        "detector": configuration.detector.value,
        "threshold": configuration.detection.threshold,
        "model": (model.model_id or "trained here") if model else None,
        "records": result.rows,
        "rejected": result.rejected,
        "late": result.late,
        "duplicates": result.duplicates,
        "entities": len({series.entity for series in result.series}),
        "entities_warming": sum(
            bool((series.state == State.WARMING).all()) for series in result.series
        ),
        "entity_days": round(days, 3),
        "first_event": moment(min(times)) if times else None,
        "last_event": moment(max(times)) if times else None,
        "alarms": {
            "count": len(alarms),
            "episodes": len({alarm.episode_id for alarm in alarms}),
            "incidents": len(incidents_of(anomalies, rules)),
            "false_by_fortnight": by_fortnight(entities),
            "cold_start": len(alarms) - len(warm),
            "per_entity_and_day": _ratio(len(alarms), days),
            "by_severity": {name.value: classes[name] for name in reversed(SeverityClass)},
            "by_metric": _shares(alarms, by_view=False),
            "by_view": _shares(alarms, by_view=True),
        },
        "budget": (
            None
            if requested is None
            else {"asked": requested, "achieved": achieved, "ratio": _ratio(achieved, requested)}
        ),
        "data_quality": dict(sorted(Counter(item.kind.value for item in result.quality).items())),
        "labels": _labels(entities, days),
        "top_alarms": [alarm_fields(alarm) for alarm in top(alarms)],
        "per_entity": [_entity(item) for item in entities],
    }


def top(alarms: Sequence[Anomaly], limit: int = TOP_ALARMS) -> list[Anomaly]:
    """Return the severest alarms."""
    return sorted(
        alarms, key=lambda a: (-(a.severity or 0.0), -(a.score or 0.0), a.event_time, a.entity)
    )[:limit]


def alarm_fields(alarm: Anomaly) -> dict[str, Any]:
    """Return an alarm, or a data-quality verdict, as plain values."""
    return {
        "time": moment(alarm.event_time),
        "entity": alarm.entity,
        "metric": alarm.metric,
        "kind": alarm.kind.value,
        "severity": None if alarm.severity is None else round(alarm.severity, 4),
        "severity_class": None if alarm.severity is None else severity_class(alarm.severity).value,
        "score": None if alarm.score is None else round(alarm.score, 4),
        "value": alarm.value,
        "expected": alarm.expected,
        "cold_start": alarm.cold_start,
        "episode_id": alarm.episode_id,
        "phase": None if alarm.phase is None else alarm.phase.value,
        "reason": alarm.reason,
        "partition": alarm.source_partition,
        "offset": alarm.source_offset,
    }


@dataclass(frozen=True, slots=True)
class Change:
    """What a second configuration does to the alarms.

    kept : pairs of the first's alarm and the second's
    """

    kept: tuple[tuple[Anomaly, Anomaly], ...]
    removed: tuple[Anomaly, ...]
    added: tuple[Anomaly, ...]


def compare(
    first: Sequence[Entity], second: Sequence[Entity], tolerance_ms: float | None = None
) -> Change:
    """Match the alarms of two variants by entity, in order of time; each is matched once.

    tolerance_ms : longest distance of a pair; None = TOLERANCE_INTERVALS of the entity's usual
                   interval
    """
    kept: list[tuple[Anomaly, Anomaly]] = []
    removed: list[Anomaly] = []
    added: list[Anomaly] = []
    others = {entity.series.key: entity for entity in second}
    for entity in first:
        other = others[entity.series.key]
        most_ms = (
            TOLERANCE_INTERVALS * interval_ms(entity.series)
            if tolerance_ms is None
            else tolerance_ms
        )
        left = sorted(entity.alarms, key=lambda a: a.event_time)
        right = sorted(other.alarms, key=lambda a: a.event_time)
        i = j = 0
        while i < len(left) and j < len(right):
            distance = right[j].event_time - left[i].event_time
            if abs(distance) <= most_ms:
                kept.append((left[i], right[j]))
                i, j = i + 1, j + 1
            elif distance > 0:
                removed.append(left[i])
                i += 1
            else:
                added.append(right[j])
                j += 1
        removed += left[i:]
        added += right[j:]
    order = lambda a: (a.event_time, a.entity)  # noqa: E731
    return Change(tuple(kept), tuple(sorted(removed, key=order)), tuple(sorted(added, key=order)))


def _missed(entity: Entity) -> int:
    return (
        sum(outcome.outcome is Outcome.MISSED for outcome in entity.evaluation.outcomes)
        if entity.evaluation
        else 0
    )


def _shares(alarms: Sequence[Anomaly], *, by_view: bool) -> dict[str, float]:
    """Attribute the alarms to metrics or views; the sum is the number of alarms.

    Attributions are called ``metric.view``; those of a trained model by metric, or time_of_day.
    """
    shares: dict[str, float] = {}
    for alarm in alarms:
        if by_view and alarm.cold_start:
            shares["cold_start"] = shares.get("cold_start", 0.0) + 1.0
            continue
        for name, share in (alarm.attributions or {alarm.metric or "unknown": 1.0}).items():
            metric, dot, view = name.rpartition(".")
            owner = (view if dot and view in VIEW_NAMES else "trained") if by_view else metric
            if not by_view and not (dot and view in VIEW_NAMES):
                owner = name
            shares[owner] = shares.get(owner, 0.0) + share
    return {
        name: round(share, 2)
        for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    }


def _labels(entities: Sequence[Entity], days: float) -> dict[str, Any] | None:
    evaluations = [item.evaluation for item in entities if item.evaluation is not None]
    if not evaluations:
        return None
    outcomes = [outcome for item in evaluations for outcome in item.outcomes]
    counted = Counter(outcome.outcome for outcome in outcomes)
    delays = [
        outcome.delay_ms / 60_000
        for outcome in outcomes
        if outcome.outcome is Outcome.HIT and outcome.delay_ms is not None
    ]
    hits, missed, false = (
        counted[Outcome.HIT],
        counted[Outcome.MISSED],
        sum(item.false_alarms for item in evaluations),
    )
    kinds = sorted({outcome.window.kind for outcome in outcomes if outcome.window.kind})
    return {
        "windows": hits + missed,
        "hits": hits,
        "missed": missed,
        "in_warm_up": counted[Outcome.WARMING],
        "without_data": counted[Outcome.NO_DATA],
        "false_alarms": false,
        "false_alarm_records": sum(item.false_rows for item in evaluations),
        "false_alarms_per_entity_and_day": _ratio(false, days),
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "f1": _ratio(2 * hits, 2 * hits + false + missed),
        "median_delay_min": round(float(np.median(delays)), 1) if delays else None,
        "by_kind": {
            kind: {
                name: sum(
                    outcome.window.kind == kind and outcome.outcome is expected
                    for outcome in outcomes
                )
                for name, expected in (("hits", Outcome.HIT), ("missed", Outcome.MISSED))
            }
            for kind in kinds
        },
    }


def _entity(entity: Entity) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "entity": entity.series.entity,
        "partition": entity.series.partition,
        "records": len(entity.series),
        "days": round(entity.days, 3),
        "alarms": len(entity.alarms),
        "alarms_per_day": _ratio(len(entity.alarms), entity.days),
        "severest": max((round(alarm.severity or 0.0, 4) for alarm in entity.alarms), default=None),
        "data_quality": entity.quality,
    }
    if entity.evaluation is not None:
        summary["false_alarms"] = entity.evaluation.false_alarms
        summary["windows"] = [
            {
                "window": outcome.window.name,
                "start": moment(outcome.window.start_ms),
                "end": moment(outcome.window.end_ms),
                "outcome": outcome.outcome.value,
                "first_alarm": None if outcome.alarm_ms is None else moment(outcome.alarm_ms),
            }
            for outcome in entity.evaluation.outcomes
        ]
    return summary


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0
