"""Every schema file: readable, described, and able to grow without breaking its readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from lapwing.embedded.compatibility import violations, wrong_defaults
from lapwing.embedded.registry import EmbeddedRegistry, serve
from lapwing.topics import result_subjects
from shared.decode.avro.plan import compile_plan
from shared.decode.avro.schema import AvroType, Field, parse_schema
from shared.encode import json_schema
from shared.encode.results import decode_result, encode_results
from shared.errors import ConfigError
from shared.events import Detector, Kind
from shared.registry import Registry
from shared.settings import InputSettings, RegistrySettings, Settings

LEVELS = {
    schemas.METRIC_EVENT: "BACKWARD",
    schemas.SCORE_EVENT: "FULL",
    schemas.ANOMALY_EVENT: "FULL",
    schemas.MODEL_ACTIVATION: "FULL",
    schemas.INCIDENT: "FULL",
    schemas.FEEDBACK: "FULL",
}
"""The level that each file must be able to live under: FULL for what others read."""

EARLIER = {
    path.name.removesuffix(".avsc"): path.read_text("utf-8")
    for path in (Path(__file__).parent / "earlier_schemas").iterdir()
}
"""<name>.<version> -> a version that records in topics were written with; these files never change.
"""


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
    fields.append(
        {"name": "later", "type": ["null", "double"], "default": None, "doc": "Null = not known."}
    )


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve() as server:
        yield registry_at(server)


def registry_at(server: EmbeddedRegistry) -> Registry:
    return Registry(RegistrySettings(url=server.url))


def test_every_file_is_listed() -> None:
    files = {
        path.name.removesuffix(".avsc")
        for path in schemas.files("schemas").iterdir()
        if path.name.endswith(".avsc")
    }
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
            (one,) = (b for b in field.type.branches or (field.type,) if b.kind != "null")
            assert (one.kind, one.logical) == ("long", "timestamp-millis"), field.name


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


# ---- earlier versions ----


def test_every_file_has_its_earlier_versions() -> None:
    assert {name.partition(".")[0] for name in EARLIER} == set(schemas.ALL)


def test_the_levels_are_those_that_are_registered() -> None:
    """The input's is the bundled producer's, see tests/unit/producer/test_producer_service.py."""
    registered = {name: level for _, name, level in result_subjects(Settings())}
    assert registered | {schemas.METRIC_EVENT: "BACKWARD"} == LEVELS


@pytest.mark.parametrize("name", schemas.ALL)
def test_defaults_fit_their_types(name: str) -> None:
    assert wrong_defaults(parse_schema(schemas.text(name))) == []


@pytest.mark.parametrize("version", EARLIER)
def test_it_is_compatible_with_the_earlier_version(registry: Registry, version: str) -> None:
    name = version.partition(".")[0]
    new, old = schemas.text(name), EARLIER[version]
    assert violations(f"{LEVELS[name]}_TRANSITIVE", parse_schema(new), [parse_schema(old)]) == []
    registry.register("s", old, LEVELS[name])
    assert registry.schema(registry.register("s", new, LEVELS[name])) is not None


@pytest.mark.parametrize("version", EARLIER)
def test_old_and_new_records_are_read_by_new_and_old_readers(version: str) -> None:
    old, new = json.loads(EARLIER[version]), json.loads(schemas.text(version.partition(".")[0]))
    before, after = sample(old), sample(new)
    assert resolved(before, old, new) == fitted(before, new)
    assert resolved(after, new, old) == fitted(after, old)


def fitted(value: Any, avro: Any) -> Any:
    """A value as a reader of a type sees it: defaults where it lacks a field, no other fields."""
    if isinstance(avro, dict) and avro["type"] == "record":
        return {
            field["name"]: fitted(value[field["name"]], field["type"])
            if field["name"] in value
            else field["default"]
            for field in avro["fields"]
        }
    if isinstance(avro, dict) and avro["type"] == "array":
        return [fitted(one, avro["items"]) for one in value]
    return value


def sample(avro: Any) -> Any:
    """A value of a type; of a union its last branch."""
    if isinstance(avro, list):
        return sample(avro[-1])
    if isinstance(avro, dict):
        if "logicalType" in avro:
            return datetime(2014, 4, 16, 3, 35, tzinfo=UTC)
        match avro["type"]:
            case "record":
                return {field["name"]: sample(field["type"]) for field in avro["fields"]}
            case "array":
                return [sample(avro["items"])] * 2
            case "map":
                return {"a": sample(avro["values"]), "b": sample(avro["values"])}
    simple = {"string": "text", "int": 5, "long": 2**40, "boolean": True}
    return (simple | {"float": 0.5, "double": 0.5})[avro]


def resolved(record: Any, written: Any, read: Any) -> Any:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(written), record)
    out.seek(0)
    found = fastavro.schemaless_reader(
        out, fastavro.parse_schema(written), fastavro.parse_schema(read)
    )
    assert out.read() == b""
    return found


# ---- what the fields say ----


def words(name: str, field: str) -> set[str]:
    (doc,) = (one.doc for one in parse_schema(schemas.text(name)).fields if one.name == field)
    return set(re.findall(r"[a-z_]+", doc))


def test_the_kinds_are_listed() -> None:
    assert {kind.value for kind in Kind} <= words(schemas.ANOMALY_EVENT, "kind")


@pytest.mark.parametrize(
    "name", [schemas.SCORE_EVENT, schemas.ANOMALY_EVENT, schemas.MODEL_ACTIVATION]
)
def test_the_detectors_are_listed(name: str) -> None:
    assert {detector.value for detector in Detector} <= words(name, "detector_id")


def test_the_metric_event_fits_the_default_settings() -> None:
    plan = compile_plan(schemas.text(schemas.METRIC_EVENT), InputSettings())
    assert (plan.time_field, plan.metrics) == ("timestamp", ("cpu", "network_in", "disk_write"))


@pytest.mark.parametrize("name", schemas.RESULTS)
def test_the_json_schema_describes_what_is_written(name: str) -> None:
    """schemas/json is current, and names each field of each record, with its types."""
    described = json.loads((json_schema.FOLDER / f"{name}.json").read_text("utf-8"))
    assert (json_schema.FOLDER / f"{name}.json").read_text("utf-8") == json_schema.text_of(name)
    avro = json.loads(schemas.text(name))
    fields = [field["name"] for field in avro["fields"]]
    assert list(described["properties"]) == described["required"] == fields
    assert all(one["description"] for one in described["properties"].values())


@pytest.mark.parametrize("name", sorted(EARLIER))
def test_records_of_earlier_schemas_in_json_are_whole(name: str) -> None:
    """What an earlier version wrote in JSON has its own fields alone, as in Avro."""
    text = EARLIER[name]
    record = {
        field["name"]: _sample(field["type"])
        for field in json.loads(text)["fields"]
        if "default" not in field
    }
    (as_json,), (as_avro,) = encode_results(text, None, [record]), encode_results(text, 1, [record])
    assert decode_result(as_json, lambda _: None) == decode_result(as_avro, lambda _: text)


def _sample(avro: Any) -> Any:
    if isinstance(avro, dict) and avro["type"] in ("array", "map"):
        return [] if avro["type"] == "array" else {}
    kind = avro if isinstance(avro, str) else avro["type"]
    values = {"string": "x", "boolean": True, "double": 0.5, "float": 0.5, "int": 1, "long": 1}
    return values[kind]
