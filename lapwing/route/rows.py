"""Rows as every format gives them, and why a row or a record is refused.

Invariant: a decoder is a pure function of a record's bytes and the settings. It yields one item for
each row, in the record's order: the row, why it is refused, or None where there is nothing to
write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

WHOLE_RECORD = -1
"""The row of a refusal that is about the whole record."""

SHOWN_CHARACTERS = 60
"""Longest part of a record that a sentence shows."""


class Refused(StrEnum):
    """Why a row, or a whole record, is refused; the value is the code in headers and metrics."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TOO_MANY_ROWS = "too_many_rows"
    MALFORMED = "malformed"
    NOT_SUPPORTED = "not_supported"
    ROW_UNFIT = "row_unfit"
    LABEL_MISSING = "label_missing"
    ENTITY_INVALID = "entity_invalid"
    METRIC_INVALID = "metric_invalid"
    TIME_INVALID = "time_invalid"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    NOT_FINITE = "not_finite"
    TOO_MANY_SCHEMAS = "too_many_schemas"


class Sample(NamedTuple):
    """One row: what was measured of one thing at one time.

    name    : of the measurement or metric
    labels  : text by name; a value that is no text counts as missing
    time_ms : event time, ms since 1970 UTC
    fields  : {name: value}; "" names the only value of a metric. None is a missing value; what is
              no number is left out
    """

    name: str
    labels: Mapping[str, object]
    time_ms: int
    fields: Mapping[str, object]


class Refusal(NamedTuple):
    """Why a row is refused.

    detail : a sentence that names row, field or offset, and what is allowed
    """

    code: Refused
    detail: str


class RecordRefused(Exception):
    """The whole record cannot be read; raised before any row of it is yielded."""

    def __init__(self, code: Refused, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(code, detail)


Row = Sample | Refusal | None


class RowDecoder(Protocol):
    """Reads the records of one format."""

    @property
    def format(self) -> str:
        """Value of ``route.format``."""
        ...

    def where(self, row: int) -> str:
        """Return how the format's readers name a row, for messages: line 3, metrics[2]."""
        ...

    def rows(self, value: bytes) -> Iterable[Row]:
        """Yield the rows of a record; raises RecordRefused."""
        ...


def shown(text: object) -> str:
    """Return a part of a record for a sentence: short and printable."""
    plain = str(text)
    short = plain if len(plain) <= SHOWN_CHARACTERS else f"{plain[:SHOWN_CHARACTERS]}..."
    return short if short.isprintable() else short.encode("unicode_escape").decode()
