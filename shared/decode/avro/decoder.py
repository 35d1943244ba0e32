"""The decoder for Avro in Confluent's wire format, with schemas from a registry.

Invariant: a batch is decoded by the schemas that were found when it was prepared.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.batch import Batch, Headers
from shared.columns import Columns
from shared.decode.avro.misplaced import id_in_headers, misplaced
from shared.decode.avro.plan import WriterPlan
from shared.decode.avro.rows import decode, schema_ids
from shared.decode.avro.writer_schemas import WriterSchemas
from shared.decode.field_choice import UnsupportedSchema, ignore
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

_UNREADABLE = (Reason.NOT_AVRO, Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.MALFORMED)
"""Reasons that a missing schema id may cause: a value may start with 0 by chance."""


class AvroDecoder:
    """A ``Decoder`` that reads each record by the schema whose id it contains."""

    def __init__(self, schemas: WriterSchemas, settings: InputSettings) -> None:
        self._schemas = schemas
        self._settings = settings

    @classmethod
    def of_schemas(cls, texts: Mapping[int, str | None], settings: InputSettings) -> AvroDecoder:
        """Return a decoder for these schemas, without a registry.

        All of them are allowed and prepared; None = unknown id.
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
        self._schemas.prepare(schema_ids(batch))

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch; see ``Decoder``.

        raises : KeyError where the batch has not been prepared
        """
        plans = self._schemas.plans
        return decode(batch, plans, self._settings, entities, metrics)

    def plan(self, schema_id: int) -> WriterPlan | UnsupportedSchema | None:
        """Return the plan of a schema that was prepared; None = unknown id."""
        return self._schemas.plans.get(schema_id)

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return the schema and what is wrong with it, or where its id is; see ``Decoder``."""
        if reason in _UNREADABLE:
            is_foreign = reason is Reason.NOT_AVRO
            hint = misplaced(value, headers) if is_foreign else id_in_headers(headers)
            return "" if hint is None else str(hint)
        if reason not in (Reason.UNKNOWN_SCHEMA, Reason.SCHEMA_UNFIT):
            return ""
        schema_id = int.from_bytes(value[1:5], "big")
        plan = self.plan(schema_id)
        detail = plan if isinstance(plan, UnsupportedSchema) else misplaced(value, headers)
        text = f"schema id {schema_id}"
        return text if detail is None else f"{text}: {detail}"

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was prepared and can be read, sorted."""
        return sorted({found.sha256 for found in self._schemas.readable_fingerprints()})
