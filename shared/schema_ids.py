"""How a record names its writer schema: by a registry's id, or by another kind of number.

Invariant: plain values; two names of one schema are different keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class IdKind(StrEnum):
    """What numbers or names a schema, other than the id of Confluent's API."""

    GUID = "Confluent's GUID"
    GLOBAL_ID = "Apicurio's global id"
    CONTENT_ID = "Apicurio's content id"


@dataclass(frozen=True, slots=True)
class SchemaRef:
    """The name of a schema; ``value`` is a GUID as text, or a number."""

    kind: IdKind
    value: str | int

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


SchemaKey = int | SchemaRef
"""The id of Confluent's API, or another name of a schema."""


def key_text(key: SchemaKey) -> str:
    """Return the name for messages, such as ``schema id 7``."""
    return f"schema id {key}" if isinstance(key, int) else str(key)
