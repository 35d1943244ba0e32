"""Avro records that released software wrote are read, or refused in a sentence that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.decode.avro.decoder import AvroDecoder
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

TESTS = Path(__file__).parents[1]
RECORDS = TESTS / "writer_avro"
AT_MS = 1_400_000_000_250


def read(name: str, **settings: Any) -> tuple[AvroDecoder, Batch, Columns, list[str], list[str]]:
    """Decode a record by its schema; returns decoder, batch, columns, entities and metrics."""
    value = (RECORDS / f"{name}.bin").read_bytes()
    schema = TESTS / "writer_schemas" / f"{name}.avsc"
    known = {}
    if schema.exists():
        assert value[0] == 0
        known[int.from_bytes(value[1:5], "big")] = schema.read_text("utf-8")
    decoder = AvroDecoder.of_schemas(known, InputSettings(**settings))
    batch = Batch("t", 0, Blob.join([value]), Blob.join([b"k"]), np.array([7]), np.array([0]))
    decoder.prepare(batch)
    entities, metrics = Directory(), []
    columns = decoder.decode(batch, entities, metrics)
    return decoder, batch, columns, entities.names(), metrics


ROWS: list[tuple[str, dict[str, Any], str, int, dict[str, float]]] = [
    (
        "flink_sql_confluent",
        {},
        "web-1",
        AT_MS,
        {"cpu": 0.5, "memory": np.nan, "requests": 7.0, "cost": 12.34},
    ),
    (
        "flink_sql_confluent",
        {"include": "cpu,load", "entity_fields": "host,tags.zone"},
        "web-1/eu-1",
        AT_MS,
        {"cpu": 0.5, "load.one": 0.25, "load.five": 0.75},
    ),
    (
        "flink_sql_numbers",
        {"time_unit": "ms"},
        "web-1",
        AT_MS,
        {"cpu": 0.5, "n": 3.0, "s": 4.0, "t": 5.0, "big": 1_234_567.25},
    ),
    ("flink_upsert", {}, "web-1", AT_MS + 1000, {"cpu": 0.6}),
    (
        "connect_avro",
        {},
        "web-1",
        AT_MS,
        {"cpu": 0.5, "memory": np.nan, "processes": 212.0, "cost": 12.34},
    ),
    (
        "connect_avro",
        {"include": "load", "entity_fields": "host,tags.zone"},
        "web-1/eu-1",
        AT_MS,
        {"load.one": 0.75, "load.five": 0.5},
    ),
    ("connect_avro_optional", {}, "web-1", AT_MS, {"cpu": 0.5}),
    ("debezium_avro_unwrapped", {}, "web-1", AT_MS, {"cpu": 0.5, "price": 12.34}),
]
REFUSED = [
    ("flink_debezium", Reason.SCHEMA_UNFIT, "'value.format'='avro-confluent' in Flink SQL"),
    ("debezium_avro_envelope", Reason.SCHEMA_UNFIT, "debezium.transforms.ExtractNewRecordState"),
    ("flink_avro", Reason.NOT_AVRO, "in Flink SQL, the format avro-confluent instead of avro"),
]


@pytest.mark.parametrize(("name", "settings", "entity", "time_ms", "expected"), ROWS)
def test_a_record_is_read(
    name: str, settings: dict[str, Any], entity: str, time_ms: int, expected: dict[str, float]
) -> None:
    _, _, columns, entities, metrics = read(name, **settings)
    assert columns.accepted.tolist() == [0]
    assert entities == [entity]
    assert columns.time_ms.tolist() == [time_ms]
    assert metrics == list(expected)
    np.testing.assert_array_equal(columns.values[0], list(expected.values()))


@pytest.mark.parametrize(("name", "reason", "help_"), REFUSED)
def test_a_refusal_says_what_to_change(name: str, reason: Reason, help_: str) -> None:
    decoder, batch, columns, *_ = read(name)
    assert columns.rejected.tolist() == [0]
    assert [Reason(code) for code in columns.reasons] == [reason]
    assert help_ in decoder.detail(batch.values[0], (), reason)


def test_each_record_is_in_a_table() -> None:
    used = {name for name, *_ in ROWS} | {name for name, *_ in REFUSED}
    assert used == {path.stem for path in RECORDS.glob("*.bin")}
    page = (RECORDS / "README.md").read_text("utf-8")
    assert all(f"`{name}.bin`" in page for name in used)
