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
from shared.decode.long_form import with_long_form
from shared.ports import Decoder
from shared.schema_ids import SchemaKey
from shared.settings import InputSettings


class SchemaRegistry(Protocol):
    """Where schemas are looked up."""

    @property
    def address(self) -> str:
        """The name to show in an error."""
        ...

    def schema(self, key: SchemaKey) -> str | None:
        """Return a schema's text, None = it is unknown; raises TransportError."""
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
        return with_long_form(settings, lambda wanted: JsonDecoder(wanted, met))

    def open_avro(wanted: InputSettings) -> Decoder:
        report = met if wanted is settings else ignore
        schemas = WriterSchemas(registry.schema, registry.address, wanted, clock, report)
        return AvroDecoder(schemas, wanted)

    return with_long_form(settings, open_avro)
