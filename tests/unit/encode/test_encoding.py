"""Columns to bytes against fastavro, record by record."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import config

import schemas
from shared.batch import Blob
from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode
from shared.directory import Directory
from shared.encode.avro_columns import (
    Scores,
    encode_flat,
    encode_metric_events,
    encode_scores,
    flat_schema,
    select,
)
from shared.events import State
from shared.settings import InputSettings
from tests.reference.avro import score_records
from tests.reference.records import METRIC_EVENT, T0, batch_of, encode

EXAMPLES = 25 if config.DISABLE_JIT else 100
SCORE_EVENT = schemas.text(schemas.SCORE_EVENT)
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=100)
TIMES = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2 * T0)
DOUBLES = st.floats(width=64) | st.just(np.nan)


def optional(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# ---- flat records ----


@settings(max_examples=EXAMPLES)
@given(st.lists(NAMES, min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.data())
def test_metric_events_equal_fastavros(
    names: list[str], schema_id: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, 6))
    index = np.array(
        data.draw(st.lists(st.integers(0, len(names) - 1), min_size=n, max_size=n)), np.int32
    )
    time_ms = np.array(data.draw(st.lists(TIMES, min_size=n, max_size=n)), np.int64)
    values = data.draw(arrays(np.float64, (n, 3), elements=DOUBLES))
    blob = encode_flat(schema_id, names, index, time_ms, values)
    keys = select(Blob.join([name.encode() for name in names]), index)
    rows = encode_metric_events(schema_id, keys, time_ms, values)
    assert len(blob) == len(keys) == n
    for row in range(n):
        cpu, network_in, disk_write = map(optional, values[row])
        host = names[index[row]]
        record = {
            "host": host,
            "timestamp": int(time_ms[row]),
            "cpu": cpu,
            "network_in": network_in,
            "disk_write": disk_write,
        }
        assert blob[row] == rows[row] == encode(METRIC_EVENT, schema_id, record)
        assert keys[row] == host.encode()


@settings(max_examples=EXAMPLES)
@given(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8), st.data())
def test_a_flat_schema_comes_back_from_the_decoder(metrics: list[str], data: st.DataObject) -> None:
    schema = flat_schema("lapwing.Reading", "host", [*metrics, "last"])
    values = data.draw(
        arrays(np.float64, (4, len(metrics) + 1), elements=st.floats(-1e9, 1e9) | st.just(np.nan))
    )
    blob = encode_flat(9, ["x", "y"], np.array([0, 1, 1, 0]), np.arange(4) + T0, values)
    entities, seen = Directory(), []
    input_ = InputSettings()
    columns = decode(
        batch_of([blob[row] for row in range(4)]),
        {9: compile_plan(schema, input_)},
        input_,
        entities,
        seen,
    )
    assert (entities.names(), seen, columns.entity.tolist()) == (
        ["x", "y"],
        [*metrics, "last"],
        [0, 1, 1, 0],
    )
    assert columns.time_ms.tolist() == [T0, T0 + 1, T0 + 2, T0 + 3]
    np.testing.assert_array_equal(columns.values, values)


def test_flat_schema_describes_every_field() -> None:
    schema = json.loads(flat_schema("Reading", "sensor", ["a", "b"]))
    assert [field["name"] for field in schema["fields"]] == ["sensor", "timestamp", "a", "b"]
    assert all(field["doc"] for field in schema["fields"])
    assert fastavro.parse_schema(schema)["name"] == "Reading"


@pytest.mark.parametrize(
    ("name", "entity", "metrics", "why"),
    [
        ("R", "host", ["cpu load"], "'cpu load' is not a valid Avro name"),
        ("R", "host", ["1st"], "'1st'"),
        ("R", "", ["a"], "''"),
        ("a.2.R", "host", ["a"], "'2'"),
        ("R", "host", ["a", "b", "a"], "duplicate fields: a"),
        ("R", "timestamp", ["a"], "duplicate fields: timestamp"),
    ],
)
def test_flat_schema_names_what_avro_forbids(
    name: str, entity: str, metrics: list[str], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        flat_schema(name, entity, metrics)


@pytest.mark.parametrize(("rows", "times", "shape"), [(2, 3, (2, 1)), (2, 2, (3, 1)), (2, 2, (2,))])
def test_columns_must_have_one_length(rows: int, times: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        encode_flat(1, ["a"], np.zeros(rows, np.int64), np.zeros(times, np.int64), np.zeros(shape))


@pytest.mark.parametrize("index", [[-1], [0, 2], [5]])
def test_an_entity_must_exist(index: list[int]) -> None:
    n = len(index)
    with pytest.raises(IndexError, match=r"index contains .*allowed is 0 to 1"):
        encode_flat(1, ["a", "b"], np.array(index), np.zeros(n, np.int64), np.zeros((n, 1)))
    with pytest.raises(IndexError, match="allowed is 0 to 1"):
        select(Blob.join([b"a", b"b"]), np.array(index))


# ---- score events ----


def listed_columns(draw: Any, n: int, m: int) -> np.ndarray:
    """Some of the metrics in any order, for each of n records."""
    listed = np.full((n, m), -1, np.int32)
    for row in range(n):
        order = draw(st.permutations(range(m)))[: draw(st.integers(0, m))]
        listed[row, : len(order)] = order
    return listed


@st.composite
def score_columns(draw: st.DrawFn) -> tuple[Scores, Directory]:
    entities = Directory()
    for name in draw(st.lists(NAMES, min_size=1, max_size=4)):
        entities.add(name)
    n, m = draw(st.integers(0, 5)), draw(st.integers(0, 4))

    def column(dtype: Any, elements: st.SearchStrategy[Any], *shape: int) -> np.ndarray:
        return draw(arrays(dtype, (n, *shape), elements=elements))

    return (
        Scores(
            entity=column(np.int32, st.integers(0, len(entities) - 1)),
            time_ms=column(np.int64, TIMES),
            score=column(np.float64, DOUBLES),
            severity=column(np.float64, DOUBLES),
            threshold=column(np.float64, DOUBLES),
            is_anomaly=column(np.bool_, st.booleans()),
            cold_start=column(np.bool_, st.booleans()),
            state=column(np.uint8, st.integers(0, len(State) - 1)),
            warmup_percent=column(np.float64, DOUBLES),
            warmup_minutes_left=column(np.float64, DOUBLES),
            top_metric=column(np.int32, st.integers(-1, m - 1)),
            late=column(np.bool_, st.booleans()),
            duplicate=column(np.bool_, st.booleans()),
            imputed=column(np.bool_, st.booleans()),
            ahead=column(np.bool_, st.booleans()),
            episode_id=column("U32", st.sampled_from(["", "0" * 32, "0123456789abcdef" * 2])),
            offsets=column(np.int64, st.integers(0, 2**63 - 1)),
            listed=listed_columns(draw, n, m),
            metric_value=column(np.float64, DOUBLES, m),
            metric_expected=column(np.float64, DOUBLES, m),
            metric_lower=column(np.float64, DOUBLES, m),
            metric_upper=column(np.float64, DOUBLES, m),
            metric_severity=column(np.float64, DOUBLES, m),
            metrics=tuple(f"metric_{'x' * draw(st.integers(0, 70))}{i}" for i in range(m)),
            detector_id=draw(st.sampled_from(["ensemble", "isolation_forest", "one_class_svm"])),
            model_id=draw(st.none() | st.just("0123456789abcdef")),
            source_topic=draw(st.sampled_from(["metrics.cloudwatch.raw", "é" * 40])),
            source_partition=draw(st.integers(0, 10_000)),
        ),
        entities,
    )


@settings(max_examples=EXAMPLES)
@given(score_columns(), st.integers(0, 2**32 - 1))
def test_score_events_equal_fastavros(columns: tuple[Scores, Directory], schema_id: int) -> None:
    """Fails as soon as schemas/score_event.avsc and the kernel's layout part."""
    scores, entities = columns
    values, keys = encode_scores(scores, entities, schema_id)
    records = score_records(scores, entities)
    assert len(values) == len(keys) == len(records)
    for row, record in enumerate(records):
        assert values[row] == encode(SCORE_EVENT, schema_id, record)
        assert keys[row] == record["entity"].encode()


