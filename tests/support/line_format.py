"""A toy input format, added from outside: one line of text per record, without a schema.

host-1 1400000000000 cpu=1.5 network=-
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from shared.batch import Batch, Headers
from shared.columns import Columns
from shared.decode.one_by_one import Reading, decode_one_by_one
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

MISSING = "-"


def write_line(host: str, time_ms: int, values: Mapping[str, float]) -> bytes:
    """NaN = missing."""
    cells = (
        f"{name}={MISSING if math.isnan(value) else repr(value)}" for name, value in values.items()
    )
    return " ".join([host, str(time_ms), *cells]).encode()


class LineDecoder:
    entity_name = "host"

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings

    def prepare(self, batch: Batch) -> None:
        """No lookup is needed."""

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        return decode_one_by_one(batch, read_line, self._settings, entities, metrics)

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        return "a line is: entity time_ms metric=number ..." if reason is Reason.MALFORMED else ""

    def schema_sha256(self) -> list[str]:
        return []


def read_line(value: bytes, headers: Headers) -> Reading | Reason:
    try:
        host, time_ms, *cells = value.decode().split(" ")
        named = [cell.split("=") for cell in cells]
        values = {name: None if text == MISSING else float(text) for name, text in named}
        return Reading(host, int(time_ms), values)
    except ValueError:
        return Reason.MALFORMED
