"""Values that are not in Confluent's wire format: what they are, and what helps.

Law: it looks at a record's headers and first bytes and decides nothing; whether a record is good is
for the decoder to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.batch import Headers

VALUE_HEADER, KEY_HEADER = "__value_schema_id", "__key_schema_id"
"""Where Confluent's header_schema_id_serializer, HeaderSchemaIdSerializer in Java, puts a GUID.

Apicurio's serializers put ids into apicurio.value.* and apicurio.key.*; version 2 does by default.
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
_EIGHT_BYTES = f"with version 2 of Apicurio's serializers {_AS_CONFLUENT} make the producer write 4"
_WIRE_FORMAT = "have the producer write Avro with a schema registry's serializer"

_BEGINNINGS = (
    (b"{", "the value begins like JSON"),
    (b"[", "the value begins like JSON"),
    (
        b"\xc3\x01",
        "the value is Avro's single-object encoding, which names a schema by its fingerprint",
    ),
    (b"Obj\x01", "the value is a whole Avro file"),
)


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Where the id of a record's schema is instead of in front of its value.

    what   : a clause about the record
    remedy : what to change, mostly settings of the producer by their names
    header : the header that holds the id; empty = none does
    """

    what: str
    remedy: str
    header: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def id_in_headers(headers: Headers) -> Misplaced | None:
    """Say in which header a record has its schema's id; None where it has none there.

    The value's goes before the key's, which alone hints that the value's is missing.
    """
    names = [name for name, _ in headers]
    for part, confluent in (("value", VALUE_HEADER), ("key", KEY_HEADER)):
        whose = "" if part == "value" else " of its key"
        if confluent in names:
            what = f"the schema id{whose} is in the header {confluent}, which is not read"
            return Misplaced(what, _CONFLUENT, confluent)
        found = next((name for name in names if name.startswith(f"apicurio.{part}.")), None)
        if found is not None:
            what = f"the schema id{whose} is in Apicurio's headers ({found}), which are not read"
            return Misplaced(what, _APICURIO, found)
    return None


def misplaced(value: bytes, headers: Headers) -> Misplaced | None:
    """Say what a value without a readable schema id is; None where nothing is known of its kind."""
    in_headers = id_in_headers(headers)
    if in_headers is not None:
        return in_headers
    if value[:5] == bytes(5) and len(value) > 9:
        what = "no registry has a schema 0, so the id has 8 bytes and not 4"
        return Misplaced(what, _EIGHT_BYTES)
    kind = next((kind for beginning, kind in _BEGINNINGS if value.startswith(beginning)), None)
    return None if kind is None else Misplaced(kind, _WIRE_FORMAT)
