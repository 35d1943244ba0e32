"""Hints about values that are not in Confluent's wire format: what they are, and a remedy.

Invariant: hints depend on a record's headers and first bytes; they never decide whether a record is
valid.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.batch import Headers

VALUE_HEADER, KEY_HEADER = "__value_schema_id", "__key_schema_id"
"""Headers with the GUID of Confluent's header_schema_id_serializer (HeaderSchemaIdSerializer).

Apicurio's serializers put ids into apicurio.value.* and apicurio.key.*, version 2 by default.
"""

_CONFLUENT = (
    "have the producer write it in front of the value: value.schema.id.serializer="
    "io.confluent.kafka.serializers.schema.id.PrefixSchemaIdSerializer in Java, "
    "'schema.id.serializer': prefix_schema_id_serializer in confluent-kafka for Python"
)
_AS_CONFLUENT = "apicurio.registry.as-confluent=true and apicurio.registry.use-id=contentId"
_APICURIO = (
    "have the producer write it in front of the value: apicurio.registry.headers.enabled=false, "
    f"and with version 2 of its serializers {_AS_CONFLUENT} as well"
)
_EIGHT_BYTES = f"with version 2 of Apicurio's serializers set {_AS_CONFLUENT} to write 4"
_JSON = "input.format=json reads JSON, one object per record"
_WIRE_FORMAT = "have the producer write Avro with a schema registry's serializer"

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


def id_in_headers(headers: Headers) -> Misplaced | None:
    """Return which header contains the schema id; None where no header does.

    The value's id takes precedence over the key's, which suggests that the value's is missing.
    """
    names = [name for name, _ in headers]
    for part, confluent in (("value", VALUE_HEADER), ("key", KEY_HEADER)):
        of_key = "" if part == "value" else " of its key"
        if confluent in names:
            what = f"the schema id{of_key} is in the header {confluent}, which is not read"
            return Misplaced(what, _CONFLUENT, confluent)
        found = next((name for name in names if name.startswith(f"apicurio.{part}.")), None)
        if found is not None:
            what = f"the schema id{of_key} is in Apicurio's headers ({found}), which are not read"
            return Misplaced(what, _APICURIO, found)
    return None


def misplaced(value: bytes, headers: Headers) -> Misplaced | None:
    """Return what a value without a readable schema id is; None for an unknown kind."""
    in_headers = id_in_headers(headers)
    if in_headers is not None:
        return in_headers
    if value[:5] == bytes(5) and len(value) > 9:
        what = "no registry has a schema 0, so the id seems to have 8 bytes instead of 4"
        return Misplaced(what, _EIGHT_BYTES)
    if value[:1] in (b"{", b"["):
        return Misplaced("the value begins like JSON", _JSON)
    kind = next((kind for beginning, kind in _BEGINNINGS if value.startswith(beginning)), None)
    return None if kind is None else Misplaced(kind, _WIRE_FORMAT)
