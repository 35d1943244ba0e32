"""Writer schemas at random, records that fit them, and batches of records."""

from __future__ import annotations

import json
from datetime import datetime
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st

import schemas
from shared.batch import Batch, Blob
from shared.settings import InputSettings

METRIC_EVENT = schemas.text(schemas.METRIC_EVENT)
T0 = 1_397_000_000_000


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Most of these records pass the gates, some do not."""
    return st.integers(0, 9).flatmap(lambda pick: rare if pick == 9 else usual)


LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200)
INTS = st.integers(-(2**31), 2**31 - 1) | st.integers(-200, 200)
FLOATS = mostly(st.floats(-1e9, 1e9, width=32), st.floats(width=32))
ENTITY_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)

FACTORS = {"s": 0.001, "ms": 1, "us": 1000, "ns": 1_000_000}


def _times(unit: str) -> st.SearchStrategy[int]:
    """Integers that are mostly event times in their unit."""
    return mostly(st.integers(T0, 2 * T0).map(lambda t: int(t * FACTORS[unit]) + 1), LONGS)


def _long(unit: str, **more: str) -> tuple[Any, st.SearchStrategy[int], str]:
    return (
        {"type": "long"} | {name.replace("_", "."): value for name, value in more.items()},
        _times(unit),
        "",
    )


def _iso() -> st.SearchStrategy[str]:
    """Times in ISO 8601 in all the forms that are read, and near misses."""
    moments = st.datetimes(datetime(1999, 1, 1), datetime(2101, 1, 1))
    forms = st.sampled_from(
        [
            "%Y-%m-%dT%H:%M",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%dT%H:%M:%S.%f",
            "%Y-%m-%dt%H:%M:%S,%f",
            "%Y-%m-%d",
        ]
    )
    ends = st.sampled_from(
        ["", "Z", "z", "+01:00", "-0530", "+14", "+24:00", " UTC", "+1", "Z ", "+01:60"]
    )
    texts = st.tuples(moments, forms, ends).map(lambda one: one[0].strftime(one[1]) + one[2])
    odd = [
        "",
        "2024-02-30T00:00",
        "2023-02-29T00:00Z",
        "2024-02-29T23:59:60",
        "0000-01-01T00:00",
        "2024-1-1T00:00",
        "x",
    ]
    return mostly(
        texts,
        st.sampled_from([*odd, "2024-01-01T24:00", "2024-01-01T00:00:00.", "2024-01-01T00:00:0"])
        | st.text(max_size=30),
    )


TIMES: list[tuple[Any, st.SearchStrategy[Any], str]] = [
    *(
        _long({"millis": "ms", "micros": "us", "nanos": "ns"}[u], logicalType=f"timestamp-{u}")
        for u in ("millis", "micros", "nanos")
    ),
    _long("us", logicalType="local-timestamp-micros"),
    _long("ms", connect_name="org.apache.kafka.connect.data.Timestamp"),
    _long("ns", connect_name="io.debezium.time.NanoTimestamp"),
    *(("long", _times(unit), unit) for unit in FACTORS),
    ("int", mostly(st.integers(T0 // 1000, 2**31 - 1), INTS), "s"),
    *(
        ("double", mostly(st.floats(T0 * FACTORS[u], 2 * T0 * FACTORS[u]), st.floats()), u)
        for u in FACTORS
    ),
    ("string", _iso(), "iso"),
]
"""Types of an event time, their values, and input.time_unit."""

World = tuple[str, InputSettings, list[dict[str, Any]]]
"""A writer schema, the settings that fit it, and records."""


def encode(schema_text: str, schema_id: int, record: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema_text)), record)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def event(host: str = "a", time_ms: int = T0, **metrics: float | None) -> bytes:
    record = {
        "host": host,
        "timestamp": time_ms,
        "cpu": None,
        "network_in": None,
        "disk_write": None,
    } | metrics
    return encode(METRIC_EVENT, 1, record)


def batch_of(values: list[bytes]) -> Batch:
    n = len(values)
    return Batch(
        "t", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64)
    )


@st.composite
def skipped(draw: st.DrawFn, depth: int, name: str) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type that is not a metric in its position, and its values."""
    text, longs = st.text(max_size=5), LONGS
    leaves: list[tuple[Any, st.SearchStrategy[Any]]] = [
        ("string", text),
        ("bytes", st.binary(max_size=5)),
        ("boolean", st.booleans()),
        ("null", st.none()),
        ({"type": "fixed", "name": f"F_{name}", "size": 3}, st.binary(min_size=3, max_size=3)),
        ({"type": "enum", "name": f"E_{name}", "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")),
        ({"type": "int", "logicalType": "date"}, INTS),
        ({"type": "long", "logicalType": "time-micros"}, longs),
        (["null", "string", "boolean"], st.none() | text | st.booleans()),
    ]
    inner = [
        ("double", FLOATS),
        ("float", FLOATS),
        ("long", longs),
        ("int", INTS),
        (["int", "null"], st.none() | INTS),
    ]
    if depth == 0:
        return draw(st.sampled_from(leaves))
    kind = draw(st.sampled_from(["leaf", "array", "map", "record", "optional"]))
    if kind == "leaf":
        return draw(st.sampled_from(leaves))
    schema, values = (
        draw(st.sampled_from(inner))
        if draw(st.booleans())
        else draw(skipped(depth - 1, f"{name}_{kind}"))
    )
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(values, max_size=3)
    if kind == "map":
        return {"type": "map", "values": schema}, st.dictionaries(text, values, max_size=3)
    record = {
        "type": "record",
        "name": f"R_{name}",
        "fields": [{"name": "x", "type": schema}, {"name": "y", "type": "long"}],
    }
    built = st.fixed_dictionaries({"x": values, "y": longs})
    return (record, built) if kind == "record" else (["null", record], st.none() | built)


