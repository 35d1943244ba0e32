"""Formats without a kernel: what a function read of a record passes the gates of all formats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from shared.batch import Batch, Blob, Headers
from shared.decode.one_by_one import Reading, decode_one_by_one
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

INPUT = InputSettings(max_record_bytes=100)
T0 = 1_400_000_000_000
GOOD = Reading("a", T0, {"cpu": 1.0})


def decoded(*found: Reading | Reason) -> tuple[Any, list[str], list[str]]:
    """Decode records of which these things are read."""
    n = len(found)
    values = Blob.join([bytes([row]) for row in range(n)])
    keys = Blob.join([b""] * n)
    batch = Batch("in", 0, values, keys, np.arange(n), np.zeros(n, np.int64))
    entities, metrics = Directory(), list[str]()
    read = lambda value, headers: found[value[0]]  # noqa: E731
    columns = decode_one_by_one(batch, read, INPUT, entities, metrics)
    return columns, entities.names(), metrics


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (GOOD, Reason.ACCEPTED),
        (Reason.MALFORMED, Reason.MALFORMED),
        (GOOD._replace(values={"cpu": math.nan}), Reason.NOT_FINITE),
        (GOOD._replace(values={"cpu": -math.inf}), Reason.NOT_FINITE),
        (GOOD._replace(values={"cpu": None}), Reason.ACCEPTED),
        (GOOD._replace(values={}), Reason.ACCEPTED),
        (GOOD._replace(time_ms=None), Reason.TIME_OUT_OF_RANGE),
        (GOOD._replace(time_ms=math.nan), Reason.TIME_INVALID),
        (GOOD._replace(time_ms=math.inf), Reason.TIME_INVALID),
        (GOOD._replace(time_ms=10**30), Reason.TIME_OUT_OF_RANGE),
        (GOOD._replace(time_ms=-1e300), Reason.TIME_OUT_OF_RANGE),
        (GOOD._replace(time_ms=INPUT.min_time_ms), Reason.ACCEPTED),
        (GOOD._replace(time_ms=INPUT.min_time_ms - 1), Reason.TIME_OUT_OF_RANGE),
        (GOOD._replace(time_ms=INPUT.max_time_ms + 1), Reason.TIME_OUT_OF_RANGE),
        (GOOD._replace(entity=""), Reason.ENTITY_INVALID),
        (GOOD._replace(entity="a\n"), Reason.ENTITY_INVALID),
        (GOOD._replace(entity="\ud800"), Reason.ENTITY_INVALID),
        (GOOD._replace(entity="x" * 256), Reason.ACCEPTED),
        (GOOD._replace(entity="x" * 257), Reason.ENTITY_INVALID),
        (Reading("", None, {"cpu": math.nan}), Reason.NOT_FINITE),
    ],
)
def test_gates(found: Reading | Reason, reason: Reason) -> None:
    columns, entities, metrics = decoded(found, GOOD)
    assert columns.reasons.tolist() == ([] if reason is Reason.ACCEPTED else [reason])
    assert columns.accepted.tolist() == ([0, 1] if reason is Reason.ACCEPTED else [1])
    assert set(entities) <= {"a", "x" * 256}
    assert metrics == ["cpu"]


def test_times_with_a_fraction_are_rounded() -> None:
    columns, *_ = decoded(GOOD._replace(time_ms=T0 + 0.5), GOOD._replace(time_ms=T0 + 1.4))
    assert columns.time_ms.tolist() == [T0 + 1, T0 + 1]


def test_metrics_come_in_order_of_the_first_record_that_has_them() -> None:
    columns, _, metrics = decoded(
        Reading("a", None, {"never": 1.0}),
        Reading("a", T0, {"net": 1.0, "cpu": None}),
        Reading("b", T0, {"disk": 2.0, "cpu": 3.0}),
    )
    assert metrics == ["net", "cpu", "disk"]
    nan = math.nan
    np.testing.assert_array_equal(columns.values, [[1.0, nan, nan], [nan, 3.0, 2.0]])


def test_nothing_is_read_of_what_is_empty_or_too_large_and_headers_are_handed_over() -> None:
    seen: list[tuple[bytes, Headers]] = []

    def read(value: bytes, headers: Headers) -> Reading:
        seen.append((value, headers))
        return GOOD

    values = Blob.join([b"", b"x" * 101, b"x" * 100])
    keys = Blob.join([b""] * 3)
    headers = {2: [("h", b"1")]}
    batch = Batch("in", 0, values, keys, np.arange(3), np.zeros(3, np.int64), headers)
    columns = decode_one_by_one(batch, read, INPUT, Directory(), [])
    assert seen == [(b"x" * 100, [("h", b"1")])]
    assert columns.reasons.tolist() == [Reason.EMPTY, Reason.TOO_LARGE]


def test_an_empty_batch() -> None:
    columns, entities, metrics = decoded()
    assert (len(columns), entities, metrics, columns.values.shape) == (0, [], [], (0, 0))
