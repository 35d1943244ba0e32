"""Schema ids that are not read where they are, as the real serializers write them."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

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


def message(value, headers=(), **settings):
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
    decoder = AvroDecoder.of_schemas(known, InputSettings(**settings))
    decoder.prepare(batch)
    columns = decoder.decode(batch, Directory(), [])
    if len(columns.accepted):
        return None
    out = dead_letters("dlq", batch, columns.rejected, columns.reasons, decoder, "g", 1000)
    output = dict(out.headers[0])
    return output[REASON].decode(), output[f"{PREFIX}exception.message"].decode()


@pytest.mark.parametrize("headers", [BY_DEFAULT, WITH_USE_ID])
def test_apicurio_headers_that_the_setting_ignores(headers):
    reason, output = message(AVRO, headers, schema_ids="confluent")
    assert reason == "not_avro"
    assert f"the schema id is in Apicurio's headers ({headers[0][0]})" in output
    assert "input.schema_ids=auto, the default, reads it" in output


def test_eight_bytes_that_the_setting_ignores():
    reason, output = message(HEADERS_DISABLED, schema_ids="confluent")
    assert reason == "unknown_schema"
    assert output.startswith("the registry does not know the record's schema id: schema id 0: ")
    assert "the id seems to have 8 bytes instead of 4" in output


def test_a_value_without_an_id_that_begins_as_if_it_had_one():
    reason, output = message(AS_CONFLUENT[:-1], BY_DEFAULT, schema_ids="confluent")
    assert reason == "truncated"
    assert "the schema id is in Apicurio's headers" in output
    assert message(AS_CONFLUENT[:-1]) == ("truncated", "the bytes end before the last field")


def test_apicurio_as_confluent():
    assert message(AS_CONFLUENT) is None
    assert message(AS_CONFLUENT, BY_DEFAULT, schema_ids="confluent") is None


@pytest.mark.parametrize(
    ("headers", "reason", "text"),
    [
        (BY_DEFAULT, "unknown_schema", "Apicurio's global id 1: it is looked up in Apicurio's own"),
        (WITH_USE_ID, "unknown_schema", "Apicurio's content id 1: it is looked up in Apicurio's"),
        (
            ((VALUE_HEADER, b"\1" + bytes(16)),),
            "unknown_schema",
            "Confluent's GUID 00000000-0000-0000-0000-000000000000: a registry answers by GUID",
        ),
        (
            ((VALUE_HEADER, b"\0\0\0\0\x09"),),
            "unknown_schema",
            "schema id 9",
        ),
        (
            ((VALUE_HEADER, b"\2" + bytes(16)),),
            "not_avro",
            f"the header {VALUE_HEADER} is {'02' + 32 * '0'}, and not 1 and the 16",
        ),
        (
            (("apicurio.value.contentId", b"7"),),
            "not_avro",
            "the header apicurio.value.contentId is 37, and not an id of 8 bytes",
        ),
        (
            (BY_DEFAULT[0], ("apicurio.value.encoding", b"JSON")),
            "not_avro",
            "set apicurio.registry.avro.encoding=BINARY for the producer",
        ),
        (
            (("apicurio.value.artifactId", b"t-value"),),
            "not_avro",
            "the schema id is in Apicurio's headers (apicurio.value.artifactId)",
        ),
    ],
)
def test_ids_in_headers_that_cannot_be_read(headers, reason, text):
    found = message(AVRO, headers)
    assert found[0] == reason
    assert text in found[1]


@pytest.mark.parametrize("header", [KEY_HEADER, "apicurio.key.globalId"])
def test_the_id_of_the_key_alone_is_in_headers(header):
    reason, output = message(AVRO, ((header, bytes(8)),))
    assert reason == "not_avro"
    assert "the schema id of its key is in" in output
    assert "that of its value is not; have the producer's value serializer" in output


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
    assert misplaced(b"junk").what == "neither its headers nor its first bytes name a schema"
    assert message(AVRO, (("trace", b"1"),))[0] == "not_avro"
    assert message(b"\x01junk junk") == (
        "not_avro",
        (
            "the record does not start with the magic byte 0 and a 4-byte schema id: neither"
            " its headers nor its first bytes name a schema; have the producer write Avro with a"
            " schema registry's serializer (in Flink SQL, the format avro-confluent instead of"
            " avro)"
        ),
    )
    reason, text = message(b"\x00\x00\x00\x00\x09" + AVRO)
    assert (reason, text.rpartition(": ")[2]) == ("unknown_schema", "schema id 9")
