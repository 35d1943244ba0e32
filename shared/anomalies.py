"""Anomaly events: the one place where a row of a batch becomes an event.

Invariant: id, coordinates, time and trace of an event are those of its record, whatever is said.
"""

from __future__ import annotations

from shared.batch import Batch
from shared.columns import Columns
from shared.events import Anomaly, Kind, State
from shared.identity import event_id


def event_of(
    batch: Batch,
    columns: Columns,
    row: int,
    detector_id: str,
    kind: Kind,
    entity: str,
    metric: str | None,
    state: State,
    reason: str,
    part: str | None = None,
) -> Anomaly:
    """Return the event about a row, with all that every kind has; the caller adds what it found.

    row    : of columns
    metric : None = the event is about the entity as a whole
    part   : what tells apart events of one kind about a row, for the id; None = the metric
    """
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
