"""Records of results: written in the format of ``output.format``, read by their first byte.

Invariant: a topic may hold both formats, because the setting may have changed; each record is read
           by its own frame. A record in JSON needs no registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.batch import Blob
from shared.encode.json_records import FIRST, decode_json_record, encode_json_records
from shared.encode.records import decode_records, encode_records, schema_id_of

Schema = Callable[[int], str | None]
"""Returns the schema of a registry id, None if there is none; raises TransportError."""


def encode_results(
    schema_text: str, schema_id: int | None, records: Sequence[Mapping[str, Any]]
) -> Blob:
    """Encode records of a schema.

    schema_id : of the registry; None = as JSON
    raises    : ValueError where a record does not fit the schema
    """
    if schema_id is None:
        return encode_json_records(schema_text, records)
    return encode_records(schema_text, schema_id, records)


def is_json(value: bytes) -> bool:
    """Return whether a record of results is in JSON."""
    return value[:1] == FIRST


def decode_result(value: bytes, schema: Schema) -> dict[str, Any]:
    """Decode one record: JSON as it is, Avro by its writer's schema.

    raises : ValueError that says why it cannot be read; what ``schema`` raises
    """
    if is_json(value):
        return decode_json_record(value)
    schema_id = schema_id_of(value)
    if schema_id is None:
        raise ValueError("it has no schema id and is not a JSON object")
    text = schema(schema_id)
    if text is None:
        raise ValueError(f"it has schema id {schema_id}, which the registry does not know")
    return decode_records([value], [text])[0]
