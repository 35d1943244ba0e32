"""What an Avro record has to pass, gate by gate, and every way to damage a field."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.records import METRIC_EVENT, T0, batch_of, encode, event
from tests.support.decoding import INPUT, decoded, reasons, run_both


def test_gates() -> None:
    values = [
        event(cpu=1.5),
        b"",
        b"\1" + event()[1:],
        b"\0\0\0",
        b"\0\0\0\0\3",
        b"\0\0\0\0\2",
        event() + b"\0",
    ]
    assert reasons(values) == [
        Reason.ACCEPTED, Reason.EMPTY, Reason.NOT_AVRO, Reason.NOT_AVRO, Reason.UNKNOWN_SCHEMA,
        Reason.SCHEMA_UNFIT,
        Reason.TRAILING_BYTES,
    ]  # fmt: skip


def test_every_truncation_is_seen() -> None:
    value = event("host-1", cpu=1.0, network_in=2.0)
    expected = [
        Reason.EMPTY,
        *[Reason.NOT_AVRO] * 4,
        *[Reason.TRUNCATED] * (len(value) - 5),
        Reason.ACCEPTED,
    ]
    assert reasons([value[:size] for size in range(len(value) + 1)]) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", ["cpu", "disk_write"])
def test_metrics_must_be_finite(metric: str, value: float) -> None:
    assert reasons([event(**{metric: value}), event(**{metric: 1.7e308})]) == [
        Reason.NOT_FINITE,
        Reason.ACCEPTED,
    ]


def test_an_excluded_field_need_not_be_finite() -> None:
    values = [event(cpu=np.nan, disk_write=2.0)]
    assert reasons(values, input_=InputSettings(exclude=("cpu",))) == [Reason.ACCEPTED]


def test_times() -> None:
    low, high = INPUT.min_time_ms, INPUT.max_time_ms
    times = [low - 1, low, high, high + 1, 0, -1, 2**63 - 1, -(2**63)]
    far = Reason.TIME_OUT_OF_RANGE
    assert reasons([event(time_ms=t) for t in times]) == [
        far,
        Reason.ACCEPTED,
        Reason.ACCEPTED,
        far,
        far,
        far,
        far,
        far,
    ]


def test_a_missing_time_is_no_time_however_early_times_may_be() -> None:
    millis = '{"type": "long", "logicalType": "timestamp-millis"}'
    text = METRIC_EVENT.replace(millis, f'["null", {millis}]')
    input_ = InputSettings(min_time=datetime(1960, 1, 1))
    times = [None, 0, -1000]
    values = [encode(text, 1, {"host": "a", "timestamp": time_ms, "cpu": 1.0}) for time_ms in times]
    columns = decode(batch_of(values), {1: compile_plan(text, input_)}, input_, Directory(), [])
    assert (columns.time_ms.tolist(), columns.reasons.tolist()) == (
        [0, -1000],
        [Reason.TIME_OUT_OF_RANGE],
    )


@pytest.mark.parametrize(
    "name", ["a", "x" * 256, "é" * 128, "日本", "a b/c", "\N{NO-BREAK SPACE}", "\U0010ffff", "~"]
)
def test_good_entities(name: str) -> None:
    columns, entities, _ = decoded([event(name)])
    assert (len(columns), entities) == (1, [name])


@pytest.mark.parametrize(
    "name",
    ["", "x" * 257, "é" * 129, "a\n", "\0", "a\x7f", "12345678\x1f", "\x85", "ok" * 4 + "\x9f"],
)
def test_bad_entities(name: str) -> None:
    assert reasons([event(name)]) == [Reason.ENTITY_INVALID]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xe2\x82",
    ],
)
def test_entities_must_be_utf8(raw: bytes) -> None:
    value = event("a")
    assert reasons([value[:5] + bytes([2 * len(raw)]) + raw + value[7:]]) == [Reason.ENTITY_INVALID]


REGION = {"type": "enum", "name": "Region", "symbols": ["eu", "us"]}
PARTS: list[tuple[tuple[Any, ...], str | None]] = [
    (("a", 7, "us"), "a/7/us"), (("a", -1, "eu"), "a/-1/eu"), (("a/b", 0, "us"), "a/b/0/us"),
    (("a", -(2**63), "us"), "a/-9223372036854775808/us"),
    (("a", 2**63 - 1, "us"), "a/9223372036854775807/us"), ((None, 7, "us"), None),
    (("a", None, "us"), None), (("a", 7, None), None), (("", 7, "us"), None),
    (("a\n", 7, "us"), None), (("x" * 251, 7, "us"), "x" * 251 + "/7/us"),
    (("x" * 252, 7, "us"), None), (("x" * 249, 1234, "us"), None), (("x" * 255, 7, "us"), None),
    (("x" * 256, 7, "us"), None), (("x" * 253, 10**18, "us"), None), (("a", "b", "us"), "a/b/us"),
    (("x" * 126, "y" * 126, "us"), "x" * 126 + "/" + "y" * 126 + "/us"),
    (("x" * 126, "y" * 127, "us"), None), (("x" * 200, "y" * 200, "us"), None),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "name"), PARTS)
def test_an_entity_of_several_fields(parts: tuple[Any, ...], name: str | None) -> None:
    """In the order of the settings, not of the schema."""
    kinds = {"region": [REGION], "number": ["long", "string"], "host": ["string"]}
    fields = [{"name": part, "type": ["null", *kind]} for part, kind in kinds.items()]
    text = json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [*fields, *json.loads(METRIC_EVENT)["fields"][1:]],
        }
    )
    input_ = InputSettings(entity_fields=("host", "number", "region"))
    record = dict(zip(("host", "number", "region"), parts, strict=True)) | {
        "timestamp": T0,
        "cpu": 1.0,
    }
    value = encode(text, 1, record | {"network_in": None, "disk_write": None})
    run_both([value], text, input_)
    entities = Directory()
    columns = decode(batch_of([value]), {1: compile_plan(text, input_)}, input_, entities, [])
    assert entities.names() == ([] if name is None else [name])
    assert columns.reasons.tolist() == ([Reason.ENTITY_INVALID] if name is None else [])


def test_size() -> None:
    small = InputSettings(max_record_bytes=80)
    values = [event("x" * size) for size in (63, 64, 65)]
    assert [len(value) for value in values] == [78, 80, 81]
    assert reasons(values, input_=small) == [Reason.ACCEPTED, Reason.ACCEPTED, Reason.TOO_LARGE]


GOOD, CUT, BAD = Reason.ACCEPTED, Reason.TRUNCATED, Reason.MALFORMED
ENUM, FIXED = (
    {"type": "enum", "name": "E", "symbols": ["A", "B"]},
    {
        "type": "fixed",
        "name": "F",
        "size": 3,
    },
)
LONGS, NOTHINGS, INT_MAP = (
    {"type": "array", "items": "long"},
    {"type": "array", "items": "null"},
    {"type": "map", "values": "int"},
)
FIELDS: list[tuple[Any, bytes, Reason]] = [
    ("boolean", b"\1", GOOD), ("boolean", b"\2", BAD), ("boolean", b"", CUT),
    (FIXED, b"abc", GOOD), (FIXED, b"ab", CUT),
    ({"type": "fixed", "name": "F", "size": 0}, b"", GOOD),
    ("bytes", b"\2\xff", GOOD), ("bytes", b"\1", BAD), ("bytes", b"\4a", CUT), ("bytes", b"", CUT),
    ("string", b"\2a", GOOD), ("string", b"\2\xff", BAD), ("string", b"\1", BAD),
    ("string", b"\4a", CUT), ("string", b"", CUT), (ENUM, b"\2", GOOD), (ENUM, b"\4", BAD),
    (ENUM, b"\1", BAD), (ENUM, b"", CUT), (["null", "string"], b"\0", GOOD),
    (["null", "string"], b"\4", BAD), (["null", "string"], b"\1", BAD),
    (["null", "string"], b"", CUT), (["boolean", "null", "string"], b"\2", GOOD),
    ("int", b"\xff\xff\xff\xff\x0f", GOOD), ("int", b"\x80\x80\x80\x80\x10", BAD),
    ("int", b"", CUT), ("float", b"abc", CUT), ("double", b"abcdefg", CUT), ("long", b"\x80", CUT),
    (LONGS, b"\4\2\2\2\2\0", GOOD), (LONGS, b"\1\2\2\0", GOOD), (LONGS, b"", CUT),
    (LONGS, b"\2", CUT), (LONGS, b"\2\2", CUT), (LONGS, b"\1", CUT), (LONGS, b"\1\1\2\0", BAD),
    (LONGS, b"\1\4\2\0", BAD),
    (LONGS, b"\1\6\2\0", CUT), (LONGS, b"\3\2\2\2\0", BAD),
    (NOTHINGS, b"\1\2\0\0", BAD), (NOTHINGS, b"\1\0\0", GOOD),
    (INT_MAP, b"\2\2k\2\0", GOOD), (INT_MAP, b"\2\1", BAD),
    (INT_MAP, b"\2\2\xff\2\0", BAD), ({"type": "map", "values": "null"}, b"\2\2k\0", GOOD),
]  # fmt: skip


@pytest.mark.parametrize("exclude", [(), ("extra",)])
@pytest.mark.parametrize(("kind", "data", "reason"), FIELDS)
def test_every_way_a_field_can_be_damaged(
    kind: Any, data: bytes, reason: Reason, exclude: tuple[str, ...]
) -> None:
    fields = [*json.loads(METRIC_EVENT)["fields"], {"name": "extra", "type": kind}]
    text, input_ = (
        json.dumps({"type": "record", "name": "R", "fields": fields}),
        InputSettings(exclude=exclude),
    )
    run_both([event() + data], text, input_)
    columns = decode(
        batch_of([event() + data]), {1: compile_plan(text, input_)}, input_, Directory(), []
    )
    assert columns.reasons.tolist() == ([reason] if reason else [])


def test_huge_blocks_cost_no_more_than_their_bytes() -> None:
    """2**62 items without bytes, 300 blocks of them, and a count that no record can hold."""
    fields = [
        *json.loads(METRIC_EVENT)["fields"],
        {"name": "nothing", "type": {"type": "array", "items": "null"}},
        {"name": "longs", "type": {"type": "array", "items": "long"}},
    ]
    text = json.dumps({"type": "record", "name": "R", "fields": fields})
    huge = fastavro_long(2**62)
    sized = fastavro_long(-(2**62)) + b"\0"
    tails = [
        huge * 300 + b"\0\0",
        sized * 9 + b"\0\0",
        fastavro_long(-(2**63)) + b"\0\0\0",
        b"\0" + huge + b"\1\1\1",
    ]
    columns = decode(
        batch_of([event() + tail for tail in tails]),
        {1: compile_plan(text, INPUT)},
        INPUT,
        Directory(),
        [],
    )
    assert columns.accepted.tolist() == [0, 1]
    assert columns.reasons.tolist() == [Reason.MALFORMED, Reason.TRUNCATED]


def fastavro_long(value: int) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


def test_varints_have_at_most_64_bits() -> None:
    value = event("a")
    head, rest = value[:5], value[7:]
    texts = [
        b"\x82" + b"\x80" * 8 + b"\0a",
        b"\x82" + b"\x80" * 9 + b"\0a",
        b"\x82" + b"\x80" * 8 + b"\2a",
    ]
    assert reasons([head + text + rest for text in texts]) == [
        Reason.ACCEPTED,
        Reason.MALFORMED,
        Reason.MALFORMED,
    ]


def test_a_float_is_read_as_it_was_measured() -> None:
    text = METRIC_EVENT.replace('"double"', '"float"')
    value = event("a")[:-3] + b"\2" + struct.pack("<f", 0.1) + b"\0\0"
    columns = decode(batch_of([value]), {1: compile_plan(text, INPUT)}, INPUT, Directory(), [])
    assert columns.values[0, 0] == np.float32(0.1)
