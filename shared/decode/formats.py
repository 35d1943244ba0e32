"""The choice of the decoder that reads the input.

Invariant: prediction, training, backtest and dead letters all open the input's decoder here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.writer_schemas import WriterSchemas
from shared.decode.field_choice import Met, ignore
from shared.decode.json.decoder import JsonDecoder
from shared.ports import Decoder
from shared.settings import InputSettings


class SchemaRegistry(Protocol):
    """Where schemas are looked up by id."""

    @property
    def address(self) -> str:
        """The name to show in an error."""
        ...

    def schema(self, schema_id: int) -> str | None:
        """Return a schema's text, None = the id is unknown; raises TransportError."""
        ...


def open_decoder(
    settings: InputSettings,
    registry: SchemaRegistry,
    clock: Callable[[], float],
    met: Met = ignore,
) -> Decoder:
    """Return the decoder of the input.

    clock : monotonic seconds
    met   : called with each new writer schema in the input, or new set of names
    """
    if settings.format == "json":
        return JsonDecoder(settings, met)
    schemas = WriterSchemas(registry.schema, registry.address, settings, clock, met)
    return AvroDecoder(schemas, settings)
