"""Fingerprints of writer schemas are Avro's own, and a text that is no schema has one as well."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import schemas
from shared.decode.avro.fingerprints import fingerprint_of

EMPTY = 0xC15D213AA4D7A795


def rabin(data: bytes) -> int:
    """The 64-bit fingerprint as the Avro specification writes it down."""
    table = []
    for fp in range(256):
        for _ in range(8):
            fp = (fp >> 1) ^ (EMPTY & -(fp & 1))
        table.append(fp)
    fp = EMPTY
    for byte in data:
        fp = (fp >> 8) ^ table[(fp ^ byte) & 0xFF]
    return fp


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('"null"', '"null"'),
        ('{"type": "long", "logicalType": "timestamp-millis"}', '"long"'),
        (
            '{"size": 1, "type": "fixed", "name": "Test", "namespace": "a.b"}',
            '{"name":"a.b.Test","type":"fixed","size":1}',
        ),
    ],
)
def test_crc64_is_avros_in_either_byte_order(text: str, canonical: str) -> None:
    expected = rabin(canonical.encode())
    assert fingerprint_of(text).crc64 == expected.to_bytes(8, "little").hex()
    assert fingerprint_of(text).is_one_of((f"{expected:016x}",))
    assert rabin(b'"null"') == 0x63DD24E7CC258F8A


def test_sha256_is_of_the_canonical_form() -> None:
    assert fingerprint_of('{"type": "int"}').sha256 == hashlib.sha256(b'"int"').hexdigest()


def test_docs_spaces_and_defaults_do_not_count_but_types_do() -> None:
    text = schemas.text(schemas.METRIC_EVENT)
    content = json.loads(text)
    content["doc"] = "Another."
    content["fields"][2].pop("default", None)
    assert fingerprint_of(json.dumps(content, indent=3)) == fingerprint_of(text)
    content["fields"][2]["type"] = ["null", "float"]
    assert fingerprint_of(json.dumps(content)) != fingerprint_of(text)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "{}", '{"type": "record"}', '"unknown"', "[" * 5000, "7", '{"type": []}'],
)
def test_what_is_no_schema_is_named_by_its_text(text: str) -> None:
    found = fingerprint_of(text)
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest() or found.crc64
    assert not found.is_one_of(("",))
    assert str(found).startswith(found.crc64 or found.sha256)


def test_the_documented_fingerprint_is_that_of_the_schema() -> None:
    document = (Path(__file__).parents[3] / "docs" / "guards.md").read_text("utf-8")
    assert f'["{fingerprint_of(schemas.text(schemas.METRIC_EVENT)).crc64}"]' in document
