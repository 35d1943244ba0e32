"""Results as JSON: the bytes are orjson's, and reading them gives what reading Avro gives."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

import schemas
from shared.directory import Directory
from shared.encode.avro_columns import Scores, encode_scores
from shared.encode.json_columns import encode_json_scores
from shared.encode.json_records import encode_json_records
from shared.encode.kernels import json_values
from shared.encode.results import decode_result, encode_results
from tests.reference.avro import score_records
from tests.unit.encode.test_encoding import full_scores, score_columns

EXAMPLES = 25 if config.DISABLE_JIT else 100
ANOMALY = schemas.text(schemas.ANOMALY_EVENT)
EVENT: dict[str, Any] = {
    "event_id": "0" * 32,
    "detector_id": "ensemble",
    "kind": "anomaly",
    "entity": 'web "1"\n☃',
    "event_time": 1_700_000_000_000,
    "value": 3,
    "is_anomaly": True,
    "state": "READY",
    "attributions": {"cpu.jump": 0.25, "cpu.value": 0.75},
    "reason": "r",
    "source_topic": "t",
    "source_partition": 0,
    "source_offset": 2**53 + 1,
}


def no_schema(number: int) -> str | None:
    raise AssertionError(f"schema {number} was looked up")


def finite(value: Any) -> Any:
    """Return a record with null for each number that JSON does not know."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@settings(max_examples=EXAMPLES)
@given(score_columns())
def test_score_events_equal_orjsons_and_read_as_in_avro(columns: tuple[Scores, Directory]) -> None:
    scores, entities = columns
    values, keys = encode_json_scores(scores, entities)
    avro, avro_keys = encode_scores(scores, entities, 7)
    text = schemas.text(schemas.SCORE_EVENT)
    assert len(values) == len(scores)
    assert (keys.data, keys.bounds.tolist()) == (avro_keys.data, avro_keys.bounds.tolist())
    for row, record in enumerate(score_records(scores, entities)):
        assert values[row] == orjson.dumps(record)
        assert decode_result(values[row], no_schema) == finite(
            decode_result(avro[row], lambda _: text)
        )


@pytest.mark.parametrize("name", ["".join(map(chr, range(1, 128))), '"', "\\", "\x1f", "é☃\u2028"])
def test_names_are_escaped_as_by_orjson(name: str) -> None:
    scores, _ = full_scores(2)
    entities = Directory()
    for number in range(3):
        entities.add(f"{name}{number}")
    values, keys = encode_json_scores(scores, entities)
    for row, record in enumerate(score_records(scores, entities)):
        assert values[row] == orjson.dumps(record)
        assert keys[row] == f"{name}{row}".encode()


def test_a_row_in_json_does_not_depend_on_its_batch() -> None:
    whole, _ = encode_json_scores(*full_scores(7))
    half, _ = encode_json_scores(*full_scores(7))
    assert whole.data == half.data
    assert [json.loads(whole[row])["source_offset"] for row in range(7)] == list(range(0, 70, 10))


def test_no_score_is_no_byte() -> None:
    values, keys = encode_json_scores(*full_scores(0))
    assert (len(values), len(keys), values.data) == (0, 0, b"")


def test_a_column_of_another_length_is_named() -> None:
    scores, entities = full_scores(3)
    object.__setattr__(scores, "threshold", np.zeros(2))
    with pytest.raises(ValueError, match="threshold"):
        encode_json_scores(scores, entities)


def test_the_gaps_between_numbers_are_closed() -> None:
    text = np.frombuffer(bytearray(b"[1.5,null,-0.0]"), np.uint8)
    bounds = np.empty(4, np.int64)
    json_values.number_bounds(text, bounds)
    found = [bytes(text[a:b]) for a, b in itertools.pairwise(bounds)]
    assert found == [b"1.5", b"null", b"-0.0"]


def test_a_single_record_has_all_fields_in_the_schemas_order() -> None:
    (value,) = encode_results(ANOMALY, None, [EVENT])
    (avro,) = encode_results(ANOMALY, 9, [EVENT])
    record = decode_result(value, no_schema)
    assert list(record) == [field["name"] for field in json.loads(ANOMALY)["fields"]]
    assert record == decode_result(avro, lambda _: ANOMALY)
    assert type(record["value"]) is float
    assert b" " not in value.replace(b'web "1', b"").replace(b"web ", b"")


@given(
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    st.none() | st.floats(),
)
def test_any_map_and_number_reads_as_in_avro(shares: dict[str, float], score: float | None) -> None:
    event = EVENT | {"attributions": shares, "score": score}
    (value,) = encode_json_records(ANOMALY, [event])
    (avro,) = encode_results(ANOMALY, 9, [event])
    assert decode_result(value, no_schema) == finite(decode_result(avro, lambda _: ANOMALY))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"event_time": "now"}, "event_time: 'now' is not an integer"),
        ({"source_partition": 2**31}, "source_partition: .* does not fit 32 bits"),
        ({"source_offset": True}, "source_offset: True is not an integer"),
        ({"is_anomaly": 1}, "is_anomaly: 1 is neither true nor false"),
        ({"entity": None}, "entity: None is not text"),
        ({"attributions": {"a": math.inf}}, "attributions: inf is not finite"),
        ({"attributions": {1: 1.0}}, "is not a map with texts"),
        ({"value": "3"}, "value: '3' is not a number"),
        ({"colour": "red"}, "unknown fields: colour"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode_json_records(ANOMALY, [EVENT | change])


def test_a_missing_field_is_named() -> None:
    without = {name: value for name, value in EVENT.items() if name != "reason"}
    with pytest.raises(ValueError, match=r"record 0 does not fit AnomalyEvent: reason is missing"):
        encode_json_records(ANOMALY, [without])


def test_an_embedding_in_json_is_the_float_of_avro() -> None:
    text = json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [{"name": "a", "type": {"type": "array", "items": "float"}}],
        }
    )
    record = {"a": [0.1, 1.0, -2.5]}
    (value,), (avro,) = encode_results(text, None, [record]), encode_results(text, 1, [record])
    assert decode_result(value, no_schema) == decode_result(avro, lambda _: text)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "it has no schema id and is not a JSON object"),
        (b"[1]", "it has no schema id and is not a JSON object"),
        (b"{", "it is not JSON"),
        (b'{"a": NaN}', "it is not JSON"),
        (b"\0\0\0\0\x07x", "schema id 7, which the registry does not know"),
    ],
)
def test_what_is_no_result_is_named(value: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_result(value, lambda _: None)
