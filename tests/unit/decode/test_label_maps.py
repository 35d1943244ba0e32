"""Labels in maps and decimals, on bytes that fastavro wrote, read compiled and by the slow twin."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import numpy as np
import pytest

from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.plan import compile_plan
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.long_form import with_long_form
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.records import batch_of
from tests.support.decoding import run_both

T0 = 1_400_000_000_000
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def money(kind: Any = "bytes", scale: Any = 2, **more: Any) -> dict[str, Any]:
    found = {"logicalType": "decimal", "precision": 18, "scale": scale}
    return ({"type": kind} if isinstance(kind, str) else kind) | found | more


FIXED = {"type": "fixed", "name": "Money", "size": 8}
LABELS = {"type": "map", "values": ["null", "string"]}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Sample",
    "fields": [
        {"name": "Labels", "type": ["null", LABELS]},
        {"name": "ts", "type": MILLIS},
        {"name": "name", "type": {"type": "enum", "name": "Name", "symbols": ["cpu", "mem"]}},
        {"name": "cost", "type": ["null", money()]},
        {"name": "fee", "type": money(FIXED, 4)},
        {
            "name": "meta",
            "type": {
                "type": "record",
                "name": "Meta",
                "fields": [{"name": "tags", "type": {"type": "map", "values": "string"}}],
            },
        },
    ],
}
TEXT = json.dumps(SCHEMA)


def row(**given: Any) -> dict[str, Any]:
    return {
        "Labels": {"zone": "z", "host": "a", "k8s.io/pod": "p"},
        "ts": T0,
        "name": "cpu",
        "cost": Decimal("12.34"),
        "fee": Decimal("-0.0001"),
        "meta": {"tags": {"host": "b"}},
    } | given


def encoded(record: dict[str, Any], schema: Any = SCHEMA) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return b"\0\0\0\0\1" + out.getvalue()


def read(values: list[bytes], text: str = TEXT, **given: Any) -> tuple[Any, list[str], list[str]]:
    settings = InputSettings(**given)
    decoder = with_long_form(settings, lambda wanted: AvroDecoder.of_schemas({1: text}, wanted))
    entities, metrics = Directory(), list[str]()
    columns = decoder.decode(batch_of(values), entities, metrics)
    return columns, [entities.name(k) for k in columns.entity.tolist()], metrics


@pytest.mark.parametrize(
    ("fields", "entity"),
    [
        ("labels.host", "a"),
        ("Labels.host,Labels.zone", "a/z"),
        ("Labels.zone,labels.host", "z/a"),
        ("labels.k8s.io/pod", "p"),
        ("meta.tags.host,name", "b/cpu"),
    ],
)
def test_labels_are_the_entity(fields: str, entity: str) -> None:
    columns, entities, metrics = read([encoded(row())], entity_fields=fields)
    assert entities == [entity]
    assert metrics == ["cost", "fee"]
    assert columns.values.tolist() == [[12.34, -0.0001]]
    run_both([encoded(row())], TEXT, InputSettings(entity_fields=fields))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (None, Reason.ENTITY_INVALID),
        ({}, Reason.ENTITY_INVALID),
        ({"zone": "z"}, Reason.ENTITY_INVALID),
        ({"HOST": "z"}, Reason.ENTITY_INVALID),
        ({"host": None}, Reason.ENTITY_INVALID),
        ({"host": ""}, Reason.ENTITY_INVALID),
        ({"host": "x" * 257}, Reason.ENTITY_INVALID),
        ({"hosts": "a", "hos": "b"}, Reason.ENTITY_INVALID),
    ],
)
def test_a_label_that_is_missing_is_a_missing_entity(labels: Any, reason: Reason) -> None:
    value = encoded(row(Labels=labels))
    columns, _, _ = read([value], entity_fields="labels.host")
    assert columns.reasons.tolist() == [reason]
    run_both([value], TEXT, InputSettings(entity_fields="labels.host"))


def test_the_last_of_two_equal_labels_counts() -> None:
    body = encoded(row(Labels={"host": "a", "hosu": "b"})).replace(b"hosu", b"host")
    assert read([body], entity_fields="labels.host")[1] == ["b"]
    run_both([body], TEXT, InputSettings(entity_fields="labels.host"))
    body = encoded(row(Labels={"host": "a", "hosu": None})).replace(b"hosu", b"host")
    columns, _, _ = read([body], entity_fields="labels.host")
    assert columns.reasons.tolist() == [Reason.ENTITY_INVALID]
    run_both([body], TEXT, InputSettings(entity_fields="labels.host"))


def test_a_metric_named_by_a_label() -> None:
    columns, entities, metrics = read(
        [encoded(row(Labels={"host": "a", "__name__": name})) for name in ("load", "up")],
        entity_fields="labels.host",
        metric_field="labels.__name__",
        value_field="cost",
    )
    assert (entities, metrics) == (["a", "a"], ["load", "up"])
    assert np.nanmax(columns.values, axis=0).tolist() == [12.34, 12.34]


@pytest.mark.parametrize("field", ["labels", "labels.", "name.host", "numbers.host"])
def test_what_is_no_label_is_refused(field: str) -> None:
    schema = json.loads(TEXT)
    schema["fields"].append({"name": "numbers", "type": {"type": "map", "values": "long"}})
    with pytest.raises(UnsupportedSchema, match=r"input\.entity_fields"):
        compile_plan(json.dumps(schema), InputSettings(entity_fields=field))


def test_the_map_is_not_left_out_where_a_label_is_used() -> None:
    fields = compile_plan(TEXT, InputSettings(entity_fields="labels.host")).fields
    assert "Labels" not in dict(fields.left_out)
    assert dict(compile_plan(TEXT, InputSettings(entity_fields="name")).fields.left_out)[
        "Labels"
    ] == ("a map")


@pytest.mark.parametrize(
    ("number", "scale", "expected"),
    [
        ("0", 2, 0.0),
        ("0.10", 2, 0.1),
        ("-0.01", 2, -0.01),
        ("123456789.0123", 4, 123456789.0123),
        ("-128", 0, -128.0),
        ("128", 0, 128.0),
        ("9007199254740992", 0, 2.0**53),
    ],
)
def test_decimals_are_the_nearest_double(number: str, scale: int, expected: float) -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "host", "type": "string"},
            {"name": "ts", "type": MILLIS},
            {"name": "cost", "type": money(scale=scale)},
        ],
    }
    value = encoded({"host": "h", "ts": T0, "cost": Decimal(number)}, schema)
    columns, _, _ = read([value], json.dumps(schema))
    assert columns.values.tolist() == [[expected]]
    run_both([value], json.dumps(schema), InputSettings())


def test_long_decimals_are_close_and_too_long_ones_are_not_finite() -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "host", "type": "string"},
            {"name": "ts", "type": MILLIS},
            {"name": "cost", "type": {"type": "bytes"}},
        ],
    }
    numbers = [10**37 + 1, -(10**30) - 7, 2**1100]
    values = [
        encoded({"host": "h", "ts": T0, "cost": n.to_bytes(200, "big", signed=True)}, schema)
        for n in numbers
    ]
    values.append(encoded({"host": "h", "ts": T0, "cost": b""}, schema))
    schema["fields"][2]["type"] = money(scale=10)
    columns, _, _ = read(values, json.dumps(schema))
    assert columns.values[:, 0].tolist() == pytest.approx([1e27, -1e20], rel=1e-15)
    assert columns.reasons.tolist() == [Reason.NOT_FINITE, Reason.MALFORMED]
    run_both(values, json.dumps(schema), InputSettings())


@pytest.mark.parametrize("scale", [-1, 301, "2", None, True])
def test_a_decimal_without_a_usable_scale_is_left_out(scale: Any) -> None:
    schema = json.loads(TEXT)
    schema["fields"][3]["type"][1]["scale"] = scale
    fields = compile_plan(json.dumps(schema), InputSettings(entity_fields="name")).fields
    assert fields.metrics == ("fee",)
    assert "a decimal without a scale" in dict(fields.left_out)["cost"]
