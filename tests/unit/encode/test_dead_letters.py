"""Dead letters keep the bytes and say why and where from."""

import hashlib

import numpy as np

from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import flat_schema
from shared.encode.dead_letters import dead_letters
from shared.events import Reason
from shared.settings import InputSettings


def letters(values, reasons, schemas=None, limit=100):
    rows = np.arange(len(values))
    batch = Batch(
        "metrics.test.raw",
        3,
        Blob.join(values),
        Blob.join([b"key"] * len(values)),
        rows + 40,
        rows * 0,
        {0: [("trace", b"x")]},
    )
    decoder = AvroDecoder.of_schemas(schemas or {}, InputSettings())
    return dead_letters("dlq", batch, rows, np.array(reasons, np.uint8), decoder, "group", limit)


def test_bytes_key_and_headers_are_kept_and_coordinates_added():
    out = letters([b"\x00junk"], [Reason.TRUNCATED])
    assert (out.topic, out.values[0], out.keys[0]) == ("dlq", b"\x00junk", b"key")
    headers = dict(out.headers[0])
    assert headers["trace"] == b"x"
    assert headers["lapwing.reason"] == b"truncated"
    assert headers["__connect.errors.topic"] == b"metrics.test.raw"
    assert headers["__connect.errors.partition"] == b"3"
    assert headers["__connect.errors.offset"] == b"40"
    assert headers["__connect.errors.exception.message"] == b"the bytes end before the last field"


def test_schema_reasons_name_the_schema():
    value = b"\x00" + (9).to_bytes(4, "big")
    out = letters(
        [value, value],
        [Reason.UNKNOWN_SCHEMA, Reason.SCHEMA_UNFIT],
        {9: flat_schema("R", "node", ("cpu",))},
    )
    assert dict(out.headers[0])["__connect.errors.exception.message"].startswith(
        b"the registry does not know"
    )
    assert (
        b"schema id 9: R has no field 'host'"
        in dict(out.headers[1])["__connect.errors.exception.message"]
    )


def test_what_is_cut_is_said_with_its_hash():
    out = letters([b"x" * 200], [Reason.TOO_LARGE], limit=50)
    headers = dict(out.headers[0])
    assert out.values[0] == b"x" * 50
    assert headers["lapwing.cut.bytes"] == b"200"
    assert headers["lapwing.cut.sha256"] == hashlib.sha256(b"x" * 200).hexdigest().encode()


def test_every_reason_has_a_code_and_a_sentence():
    assert len({reason.code for reason in Reason}) == len(Reason)
    assert all(reason.sentence for reason in Reason)
