"""The fields and bytes of a dead letter: decoded, corrected and encoded again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

import schemas
from lapwing.dlq.record import hex_dump, read_fields, to_avro, to_json
from shared.decode.avro.plan import record_of
from shared.decode.avro.schema import parse_schema
from tests.reference.records import METRIC_EVENT, World, encode, event, worlds

EXAMPLES = 20 if config.DISABLE_JIT else 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"host": "a"}', "lacks timestamp"),
        (
            '{"host": "a", "timestamp": 1, "gpu": 2}',
            "has no field 'gpu'; it has host, timestamp, cpu",
        ),
        (
            '{"host": "a", "timestamp": 1.5}',
            r"MetricEvent.timestamp is long \(timestamp-millis\), not 1.5",
        ),
        (
            '{"host": "a", "timestamp": true}',
            r"MetricEvent.timestamp is long \(timestamp-millis\), not True",
        ),
        (
            '{"host": "a", "timestamp": 1, "cpu": "1"}',
            r"MetricEvent.cpu is \[null, double\], not '1'",
        ),
        ("[]", r"is record lapwing.MetricEvent, not \[\]"),
    ],
)
def test_a_correction_that_does_not_fit_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_avro(parse_schema(METRIC_EVENT), json.loads(text), "lapwing.MetricEvent")


@settings(max_examples=EXAMPLES, deadline=None)
@given(worlds(), st.data())
def test_fields_there_and_back(world_: World, data: st.DataObject) -> None:
    """Records of every schema survive JSON and Avro; a truncated one gives the fields it has."""
    text, _, records = world_
    avro = parse_schema(text)
    for record in records:
        value = encode(text, 1, record)
        whole = read_fields(value, avro)
        assert whole.problem == ""
        assert list(whole.values) == [field.name for field in record_of(avro).fields]
        again = to_avro(avro, json.loads(json.dumps(to_json(whole.values), allow_nan=False)), "R")
        assert to_json(read_fields(encode(text, 1, again), avro).values) == to_json(whole.values)
        part = read_fields(value[: data.draw(st.integers(5, len(value)))], avro)
        assert to_json(part.values) == to_json({name: whole.values[name] for name in part.values})
        assert bool(part.problem) == (len(part.values) < len(whole.values))
        read_fields(b"\0\0\0\0\1" + data.draw(st.binary(max_size=40)), avro)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (event("a") + b"xy", "2 bytes are left over after the last field"),
        (b"\0\0\0\0\1\x04\xff\xff", "it is not UTF-8"),
        (b"\0\0\0\0\1\x05", "a length of -3"),
        (b"\0\0\0\0\1\x02a\x02\x06", "branch 3; there are 2"),
        (b"\0\0\0\0\1" + b"\xff" * 11, "a number of more than 10 bytes"),
    ],
)
def test_where_reading_stops_is_said(value: bytes, problem: str) -> None:
    assert problem in read_fields(value, parse_schema(schemas.text(schemas.METRIC_EVENT))).problem


def test_a_dump_shows_offset_bytes_and_text() -> None:
    assert hex_dump(bytes(range(60, 78)), 17) == [
        "00000000  3c 3d 3e 3f 40 41 42 43  44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|",
        "00000010  4c                                                |L|",
    ]
