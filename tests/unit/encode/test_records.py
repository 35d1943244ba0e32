"""Records to Avro and back: schemas of the product, generated schemas, schema ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

import schemas
from shared.encode.records import decode_records, encode_records, schema_id_of
from tests.reference.records import METRIC_EVENT, T0, World, encode, event, worlds

ACTIVATION = schemas.text(schemas.MODEL_ACTIVATION)
RECORD: dict[str, Any] = {
    "group": "g", "source_topic": "t", "source_partition": 1, "source_offset": 2**40,
    "detector_id": "isolation_forest", "model_sha256": "0" * 64, "model_version": "",
    "state_version": 1, "settings": "{}",
}  # fmt: skip


def test_there_and_back() -> None:
    blob = encode_records(ACTIVATION, 77, [RECORD, RECORD | {"source_partition": 2}])
    assert [schema_id_of(blob[row]) for row in range(2)] == [77, 77]
    assert decode_records(blob, [ACTIVATION] * 2) == [RECORD, RECORD | {"source_partition": 2}]
    assert blob[0] == encode(ACTIVATION, 77, RECORD)


def test_times_stay_integers() -> None:
    (record,) = decode_records([event("a", -(2**62))], [METRIC_EVENT])
    assert record == {
        "host": "a",
        "timestamp": -(2**62),
        "cpu": None,
        "network_in": None,
        "disk_write": None,
    }


@given(worlds())
def test_reads_what_fastavro_wrote(world: World) -> None:
    text, _, records = world
    read = decode_records([encode(text, 1, record) for record in records], [text] * len(records))
    assert [repr(record["when"]) for record in read] == [repr(record["when"]) for record in records]


def test_defaults_may_be_left_out() -> None:
    blob = encode_records(METRIC_EVENT, 1, [{"host": "a", "timestamp": T0, "cpu": 1.5}])
    assert blob[0] == event("a", T0, cpu=1.5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source_partition": None}, "record 1"),
        ({"surprise": 1}, "surprise"),
        ({"group": 5}, "record 1"),
    ],
)
def test_a_record_that_does_not_fit_is_named(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        encode_records(ACTIVATION, 1, [RECORD, RECORD | change])


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match=r"record 0 does not fit lapwing\.ModelActivation.*group"):
        encode_records(
            ACTIVATION, 1, [{key: value for key, value in RECORD.items() if key != "group"}]
        )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "row 1 does not start"),
        (b"\1" + event()[1:], "row 1 does not start"),
        (event()[:-1], "row 1 is not a record"),
        (event()[:9], "row 1 is not a record"),
        (event() + b"\0", "row 1 has 1 bytes after"),
        (event()[:5] + b"\2\xff" + event()[7:], "row 1 is not a record"),
        (event()[:5] + b"\xff\xff\xff\xff\xff\xff\xff\x7f" + event()[7:], "row 1 is not a record"),
        (event()[:-1] + b"\x08", "row 1 is not a record"),
    ],
)
def test_bytes_that_are_no_record_are_named(value: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_records([event(), value], [METRIC_EVENT] * 2)


def test_a_schema_that_is_no_record_is_named() -> None:
    with pytest.raises(ValueError, match="row 0 is not a record but a int"):
        decode_records([b"\0\0\0\0\1\2"], ['"int"'])
