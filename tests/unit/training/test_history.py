"""Columns of the input: order, offsets, rejected records; independent of how the log was cut."""

from __future__ import annotations

import numpy as np
import pytest

import schemas
from consumer_training.history import History, Rows
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.fingerprints import fingerprint_of
from shared.encode.avro_columns import encode_metric_events, flat_schema
from shared.settings import InputSettings
from tests.support.models import START_MS, STEP_MS, rows_of, series

INPUT = InputSettings()
SCHEMAS = {
    1: schemas.text(schemas.METRIC_EVENT),
    2: flat_schema("Other", "host", ["latency", "cpu"]),
    9: None,
}
DECODER = AvroDecoder.of_schemas(SCHEMAS, INPUT)


def batch(partition: int, first_offset: int, records: list[bytes], step: int = 1) -> Batch:
    n = len(records)
    return Batch(
        "metrics", partition, Blob.join(records), Blob.join([b""] * n),
        first_offset + step * np.arange(n, dtype=np.int64), np.zeros(n, np.int64),
    )  # fmt: skip


def events(
    names: list[str], times: list[int], values: list[list[float]], schema_id: int = 1
) -> list[bytes]:
    blob = encode_metric_events(
        schema_id, names, np.array(times, np.int64), np.array(values, np.float64)
    )
    return [blob[row] for row in range(len(blob))]


def sample() -> list[tuple[int, int, list[bytes]]]:
    """(partition, first offset, records) in the order of arrival."""
    nan = np.nan
    return [
        (
            1,
            10,
            events(
                ["b", "a", "b"],
                [START_MS, START_MS, START_MS + 1],
                [[1, nan, 3], [4, 5, 6], [7, 8, 9]],
            ),
        ),
        (0, 0, events(["c"], [START_MS], [[1, 2, 3]])),
        (1, 13, [b"", *events(["a"], [START_MS + 2], [[0.5, 20.0]], 2), b"\0\0\0\0\x09xyz"]),
        (0, 1, events(["c", "c"], [START_MS + 5, START_MS + 3], [[4, 5, 6], [7, 8, 9]])),
    ]


def collect(parts: list[tuple[int, int, list[bytes]]]) -> History:
    history = History(DECODER)
    for partition, first, records in parts:
        history.add(batch(partition, first, records))
    return history


def test_rows_are_in_order_by_entity_then_log() -> None:
    rows = collect(sample()).rows()
    assert rows.series == (("a", 1), ("b", 1), ("c", 0))
    assert rows.bounds.tolist() == [0, 2, 4, 7]
    assert rows.metrics == ("cpu", "network_in", "disk_write", "latency")
    assert (rows.time_ms - START_MS).tolist() == [0, 2, 0, 1, 0, 5, 3]
    nan = np.nan
    np.testing.assert_array_equal(
        rows.values,
        [
            [4, 5, 6, nan],
            [20.0, nan, nan, 0.5],
            [1, nan, 3, nan],
            [7, 8, 9, nan],
            [1, 2, 3, nan],
            [4, 5, 6, nan],
            [7, 8, 9, nan],
        ],
    )


def test_facts_tell_offsets_and_reasons() -> None:
    history = collect(sample())
    assert history.facts() == {
        "0": {"first_offset": 0, "next_offset": 3, "accepted": 3, "rejected": {}},
        "1": {
            "first_offset": 10,
            "next_offset": 16,
            "accepted": 4,
            "rejected": {"empty": 1, "unknown_schema": 1},
        },
    }
    assert history.decoder.schema_sha256() == sorted(
        fingerprint_of(SCHEMAS[schema_id]).sha256 for schema_id in (1, 2)
    )
    assert len(history) == 7
    assert history.rejected == 2


def test_cuts_and_order_of_arrival_change_nothing() -> None:
    whole = collect(sample()).rows()
    single = [
        (p, first + k, [record])
        for p, first, records in sample()
        for k, record in enumerate(records)
    ]
    for parts in (
        single,
        sorted(single, key=lambda part: part[:2]),
        sorted(single, key=lambda part: (-part[0], part[1])),
    ):
        rows = collect(parts).rows()
        assert rows.series == whole.series
        assert rows.metrics == whole.metrics
        assert rows.values.tobytes() == whole.values.tobytes()
        assert rows.time_ms.tobytes() == whole.time_ms.tobytes()


def test_entity_in_two_partitions_is_two_series() -> None:
    parts = [
        (0, 0, events(["a"], [START_MS], [[1, 2, 3]])),
        (3, 7, events(["a"], [START_MS], [[4, 5, 6]])),
    ]
    rows = collect(parts).rows()
    assert rows.series == (("a", 0), ("a", 3))
    assert rows.values[:, 0].tolist() == [1.0, 4.0]


def test_nothing_read_gives_no_rows() -> None:
    rows = History(DECODER).rows()
    assert len(rows) == 0
    assert list(rows.groups()) == []
    history = History(DECODER)
    history.add(batch(0, 0, []))
    assert history.facts() == {}


def many() -> Rows:
    values = {f"h{k}": series(5 + 7 * k, 2, k) for k in range(6)}
    rows = rows_of(values, ("x", "y"))
    return Rows(
        (*((f"h{k}", 0) for k in range(5)), ("h4", 1)),
        rows.bounds,
        rows.metrics,
        rows.time_ms,
        rows.values,
    )


@pytest.mark.parametrize("limit", [1, 20, 45, 10_000])
def test_groups_cover_all_series_and_cut_no_entity(limit: int) -> None:
    rows = many()
    groups = list(rows.groups(limit))
    assert [series for low, high in groups for series in range(low, high)] == list(range(6))
    assert all(rows.series[high - 1][0] != rows.series[high][0] for _, high in groups[:-1])
    for low, high in groups:
        entities = {name for name, _ in rows.series[low:high]}
        assert rows.bounds[high] - rows.bounds[low] <= limit or len(entities) == 1


def test_folding_alone_equals_folding_together() -> None:
    rows = many()
    together = rows.fold(0, 6, 4)
    for number in range(6):
        alone = rows.fold(number, number + 1, 4)
        part = slice(int(rows.bounds[number]), int(rows.bounds[number + 1]))
        assert alone.rolling.tobytes() == together.rolling[part].tobytes()
        assert alone.expected.tobytes() == together.expected[part].tobytes()
        assert alone.counted.tobytes() == together.counted[part].tobytes()
    assert np.diff(rows.time_ms[:5]).tolist() == [STEP_MS] * 4
