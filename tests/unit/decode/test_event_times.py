"""Event times as plain numbers and as text: in their unit, to the millisecond, or a dead letter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.avro import Rejected, read_iso
from tests.reference.records import T0, batch_of, encode


def text(**fields: Any) -> str:
    named = [{"name": name, "type": avro} for name, avro in fields.items()]
    return json.dumps({"type": "record", "name": "R", "fields": named})


@pytest.mark.parametrize(
    ("kind", "unit", "value", "time_ms"),
    [
        ("long", "s", T0 // 1000, T0),
        ("int", "s", T0 // 1000, T0),
        ("long", "ms", T0, T0),
        ("long", "us", T0 * 1000 + 999, T0),
        ("long", "ns", T0 * 10**6 + 999_999, T0),
        ("double", "s", T0 / 1000 + 0.123, T0 + 123),
        ("double", "ms", T0 + 0.6, T0 + 1),
        ("double", "us", T0 * 1000.0, T0),
        ("double", "ns", T0 * 1e6, T0),
        ("string", "iso", "2014-04-09T00:53:20.123+01:00", None),
    ],
)  # fmt: skip
def test_numbers_and_text_are_read_in_their_unit(
    kind: str, unit: str, value: Any, time_ms: int | None
) -> None:
    schema, settings = (
        text(HOST="string", TS=["null", kind], CPU="double"),
        InputSettings(time_unit=unit),
    )
    values = [encode(schema, 1, {"HOST": "a", "TS": one, "CPU": 1.0}) for one in (value, None)]
    columns = decode(
        batch_of(values), {1: compile_plan(schema, settings)}, settings, Directory(), []
    )
    assert columns.time_ms.tolist() == [1_397_001_200_123 if time_ms is None else time_ms]
    assert columns.reasons.tolist() == [Reason.TIME_OUT_OF_RANGE]


@pytest.mark.parametrize(
    ("kind", "unit", "values", "reason"),
    [
        ("long", "s", [2**63 - 1, -(2**63), 2**60, 18_446_744_073_710], Reason.TIME_OUT_OF_RANGE),
        ("double", "s", [1e300, -1e300, 5e-324], Reason.TIME_OUT_OF_RANGE),
        ("double", "ns", [float("nan"), float("inf"), float("-inf")], Reason.TIME_INVALID),
        (
            "string",
            "iso",
            ["", "yesterday", "2024-01-10", "20:40", "1704920400", "2024-02-30T00:00Z"],
            Reason.TIME_INVALID,
        ),
        (
            "string",
            "iso",
            ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00+23:59"],
            Reason.TIME_OUT_OF_RANGE,
        ),
    ],
)
def test_times_that_are_none(kind: str, unit: str, values: list[Any], reason: Reason) -> None:
    schema, settings = text(host="string", ts=kind, cpu="double"), InputSettings(time_unit=unit)
    records = [encode(schema, 1, {"host": "a", "ts": value, "cpu": 1.0}) for value in values]
    columns = decode(
        batch_of(records), {1: compile_plan(schema, settings)}, settings, Directory(), []
    )
    assert columns.reasons.tolist() == [reason] * len(values)


ISO = text(host="string", ts="string", cpu="double")
ISO_SETTINGS = InputSettings(time_unit="iso", min_time="0001-01-01", max_time="9999-12-31")
ISO_PLAN = compile_plan(ISO, ISO_SETTINGS)


@given(
    st.lists(
        st.from_regex(
            r"\A\d{4}-[01]\d-[0-3]\d[T"
            r" ][0-2]\d:[0-6]\d(:[0-6]\d([.,]\d{1,9})?)?([Z]|[+-][0-2]\d(:?[0-6]\d)?)?\Z"
        ),
        min_size=1,
    )
)
def test_text_means_what_the_standard_library_says(texts: list[str]) -> None:
    records = [encode(ISO, 1, {"host": "a", "ts": one, "cpu": 1.0}) for one in texts]
    columns = decode(batch_of(records), {1: ISO_PLAN}, ISO_SETTINGS, Directory(), [])
    expected = []
    for one in texts:
        try:
            time_ms = read_iso(one.encode())
        except Rejected:
            continue
        if ISO_SETTINGS.min_time_ms <= time_ms <= ISO_SETTINGS.max_time_ms:
            expected.append(time_ms)
    assert columns.time_ms.tolist() == expected
