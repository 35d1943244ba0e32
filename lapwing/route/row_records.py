"""Avro records of metric events, with several metrics or, in long form, with one each.

Invariant: the bytes are a function of entity, time, names and values, and equal to fastavro's.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence

from shared.encode.records import wire_header

RECORD = "lapwing.MetricEvent"
TIME_FIELD = "timestamp"
NULL, PRESENT = b"\0", b"\2"
MOST_CACHED = 100_000
"""Entities of a series, and event times, whose bytes are kept."""

_UNFIT = re.compile(r"[^A-Za-z0-9_]")
_DOUBLE = struct.Struct("<d")


def field_name(metric: str) -> str:
    """Return a metric's name as that of an Avro field: other characters become '_'."""
    name = _UNFIT.sub("_", metric)
    return f"_{name}" if name[:1].isdigit() else name


def wide_schema(entity_field: str, metrics: Sequence[str]) -> str:
    """Return the schema of records with these metrics, each nullable."""
    optional = {
        "type": ["null", "double"],
        "default": None,
        "doc": "Measured value in the metric's own unit. Null = not measured.",
    }
    return _schema(entity_field, [{"name": name, **optional} for name in metrics])


def long_schema(entity_field: str, metric_field: str, value_field: str) -> str:
    """Return the schema of records in long form; a default keeps it compatible with wide ones."""
    return _schema(
        entity_field,
        [
            {"name": metric_field, "type": "string", "default": "", "doc": "Name of the metric."},
            {
                "name": value_field,
                "type": ["null", "double"],
                "default": None,
                "doc": "Measured value in the metric's own unit. Null = not measured.",
            },
        ],
    )


def _schema(entity_field: str, others: Sequence[dict[str, object]]) -> str:
    namespace, _, name = RECORD.rpartition(".")
    entity = {
        "name": entity_field,
        "type": "string",
        "doc": "Entity: who reports. UTF-8, 1 to 256 bytes, never null.",
    }
    time = {
        "name": TIME_FIELD,
        "type": {"type": "long", "logicalType": "timestamp-millis"},
        "doc": "Event time, ms since 1970 UTC, never null.",
    }
    return json.dumps(
        {
            "type": "record",
            "name": name,
            "namespace": namespace,
            "doc": "One sample of an entity's metrics.",
            "fields": [entity, time, *others],
        }
    )


class EventTimes:
    """Event times as Avro longs; most rows of a record have the same one."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}

    def __call__(self, time_ms: int) -> bytes:
        """Return a time's bytes."""
        return self.known.get(time_ms) or self._new(time_ms)

    def _new(self, time_ms: int) -> bytes:
        if len(self.known) >= MOST_CACHED:
            self.known.clear()
        found = self.known[time_ms] = avro_long(time_ms)
        return found


class Series:
    """Records of the same metrics.

    after_time : what follows the event time and is the same in every record
    n_values   : doubles at the end, each nullable
    """

    def __init__(self, schema_id: int, after_time: bytes, n_values: int) -> None:
        self._header = wire_header(schema_id)
        self._after_time = after_time
        self._heads: dict[bytes, bytes] = {}
        self._pack = struct.Struct("<" + "Bd" * n_values).pack
        self._arguments: list[object] = [2] * (2 * n_values)

    def record(self, entity: bytes, time: bytes, values: Sequence[float]) -> bytes:
        """Return a record; values are finite."""
        arguments = self._arguments
        arguments[1::2] = values
        head = self._heads.get(entity) or self._head(entity)
        return b"".join((head, time, self._after_time, self._pack(*arguments)))

    def single(self, entity: bytes, time: bytes, value: float) -> bytes:
        """Return a record of a series with one value, which is finite."""
        head = self._heads.get(entity) or self._head(entity)
        return b"".join((head, time, self._after_time, self._pack(2, value)))

    def record_with_nulls(
        self, entity: bytes, time: bytes, values: Sequence[float | None]
    ) -> bytes:
        """Return a record in which some values are None, which is null."""
        cells = [NULL if one is None else PRESENT + _DOUBLE.pack(one) for one in values]
        head = self._heads.get(entity) or self._head(entity)
        return b"".join([head, time, self._after_time, *cells])

    def _head(self, entity: bytes) -> bytes:
        if len(self._heads) >= MOST_CACHED:
            self._heads.clear()
        head = self._heads[entity] = self._header + avro_string(entity)
        return head


def avro_string(data: bytes) -> bytes:
    """Return UTF-8 as an Avro string."""
    return avro_long(len(data)) + data


def avro_long(value: int) -> bytes:
    """Return an Avro long: zigzag, then 7 bits per byte, the lowest first."""
    word = value << 1 if value >= 0 else ~(value << 1)
    out = bytearray()
    while word > 127:
        out.append(word & 127 | 128)
        word >>= 7
    out.append(word)
    return bytes(out)
