"""Encodes events as records: their schema, keys and values.

Invariant: a chunk of the stream becomes one Outgoing, without an object per event.
"""

from __future__ import annotations

import json
import math
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


class JsonRecordMaker:
    """Encodes chunks of one stream as JSON objects; the record key is the entity."""

    def __init__(self, topic: str, metrics: Sequence[str], entities: Sequence[str]) -> None:
        self.topic = topic
        self._metrics = [f",{json.dumps(metric)}:" for metric in metrics]
        self._heads = [
            f"{{{json.dumps(ENTITY_FIELD)}:{json.dumps(name)},{json.dumps(TIME_FIELD)}:"
            for name in entities
        ]
        self._names = Blob.join([name.encode() for name in entities])

    def __call__(self, chunk: Stream) -> Outgoing:
        """Return the records of a chunk, in its order; a missing value is null."""
        values = [
            self._record(entity, time_ms, row)
            for entity, time_ms, row in zip(
                chunk.entity.tolist(), chunk.time_ms.tolist(), chunk.values.tolist(), strict=True
            )
        ]
        return Outgoing(self.topic, Blob.join(values), select(self._names, chunk.entity))

    def _record(self, entity: int, time_ms: int, row: Sequence[float]) -> bytes:
        cells = [
            name + ("null" if math.isnan(value) else json.dumps(value))
            for name, value in zip(self._metrics, row, strict=True)
        ]
        return f"{self._heads[entity]}{time_ms}{''.join(cells)}}}".encode()


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
