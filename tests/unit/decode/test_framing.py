"""Schema ids in headers and of 8 bytes, as the real serializers write them."""

from __future__ import annotations

from importlib import import_module
from uuid import UUID

import numpy as np
import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

import schemas
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.framing import Frame, frame_of, frames_of
from shared.directory import Directory
from shared.registry import _library
from shared.schema_ids import IdKind, SchemaRef
from shared.settings import InputSettings
from tests.unit.decode.test_misplaced import (
    AS_CONFLUENT,
    AVRO,
    BY_DEFAULT,
    HEADERS_DISABLED,
    WITH_USE_ID,
)

confluent = _library()
serde = import_module("confluent_kafka.schema_registry.serde")
GUID = "89791762-2336-4186-9674-299b90a802e2"
GLOBAL, CONTENT = SchemaRef(IdKind.GLOBAL_ID, 1), SchemaRef(IdKind.CONTENT_ID, 1)
EVENT = schemas.text(schemas.METRIC_EVENT)


def by_confluent():
    """Return the headers that confluent-kafka's header strategy adds."""
    headers = []
    value = confluent.header_schema_id_serializer(
        AVRO,
        SerializationContext("t", MessageField.VALUE, headers),
        serde.SchemaId("AVRO", 1, GUID),
    )
    assert value == AVRO
    return tuple(headers)


WRITTEN = [
    (AS_CONFLUENT, (), 1),
    (AVRO, by_confluent(), SchemaRef(IdKind.GUID, GUID)),
    (AVRO, BY_DEFAULT, GLOBAL),
    (AVRO, WITH_USE_ID, CONTENT),
    (HEADERS_DISABLED, (), GLOBAL),
    (AVRO, (("__value_schema_id", b"\0\0\0\0\1"),), 1),
    (AVRO, (*BY_DEFAULT, *by_confluent()), SchemaRef(IdKind.GUID, GUID)),
    (AS_CONFLUENT, (("traceparent", b"x"),), 1),
]
"""(value, headers, schema) of records that hold the same event."""


def batch_of(records):
    n = len(records)
    return Batch(
        "t",
        0,
        Blob.join([value for value, *_ in records]),
        Blob.join([None] * n),
        np.arange(n),
        np.zeros(n, np.int64),
        {row: headers for row, (_, headers, *_) in enumerate(records) if headers},
    )


@pytest.mark.parametrize(("value", "headers", "key"), WRITTEN)
def test_each_place_of_an_id_is_read(value, headers, key):
    decoder = AvroDecoder.of_schemas({key: EVENT}, InputSettings())
    entities, metrics = Directory(), []
    columns = decoder.decode(batch_of([(value, headers)]), entities, metrics)
    assert (columns.accepted.tolist(), entities.names()) == ([0], ["a"])
    assert columns.values[0, metrics.index("cpu")] == 1.5


def test_a_batch_of_all_places_is_read_as_its_records_are() -> None:
    settings = InputSettings()
    records = WRITTEN * 3
    batch = batch_of(records)
    decoder = AvroDecoder.of_schemas({key: EVENT for *_, key in WRITTEN}, settings)
    decoder.prepare(batch)
    entities, metrics = Directory(), []
    columns = decoder.decode(batch, entities, metrics)
    assert columns.accepted.tolist() == list(range(len(records)))
    assert set(columns.values[:, metrics.index("cpu")].tolist()) == {1.5}
    assert len(set(columns.time_ms.tolist())) == 1
    cut = batch.rows(2, 5)
    assert decoder.decode(cut, entities, metrics).accepted.tolist() == [0, 1, 2]
    framing = frames_of(batch, "auto")
    keys = framing.keys()
    for row, (value, headers, key) in enumerate(records):
        assert keys[int(framing.rows.numbers[row])] == key
        frame = frame_of(value, headers, "auto")
        assert frame == Frame(key, int(framing.rows.begins[row] - batch.values.bounds[row]))


def test_different_schemas_by_different_names() -> None:
    """Two names of different schemas in one batch are read by their own schema."""
    other = EVENT.replace('"cpu"', '"load"')
    decoder = AvroDecoder.of_schemas({GLOBAL: EVENT, CONTENT: other, 1: None}, InputSettings())
    entities, metrics = Directory(), []
    records = [(AVRO, WITH_USE_ID), (AVRO, BY_DEFAULT), (AS_CONFLUENT, ()), (AVRO, WITH_USE_ID)]
    columns = decoder.decode(batch_of(records), entities, metrics)
    assert columns.accepted.tolist() == [0, 1, 3]
    assert metrics[0] == "load"
    loads = columns.values[:, metrics.index("load")]
    assert np.isnan(loads).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("setting", "value", "headers", "expected"),
    [
        ("confluent", AS_CONFLUENT, BY_DEFAULT, Frame(1, 5)),
        ("confluent", AVRO, BY_DEFAULT, None),
        ("confluent", HEADERS_DISABLED, (), Frame(0, 5)),
        ("apicurio_global", AS_CONFLUENT, (), Frame(GLOBAL, 5)),
        ("apicurio_content", AS_CONFLUENT, (), Frame(CONTENT, 5)),
        ("apicurio_content", HEADERS_DISABLED, (), Frame(CONTENT, 9)),
        ("apicurio_content", AVRO, BY_DEFAULT, Frame(GLOBAL, 0)),
        ("auto", b"", BY_DEFAULT, Frame(GLOBAL, 0)),
        ("auto", b"\0\0\0", (), None),
        ("auto", bytes(9), (), Frame(0, 5)),
        ("auto", bytes(10), (), Frame(SchemaRef(IdKind.GLOBAL_ID, 0), 9)),
        ("auto", AVRO, (("apicurio.value.contentId", b"x"),), None),
    ],
)
def test_the_setting_says_what_ids_are(setting, value, headers, expected):
    assert frame_of(value, headers, setting) == expected
    batch = batch_of([(value, headers)])
    framing = frames_of(batch, setting)
    (number,), (begin,) = framing.rows.numbers.tolist(), framing.rows.begins.tolist()
    if expected is None:
        assert number == -1
    else:
        assert (framing.keys()[number], begin) == (expected.key, expected.begin)


def test_a_record_without_a_value_is_empty_whatever_its_headers_say() -> None:
    decoder = AvroDecoder.of_schemas({GLOBAL: EVENT}, InputSettings())
    columns = decoder.decode(batch_of([(b"", BY_DEFAULT)]), Directory(), [])
    assert columns.reasons.tolist() == [1]


def test_the_size_limit_is_that_of_the_value() -> None:
    settings = InputSettings(max_record_bytes=64)
    event = EVENT.replace('"disk_write"', '"padding"').replace(
        '{"name": "padding", "type": ["null", "double"]', '{"name": "padding", "type": "bytes"'
    )
    decoder = AvroDecoder.of_schemas({GLOBAL: event, 1: EVENT}, settings)
    columns = decoder.decode(
        batch_of([(AVRO + bytes(64), BY_DEFAULT), (AS_CONFLUENT, ())]), Directory(), []
    )
    assert (columns.rejected.tolist(), columns.reasons.tolist()) == ([0], [2])


def test_the_guid_is_written_as_the_library_writes_it() -> None:
    ((name, value),) = by_confluent()
    assert (name, value) == (confluent._VALUE_SCHEMA_ID, b"\1" + UUID(GUID).bytes)
