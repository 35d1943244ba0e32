"""Builds anomaly events from rows of a batch.

Invariant: id, coordinates, time and trace of an event are those of its record.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.batch import Batch
from shared.columns import Columns
from shared.events import Anomaly, Kind, State
from shared.identity import event_id


class Origin(NamedTuple):
    """The record that events are about, and the detector that reports them.

    row : of columns
    """

    batch: Batch
    columns: Columns
    row: int
    detector_id: str


class Subject(NamedTuple):
    """What an event is about.

    metric : None = the entity as a whole
    part   : tells apart events of one kind about a row, for the id; None = the metric
    """

    kind: Kind
    entity: str
    metric: str | None = None
    part: str | None = None


def event_of(origin: Origin, subject: Subject, state: State, reason: str) -> Anomaly:
    """Return an event with the fields that all kinds share; the caller adds the rest."""
    batch, columns, row, detector_id = origin
    kind, entity, metric, part = subject
    source = int(columns.accepted[row])
    offset = int(batch.offsets[source])
    topic, partition = batch.topic, batch.partition
    part = (metric or "") if part is None else part
    return Anomaly(
        event_id=event_id(topic, partition, offset, detector_id, kind, entity, part),
        detector_id=detector_id,
        kind=kind,
        entity=entity,
        metric=metric,
        event_time=int(columns.time_ms[row]),
        state=state,
        reason=reason,
        source_topic=topic,
        source_partition=partition,
        source_offset=offset,
        traceparent=dict(batch.headers.get(source, ())).get("traceparent"),
    )
