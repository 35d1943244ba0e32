"""The input topic and its writer schemas, as the trainer reads them from broker and registry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import structlog

from shared.batch import Batch
from shared.decode.avro.fingerprints import Fingerprint
from shared.decode.avro.plan import WriterPlan
from shared.decode.avro.writer_schemas import WriterSchemas
from shared.decode.field_choice import UnsupportedSchema
from shared.kafka import Admin, Reader
from shared.registry import Registry
from shared.settings import Settings

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


def writer_schemas(settings: Settings) -> WriterSchemas:
    """Return the writer schemas that the registry knows."""
    registry = Registry(settings.registry)
    return WriterSchemas(registry.schema, registry.address, settings.input, time.monotonic, _met)


def _met(schema_id: int, _: Fingerprint, plan: WriterPlan | UnsupportedSchema) -> None:
    if isinstance(plan, UnsupportedSchema):
        log.warning("schema does not fit", schema_id=schema_id, why=str(plan))
