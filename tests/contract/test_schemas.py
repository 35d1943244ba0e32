"""Every schema file: readable, described, and able to grow without breaking its readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest

import schemas
from lapwing.embedded_registry import EmbeddedRegistry, serve
from shared.avro_types import AvroType, Field, parse_schema
from shared.codec import compile_plan
from shared.errors import ConfigError
from shared.registry import Registry
from shared.settings import InputSettings, RegistrySettings

LEVELS = {
    schemas.METRIC_EVENT: "BACKWARD",
    schemas.SCORE_EVENT: "FULL",
    schemas.ANOMALY_EVENT: "FULL",
    schemas.MODEL_ACTIVATION: "BACKWARD",
}
"""The level that each file must be able to live under: FULL for what others read."""


def fields_of(avro: AvroType) -> Iterator[Field]:
    for field in avro.fields:
        yield field
        yield from fields_of(field.type)
    for inner in (*avro.branches, *([avro.items] if avro.items else [])):
        yield from fields_of(inner)


def changed(name: str, change: Any) -> str:
    schema = json.loads(schemas.text(name))
    change(schema["fields"])
    return json.dumps(schema)


def remove_a_default(fields: list[dict[str, Any]]) -> None:
    fields.append({"name": "later", "type": "string", "doc": "Has no default."})


def retype(fields: list[dict[str, Any]]) -> None:
    fields[0]["type"] = "bytes" if fields[0]["type"] != "string" else "double"


def rename(fields: list[dict[str, Any]]) -> None:
    fields[0]["name"] += "_renamed"


def append_nullable(fields: list[dict[str, Any]]) -> None:
    fields.append({"name": "later", "type": ["null", "double"], "default": None, "doc": "Null = not known."})


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve() as server:
        yield door(server)


def door(server: EmbeddedRegistry) -> Registry:
    return Registry(RegistrySettings(url=server.url))


def test_every_file_is_listed() -> None:
    files = {path.name.removesuffix(".avsc") for path in schemas.files("schemas").iterdir() if path.name.endswith(".avsc")}
    assert files == set(schemas.ALL) == set(LEVELS)


@pytest.mark.parametrize("name", schemas.ALL)
def test_it_parses_here_and_in_fastavro(name: str) -> None:
    text = schemas.text(name)
    assert parse_schema(text).name == fastavro.parse_schema(json.loads(text))["name"]
    assert parse_schema(text).name == "lapwing." + name.title().replace("_", "")


@pytest.mark.parametrize("name", schemas.ALL)
def test_every_field_is_described(name: str) -> None:
    assert json.loads(schemas.text(name))["doc"].endswith(".")
    for field in fields_of(parse_schema(schemas.text(name))):
        assert len(field.doc) > 5, field.name
        assert field.doc.endswith("."), field.name


@pytest.mark.parametrize("name", schemas.ALL)
def test_a_nullable_field_defaults_to_null_and_says_what_null_means(name: str) -> None:
    for field in fields_of(parse_schema(schemas.text(name))):
        if field.type.kind == "union":
            assert field.type.branches[0].kind == "null", field.name
            assert (field.has_default, field.default) == (True, None), field.name
            assert "null" in field.doc.lower(), field.name


@pytest.mark.parametrize("name", schemas.ALL)
def test_times_are_timestamp_millis(name: str) -> None:
    for field in fields_of(parse_schema(schemas.text(name))):
        if "timestamp" in field.name or field.name.endswith("_time"):
            assert (field.type.kind, field.type.logical) == ("long", "timestamp-millis"), field.name


@pytest.mark.parametrize("name", schemas.ALL)
@pytest.mark.parametrize("change", [retype, rename, remove_a_default])
def test_a_breaking_change_is_refused(registry: Registry, name: str, change: Any) -> None:
    registry.register("s", schemas.text(name), LEVELS[name])
    with pytest.raises(ConfigError, match="incompatible"):
        registry.register("s", changed(name, change), LEVELS[name])


@pytest.mark.parametrize("name", schemas.ALL)
def test_a_nullable_field_may_come_later(registry: Registry, name: str) -> None:
    first = registry.register("s", schemas.text(name), LEVELS[name])
    assert registry.register("s", changed(name, append_nullable), LEVELS[name]) != first


def test_the_metric_event_fits_the_default_settings() -> None:
    plan = compile_plan(schemas.text(schemas.METRIC_EVENT), InputSettings())
    assert (plan.time_field, plan.metrics) == ("timestamp", ("cpu", "network_in", "disk_write"))
