"""Schema ids that a producer puts into a record's headers instead of before its value.

Invariant: a record's own bytes decide how it is read; these headers only explain why one cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.batch import Headers

_CONFLUENT = (
    "have the id written before the value: Java value.schema.id.serializer="
    "io.confluent.kafka.serializers.schema.id.PrefixSchemaIdSerializer, "
    "Python schema.id.serializer=prefix_schema_id_serializer (the default of both)"
)
_APICURIO = (
    "have the id written before the value: apicurio.registry.headers.enabled=false, "
    "apicurio.registry.as-confluent=true and apicurio.registry.use-id=contentId"
)
_ADVICE = {
    "__value_schema_id": _CONFLUENT,
    "apicurio.value.globalId": _APICURIO,
    "apicurio.value.contentId": _APICURIO,
    "apicurio.value.contentHash": _APICURIO,
    "__key_schema_id": _CONFLUENT,
    "apicurio.key.globalId": _APICURIO,
    "apicurio.key.contentId": _APICURIO,
}
"""Of the value first: where both have one, it is the value's that is looked for."""


@dataclass(frozen=True, slots=True)
class HeaderId:
    """A header that holds a schema id, and what the producer's settings should say instead."""

    name: str
    advice: str

    @property
    def sentence(self) -> str:
        """Both, for a person."""
        where = f"the schema id stands in the header {self.name}, where it is not looked for"
        return f"{where}; {self.advice}"


def header_id(headers: Headers) -> HeaderId | None:
    """Return the header that holds a schema id; None where there is no such header."""
    names = {name for name, _ in headers}
    return next((HeaderId(name, advice) for name, advice in _ADVICE.items() if name in names), None)
