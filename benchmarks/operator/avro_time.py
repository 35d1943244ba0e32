"""Which field of an Avro record is its event time: reads records with the build's own decoder.

Prints its checks as JSON. It runs with the interpreter and the packages of the build under test,
and imports nothing else of the benchmarks.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.encode.records import encode_records
from shared.settings import InputSettings

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
EVENT_MS, WRITTEN_MS = 1_704_067_200_000, 1_704_153_600_000
"""The event was at midnight, its record was written a day later."""

SCHEMA_ID = 7

Field = dict[str, Any]


def record_schema(*times: Field) -> dict[str, Any]:
    """Return a schema with a host, these fields and a metric."""
    host, cpu = {"name": "host", "type": "string"}, {"name": "cpu", "type": "double"}
    return {"type": "record", "name": "HostMetrics", "fields": [host, *times, cpu]}


PLAIN: Field = {"name": "timestamp", "type": "long"}
BESIDE: Field = {"name": "timestamp", "type": "long", "logicalType": "timestamp-millis"}
SCHEMAS = {
    "plain long `timestamp` beside ingested_at": record_schema(
        PLAIN, {"name": "ingested_at", "type": MILLIS}
    ),
    "logicalType beside `type`, and processed_at": record_schema(
        BESIDE, {"name": "processed_at", "type": MILLIS}
    ),
    "logicalType beside `type`, the only time": record_schema(BESIDE),
}


def read(schema: dict[str, Any]) -> tuple[int | None, str]:
    """Return event time and metrics of a record, or None and the words of the refusal."""
    text = json.dumps(schema)
    values: dict[str, Any] = dict.fromkeys(("ingested_at", "processed_at"), WRITTEN_MS)
    values |= {"host": "host-1", "cpu": 12.5, "timestamp": EVENT_MS}
    row = {field["name"]: values[field["name"]] for field in schema["fields"]}
    decoder = AvroDecoder.of_schemas({SCHEMA_ID: text}, InputSettings())
    plan = decoder.plan(SCHEMA_ID)
    if isinstance(plan, UnsupportedSchema):
        return None, str(plan)
    encoded = encode_records(text, SCHEMA_ID, [row])
    keys, offsets, written = Blob.join([b"host-1"]), np.arange(1), np.array([WRITTEN_MS])
    batch, metrics = Batch("topic", 0, encoded, keys, offsets, written), list[str]()
    decoder.prepare(batch)
    columns = decoder.decode(batch, Directory(), metrics)
    return int(columns.time_ms[0]), ", ".join(metrics)


def check(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Read a record of the schema; the right time is needed, or a refusal that names both."""
    names = [field["name"] for field in schema["fields"]]
    other = next((name for name in names if name.endswith("_at")), None)
    time_ms, words = read(schema)
    if time_ms is not None:
        passed = time_ms == EVENT_MS and "timestamp" not in words
        measured = f"{'right' if time_ms == EVENT_MS else 'WRITING'} time, metrics {words}"
    else:
        passed = any(word in words for word in ("inside", "within", "beside"))
        if other:
            passed = "timestamp" in words and other in words
        measured = f"refused: {words}"
    refusal = f"it and {other}" if other else "the slip (inside `type`)"
    required = f"{name}: timestamp is the event time, or a refusal that names {refusal}"
    return {"required": required, "measured": measured, "passed": passed}


if __name__ == "__main__":
    print(json.dumps([check(name, schema) for name, schema in SCHEMAS.items()]))
