"""What the charts of a backtest show of one entity: lines, shaded stretches, marks.

Invariant: pure; an alarm has a mark whether it is listed or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.backtest.figures import Change, Entity
from lapwing.backtest.run import BacktestResult, Series
from shared.charts.chart import Lines, Mark, Span
from shared.events import Anomaly, State, severity_class
from shared.labels import Outcome
from shared.wording import moment, short

MAX_LISTED = 40
"""Alarms of an entity, or of a comparison, that are listed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the page shows.

    summary : as ``backtest.summarise`` gives it
    change  : alarms that a second configuration adds and removes
    since   : {(entity, partition): event time} from which on is counted, where a model was trained
              on what is older
    """

    summary: Mapping[str, Any]
    entities: Sequence[Entity]
    result: BacktestResult
    change: Change | None
    since: Mapping[tuple[str, int], int]


def metric_order(entity: Entity) -> list[int]:
    """Return the metrics of an entity, those with most alarms first."""
    named = [alarm.metric for alarm in entity.alarms]
    return sorted(
        range(len(entity.series.metrics)),
        key=lambda metric: -named.count(entity.series.metrics[metric]),
    )


def lines_of(series: Series, metric: int, counted: np.ndarray[Any, np.dtype[np.bool_]]) -> Lines:
    """Return what was measured and expected of a metric, at the rows that count."""
    columns = (series.values, series.expected, series.lower, series.upper)
    return Lines(series.time_ms[counted], *(column[counted, metric] for column in columns))


def spans_of(report: Report, entity: Entity) -> Iterator[Span]:
    """Yield the stretches that are shaded: warm-up, training, labelled windows."""
    series = entity.series
    warm = np.flatnonzero(series.state == State.WARMING)
    first = int(series.time_ms.min())
    if len(warm):
        ready = np.flatnonzero(series.state != State.WARMING)
        last = series.time_ms[ready[0]] if len(ready) else series.time_ms.max()
        yield Span(first, int(last), "warming", f"warming up until {moment(int(last))}")
    if series.key in report.since:
        last = report.since[series.key]
        yield Span(
            first,
            int(last),
            "trained",
            f"training data of the model, until {moment(int(last))}; not counted",
        )
    for outcome in entity.evaluation.outcomes if entity.evaluation else ():
        window = outcome.window
        text = (
            f"labelled: {window.kind or window.name}, {moment(window.start_ms)} to"
            f" {moment(window.end_ms)}: {_OUTCOME_TEXTS[outcome.outcome]}"
        )
        style = "label missed" if outcome.outcome is Outcome.MISSED else "label"
        yield Span(window.start_ms, window.end_ms, style, text, window.metric)


def episode_spans(entity: Entity) -> Iterator[Span]:
    """Yield the episodes with a record, with span and peak; an open one lasts to the last row."""
    ends = {closed.episode_id: closed for closed in entity.closed}
    last_ms = int(entity.series.time_ms.max())
    drawn: set[str | None] = set()
    for alarm in entity.alarms:
        if alarm.episode_id in drawn:
            continue
        drawn.add(alarm.episode_id)
        closed = ends.get(alarm.episode_id)
        start = alarm.event_time if alarm.episode_start is None else alarm.episode_start
        end = last_ms if closed is None else closed.event_time
        peak = (closed or alarm).peak_value
        text = f"episode from {moment(start)}" + (
            f" to {moment(end)}" if closed else ", still open"
        )
        if peak is not None:
            text += f", peak {short(peak)}"
        if closed is not None and closed.closed_because is not None:
            text += f"; {closed.closed_because.value}"
        yield Span(start, end, "episode", text, alarm.metric or "")


_OUTCOME_TEXTS = {
    Outcome.HIT: "hit",
    Outcome.MISSED: "missed",
    Outcome.WARMING: "still warming up",
    Outcome.NO_DATA: "no data",
}


def marks_of(report: Report, entity: Entity, number: int) -> list[tuple[int, Mark]]:
    """Return the marks with their metric; an alarm of no metric is shown with the first."""
    removed = {id(alarm) for alarm in report.change.removed} if report.change else set()
    marks, listed = [], set(listed_places(entity))
    for position, alarm in enumerate(entity.alarms):
        style = "cold" if alarm.cold_start else "removed" if id(alarm) in removed else ""
        marks.append(
            mark_of(
                entity.series, alarm, f"e{number}a{position}" if position in listed else "", style
            )
        )
    added = report.change.added if report.change else ()
    own = (alarm for alarm in added if (alarm.entity, alarm.source_partition) == entity.series.key)
    return [*marks, *(mark_of(entity.series, alarm, "", "added") for alarm in own)]


def mark_of(series: Series, alarm: Anomaly, link: str, style: str) -> tuple[int, Mark]:
    """Return an alarm's metric and its mark."""
    metric = series.metrics.index(alarm.metric) if alarm.metric in series.metrics else 0
    name = severity_class(alarm.severity or 0.0).value
    also = {
        "added": " (only with the second configuration)",
        "removed": " (only with the first configuration)",
    }.get(style, "")
    text = f"{moment(alarm.event_time)} {name}{also}: {alarm.reason}"
    value = float("nan") if alarm.value is None else alarm.value
    return metric, Mark(alarm.event_time, value, name, text, link, style)


def listed_places(entity: Entity) -> list[int]:
    """Return the severest alarms, in the order in which they came."""
    by_severity = sorted(
        range(len(entity.alarms)), key=lambda position: -(entity.alarms[position].severity or 0.0)
    )
    return sorted(by_severity[:MAX_LISTED])
