"""Schema ids in other places than where they are read, as the real serializers write them."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

import schemas
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.misplaced import KEY_HEADER, VALUE_HEADER, misplaced
from shared.directory import Directory
from shared.encode.dead_letters import PREFIX, REASON, dead_letters
from shared.registry import _library
from shared.settings import InputSettings

confluent = _library()  # without its warning of its own dependencies
serde = import_module("confluent_kafka.schema_registry.serde")

# What io.apicurio:apicurio-registry-serdes-avro-serde:2.6.13.Final wrote for
# schemas/metric_event.avsc, host a, cpu 1.5.
AVRO = bytes.fromhex("02 61 80 a0 ab fe f9 62 02 00 00 00 00 00 00 f8 3f 00 00")
BY_DEFAULT = (
    ("apicurio.value.globalId", bytes(7) + b"\x01"),
    ("apicurio.value.encoding", b"BINARY"),
)
WITH_USE_ID = (
    ("apicurio.value.contentId", bytes(7) + b"\x01"),
    ("apicurio.value.encoding", b"BINARY"),
)
HEADERS_DISABLED = bytes.fromhex("00 00 00 00 00 00 00 00 01") + AVRO
AS_CONFLUENT = bytes.fromhex("00 00 00 00 01") + AVRO


def message(value, headers=()):
    """What the dead letter of a record says, None where it is read."""
    batch = Batch(
        "t",
        0,
        Blob.join([value]),
        Blob.join([b"k"]),
        np.array([7]),
        np.array([0]),
        {0: headers} if headers else {},
    )
    known = {1: schemas.text(schemas.METRIC_EVENT)}
    decoder = AvroDecoder.of_schemas(known, InputSettings())
    decoder.prepare(batch)
    columns = decoder.decode(batch, Directory(), [])
    if len(columns.accepted):
        return None
    out = dead_letters("dlq", batch, columns.rejected, columns.reasons, decoder, "g", 1000)
    output = dict(out.headers[0])
    return output[REASON].decode(), output[f"{PREFIX}exception.message"].decode()


@pytest.mark.parametrize("headers", [BY_DEFAULT, WITH_USE_ID])
def test_apicurio_with_its_headers(headers):
    reason, output = message(AVRO, headers)
    assert reason == "not_avro"
    assert f"the schema id is in Apicurio's headers ({headers[0][0]})" in output
    assert "apicurio.registry.headers.enabled=false" in output
    assert "apicurio.registry.as-confluent=true and apicurio.registry.use-id=contentId" in output


def test_apicurio_with_eight_bytes():
    reason, output = message(HEADERS_DISABLED)
    assert reason == "unknown_schema"
    assert output.startswith("the registry does not know the record's schema id: schema id 0: ")
    assert "the id seems to have 8 bytes instead of 4" in output
    assert "apicurio.registry.as-confluent=true" in output


def test_a_value_without_an_id_that_begins_as_if_it_had_one():
    reason, output = message(AS_CONFLUENT[:-1], BY_DEFAULT)
    assert reason == "truncated"
    assert "the schema id is in Apicurio's headers" in output
    assert message(AS_CONFLUENT[:-1]) == ("truncated", "the bytes end before the last field")


def test_apicurio_as_it_should_be():
    assert message(AS_CONFLUENT) is None


@pytest.mark.parametrize(
    ("field", "whose"), [(MessageField.VALUE, ""), (MessageField.KEY, " of its key")]
)
def test_confluent_with_the_id_in_a_header(field, whose):
    headers = []
    value = confluent.header_schema_id_serializer(
        AVRO,
        SerializationContext("t", field, headers),
        serde.SchemaId("AVRO", 1, "89791762-2336-4186-9674-299b90a802e2"),
    )
    assert value == AVRO
    reason, output = message(value, tuple(headers))
    assert reason == "not_avro"
    assert f"the schema id{whose} is in the header {headers[0][0]}, which is not read" in output
    assert (
        "value.schema.id.serializer=io.confluent.kafka.serializers.schema.id.PrefixSchemaIdSerializer"
        in output
    )
    assert f"'schema.id.serializer': {confluent.prefix_schema_id_serializer.__name__}" in output


def test_confluent_with_the_id_where_it_is_read():
    assert (
        message(confluent.prefix_schema_id_serializer(AVRO, None, serde.SchemaId("AVRO", 1)))
        is None
    )


def test_the_headers_are_those_of_the_library():
    assert (VALUE_HEADER, KEY_HEADER) == (confluent._VALUE_SCHEMA_ID, confluent._KEY_SCHEMA_ID)


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (b'{"host": "a"}', "begins like JSON"),
        (b"[1]", "begins like JSON"),
        (b"\xc3\x01" + bytes(8) + AVRO, "single-object"),
        (b"Obj\x01" + AVRO, "a whole Avro file"),
    ],
)
def test_other_formats_are_named(value, output):
    reason, text = message(value)
    assert reason == "not_avro"
    assert output in text


def test_what_is_not_known_is_not_guessed():
    assert misplaced(b"junk", ()) is None
    assert misplaced(bytes(5) + b"x", (("trace", b"1"),)) is None
    assert message(b"\x01junk junk") == (
        "not_avro",
        "the record does not start with the magic byte 0 and a 4-byte schema id",
    )
    reason, text = message(b"\x00\x00\x00\x00\x09" + AVRO)
    assert (reason, text.rpartition(": ")[2]) == ("unknown_schema", "schema id 9")
