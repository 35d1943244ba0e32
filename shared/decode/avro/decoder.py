"""The input as Avro in Confluent's wire format: the decoder that a schema registry stands behind.

Invariant: a batch is decoded by the schemas as they were found when it was prepared.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.batch import Batch, Headers
from shared.columns import Columns
from shared.decode.avro.misplaced import id_in_headers, misplaced
from shared.decode.avro.plan import WriterPlan
from shared.decode.avro.rows import decode, schema_ids
from shared.decode.avro.writer_schemas import WriterSchemas, ignore
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

_UNREADABLE = (Reason.NOT_AVRO, Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.MALFORMED)
"""A value without its schema's id may begin with 0 all the same; another schema then reads it."""


class AvroDecoder:
    """Reads records by the schema whose id each of them carries; a ``Decoder``."""

    def __init__(self, schemas: WriterSchemas, settings: InputSettings) -> None:
        self._schemas = schemas
        self._settings = settings

    @classmethod
    def of_schemas(cls, texts: Mapping[int, str | None], settings: InputSettings) -> AvroDecoder:
        """Return a decoder that knows these schemas by id, and no registry.

        All of them are allowed and prepared; None = nobody knows the id.
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

    def decode(
        self, batch: Batch, entities: Directory, metrics: list[str], max_entities: int
    ) -> Columns:
        """Decode a batch; see ``Decoder``.

        raises : KeyError where the batch has not been prepared
        """
        plans = self._schemas.plans
        return decode(batch, plans, self._settings, entities, metrics, max_entities)

    def plan(self, schema_id: int) -> WriterPlan | UnsupportedSchema | None:
        """Return how records of a schema that was prepared are read; None = nobody knows it."""
        return self._schemas.plans.get(schema_id)

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Name the schema and what is wrong with it, or where its id went; see ``Decoder``."""
        if reason in _UNREADABLE:
            known = (
                misplaced(value, headers) if reason is Reason.NOT_AVRO else id_in_headers(headers)
            )
            return "" if known is None else str(known)
        if reason not in (Reason.UNKNOWN_SCHEMA, Reason.SCHEMA_UNFIT):
            return ""
        schema_id = int.from_bytes(value[1:5], "big")
        plan = self.plan(schema_id)
        more = plan if isinstance(plan, UnsupportedSchema) else misplaced(value, headers)
        return f"schema id {schema_id}" + ("" if more is None else f": {more}")

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was prepared and can be read, sorted."""
        return sorted({found.sha256 for found in self._schemas.readable_fingerprints()})
