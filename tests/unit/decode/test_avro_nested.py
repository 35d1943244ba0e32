"""Nested records of Avro: dotted names in the settings, on bytes that fastavro wrote."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import fastavro
import numpy as np
import pytest

from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.nested import MOST_FIELDS, nested_fields
from shared.decode.avro.plan import compile_plan
from shared.decode.avro.schema import parse_schema
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

T0 = 1_400_000_000_000
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
LOAD = {
    "type": "record",
    "name": "Load",
    "fields": [
        {"name": "one", "type": ["null", "double"]},
        {"name": "note", "type": "string"},
        {"name": "ticks", "type": "long"},
        {"name": "measured_at", "type": MILLIS},
    ],
}
TAGS = {"type": "record", "name": "Tags", "fields": [{"name": "host", "type": "string"}]}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "tags", "type": TAGS},
        {"name": "loads", "type": {"type": "array", "items": LOAD}},
        {"name": "load", "type": ["null", "Load"]},
        {"name": "again", "type": "Load"},
        {"name": "ts", "type": MILLIS},
        {"name": "cpu", "type": "double"},
    ],
}
TEXT = json.dumps(SCHEMA)


def load(one: float | None, ticks: int = 7) -> dict[str, Any]:
    return {"one": one, "note": "n", "ticks": ticks, "measured_at": T0 + 99}


def row(loaded: dict[str, Any] | None, host: str = "a") -> dict[str, Any]:
    return {
        "tags": {"host": host},
        "loads": [load(100.0), load(None)],
        "load": loaded,
        "again": load(0.25, 9),
        "ts": T0,
        "cpu": 1.5,
    }


def decoded(records: list[dict[str, Any]], **given: Any) -> tuple[Any, list[str], list[str]]:
    values = []
    for record in records:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), record)
        values.append(b"\0\0\0\0\1" + out.getvalue())
    settings = InputSettings(**({"entity_fields": "tags.host"} | given))
    decoder = AvroDecoder.of_schemas({1: TEXT}, settings)
    n = len(values)
    batch = Batch(
        "t", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64)
    )
    entities, metrics = Directory(), list[str]()
    columns = decoder.decode(batch, entities, metrics)
    return columns, entities.names(), metrics


def test_numbers_of_nested_records_are_metrics_where_include_names_them() -> None:
    rows = [row(load(0.5)), row(None, "b"), row(load(None))]
    columns, names, metrics = decoded(rows, include="cpu,load.one,again.TICKS")
    assert (names, metrics) == (["a", "b"], ["cpu", "load.one", "again.ticks"])
    nan = math.nan
    np.testing.assert_array_equal(columns.values, [[1.5, 0.5, 9], [1.5, nan, 9], [1.5, nan, 9]])


def test_without_include_nothing_below_is_read() -> None:
    fields = compile_plan(TEXT, InputSettings(entity_fields="tags.host")).fields
    assert (fields.entity, fields.time, fields.metrics) == (("tags.host",), "ts", ("cpu",))
    whys = dict(fields.left_out)
    assert whys["load"] == "a nested record: input.include takes its numbers by dotted names"
    assert set(whys) == {"tags", "loads", "load", "again"}


def test_include_may_name_a_whole_record() -> None:
    fields = compile_plan(TEXT, InputSettings(entity_fields="tags.host", include="load,cpu")).fields
    assert fields.metrics == ("cpu", "load.one", "load.ticks")
    assert "load" not in dict(fields.left_out)


def test_time_may_be_nested_where_the_setting_names_it() -> None:
    columns, names, _ = decoded([row(load(0.5)), row(None)], time_field="load.measured_at")
    assert (columns.time_ms.tolist(), names) == ([T0 + 99], ["a"])
    assert columns.reasons.tolist() == [Reason.TIME_OUT_OF_RANGE]


def test_long_form_may_be_nested() -> None:
    given = {"entity_fields": "tags.host", "metric_field": "again.note", "value_field": "again.one"}
    fields = compile_plan(TEXT, InputSettings(**given)).fields
    assert fields.metrics == ("again.one",)
    assert set(dict(fields.left_out)) == {"tags", "loads", "load", "again", "cpu", "again.note"}


def test_what_is_nested_is_named_where_there_is_no_other_number() -> None:
    only_nested = SCHEMA | {"fields": [one for one in SCHEMA["fields"] if one["name"] != "cpu"]}
    with pytest.raises(UnsupportedSchema) as caught:
        compile_plan(json.dumps(only_nested), InputSettings(entity_fields="tags.host"))
    assert "input.include takes numbers of nested records: load.one, load.ticks" in str(
        caught.value
    )
    with pytest.raises(UnsupportedSchema, match=r"Row\.load\.note is string; a metric"):
        compile_plan(TEXT, InputSettings(entity_fields="tags.host", include="load.note"))


def test_recursive_and_wide_schemas_are_bounded() -> None:
    inner: dict[str, Any] = {"type": "record", "name": "R0", "fields": []}
    for depth in range(1, 14):
        pair = [{"name": "x", "type": inner}, {"name": "y", "type": inner["name"]}]
        inner = {"type": "record", "name": f"R{depth}", "fields": pair}
    assert len(nested_fields(parse_schema(json.dumps(inner)))) <= MOST_FIELDS
    tree = {"type": "record", "name": "T", "fields": [{"name": "child", "type": ["null", "T"]}]}
    assert nested_fields(parse_schema(json.dumps(tree))) == ()
