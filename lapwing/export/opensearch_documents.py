"""Results as documents of OpenSearch: the actions of a bulk request, and the index templates.

Invariant: pure; the id of a document is that of its event or incident, so that a record that is
written again replaces its own document. An older state of an incident never replaces a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

import schemas

KEYWORD_BYTES = 1024
"""Longer texts are stored and searched by their words, but are no keyword."""

_SCHEMAS = {
    "anomalies": schemas.ANOMALY_EVENT,
    "incidents": schemas.INCIDENT,
    "scores": schemas.SCORE_EVENT,
}
ID_FIELDS = {"anomalies": "event_id", "incidents": "incident_id", "scores": "event_id"}
SENTENCES = frozenset({"reason", "title"})
_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "keyword", "ignore_above": KEYWORD_BYTES},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer"},
    "long": {"type": "long"},
    "float": {"type": "float"},
    "double": {"type": "double"},
}
_SENTENCE: dict[str, Any] = {
    "type": "text",
    "fields": {"keyword": {"type": "keyword", "ignore_above": KEYWORD_BYTES}},
}
_TIME = {"type": "date", "format": "epoch_millis"}
_STORED = {"type": "object", "enabled": False}


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a bulk request.

    id          : of the document
    lines       : NDJSON of the action, each line with its line break
    coordinates : of the record in Kafka
    """

    id: str
    lines: bytes
    coordinates: str


def index_of(prefix: str, results: str) -> str:
    """Return the name of an index."""
    return f"{prefix}-{results}"


def action_of(
    index: str, results: str, key: bytes, record: Mapping[str, Any] | None, coordinates: str
) -> Action:
    """Return the action of a record.

    record : None = a tombstone, which deletes the incident of the key
    raises : ValueError where the record has no id
    """
    if record is None:
        deleted = key.decode("utf-8", "replace")
        head = {"delete": {"_index": index, "_id": deleted}}
        return Action(deleted, orjson.dumps(head) + b"\n", coordinates)
    document_id = record.get(ID_FIELDS[results])
    if not isinstance(document_id, str) or not document_id:
        raise ValueError(f"it has no {ID_FIELDS[results]}")
    target: dict[str, Any] = {"_index": index, "_id": document_id}
    if results == "incidents":
        target |= {"version": int(record["revision"]), "version_type": "external_gte"}
    body = {**record}
    if "attributions" in body:
        body["attributions_json"] = orjson.dumps(body["attributions"]).decode()
    lines = orjson.dumps({"index": target}) + b"\n" + orjson.dumps(body) + b"\n"
    return Action(document_id, lines, coordinates)


def template_of(prefix: str, results: str) -> dict[str, Any]:
    """Return the index template of results, by the Avro schema of their records."""
    fields = json.loads(schemas.text(_SCHEMAS[results]))["fields"]
    properties = {field["name"]: _mapped(field["name"], field["type"]) for field in fields}
    if "attributions" in properties:
        properties["attributions_json"] = {"type": "keyword", "index": False, "doc_values": False}
    return {
        "index_patterns": [f"{index_of(prefix, results)}*"],
        "priority": 100,
        "template": {
            "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"},
            "mappings": {"dynamic": False, "properties": properties},
        },
        "_meta": {"description": f"Lapwing's {results}"},
    }


def _mapped(name: str, avro: Any) -> dict[str, Any]:
    if isinstance(avro, list):
        (avro,) = [branch for branch in avro if branch != "null"]
    if isinstance(avro, str):
        return dict(_SENTENCE if name in SENTENCES else _SCALARS[avro])
    if avro.get("logicalType") == "timestamp-millis":
        return dict(_TIME)
    if avro["type"] == "array" and isinstance(avro["items"], str):
        return _mapped(name, avro["items"])
    if avro["type"] == "array" and name == "metrics":
        inner = {one["name"]: _mapped(one["name"], one["type"]) for one in avro["items"]["fields"]}
        return {"type": "nested", "properties": inner}
    return dict(_STORED)
