"""Avro records to columns and back, against fastavro: ``python -m benchmarks.avro_codec``.

``decode`` is from a batch of records in Confluent's wire format to columns: index of the entity,
time, values. ``encode`` is the way back. fastavro gets every advantage: its compiled reader and
writer with a parsed schema, times as plain numbers, one dictionary for the entities. A row is
correct if both sides give the same columns, or the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

import schemas
from benchmarks.alternating import rows_of, times_of
from benchmarks.documents import PACKAGES, report
from benchmarks.fleet.hosts import METRICS, generate
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.directory import Directory
from shared.encode.avro_columns import encode_metric_events
from shared.settings import Settings

SCHEMA_ID = 1
BATCH = 5_000
"""Records of a batch: predict.max_batch_records."""

HEADER = b"\0" + SCHEMA_ID.to_bytes(4, "big")
FIELDS = ("host", "timestamp", *METRICS)


class Records:
    """Records of a generated fleet in order of time, and fastavro's ways to read and write them."""

    def __init__(self, hosts: int, count: int) -> None:
        fleet = generate(hosts, 1 + count // (288 * hosts), seed=0, anomalies=False)
        rows = -(-count // hosts)
        self.names = [f"host-{number}" for number in range(hosts)] * rows
        self.names = self.names[:count]
        self.time_ms = np.repeat(fleet.time_ms[:rows], hosts)[:count]
        values = fleet.values[:, :rows].transpose(1, 0, 2).reshape(-1, len(METRICS))[:count]
        self.values = np.ascontiguousarray(values)
        text = schemas.text(schemas.METRIC_EVENT)
        self.decoder = AvroDecoder.of_schemas({SCHEMA_ID: text}, Settings().input)
        self.encoded = self.encode()
        offsets = np.arange(count)
        log = Batch("t", 0, self.encoded, Blob.join([b""] * count), offsets, offsets)
        self.batches = [
            log.rows(start, min(count, start + BATCH)) for start in range(0, count, BATCH)
        ]
        self.decoder.prepare(log)
        self.records = [self.encoded[row] for row in range(count)]
        self.schema = fastavro.parse_schema(without_logical_types(json.loads(text)))
        self.dicts = [
            dict(zip(FIELDS, (name, int(time_ms), *map(_or_null, row.tolist())), strict=True))
            for name, time_ms, row in zip(self.names, self.time_ms, self.values, strict=True)
        ]

    def decode(self) -> tuple[Any, ...]:
        """Decode all records as the product does, in batches."""
        entities, metrics = Directory(), list(METRICS)
        decoded = [self.decoder.decode(batch, entities, metrics) for batch in self.batches]
        columns = zip(*((one.entity, one.time_ms, one.values) for one in decoded), strict=True)
        return tuple(map(np.concatenate, columns))

    def decode_fastavro(self) -> tuple[Any, ...]:
        """Decode all records with fastavro, one after the other."""
        read, schema, index = fastavro.schemaless_reader, self.schema, dict[str, int]()
        entity, times, values = [], [], []
        for record in self.records:
            if record[:5] != HEADER:
                raise ValueError("not the header of the schema")
            fields: Any = read(io.BytesIO(record[5:]), schema)
            entity.append(index.setdefault(fields["host"], len(index)))
            times.append(fields["timestamp"])
            values.append([fields[name] for name in METRICS])
        return np.array(entity, np.int32), np.array(times, np.int64), np.array(values, np.float64)

    def encode(self) -> Blob:
        """Encode all records as the product does."""
        return encode_metric_events(SCHEMA_ID, self.names, self.time_ms, self.values)

    def encode_fastavro(self) -> Blob:
        """Encode all records with fastavro, one after the other."""
        write, schema, encoded = fastavro.schemaless_writer, self.schema, []
        for record in self.dicts:
            buffer = io.BytesIO()
            buffer.write(HEADER)
            write(buffer, schema, record)
            encoded.append(buffer.getvalue())
        return Blob.join(encoded)


def measure(records: Records, repeats: int) -> list[dict[str, Any]]:
    """Measure both sides in turn; return a row for each."""
    ours, theirs = records.decode(), records.decode_fastavro()
    pairs = zip(ours, theirs, strict=True)
    is_same = all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
    is_equal = records.encode().data == records.encode_fastavro().data
    decode = {"fastavro": records.decode_fastavro, "lapwing": records.decode}
    encode = {"fastavro": records.encode_fastavro, "lapwing": records.encode}
    rows = []
    for name, sides, correct in (("decode", decode, is_same), ("encode", encode, is_equal)):
        found = times_of(sides, repeats)
        scale = 1e9 / len(records.records)
        measured = rows_of(f"avro_codec.{name}", found, "fastavro", "ns/record", scale)
        rows += [row | {"correct": correct} for row in measured]
    return rows


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def without_logical_types(schema: Any) -> Any:
    """Return a schema whose times are plain numbers, which fastavro reads faster."""
    if isinstance(schema, dict):
        kept = {name: without_logical_types(part) for name, part in schema.items()}
        kept.pop("logicalType", None)
        return kept
    return [without_logical_types(part) for part in schema] if isinstance(schema, list) else schema


def main() -> int:
    options = _options()
    rows = measure(Records(options.hosts, options.records), options.repeats)
    return report(rows, options.repeats, options.json, ("fastavro", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
