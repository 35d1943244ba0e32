"""Encodes events as records: their schema, keys and values.

Invariant: a chunk of the stream becomes one Outgoing, without an object per event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import schemas
from producer.replay import DEFAULT_METRICS, Stream
from shared.batch import Blob, Outgoing
from shared.encode.avro_columns import encode_flat, select
from shared.errors import ConfigError

ENTITY_FIELD, TIME_FIELD = "host", "timestamp"


def event_schema(metrics: Sequence[str]) -> str:
    """Return the Avro schema of events with these metrics, in the stream's order.

    The three default metrics give ``schemas/metric_event.avsc`` itself; others become further
    nullable doubles, which is a compatible evolution of the same subject.

    raises : ConfigError when a metric has the name of the entity field or the time field
    """
    for metric in metrics:
        if metric in (ENTITY_FIELD, TIME_FIELD):
            raise ConfigError(
                f"a metric cannot be called {metric!r}, which is a field of every event; rename its"
                " column"
            )
    text = schemas.text(schemas.METRIC_EVENT)
    if tuple(metrics) == DEFAULT_METRICS:
        return text
    schema = json.loads(text)
    known = {part["name"]: part for part in schema["fields"]}
    schema["fields"] = [
        known[ENTITY_FIELD],
        known[TIME_FIELD],
        *(known.get(metric) or _field(metric) for metric in metrics),
    ]
    return json.dumps(schema, indent=2)


def _field(metric: str) -> dict[str, object]:
    doc = f"Column {metric} of the replayed files, in their unit. Null = not measured."
    return {"name": metric, "type": ["null", "double"], "default": None, "doc": doc}


class RecordMaker:
    """Encodes chunks of one stream; the record key is the entity."""

    def __init__(self, topic: str, schema_id: int, entities: Sequence[str]) -> None:
        self.topic = topic
        self.schema_id = schema_id
        self._names = Blob.join([name.encode() for name in entities])

    def __call__(self, chunk: Stream) -> Outgoing:
        """Return the records of a chunk, in its order."""
        values = encode_flat(self.schema_id, self._names, chunk.entity, chunk.time_ms, chunk.values)
        return Outgoing(self.topic, values, select(self._names, chunk.entity))
