"""Which decoder reads the input: the one place where a format is chosen.

Invariant: prediction, training, backtest and dead letters open the input's decoder here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.decode.avro.decoder import AvroDecoder
from shared.decode.avro.writer_schemas import Met, WriterSchemas, ignore
from shared.ports import Decoder
from shared.settings import InputSettings


class SchemaRegistry(Protocol):
    """Where the schemas of records are asked for by id."""

    @property
    def address(self) -> str:
        """What to call it in an error."""
        ...

    def schema(self, schema_id: int) -> str | None:
        """Return a schema's text, None = there is none of that id; raises TransportError."""
        ...


def open_decoder(
    settings: InputSettings,
    registry: SchemaRegistry,
    clock: Callable[[], float],
    met: Met = ignore,
) -> Decoder:
    """Return the decoder of the input.

    clock : monotonic seconds
    met   : is called with each writer schema that is met
    """
    schemas = WriterSchemas(registry.schema, registry.address, settings, clock, met)
    return AvroDecoder(schemas, settings)
