"""Which writer schemas fit, how they are read, and how the message names a misfit."""

from __future__ import annotations

import json
from typing import Any

import pytest

import schemas
from shared.decode.avro.plan import MAX_STEPS, Op, Role, compile_plan
from shared.decode.avro.schema import SchemaInvalid, parse_schema
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.kernels import avro_rows as kernel
from shared.decode.kernels import gate_checks
from shared.events import Reason
from shared.kernels import wire
from shared.settings import InputSettings

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def text(**fields: Any) -> str:
    named = [{"name": name, "type": avro} for name, avro in fields.items()]
    return json.dumps({"type": "record", "name": "R", "namespace": "n", "fields": named})


def metrics_of(schema: str, **settings: Any) -> tuple[str, ...]:
    return compile_plan(schema, InputSettings(**settings)).metrics


def test_the_default_schema() -> None:
    plan = compile_plan(schemas.text(schemas.METRIC_EVENT), InputSettings())
    assert (plan.record, plan.metrics, plan.time_field) == (
        "lapwing.MetricEvent",
        ("cpu", "network_in", "disk_write"),
        "timestamp",
    )


def test_every_numeric_field_is_a_metric_and_nothing_else() -> None:
    schema = text(
        host="string", t=MILLIS, a="int", b="long", c="float", d="double", e=["null", "long"],
        f=["double", "null"], g=["null", "int", "float"], no1="boolean", no2="bytes",
        no3={"type": "int", "logicalType": "date"},
        no4={"type": "long", "logicalType": "local-timestamp-millis"}, no5=["double", "string"],
        no6="null", no7={"type": "array", "items": "double"},
        no8={"type": "enum", "name": "E", "symbols": ["A"]},
        no9=["null", {"type": "int", "logicalType": "time-millis"}],
        h={"type": "long", "logicalType": "of-nobody"},
    )  # fmt: skip
    assert metrics_of(schema) == ("a", "b", "c", "d", "e", "f", "g", "h")


def test_include_and_exclude() -> None:
    schema = text(host="string", t=MILLIS, a="double", b="double", c="double")
    assert metrics_of(schema, include=("c", "a", "elsewhere")) == ("a", "c")
    assert metrics_of(schema, exclude=("b",)) == ("a", "c")
    assert metrics_of(schema, include=("a", "b"), exclude=("a",)) == ("b",)


def test_an_entity_is_no_metric() -> None:
    assert metrics_of(text(host="long", t=MILLIS, a="double")) == ("a",)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"x": MILLIS}, "x"),
        ({"x": ["null", MICROS]}, "x"),
        ({"other": MILLIS, "timestamp": MICROS}, "timestamp"),
        ({"time": MILLIS, "other": MILLIS, "event_time": MILLIS}, "event_time"),
        ({"ts": MILLIS, "date": {"type": "int", "logicalType": "date"}, "other": MILLIS}, "ts"),
    ],
)
def test_the_event_time(fields: dict[str, Any], expected: str) -> None:
    plan = compile_plan(text(host="string", a="double", **fields), InputSettings())
    assert (plan.time_field, plan.metrics) == (expected, ("a",))


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("{", {}, "not JSON"),
    ("[]", {}, "without branches"),
    ('"string"', {}, "is a string, not a record"),
    ('{"type": "object"}', {}, "type 'object' is not defined"),
    (text(t=MILLIS, a="double"), {}, "n.R has no field 'host'.*input.entity_fields.*t, a"),
    (
        text(host="double", t=MILLIS, a="double"),
        {},
        "n.R.host is double.*string, int, long or enum",
    ),
    (text(host=["null"], t=MILLIS, a="double"), {}, "n.R.host is"),
    (
        text(host="string", t=MILLIS, a="double"),
        {"entity_fields": ("host", "host")},
        "'host' twice",
    ),
    (
        text(host="string", t="long", a="double"),
        {},
        "no timestamp field .*input.time_field and input.time_unit make it one of t, a",
    ),
    (
        text(host="string", t={"type": "string", "logicalType": "timestamp-millis"}, a="int"),
        {},
        "no timestamp field",
    ),
    (
        text(host="string", x=MILLIS, y=MILLIS, a="double"),
        {},
        r"has x \(timestamp-millis\) and y .*event time\? Set input.time_field",
    ),
    (text(host="string", t=MILLIS, note="string"), {}, "no numeric field"),
    (text(host="string", t=MILLIS, a="double"), {"exclude": ("a",)}, "leave none of a"),
    (
        text(host="string", t=MILLIS, a="double", b="string"),
        {"include": ("a", "b")},
        "n.R.b is string.*input.include",
    ),
    (text(host="string", t=MILLIS, a="double", r=["null", "R"]), {}, "n.R contains itself"),
    (
        text(host="string", t=MILLIS, a="double", r="elsewhere.Type"),
        {},
        "'elsewhere.Type' is not defined",
    ),
]


