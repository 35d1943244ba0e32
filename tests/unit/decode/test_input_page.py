"""The table of docs/input.md says what is read of the schemas in tests/writer_schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.times import ISO, UNITS
from shared.decode.field_choice import UnsupportedSchema, ignore
from shared.decode.field_names import TIME_NAMES
from shared.decode.json.decoder import JsonDecoder
from shared.decode.json.document import Refusal
from shared.settings import InputSettings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "input.md").read_text("utf-8")
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("Kafka Connect, JDBC style", "connect_avro", {}),
    ("Kafka Connect, `InsertField`", "connect_insert_field", {}),
    ("the same, `time_unit=s`", "connect_insert_field", {"time_unit": "s"}),
    ("Flink SQL, `avro-confluent`", "flink_sql_confluent", {}),
    ("the same, `include=cpu,load`", "flink_sql_confluent", {"include": "cpu,load"}),
    ("Flink SQL, `BIGINT` time", "flink_sql_numbers", {"time_unit": "ms"}),
    ("Flink SQL, connector `upsert-kafka`", "flink_upsert", {}),
    ("Flink SQL, `debezium-avro-confluent`", "flink_debezium", {}),
    ("ksqlDB style, `BIGINT` time", "ksqldb_style_bigint", {"time_unit": "ms"}),
    ("ksqlDB style, `TIMESTAMP`", "ksqldb_style_timestamp", {}),
    ("Debezium, after `ExtractNewRecordState`", "debezium_avro_unwrapped", {}),
    ("Debezium's envelope", "debezium_avro_envelope", {}),
    ("dataclasses-avroschema", "python_dataclass", {}),
    (
        "as Telegraf's Avro parser reads it",
        "telegraf_style",
        {"entity_fields": "tag", "time_unit": "s"},
    ),
]


def cells_of(writer: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {writer}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(("writer", "name", "settings"), ROWS)
def test_a_row_of_the_table(writer: str, name: str, settings: dict[str, Any]) -> None:
    _, entity, time, metrics, left_out = cells_of(writer)
    schema = (ROOT / "tests" / "writer_schemas" / f"{name}.avsc").read_text("utf-8")
    if "**" in entity + time:
        with pytest.raises(UnsupportedSchema) as caught:
            compile_plan(schema, InputSettings(**settings))
        assert all(word in str(caught.value) for word in named(entity + time) if word != "host")
        return
    fields = compile_plan(schema, InputSettings(**settings)).fields
    assert named(entity) == list(fields.entity)
    assert named(time)[0] == fields.time
    assert named(metrics) == list(fields.metrics)
    assert named(left_out) == [field for field, _ in fields.left_out]


def test_the_table_has_no_other_row() -> None:
    table = PAGE.partition("| writer | entity |")[2].partition("\n\n")[0]
    assert table.count("\n") == len(ROWS) + 1


MEASURED = {"time_field": "measured", "time_unit": "ms"}
PAYLOAD = {"time_field": "payload.measured", "time_unit": "ms", "entity_fields": "payload.host"}
JSON_ROWS: list[tuple[str, str, dict[str, str]]] = [
    ("Kafka Connect's `JsonConverter`", "connect_json.json", MEASURED | {"exclude": "since"}),
    ("the same with `schemas.enable=true`", "connect_json_schemas.json", MEASURED),
    (
        "the same: `entity_fields=payload.host`",
        "connect_json_schemas.json",
        PAYLOAD | {"exclude": "schema"},
    ),
    ("Flink SQL, `json`", "flink_sql.json", MEASURED | {"time_unit": "iso"}),
    (
        "confluent-kafka's `JSONSerializer`",
        "confluent_json_schema.bin",
        MEASURED | {"time_unit": "iso"},
    ),
]


@pytest.mark.parametrize(("writer", "name", "given"), JSON_ROWS)
def test_a_row_of_the_table_of_json(writer: str, name: str, given: dict[str, str]) -> None:
    first, entity, time, metrics, left_out = cells_of(writer)
    value = (ROOT / "tests" / "writer_json" / name).read_bytes()
    decoder = JsonDecoder(InputSettings(format="json", **given), ignore)
    found = decoder.read(value)
    if "**" in entity:
        assert isinstance(found, Refusal)
        assert named(entity)[0] in found.detail
        return
    assert not isinstance(found, Refusal)
    assert all(f"{name}={text}" in first for name, text in given.items())
    leaves, choice, reading = found
    assert (named(entity), named(time)) == (list(choice.entity), [choice.time])
    assert (reading.entity, reading.time_ms) == ("web-1", 1_400_000_000_250)
    assert named(metrics) == list(reading.values)
    used = {*choice.entity, choice.time, *reading.values}
    others = [name for name in leaves if name not in used]
    assert set(named(left_out)) == {
        "schema" if name.startswith("schema.") else name for name in others
    }


def test_the_table_of_json_has_no_other_row() -> None:
    table = PAGE.partition("| JSON writer | entity |")[2].partition("\n\n")[0]
    assert table.count("\n") == len(JSON_ROWS) + 1


def test_names_and_units_are_those_of_the_code() -> None:
    section = PAGE.partition("## The event time")[2]
    named_here = named(section.partition("\n2. ")[2].partition("\n3. ")[0])
    assert named_here == list(TIME_NAMES)
    (unit,) = [line for line in PAGE.splitlines() if line.startswith("| `input.time_unit`")]
    assert named(unit)[1:] == [*UNITS, ISO]