def optional(
    draw: st.DrawFn, schema: Any, values: st.SearchStrategy[Any]
) -> tuple[Any, st.SearchStrategy[Any]]:
    """The type as it is, or in a union with null in either order."""
    form = draw(st.sampled_from([0, 1, 2]))
    return (
        (schema, values)
        if form == 0
        else ([["null", schema], [schema, "null"]][form - 1], mostly(values, st.none()))
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    fields: list[tuple[str, Any, st.SearchStrategy[Any]]] = []
    parts = draw(st.integers(1, 2))
    for part in range(parts):
        symbols = {"type": "enum", "name": f"Region{part}", "symbols": ["eu", "us"]}
        kinds = [
            ("string", ENTITY_TEXT),
            ("long", LONGS),
            ("int", INTS),
            (symbols, st.sampled_from(["eu", "us"])),
        ]
        schema, values = optional(draw, *draw(st.sampled_from(kinds)))
        fields.append((f"part{part}", schema, values))
    schema, values, unit = draw(st.sampled_from(TIMES))
    fields.append(("when", *optional(draw, schema, values)))
    for metric in range(draw(st.integers(1, 3))):
        kinds = [("double", FLOATS), ("float", FLOATS), ("long", LONGS), ("int", INTS)]
        schema, values = optional(draw, *draw(st.sampled_from(kinds)))
        fields.append((f"metric{metric}", schema, values))
    for extra in range(draw(st.integers(0, 3))):
        schema, values = draw(skipped(2, f"s{extra}"))
        fields.append((f"skipped{extra}", schema, values))
    fields = draw(st.permutations(fields))
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": n, "type": t} for n, t, _ in fields],
    }
    text = json.dumps(draw(st.sampled_from([schema, schema, ["null", schema], [schema, "null"]])))
    records = draw(
        st.lists(st.fixed_dictionaries({n: v for n, _, v in fields}), min_size=1, max_size=6)
    )
    parted = tuple(f"part{part}" for part in range(parts))
    return text, InputSettings(entity_fields=parted, time_field="when", time_unit=unit), records
