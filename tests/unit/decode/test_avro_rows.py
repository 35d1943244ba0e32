"""Decoding against fastavro and against the plain reader of tests/reference/avro.py."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode, schema_keys
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.encode.records import decode_records
from shared.events import Reason
from tests.reference.records import METRIC_EVENT, T0, World, batch_of, encode, event, worlds
from tests.support.decoding import INPUT, decoded, run_both

EXAMPLES = 25 if config.DISABLE_JIT else 150


@settings(max_examples=EXAMPLES)
@given(worlds())
def test_equals_fastavro(world: World) -> None:
    text, input_, records = world
    plan = compile_plan(text, input_)
    values = [encode(text, 1, record) for record in records]
    entities, metrics = Directory(), []
    columns = decode(batch_of(values), {1: plan}, input_, entities, metrics)
    read = decode_records(values, [text] * len(values))
    for place, row in enumerate(columns.accepted):
        record = read[row]
        assert entities.name(int(columns.entity[place])) == "/".join(
            str(record[part]) for part in input_.entity_fields
        )
        assert columns.time_ms[place] == in_ms(record["when"], plan.fields.time_unit)
        expected = [np.nan if record[name] is None else float(record[name]) for name in metrics]
        np.testing.assert_array_equal(columns.values[place], expected)
    assert set(columns.reasons) <= {
        Reason.NOT_FINITE, Reason.TIME_OUT_OF_RANGE, Reason.TIME_INVALID, Reason.ENTITY_INVALID
    }  # fmt: skip


def in_ms(value: Any, unit: str) -> int:
    if unit == "iso":
        moment = datetime.fromisoformat(value.upper())
        return (
            moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        ) // timedelta(milliseconds=1)
    exact = (
        Fraction(value)
        * {"s": 1000, "ms": 1, "us": Fraction(1, 1000), "ns": Fraction(1, 1_000_000)}[unit]
    )
    return math.floor(exact) if isinstance(value, int) else round_as_floats(value, unit)


def round_as_floats(value: float, unit: str) -> int:
    return math.floor(
        (value * 1000 if unit == "s" else value / {"ms": 1, "us": 1e3, "ns": 1e6}[unit]) + 0.5
    )


@settings(max_examples=EXAMPLES)
@given(worlds(), st.data())
def test_equals_its_twin_on_damaged_records(world: World, data: st.DataObject) -> None:
    text, input_, records = world
    values = []
    for record in records:
        value = bytearray(encode(text, 1, record))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(value)))
            kind = data.draw(st.sampled_from(["cut", "insert", "delete", "replace"]))
            new = data.draw(
                st.binary(min_size=1, max_size=2)
                | st.sampled_from([b"\xff" * 10 + b"\1", b"\x80" * 9 + b"\1"])
            )
            value[at:] = {
                "cut": b"",
                "insert": new + value[at:],
                "delete": value[at + 1 :],
                "replace": new + value[at + 1 :],
            }[kind]
        values.append(bytes(value))
    run_both(values, text, input_)


@settings(max_examples=EXAMPLES)
@given(worlds(), st.lists(st.binary(max_size=30), max_size=8))
def test_any_bytes_are_accepted_or_rejected_with_a_reason(
    world: World, bodies: list[bytes]
) -> None:
    text, input_, _ = world
    run_both([b"\0\0\0\0\1" + body for body in bodies] + bodies, text, input_)


@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.binary(max_size=12).map(lambda body: b"\0\0\0\0\2\2" + body), min_size=1, max_size=20
    )
)
def test_text_of_any_bytes_is_judged_as_python_judges_it(bodies: list[bytes]) -> None:
    """The entity is what Python decodes; skipped text must be UTF-8 as well."""
    field = {"name": "x", "type": {"type": "array", "items": "string"}}
    text = json.dumps(
        {"type": "record", "name": "R", "fields": [*json.loads(METRIC_EVENT)["fields"], field]}
    )
    head = event()
    values = [head + b"\2" + bytes([2 * len(body)]) + body + b"\0" for body in bodies]
    values += [b"\0\0\0\0\1" + bytes([2 * len(body)]) + body + head[7:] + b"\0" for body in bodies]
    run_both(values, text, INPUT)


# ---- laws ----


def mixed_values() -> tuple[list[bytes], dict[int, Any]]:
    """Records of several schemas with all kinds of bad ones between them."""
    other = json.dumps(
        {
            "type": "record",
            "name": "Other",
            "fields": [
                {"name": "mem", "type": "long"},
                {"name": "host", "type": "string"},
                {"name": "cpu", "type": "float"},
                {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            ],
        }
    )
    plans = {
        1: compile_plan(METRIC_EVENT, INPUT),
        2: UnsupportedSchema("unfit"),
        3: None,
        4: compile_plan(other, INPUT),
    }
    values = [b"", b"x", b"\0\0\0\0\3", b"\0\0\0\0\2...", event("bad", cpu=np.nan)]
    for i in range(12):
        values.append(
            encode(other, 4, {"mem": i, "host": f"h{i % 5}", "cpu": 0.5, "timestamp": T0 + i})
        )
        values.append(event(f"h{i % 7}", T0 + i, disk_write=float(i)))
        values.append(event(f"h{i}", T0, cpu=1.0)[:-1] if i % 3 else event("h" * 300))
    return values, plans


@settings(max_examples=EXAMPLES)
@given(st.sets(st.integers(0, 41)))
def test_batch_cuts_change_nothing(cuts: set[int]) -> None:
    values, plans = mixed_values()
    batch, bounds = batch_of(values), [0, *sorted(cuts), len(values)]
    whole, entities, metrics = [], Directory(), []
    columns = decode(batch, plans, INPUT, entities, metrics)
    parts, part_entities, part_metrics = [], Directory(), []
    for start, stop in pairwise(bounds):
        part = decode(batch.rows(start, stop), plans, INPUT, part_entities, part_metrics)
        padded = np.full((len(part), columns.values.shape[1]), np.nan)
        padded[:, : part.values.shape[1]] = part.values
        parts.append(
            (
                part.accepted + start,
                part.entity,
                part.time_ms,
                padded,
                part.rejected + start,
                part.reasons,
            )
        )
    whole = [
        columns.accepted,
        columns.entity,
        columns.time_ms,
        columns.values,
        columns.rejected,
        columns.reasons,
    ]
    for one, many in zip(whole, zip(*parts, strict=True), strict=True):
        joined = np.concatenate(many)
        assert one.dtype == joined.dtype
        np.testing.assert_array_equal(one, joined)
    assert (entities.names(), metrics) == (part_entities.names(), part_metrics)
    assert metrics == ["mem", "cpu", "network_in", "disk_write"]


def test_a_rejected_record_changes_nothing() -> None:
    values, plans = mixed_values()
    entities, metrics = Directory(), []
    bad = [
        value for value, reason in zip(values, decode_reasons(values, plans), strict=True) if reason
    ]
    columns = decode(batch_of(bad), plans, INPUT, entities, metrics)
    assert len(columns) == 0
    assert len(columns.rejected) == len(bad) == 17
    assert (len(entities), metrics, entities.to_arrays()["arena"].size) == (0, [], 0)


def decode_reasons(values: list[bytes], plans: dict[int, Any]) -> list[int]:
    columns = decode(batch_of(values), plans, INPUT, Directory(), [])
    found = dict(zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True))
    return [found.get(row, 0) for row in range(len(values))]


def test_a_rejected_record_does_not_bring_its_metrics() -> None:
    values, plans = mixed_values()
    metrics: list[str] = []
    decode(
        batch_of([values[5][:-1], event(cpu=1.0), values[5]]),
        plans,
        INPUT,
        Directory(),
        metrics,
    )
    assert metrics == ["cpu", "network_in", "disk_write", "mem"]


def test_columns_have_the_promised_types() -> None:
    columns, _, _ = decoded([event(cpu=1.0), b""])
    found = [
        getattr(columns, name)
        for name in ("accepted", "entity", "time_ms", "values", "rejected", "reasons")
    ]
    assert [array.dtype for array in found] == [
        np.int64,
        np.int32,
        np.int64,
        np.float64,
        np.int64,
        np.uint8,
    ]
    assert columns.values.flags["C_CONTIGUOUS"]


def test_an_empty_batch() -> None:
    columns, entities, metrics = decoded([])
    assert (len(columns), entities, metrics, columns.values.shape) == (0, [], [], (0, 0))


def test_schema_ids_in_order_of_appearance() -> None:
    values = [
        b"\0\0\0\1\0x",
        b"\0\0\0\0\7",
        b"",
        b"\1\0\0\0\5",
        b"\0\0\0\0",
        b"\0\0\0\1\0",
        b"\0\xff\xff\xff\xff",
    ]
    assert schema_keys(batch_of(values), INPUT) == [256, 7, 2**32 - 1]


def test_an_id_without_a_plan_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        decode(batch_of([event()]), {}, INPUT, Directory(), [])
