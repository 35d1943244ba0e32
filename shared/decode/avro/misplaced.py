"""Hints about values that are not in Confluent's wire format: what they are, and a remedy.

Invariant: hints depend on a record's headers and first bytes; they never decide whether a record is
valid.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.batch import Headers

VALUE_HEADER, KEY_HEADER = "__value_schema_id", "__key_schema_id"
"""Headers with the GUID of Confluent's header_schema_id_serializer (HeaderSchemaIdSerializer)."""

APICURIO, APICURIO_KEY = "apicurio.value.", "apicurio.key."
"""Beginnings of the names of Apicurio's headers; version 2 of its serializers writes them."""

ENCODING_HEADER = f"{APICURIO}encoding"

_READ_THEM = "input.schema_ids=auto, the default, reads it"
_CONFLUENT_KEY = (
    "have the producer's value serializer write the value's: value.schema.id.serializer in Java, "
    "'schema.id.serializer' of the value's serializer in confluent-kafka for Python"
)
_APICURIO_KEY = "have the producer's value serializer be Apicurio's as well"
_JSON = "input.format=json reads JSON, one object per record"
_WIRE_FORMAT = (
    "have the producer write Avro with a schema registry's serializer (in Flink SQL, the format "
    "avro-confluent instead of avro)"
)

_BEGINNINGS = (
    (
        b"\xc3\x01",
        "the value is Avro's single-object encoding, which names a schema by its fingerprint",
    ),
    (b"Obj\x01", "the value is a whole Avro file"),
)


@dataclass(frozen=True, slots=True)
class Misplaced:
    """What a record has instead of a schema id in front of its value.

    what   : a clause about the record
    remedy : what to change, usually settings of the producer
    header : the header that contains the id; empty = none does
    """

    what: str
    remedy: str
    header: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


JSON_ENCODING = Misplaced(
    f"Apicurio's serializer wrote Avro's JSON encoding ({ENCODING_HEADER}), which is not read",
    "set apicurio.registry.avro.encoding=BINARY for the producer",
    ENCODING_HEADER,
)


def is_schema_header(name: str) -> bool:
    """Return whether a header of this name is about the schema of the value."""
    return name == VALUE_HEADER or name.startswith(APICURIO)


def wrong_header(name: str, value: bytes) -> Misplaced:
    """Return that a header is not as serializers write it."""
    expected = (
        "1 and the 16 bytes of a GUID, or 0 and an id of 4 bytes"
        if name == VALUE_HEADER
        else "an id of 8 bytes"
    )
    what = f"the header {name} is {value[:20].hex() or 'empty'}, and not {expected}"
    return Misplaced(what, "remove what changes the producer's headers", name)


def id_in_headers(headers: Headers) -> Misplaced | None:
    """Return which header contains the schema id; None where no header does.

    The value's id takes precedence over the key's, which suggests that the value's is missing.
    """
    names = [name for name, _ in headers]
    if VALUE_HEADER in names:
        what = f"the schema id is in the header {VALUE_HEADER}"
        return Misplaced(what, _READ_THEM, VALUE_HEADER)
    found = next((name for name in names if name.startswith(APICURIO)), None)
    if found is not None:
        return Misplaced(f"the schema id is in Apicurio's headers ({found})", _READ_THEM, found)
    if KEY_HEADER in names:
        what = f"the schema id of its key is in the header {KEY_HEADER}, that of its value is not"
        return Misplaced(what, _CONFLUENT_KEY, KEY_HEADER)
    found = next((name for name in names if name.startswith(APICURIO_KEY)), None)
    if found is not None:
        what = f"the schema id of its key is in Apicurio's headers ({found}), that of its value is"
        return Misplaced(f"{what} not", _APICURIO_KEY, found)
    return None


EIGHT_BYTES = Misplaced(
    "no registry has a schema 0, so the id seems to have 8 bytes instead of 4", _READ_THEM
)


def misplaced(value: bytes) -> Misplaced:
    """Return what a value without a schema id in front of it or in headers is, as far as known."""
    if value[:1] in (b"{", b"["):
        return Misplaced("the value begins like JSON", _JSON)
    kind = next((kind for beginning, kind in _BEGINNINGS if value.startswith(beginning)), None)
    return Misplaced(kind or "neither its headers nor its first bytes name a schema", _WIRE_FORMAT)
