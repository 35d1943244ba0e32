"""Schemas that refer to others: one text, on the registry's side and on Apicurio's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import schemas
from lapwing.embedded.registry import serve
from shared.decode.avro.fingerprints import fingerprint_of
from shared.decode.avro.framing import Frame, frame_of
from shared.decode.avro.plan import compile_plan
from shared.errors import TransportError
from shared.registry import Registry
from shared.registry.apicurio import own_api
from shared.registry.references import inline
from shared.schema_ids import IdKind, SchemaRef
from shared.settings import InputSettings, RegistrySettings
from tests.unit.registry.test_registry import answering

TAGS = {
    "type": "record",
    "name": "Tags",
    "namespace": "fleet.parts",
    "fields": [{"name": "host", "type": "string"}, {"name": "kind", "type": "Kind"}],
}
KIND = {"type": "enum", "name": "fleet.parts.Kind", "symbols": ["a", "b"]}
READING = {
    "type": "record",
    "name": "Reading",
    "namespace": "fleet",
    "fields": [
        {"name": "tags", "type": ["null", "fleet.parts.Tags"]},
        {"name": "other", "type": {"type": "array", "items": "fleet.parts.Tags"}},
        {"name": "kind", "type": "fleet.parts.Kind"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "cpu", "type": "double"},
    ],
}


def texts(*found: object) -> list[str]:
    return [json.dumps(one) for one in found]


def test_references_are_defined_at_their_first_use() -> None:
    main, *others = texts(READING, TAGS, KIND)
    whole = inline(main, others)
    plan = compile_plan(whole, InputSettings(entity_fields="tags.host"))
    assert (plan.fields.entity, plan.fields.metrics) == (("tags.host",), ("cpu",))
    named = {"fleet.parts.Kind": KIND}
    fastavro.parse_schema(KIND, named)
    fastavro.parse_schema(TAGS, named)
    expected = fastavro.parse_schema(READING, named, expand=True)
    record = {
        "tags": {"host": "h", "kind": "a"},
        "other": [{"host": "x", "kind": "b"}],
        "kind": "b",
        "ts": 5,
        "cpu": 0.5,
    }
    assert _encoded(json.loads(whole), record) == _encoded(expected, record)
    assert fingerprint_of(whole) == fingerprint_of(inline(main, others[::-1]))


def _encoded(schema: object, record: Mapping[str, object]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def test_a_schema_without_references_stays_as_it_is() -> None:
    text = schemas.text(schemas.METRIC_EVENT)
    assert inline(text, []) is text


def test_short_names_mean_types_of_their_own_namespace() -> None:
    inner = {"type": "record", "name": "Inner", "namespace": "x", "fields": []}
    other = {"type": "record", "name": "Inner", "fields": [{"name": "one", "type": "int"}]}
    outer = {
        "type": "record",
        "name": "Outer",
        "namespace": "x",
        "fields": [{"name": "in", "type": "Inner"}, {"name": "again", "type": "x.Inner"}],
    }
    found = json.loads(inline(json.dumps(outer), texts(inner, other)))
    assert found["fields"][0]["type"]["fields"] == []
    assert found["fields"][1]["type"] == "x.Inner"


def test_a_recursive_type_is_defined_once() -> None:
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "t", "type": ["null", "Tree"]}]}
    main = {"type": "record", "name": "Main", "fields": [{"name": "tree", "type": "Tree"}]}
    found = json.loads(inline(json.dumps(main), texts(tree)))
    assert found["fields"][0]["type"]["fields"][0]["type"] == ["null", "Tree"]


def answers_of(
    documents: Mapping[str, object],
):
    def answer(handler):
        found = documents.get(handler.path.partition("?")[0])
        if found is None:
            name = {"error_code": 40402, "name": "ArtifactNotFoundException"}
            return 404, json.dumps(name).encode()
        return 200, json.dumps(found).encode()

    return answer


CONFLUENT = {
    "/schemas/ids/7": {
        "schema": json.dumps(READING),
        "references": [{"name": "fleet.parts.Tags", "subject": "tags", "version": 3}],
    },
    "/subjects/tags/versions/3": {
        "subject": "tags",
        "version": 3,
        "id": 2,
        "schema": json.dumps(TAGS),
        "references": [{"name": "fleet.parts.Kind", "subject": "kind", "version": 1}],
    },
    "/subjects/kind/versions/1": {
        "subject": "kind",
        "version": 1,
        "id": 1,
        "schema": json.dumps(KIND),
    },
}


def test_the_registry_follows_references_of_references() -> None:
    with answering(answers_of(CONFLUENT)) as (url, _):
        text = Registry(RegistrySettings(url=url)).schema(7)
    assert text is not None
    assert json.loads(text)["fields"][0]["type"][1]["fields"][1]["type"]["symbols"] == ["a", "b"]


def test_a_reference_that_is_missing_is_no_unknown_schema() -> None:
    known = {path: found for path, found in CONFLUENT.items() if "kind" not in path}
    with (
        answering(answers_of(known)) as (url, _),
        pytest.raises(TransportError, match=r"schema 7: a reference cannot be resolved") as caught,
    ):
        Registry(RegistrySettings(url=url)).schema(7)
    assert not caught.value.retriable


API = "/apis/registry/v2"
APICURIO = {
    f"{API}/ids/globalIds/9": READING,
    f"{API}/ids/globalIds/9/references": [
        {"groupId": None, "artifactId": "tags", "version": "3", "name": "fleet.parts.Tags"}
    ],
    f"{API}/groups/default/artifacts/tags/versions/3": TAGS,
    f"{API}/groups/default/artifacts/tags/versions/3/references": [
        {"groupId": "own", "artifactId": "a/b", "version": "1", "name": "fleet.parts.Kind"}
    ],
    f"{API}/groups/own/artifacts/a%2Fb/versions/1": KIND,
    f"{API}/ids/contentIds/4": KIND,
}


def test_apicurios_own_api_answers_by_both_kinds_of_ids() -> None:
    with answering(answers_of(APICURIO)) as (url, asked):
        registry = Registry(RegistrySettings(url=f"{url}/apis/ccompat/v7"))
        text = registry.schema(SchemaRef(IdKind.GLOBAL_ID, 9))
        assert registry.schema(SchemaRef(IdKind.CONTENT_ID, 4)) == json.dumps(KIND)
        assert registry.schema(SchemaRef(IdKind.CONTENT_ID, 9)) is None
        assert registry.schema(SchemaRef(IdKind.GLOBAL_ID, 0)) is None
        count = len(asked)
        assert registry.schema(SchemaRef(IdKind.GLOBAL_ID, 9)) == text
        assert len(asked) == count
    assert text is not None
    assert json.loads(text)["fields"][0]["type"][1]["name"] == "Tags"
    assert registry.ids() == []


def test_another_registry_knows_no_global_ids() -> None:
    registry = Registry(RegistrySettings(url="http://127.0.0.1:1"))
    assert registry.schema(SchemaRef(IdKind.GLOBAL_ID, 9)) is None
    assert own_api("http://h/apis/ccompat/v7/") == "http://h/apis/registry/v2"
    assert own_api("http://h:8081") is None


@pytest.mark.parametrize(
    ("status", "body", "retriable"),
    [(500, b"", True), (404, b"<html>", False), (404, b'{"name": "NotFoundException"}', False)],
)
def test_other_answers_of_apicurio_are_no_unknown_ids(status, body, retriable) -> None:
    with answering(lambda _: (status, body)) as (url, _):
        registry = Registry(RegistrySettings(url=f"{url}/apis/ccompat/v7"))
        with pytest.raises(TransportError) as caught:
            registry.schema(SchemaRef(IdKind.GLOBAL_ID, 9))
    assert caught.value.retriable is retriable


def test_what_confluents_header_strategy_writes_is_found_by_its_guid() -> None:
    """The serializer of confluent-kafka registers, and names the schema by a GUID in a header."""
    text = schemas.text(schemas.METRIC_EVENT)
    with serve() as server:
        client = SchemaRegistryClient({"url": server.url})
        serializer = AvroSerializer(
            client, text, conf={"schema.id.serializer": header_schema_id_serializer}
        )
        headers: list[tuple[str, bytes]] = []
        event = {"host": "a", "timestamp": 5, "cpu": 1.0, "network_in": None, "disk_write": None}
        value = serializer(event, SerializationContext("t", MessageField.VALUE, headers))
        frame = frame_of(value, headers, "auto")
        assert isinstance(frame, Frame)
        assert frame.begin == 0
        registry = Registry(RegistrySettings(url=server.url))
        assert json.loads(registry.schema(frame.key) or "") == json.loads(text)
        assert (
            registry.schema(SchemaRef(IdKind.GUID, "0" * 8 + "-0000-0000-0000-" + "0" * 12)) is None
        )


def test_a_registry_without_guids_is_no_outage() -> None:
    def answer(handler):
        if handler.path.startswith("/subjects"):
            return 200, b"[]"
        return 404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'

    guid = SchemaRef(IdKind.GUID, "89791762-2336-4186-9674-299b90a802e2")
    with answering(answer) as (url, _):
        assert Registry(RegistrySettings(url=url)).schema(guid) is None
    with (
        answering(lambda _: (404, b"{}")) as (url, _),
        pytest.raises(TransportError, match="no schema registry answers here"),
    ):
        Registry(RegistrySettings(url=url)).schema(guid)
