"""The input topic and its decoder, as the trainer reads them from broker and registry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import structlog

from shared.batch import Batch
from shared.decode.field_choice import MetSchema
from shared.decode.formats import open_decoder
from shared.kafka import Admin, Reader
from shared.ports import Decoder
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
        """Yield the records between two positions."""
        return self._reader.read(self.name, start, end)

    def identity(self) -> str:
        """Return what tells the topic from others of its name."""
        return "/".join((self._admin.cluster_id(), self._admin.identity(self.name).topic_id))

    def close(self) -> None:
        """Close the connections to the broker."""
        self._reader.close()
        self._admin.close()


def input_decoder(settings: Settings) -> Decoder:
    """Return the input's decoder, with the schemas that the registry knows."""
    return open_decoder(settings.input, Registry(settings.registry), time.monotonic, _log_schema)


def _log_schema(schema: MetSchema) -> None:
    if schema.unsupported:
        log.warning(
            "writer schema not supported", schema_id=schema.schema_id, because=schema.unsupported
        )
