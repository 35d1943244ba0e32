"""Single records by fastavro: anomalies and activations, which are rare, and any topic for display.

Invariant: a decoded record is that of the topic, with times as integers; nothing is converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import fastavro

from shared.batch import Blob

HEADER_BYTES = 5
"""Confluent's wire format: a zero, then the schema id in 4 bytes, big-endian."""


def wire_header(schema_id: int) -> bytes:
    """Return the first bytes of every record of a schema."""
    return b"\0" + schema_id.to_bytes(4, "big")


def schema_id_of(value: bytes) -> int | None:
    """Return the schema id of a record, None if it is not in Confluent's wire format."""
    if len(value) < HEADER_BYTES or value[0] != 0:
        return None
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def encode_records(schema_text: str, schema_id: int, records: Sequence[Mapping[str, Any]]) -> Blob:
    """Encode records in Confluent's wire format.

    records : with every field that has no default; times are integers as in the schema
    raises  : ValueError where a record does not fit the schema
    """
    schema = _parsed(schema_text)
    values = []
    for row, record in enumerate(records):
        out = BytesIO(wire_header(schema_id))
        out.seek(HEADER_BYTES)
        try:
            fastavro.schemaless_writer(out, schema, record, strict_allow_default=True)
        except (ValueError, TypeError, AttributeError, OverflowError, KeyError) as error:
            raise ValueError(
                f"record {row} does not fit {schema.get('name', 'the schema')}: {error}"
            ) from error
        values.append(out.getvalue())
    return Blob.join(values)


def decode_records(
    values: Blob | Sequence[bytes], schema_texts: Sequence[str]
) -> list[dict[str, Any]]:
    """Decode records in Confluent's wire format, each by its writer schema.

    schema_texts : one for each value
    raises       : ValueError that names the row whose bytes are not exactly one record of its
                   schema
    """
    return [_decode(values[row], text, row) for row, text in enumerate(schema_texts)]


def _decode(value: bytes, schema_text: str, row: int) -> dict[str, Any]:
    if schema_id_of(value) is None:
        raise ValueError(f"row {row} does not start with the magic byte 0 and a 4-byte schema id")
    source = BytesIO(value)
    source.seek(HEADER_BYTES)
    try:
        record = fastavro.schemaless_reader(source, _parsed(schema_text), None)
    except (EOFError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"row {row} is not a record of its schema: {error!r}") from error
    if source.tell() != len(value):
        raise ValueError(f"row {row} has {len(value) - source.tell()} bytes after its record")
    if not isinstance(record, dict):
        raise ValueError(f"row {row} is not a record but a {type(record).__name__}")
    return record


@lru_cache(maxsize=256)
def _parsed(schema_text: str) -> dict[str, Any]:
    """Parse a schema once, without logical types, so that values are not converted."""
    return fastavro.parse_schema(_plain(json.loads(schema_text)))  # type: ignore[return-value]


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value if key == "default" else _plain(value)
            for key, value in schema.items()
            if key != "logicalType"
        }
    if isinstance(schema, list):
        return [_plain(branch) for branch in schema]
    return schema
