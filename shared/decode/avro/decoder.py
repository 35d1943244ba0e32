"""The decoder for Avro with a schema id in front of the value or in headers, and a registry.

Invariant: a batch is decoded by the schemas that were found when it was prepared.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.batch import Batch, Headers
from shared.columns import Columns
from shared.decode.avro.framing import Framing, frame_of, frames_of, key_in_headers
from shared.decode.avro.misplaced import EIGHT_BYTES, Misplaced, id_in_headers, misplaced
from shared.decode.avro.plan import WriterPlan
from shared.decode.avro.rows import decode
from shared.decode.avro.writer_schemas import WriterSchemas
from shared.decode.field_choice import UnsupportedSchema, ignore
from shared.directory import Directory
from shared.events import Reason
from shared.schema_ids import IdKind, SchemaKey, SchemaRef, key_text
from shared.settings import InputSettings

_UNREADABLE = (Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.MALFORMED)
"""Reasons that a missing schema id may cause: a value may start with 0 by chance."""

_WHERE = {
    IdKind.GUID: "a registry answers by GUID from Confluent Platform 8.0 on",
    IdKind.GLOBAL_ID: (
        "it is looked up in Apicurio's own API, where registry.url ends with /apis/ccompat/v7;"
        " input.schema_ids=apicurio_content reads ids in front of values as content ids"
    ),
    IdKind.CONTENT_ID: "it is looked up in Apicurio's API, or in registry.url as an id",
}


class AvroDecoder:
    """A ``Decoder`` that reads each record by the schema that it names."""

    def __init__(self, schemas: WriterSchemas, settings: InputSettings) -> None:
        self._schemas = schemas
        self._settings = settings
        self._framed: dict[int, tuple[Batch, Framing]] = {}

    @classmethod
    def of_schemas(
        cls, texts: Mapping[SchemaKey, str | None], settings: InputSettings
    ) -> AvroDecoder:
        """Return a decoder for these schemas, without a registry.

        All of them are allowed and prepared; None = unknown to the registry.
        """
        allowed = settings.model_copy(update={"schema_fingerprints": ()})
        schemas = WriterSchemas(texts.get, "a list of schemas", allowed, lambda: 0.0, ignore)
        schemas.prepare(texts)
        return cls(schemas, settings)

    @property
    def entity_name(self) -> str:
        """The fields that make up the entity, joined by '/'."""
        return "/".join(self._settings.entity_fields)

    def prepare(self, batch: Batch) -> None:
        """Look up and compile the schemas of a batch that are not known yet; see ``Decoder``."""
        framing = frames_of(batch, self._settings.schema_ids)
        self._schemas.prepare(framing.keys().values())
        self._framed[batch.partition] = batch, framing

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch; see ``Decoder``.

        raises : KeyError where the batch has not been prepared
        """
        plans = self._schemas.plans
        prepared, framing = self._framed.pop(batch.partition, (None, None))
        known = framing if prepared is batch else None
        return decode(batch, plans, self._settings, entities, metrics, known)

    def plan(self, key: SchemaKey) -> WriterPlan | UnsupportedSchema | None:
        """Return the plan of a schema that was prepared; None = unknown to the registry."""
        return self._schemas.plans.get(key)

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return the schema and what is wrong with it, or where its id is; see ``Decoder``."""
        hint = hint_of(value, headers, reason, self._settings.schema_ids)
        frame = frame_of(value, headers, self._settings.schema_ids)
        if frame is None or reason not in (Reason.UNKNOWN_SCHEMA, Reason.SCHEMA_UNFIT):
            return "" if hint is None else str(hint)
        plan = self.plan(frame.key)
        if isinstance(plan, UnsupportedSchema):
            return f"{key_text(frame.key)}: {plan}"
        more = unknown_schema(frame.key) or hint
        return f"{key_text(frame.key)}: {more}" if more else key_text(frame.key)

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was prepared and can be read, sorted."""
        return sorted({found.sha256 for found in self._schemas.readable_fingerprints()})


def hint_of(value: bytes, headers: Headers, reason: Reason, schema_ids: str) -> Misplaced | None:
    """Return what a record has instead of a readable schema id; None where that is no cause.

    schema_ids : the setting input.schema_ids
    """
    if reason is Reason.NOT_AVRO:
        in_headers = key_in_headers(headers)
        if schema_ids != "confluent" and isinstance(in_headers, Misplaced):
            return in_headers
        return id_in_headers(headers) or misplaced(value)
    frame = frame_of(value, headers, schema_ids)
    if frame is not None and frame.begin == 0:
        return None
    is_unknown = reason is Reason.UNKNOWN_SCHEMA
    if is_unknown and schema_ids == "confluent" and value[:5] == bytes(5):
        return id_in_headers(headers) or EIGHT_BYTES
    if reason in _UNREADABLE or is_unknown:
        return id_in_headers(headers)
    return None


def unknown_schema(key: SchemaKey) -> str:
    """Return where an unknown schema was looked up, if not by the id of Confluent's API."""
    return _WHERE[key.kind] if isinstance(key, SchemaRef) else ""
