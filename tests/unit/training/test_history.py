"""Columns of the input: order, offsets, rejected records; independent of how the log was cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import schemas
from consumer_training.reading import history as module
from consumer_training.reading.history import History
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.fingerprints import fingerprint_of
from shared.encode.avro_columns import encode_metric_events, flat_schema
from shared.errors import LapwingError
from shared.operations.workers import Workers
from shared.settings import InputSettings, Settings
from tests.support.episodes import needs_speed
from tests.support.models import START_MS, STEP_MS, series

pytestmark = needs_speed

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
    history = History(DECODER, Settings())
    for partition, first, records in parts:
        history.add(batch(partition, first, records))
    return history


def hourly(count: int) -> list[tuple[int, int, list[bytes]]]:
    """Hourly rows of three hosts in two partitions; the schema of the second has other fields."""
    parts = []
    for partition, hosts, schema_id in ((1, ("b", "a"), 1), (0, ("c",), 2)):
        width = 3 if schema_id == 1 else 2
        values = [series(count, width, seed=ord(host)) for host in hosts]
        for row in range(count):
            times = [START_MS + row * STEP_MS] * len(hosts)
            found = [mine[row].tolist() for mine in values]
            parts.append(
                (partition, row * len(hosts), events(list(hosts), times, found, schema_id))
            )
    return parts


def joined(parts: list[tuple[int, int, list[bytes]]], size: int) -> list[Any]:
    """The same records in batches of up to this many parts."""
    found = []
    for partition in (0, 1):
        mine = [part for part in parts if part[0] == partition]
        for low in range(0, len(mine), size):
            some = mine[low : low + size]
            found.append((partition, some[0][1], [one for part in some for one in part[2]]))
    return found


def test_rows_are_in_order_by_entity_then_time() -> None:
    rows = collect(joined(hourly(60), 1_000)).rows()
    assert rows.series == (("a", 1), ("b", 1), ("c", 0))
    assert rows.metrics == ("latency", "cpu", "network_in", "disk_write")
    assert np.diff(rows.bounds).tolist() == [12, 12, 12]
    hours = (rows.time_ms - START_MS) // STEP_MS
    assert hours.tolist() == list(range(48, 60)) * 3
    np.testing.assert_array_equal(rows.values[:12, 1:], series(60, 3, seed=ord("a"))[48:])
    np.testing.assert_array_equal(rows.values[24:, :2], series(60, 2, seed=ord("c"))[48:])
    assert np.isnan(rows.values[:24, 0]).all()
    assert np.isnan(rows.values[24:, 2:]).all()
    assert not np.isnan(rows.features).any()
    assert (rows.bands[:12, 1, 1] <= rows.bands[:12, 1, 2]).all()


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
    parts = hourly(60)
    whole = collect(joined(parts, 1_000)).rows()
    for cut in (
        joined(parts, 7),
        sorted(joined(parts, 7), key=lambda part: (-part[0], part[1])),
        sorted(joined(parts, 1), key=lambda part: part[1]),
    ):
        rows = collect(cut).rows()
        assert rows.series == whole.series
        assert rows.metrics == whole.metrics
        for name in ("time_ms", "values", "features", "bands", "use"):
            assert getattr(rows, name).tobytes() == getattr(whole, name).tobytes(), name


def test_entity_in_two_partitions_is_two_series() -> None:
    one = [(0, first, records) for _, first, records in hourly(60) if len(records) == 2]
    two = [(3, first, records) for _, first, records in one]
    rows = collect([*one, *two]).rows()
    assert rows.series == (("a", 0), ("a", 3), ("b", 0), ("b", 3))
    assert rows.features[:12].tobytes() == rows.features[12:24].tobytes()


def test_a_part_of_the_entities_is_chosen_by_seed() -> None:
    parts = []
    for row in range(60):
        names = [f"h{k}" for k in range(16)]
        values = [[float(k + row % 5), 2.0, 3.0] for k in range(16)]
        parts.append((0, 16 * row, events(names, [START_MS + row * STEP_MS] * 16, values)))
    chosen = {}
    for seed in (0, 1):
        settings = Settings.model_validate({"train": {"seed": seed}})
        history = History(DECODER, settings)
        history.add(batch(0, 0, parts[0][2]))
        history.halve()
        for partition, first, records in parts:
            history.add(batch(partition, first, records))
        assert history.share == 0.5
        chosen[seed] = {name for name, _ in history.rows().series}
        assert 0 < len(chosen[seed]) < 16
        assert len(history) == 60 * len(chosen[seed])
    assert chosen[0] != chosen[1]


def test_partitions_that_are_folded_together_stop_at_one_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SERIES", 1_000)
    names = [f"h{k}" for k in range(600)]
    records = events(names, [START_MS] * 600, [[1.0, 2.0, 3.0]] * 600)
    history = History(DECODER, Settings())
    history.add_all([batch(number, 0, records) for number in range(4)], Workers(1, "fold"))
    assert history.is_overfull
    assert len(history) == 500, "two steps of 250 rows and three metrics pass the limit"


def test_thousands_of_metrics_are_refused_by_name() -> None:
    names = [f"m{k}" for k in range(2_500)]
    wide = AvroDecoder.of_schemas({2: flat_schema("Wide", "host", names)}, INPUT)
    records = events(["a"], [START_MS], [[1.0] * 2_500], 2)
    with pytest.raises(LapwingError, match=r"metrics\[3\] has 2500 metrics .* at most 2000.*input"):
        History(wide, Settings()).add(batch(3, 0, records))


def test_nothing_read_gives_no_rows() -> None:
    rows = History(DECODER, Settings()).rows()
    assert len(rows) == 0
    assert rows.series == ()
    history = History(DECODER, Settings())
    history.add(batch(0, 0, []))
    assert history.facts() == {}