def test_the_twin_fills_every_field_of_the_score_schema() -> None:
    """The kernel cannot forget a field added to the schema, even one with a default."""
    one, entities = full_scores(1)
    (record,) = score_records(one, entities)
    schema = json.loads(SCORE_EVENT)
    assert list(record) == [field["name"] for field in schema["fields"]]
    metric = next(f["type"]["items"] for f in schema["fields"] if f["name"] == "metrics")
    assert list(record["metrics"][0]) == [field["name"] for field in metric["fields"]]


def test_a_row_does_not_depend_on_its_batch() -> None:
    scores, entities = full_scores(7)
    whole, _ = encode_scores(scores, entities, 5)
    for row in range(7):
        columns = {field.name: getattr(scores, field.name) for field in fields(scores)}
        alone = replace(
            scores,
            **{
                name: column[row : row + 1]
                for name, column in columns.items()
                if hasattr(column, "dtype")
            },
        )
        assert encode_scores(alone, entities, 5)[0][0] == whole[row]


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("offsets", np.arange(2), ValueError),
        ("threshold", np.array(0.5), ValueError),
        ("cold_start", np.zeros(4, np.bool_), ValueError),
        ("warmup_minutes_left", np.zeros(2), ValueError),
        ("listed", np.zeros((3, 1), np.int32), ValueError),
        ("listed", np.full((3, 2), 2, np.int32), IndexError),
        ("metric_lower", np.ones((2, 3)), ValueError),
        ("entity", np.array([0, 1, 3], np.int32), IndexError),
        ("top_metric", np.array([-2, 0, 0], np.int32), IndexError),
        ("top_metric", np.array([0, 2, 0], np.int32), IndexError),
        ("state", np.full(3, 3, np.uint8), IndexError),
    ],
)
def test_a_column_that_does_not_fit_is_named(
    column: str, value: np.ndarray, error: type[Exception]
) -> None:
    scores, entities = full_scores(3)
    with pytest.raises(error, match=column):
        encode_scores(replace(scores, **{column: value}), entities, 1)


