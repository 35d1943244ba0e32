"""The table of docs/input.md says what is read of the schemas in tests/writer_schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.times import ISO, UNITS
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.field_names import TIME_NAMES
from shared.settings import InputSettings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "input.md").read_text("utf-8")
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("Kafka Connect, JDBC style", "connect_jdbc_style", {}),
    ("Kafka Connect, `InsertField`", "connect_insert_field", {}),
    ("the same, `time_unit=s`", "connect_insert_field", {"time_unit": "s"}),
    ("Flink SQL, `avro-confluent`", "flink_sql", {}),
    (
        "Flink SQL, `BIGINT` time",
        "flink_sql_bigint",
        {"time_unit": "ms", "entity_fields": "device"},
    ),
    ("ksqlDB style, `BIGINT` time", "ksqldb_style_bigint", {"time_unit": "ms"}),
    ("ksqlDB style, `TIMESTAMP`", "ksqldb_style_timestamp", {}),
    ("Debezium, after `ExtractNewRecordState`", "debezium_unwrapped", {}),
    ("Debezium's envelope", "debezium_envelope", {}),
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


def test_names_and_units_are_those_of_the_code() -> None:
    section = PAGE.partition("## The event time")[2]
    named_here = named(section.partition("\n2. ")[2].partition("\n3. ")[0])
    assert named_here == list(TIME_NAMES)
    (unit,) = [line for line in PAGE.splitlines() if line.startswith("| `input.time_unit`")]
    assert named(unit)[1:] == [*UNITS, ISO]
