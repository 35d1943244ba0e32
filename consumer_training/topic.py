"""The input topic and its writer schemas, as the trainer reads them from broker and registry.

Law: each schema is asked for and compiled once; an outage is a TransportError and never an unknown schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import structlog
from fastavro.schema import SchemaParseException, UnknownType, fingerprint, to_parsing_canonical_form

from shared.batch import Batch
from shared.codec import Plans, SchemaUnfit, WriterPlan, compile_plan
from shared.kafka import Admin, Reader
from shared.registry import Registry
from shared.settings import InputSettings, Settings

log = structlog.get_logger()


class KafkaTopic:
    """The input topic on a broker."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.topics.input
        self._admin = Admin(settings)
        self._reader = Reader(settings)

    def ends(self) -> Mapping[int, int]:
        """Return the end offsets."""
        return self._admin.end_offsets(self.name)

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        """Read a window of the topic."""
        return self._reader.read(self.name, start, end)

    def close(self) -> None:
        """Let go of the broker."""
        self._reader.close()
        self._admin.close()


class RegistrySchemas:
    """Writer schemas from the registry, each asked for and compiled once."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.registry)
        self._input: InputSettings = settings.input
        self._plans: dict[int, WriterPlan | SchemaUnfit | None] = {}

    def plans(self, ids: Sequence[int]) -> Plans:
        """Return a plan, a SchemaUnfit or None for each id."""
        for schema_id in ids:
            if schema_id not in self._plans:
                self._plans[schema_id] = self._plan(schema_id)
        return {schema_id: self._plans[schema_id] for schema_id in ids}

    def fingerprints(self, ids: Sequence[int]) -> list[str]:
        """Return the SHA-256 of each known schema's parsing canonical form."""
        texts = (self._registry.schema(schema_id) for schema_id in ids)
        return [schema_sha256(text) for text in texts if text is not None]

    def _plan(self, schema_id: int) -> WriterPlan | SchemaUnfit | None:
        text = self._registry.schema(schema_id)
        if text is None:
            return None
        try:
            return compile_plan(text, self._input)
        except SchemaUnfit as unfit:
            log.warning("schema does not fit", schema_id=schema_id, why=str(unfit))
            return unfit


def schema_sha256(text: str) -> str:
    """Fingerprint a schema by its parsing canonical form, as Avro defines it; by its text where it is not Avro."""
    try:
        return fingerprint(to_parsing_canonical_form(json.loads(text)), "SHA-256")
    except (SchemaParseException, UnknownType, ValueError):
        return hashlib.sha256(text.encode()).hexdigest()