def full_scores(n: int) -> tuple[Scores, Directory]:
    entities = Directory()
    for i in range(3):
        entities.add(f"host-{i}")
    rng = np.random.default_rng(1)
    numbers = {
        f"metric_{name}": rng.normal(size=(n, 2))
        for name in ("value", "expected", "lower", "upper", "severity")
    }
    marks = {
        name: rng.random(n) < 0.5
        for name in ("is_anomaly", "cold_start", "late", "duplicate", "imputed", "ahead")
    }
    return Scores(
        entity=(np.arange(n) % 3).astype(np.int32), time_ms=T0 + np.arange(n),
        score=rng.normal(size=n), severity=rng.random(n), threshold=rng.random(n),
        state=np.full(n, State.READY, np.uint8), warmup_percent=np.full(n, np.nan),
        warmup_minutes_left=rng.random(n), top_metric=np.zeros(n, np.int32),
        offsets=np.arange(n) * 10, listed=np.tile(np.arange(2, dtype=np.int32), (n, 1)),
        episode_id=np.where(np.arange(n) % 2, "f" * 32, ""), metrics=("cpu", "mem"),
        detector_id="isolation_forest", model_id="0" * 16, source_topic="t", source_partition=1,
        **numbers, **marks,
    ), entities  # fmt: skip
