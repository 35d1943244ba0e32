"""Schema resolution case by case, and against fastavro's reader."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
import pytest

from lapwing.embedded.compatibility import LEVELS, unreadable, violations, wrong_defaults
from shared.decode.avro.schema import AvroType, parse_schema


def avro(schema: Any) -> AvroType:
    return parse_schema(json.dumps(schema))


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(size: int, name: str = "F", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
PROMOTED = {
    ("long", "int"), ("float", "int"), ("double", "int"), ("float", "long"), ("double", "long"),
    ("double", "float"),
    ("bytes", "string"), ("string", "bytes"),
}  # fmt: skip
"""(reader, writer)"""


@pytest.mark.parametrize("reader", PRIMITIVES)
@pytest.mark.parametrize("writer", PRIMITIVES)
def test_primitives(reader: str, writer: str) -> None:
    readable = reader == writer or (reader, writer) in PROMOTED
    assert (unreadable(avro(reader), avro(writer)) == []) is readable
    assert (
        unreadable(
            avro({"type": "array", "items": reader}), avro({"type": "array", "items": writer})
        )
        == []
    ) is readable
    assert (
        unreadable(avro(["null", reader] if reader != "null" else ["null"]), avro(writer)) == []
    ) is (readable or writer == "null")


CASES: list[tuple[Any, Any, bool]] = [
    # reader, writer, can it read
    (["null", "long"], ["int", "null"], True),
    (["null", "int"], ["null", "string"], False),
    ("int", ["int"], True),
    ("int", ["null", "int"], False),
    (["null", {"type": "array", "items": "long"}], {"type": "array", "items": "int"}, True),
    ({"type": "map", "values": "double"}, {"type": "map", "values": "int"}, True),
    ({"type": "map", "values": "double"}, {"type": "array", "items": "double"}, False),
    (enum("A", "B"), enum("A"), True),
    (enum("A"), enum("A", "B"), False),
    (enum("A", default="A"), enum("A", "B"), True),
    (enum("A", name="X"), enum("A"), False),
    (enum("A", name="X", aliases=["E"]), enum("A"), True),
    (fixed(2), fixed(2), True),
    (fixed(2), fixed(3), False),
    (fixed(2, "G"), fixed(2), False),
    (fixed(2, "G", aliases=["F"]), fixed(2), True),
    (record(field("a", "int")), record(field("a", "int"), field("b", "int")), True),
    (record(field("a", "int"), field("b", "int")), record(field("a", "int")), False),
    (record(field("a", "int"), field("b", "int", default=0)), record(field("a", "int")), True),
    (record(field("b", "int", aliases=["a"])), record(field("a", "int")), True),
    (record(field("b", "string", aliases=["a"])), record(field("a", "int")), False),
    (record(field("e", enum("A", default="A"))), record(), False),
    (record(name="a.R"), record(name="b.R"), True),
    (record(name="a.R"), record(name="a.S"), False),
    (record(name="a.R", aliases=["b.S"]), record(name="b.S"), True),
    (
        record(field("a", record(field("x", "long"), name="I"))),
        record(field("a", record(field("x", "int"), name="I"))),
        True,
    ),
    (
        record(field("a", record(field("x", "int"), name="I"))),
        record(field("a", record(field("x", "long"), name="I"))),
        False,
    ),
    (record(field("next", ["null", "R"])), record(field("next", ["null", "R"])), True),
    (
        record(field("next", ["null", "R"]), field("a", "int")),
        record(field("next", ["null", "R"])),
        False,
    ),
]


@pytest.mark.parametrize(("reader", "writer", "readable"), CASES)
def test_resolution(reader: Any, writer: Any, readable: bool) -> None:
    assert (unreadable(avro(reader), avro(writer)) == []) is readable


def example(kind: Any, named: dict[str, Any]) -> list[Any]:
    """A few values that need every branch, symbol and field of a type."""
    if isinstance(kind, list):
        return [value for branch in kind for value in example(branch, named)]
    if isinstance(kind, str):
        simple = {
            "null": None,
            "boolean": True,
            "int": 7,
            "long": 7,
            "float": 0.5,
            "double": 0.5,
            "bytes": b"x",
            "string": "x",
        }
        return [simple[kind]] if kind in simple else [named[kind]]
    match kind["type"]:
        case "array":
            return [[value] for value in example(kind["items"], named)]
        case "map":
            return [{"k": value} for value in example(kind["values"], named)]
        case "enum":
            return list(kind["symbols"])
        case "fixed":
            return [b"x" * kind["size"]]
    named[kind["name"]] = None
    return [{f["name"]: (example(f["type"], named) or [None])[-1] for f in kind["fields"]}]


@pytest.mark.parametrize(
    ("reader", "writer", "readable"), [case for case in CASES if case[0] != record(name="a.R")]
)
def test_fastavro_agrees_by_reading(reader: Any, writer: Any, readable: bool) -> None:
    """Every example is readable by fastavro if the rules allow it, else at least one is not."""
    written, wanted = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    outcomes = []
    for value in example(writer, {}):
        out = BytesIO()
        fastavro.schemaless_writer(out, written, value)
        out.seek(0)
        try:
            fastavro.schemaless_reader(out, written, wanted)
            outcomes.append(True)
        except Exception:  # noqa: BLE001 - fastavro raises many kinds
            outcomes.append(False)
    assert all(outcomes) is readable or reader == record(
        field("next", ["null", "R"]), field("a", "int")
    )


@pytest.mark.parametrize(
    ("level", "expected"),
    [("NONE", 0), ("BACKWARD", 0), ("BACKWARD_TRANSITIVE", 1), ("FORWARD", 1),
        ("FORWARD_TRANSITIVE", 2), ("FULL", 1),
     ("FULL_TRANSITIVE", 3)],
)  # fmt: skip
def test_what_a_level_compares(level: str, expected: int) -> None:
    earlier = [
        avro(record(field("a", "int"), field("d", "int"))),
        avro(record(field("a", "int"), field("b", "int"), field("c", "int"))),
    ]
    new = avro(record(field("a", "int"), field("b", "int")))
    found = violations(level, new, earlier)
    assert len(found) == expected, found
    assert violations(level, new, []) == []
    assert level in LEVELS


def test_violations_say_which_side_fails_and_where() -> None:
    old, new = (
        avro(record(field("a", "int"))),
        avro(record(field("a", record(field("x", "int"), name="I")))),
    )
    (backward,) = violations("BACKWARD", new, [old])
    (forward,) = violations("FORWARD", new, [old])
    assert (
        backward == "the new schema cannot read the old one's data: R.a: record I does not read int"
    )
    assert (
        forward == "the old schema cannot read the new one's data: R.a: int does not read record I"
    )


@pytest.mark.parametrize(
    ("kind", "default", "fits"),
    [
        ("null", None, True), ("null", 0, False),
        ("int", 1, True), ("int", True, False), ("int", 2**31, False), ("int", 1.0, False),
        ("long", 2**63 - 1, True), ("long", 2**63, False), ("double", 1, True),
        ("double", "NaN", False), ("string", "x", True), ("string", None, False),
        ("boolean", False, True), ("boolean", 0, False), ("bytes", "\u00ff", True),
        (fixed(2), "ab", True), (fixed(2), "a", False), (enum("A"), "A", True),
        (enum("A"), "B", False), (["null", "int"], None, True), (["null", "int"], 3, True),
        (["null", "int"], "x", False),
        ({"type": "array", "items": "int"}, [], True),
        ({"type": "array", "items": "int"}, ["x"], False),
        ({"type": "map", "values": "int"}, {"a": 1}, True),
        ({"type": "map", "values": "int"}, [], False),
        (record(field("a", "int"), name="I"), {"a": 1}, True),
        (record(field("a", "int"), name="I"), {}, False),
        (record(field("a", "int", default=1), name="I"), {}, True),
    ],
)  # fmt: skip
def test_defaults(kind: Any, default: Any, fits: bool) -> None:
    inner = record(field("x", kind, default=default), name="In")
    assert (
        wrong_defaults(avro(record(field("list", {"type": "array", "items": inner})))) == []
    ) is fits
