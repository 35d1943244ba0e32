"""Schemas by other names than an id, and with references, on a real registry."""

from __future__ import annotations

import json
import urllib.request
import uuid

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient

from shared.decode.avro.plan import compile_plan
from shared.registry import Registry
from shared.registry.apicurio import own_api
from shared.schema_ids import IdKind, SchemaRef
from shared.settings import InputSettings, RegistrySettings

pytestmark = pytest.mark.integration

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def registered(url: str) -> tuple[str, int]:
    """Register a schema that refers to one that refers to another; return its subject and id."""
    client = SchemaRegistryClient({"url": url})
    unique = f"t{uuid.uuid4().hex[:10]}"
    chain = [
        ("Kind", {"type": "enum", "symbols": ["a"]}, None),
        ("Tags", _record(host="string", kind=f"{unique}.Kind"), "Kind"),
        ("Row", _record(tags=f"{unique}.Tags", ts=MILLIS, cpu="double"), "Tags"),
    ]
    schema_id = 0
    for name, schema, refers in chain:
        text = json.dumps(schema | {"name": name, "namespace": unique})
        references = (
            [SchemaReference(f"{unique}.{refers}", f"{unique}-{refers}", 1)] if refers else []
        )
        schema_id = client.register_schema(f"{unique}-{name}", Schema(text, "AVRO", references))
    return f"{unique}-Row", schema_id


def _record(**fields: object) -> dict[str, object]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "fields": listed}


def test_a_schema_with_references_is_complete(registry_url: str) -> None:
    _, schema_id = registered(registry_url)
    registry = Registry(RegistrySettings(url=registry_url))
    text = registry.schema(schema_id)
    assert text is not None
    fields = compile_plan(text, InputSettings(entity_fields="tags.host,tags.kind")).fields
    assert (fields.entity, fields.metrics) == (("tags.host", "tags.kind"), ("cpu",))
    assert registry.schema(SchemaRef(IdKind.GUID, str(uuid.uuid4()))) is None


def test_apicurios_ids_name_the_same_schema(registry_url: str) -> None:
    api = own_api(registry_url)
    if api is None:
        pytest.skip("the registry is not Apicurio's, which alone has global ids")
    subject, schema_id = registered(registry_url)
    with urllib.request.urlopen(f"{api}/groups/default/artifacts/{subject}/meta") as answer:
        meta = json.load(answer)
    registry = Registry(RegistrySettings(url=registry_url))
    text = registry.schema(schema_id)
    assert text is not None
    assert registry.schema(SchemaRef(IdKind.CONTENT_ID, meta["contentId"])) == text
    assert registry.schema(SchemaRef(IdKind.GLOBAL_ID, meta["globalId"])) == text
    assert registry.schema(SchemaRef(IdKind.GLOBAL_ID, 2**40)) is None
    assert registry.schema(SchemaRef(IdKind.CONTENT_ID, 2**40)) is None
