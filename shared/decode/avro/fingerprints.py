"""Fingerprints of writer schemas, which identify a schema across registries.

Invariant: texts that decode the same bytes in the same way have equal fingerprints; docs, spaces
and defaults do not matter.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from fastavro.schema import (
    SchemaParseException,
    UnknownType,
    fingerprint,
    to_parsing_canonical_form,
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One schema's fingerprints in hexadecimal digits.

    crc64  : CRC-64-AVRO, its bytes in the order of Avro's single-object encoding; "" where the text
             is not Avro
    sha256 : SHA-256; of the text itself where it is not Avro
    """

    crc64: str
    sha256: str

    def is_one_of(self, allowed: tuple[str, ...]) -> bool:
        """Return whether a list has this schema; the CRC matches in either byte order.

        Tools print it in both.
        """
        own = {self.crc64, bytes.fromhex(self.crc64)[::-1].hex(), self.sha256}
        return any(digits and digits.lower() in own for digits in allowed)

    def __str__(self) -> str:
        if not self.crc64:
            return f"{self.sha256} (SHA-256 of its text)"
        return f"{self.crc64} (CRC-64-AVRO), {self.sha256} (SHA-256)"


def fingerprint_of(text: str) -> Fingerprint:
    """Return the fingerprints of a schema's text.

    Source: Avro specification, "Parsing Canonical Form" and "Schema Fingerprints".
    """
    try:
        canonical = to_parsing_canonical_form(json.loads(text))
    except (
        SchemaParseException,
        UnknownType,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        return Fingerprint("", hashlib.sha256(text.encode()).hexdigest())
    return Fingerprint(fingerprint(canonical, "CRC-64-AVRO"), fingerprint(canonical, "SHA-256"))