@pytest.mark.parametrize(("schema", "settings", "why"), UNFIT)
def test_what_does_not_fit_is_named(schema: str, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedSchema, match=why):
        compile_plan(schema, InputSettings(**settings))


def test_a_schema_that_unfolds_without_end_is_refused() -> None:
    """20 types, each twice in the next: a million fields when written out."""
    schema: Any = {"type": "record", "name": "R0", "fields": [{"name": "x", "type": "long"}]}
    for level in range(20):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"R{level}"}]
        schema = {"type": "record", "name": f"R{level + 1}", "fields": fields}
    with pytest.raises(UnsupportedSchema, match=f"more than {MAX_STEPS} steps"):
        compile_plan(text(host="string", t=MILLIS, a="double", deep=schema), InputSettings())


def test_deep_nesting_is_refused() -> None:
    deep: Any = "long"
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    with pytest.raises(UnsupportedSchema, match="nested too deeply"):
        compile_plan('{"type": "array", "items": ' * 5000 + '"int"' + "}" * 5000, InputSettings())
    assert (
        compile_plan(text(host="string", t=MILLIS, a="double", deep=deep), InputSettings()).depth
        == 400
    )


INVALID: list[tuple[str, str]] = [
    ('{"type": "record", "name": "R"}', "without a list of fields"),
    ('{"type": "record", "fields": []}', "needs a name"),
    ('{"type": "record", "name": "1R", "fields": []}', "needs a name"),
    ('{"type": "record", "name": "string", "fields": []}', "needs a name"),
    (text(**{"a-b": "int"}), "a field needs a name"),
    (
        (
            '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a",'
            ' "type": "int"}]}'
        ),
        "field twice",
    ),
    ('{"type": "record", "name": "R", "fields": [3]}', "a field needs a name"),
    ('["int", "int"]', "no type twice"),
    ('["null", ["int"]]', "holds no union"),
    ('{"type": "array"}', "array without 'items'"),
    ('{"type": "map"}', "map without 'values'"),
    ('{"type": "enum", "name": "E", "symbols": []}', "different symbols"),
    ('{"type": "enum", "name": "E", "symbols": ["A", "A"]}', "different symbols"),
    ('{"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}', "no symbol 'B'"),
    ('{"type": "fixed", "name": "F", "size": -1}', "size"),
    ('{"type": "fixed", "name": "F", "size": true}', "size"),
    (
        text(
            a={"type": "fixed", "name": "F", "size": 1}, b={"type": "fixed", "name": "F", "size": 1}
        ),
        "defined twice",
    ),
    ("null", "is not a type"),
    ('{"type": null}', "is not a type"),
    ('{"items": "int"}', "is not a type"),
    ("1" * 5000, "not JSON"),
]


@pytest.mark.parametrize(("schema", "why"), INVALID)
def test_what_is_no_schema_is_refused_with_the_place(schema: str, why: str) -> None:
    with pytest.raises(SchemaInvalid, match=why):
        parse_schema(schema)


def test_the_kernel_means_the_same_by_its_numbers() -> None:
    """Steps, roles and reasons have the same numbers as enumerations and as kernel constants."""
    for op in Op:
        assert getattr(kernel, "BYTES_" if op is Op.BYTES else op.name) == op
    for role in Role:
        assert getattr(kernel, role.name) == role
    assert (wire.TRUNCATED, wire.MALFORMED) == (-Reason.TRUNCATED, -Reason.MALFORMED)
    assert (kernel.NOT_AVRO, kernel.TRAILING_BYTES) == (Reason.NOT_AVRO, Reason.TRAILING_BYTES)
    gates = ("EMPTY", "TOO_LARGE", "NOT_FINITE", "TIME_OUT_OF_RANGE", "TIME_INVALID")
    for name in ("ACCEPTED", *gates, "ENTITY_INVALID"):
        assert getattr(gate_checks, name) == Reason[name]


def test_names_are_found_by_namespace() -> None:
    schema = {
        "type": "record", "name": "a.b.R",
        "fields": [
            {"name": "x",
                "type": {"type": "fixed", "name": "F", "size": 2, "aliases": ["G", "c.H"]}},
            {"name": "y", "type": "F"},
            {"name": "z", "type": ["null", "a.b.F"]},
            {"name": "w",
                "type": {"type": "record", "name": "c.In",
                    "fields": [{"name": "v", "type": "a.b.F"}]}},
            {"name": "u", "type": {"type": "record", "name": "In", "namespace": "d", "fields": []}},
        ],
    }  # fmt: skip
    record = parse_schema(json.dumps(schema))
    x, y, z, w, u = (field.type for field in record.fields)
    assert (x.name, x.aliases, w.name, u.name) == ("a.b.F", ("a.b.G", "c.H"), "c.In", "d.In")
    assert x is y is z.branches[1] is w.fields[0].type
