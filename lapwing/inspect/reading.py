"""The values that ``lapwing inspect`` shows: how rows of one kind, and a whole source, are read.

Invariant: values only; rendering adds no information.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.decode.field_choice import FieldChoice
from shared.settings import InputSettings
from shared.wording import iso

EXAMPLES = 3
"""Number of decoded rows that are shown."""


@dataclass(frozen=True, slots=True)
class Example:
    """One decoded row; time in ISO 8601, None = missing value."""

    entity: str
    time: str
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows of one writer schema, or of one file, are read.

    source   : the schema's id and record, or the file
    rows     : number of inspected rows; read: number of rows that can be read
    entity   : fields (columns) that form the entity
    time     : field with the event time;  time_by: source of its unit
    metrics  : names of the metrics
    left_out : (field, reason) of all other fields
    unfit    : why such rows cannot be read; empty if they can
    warnings : sentences about data that may be misread
    examples : the newest rows
    """

    source: str
    rows: int
    read: int
    entity: tuple[str, ...] = ()
    time: str = ""
    time_by: str = ""
    metrics: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    unfit: str = ""
    warnings: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def fields(self) -> FieldChoice:
        """How the fields are read; only for a reading that is not unfit."""
        return FieldChoice(
            record="",
            entity=self.entity,
            time=self.time,
            time_unit="",
            time_by=self.time_by,
            metrics=self.metrics,
            left_out=self.left_out,
        )

    @property
    def line(self) -> str:
        """The reading in one line."""
        return f"{self.source}: {self.unfit or self.fields.line}"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Records that cannot be read for one reason.

    why    : the reason in a sentence, with the remedy if one is known
    header : header with their schema id; empty if none
    place  : coordinates of the newest
    """

    reason: str
    count: int
    why: str
    header: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of inspecting a topic or a folder.

    source   : description of the inspected records or files
    kind     : record or row
    rows     : number of inspected rows
    readings : readings of each kind of row; that of the newest row first
    dead     : records that would become dead letters, or bad rows; most frequent reason first
    warnings : warnings about the source as a whole
    settings : {name: value} of the settings that decide how rows are read
    """

    source: str
    kind: str
    rows: int
    readings: tuple[Reading, ...]
    dead: tuple[DeadLetters, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """Number of rows that can be read."""
        return sum(reading.read for reading in self.readings)

    @property
    def document(self) -> dict[str, Any]:
        """The inspection as a JSON document."""
        return asdict(self) | {"read": self.read, "dead_letters": self.rows - self.read}


def deciding_settings(settings: InputSettings) -> dict[str, str]:
    """Return the settings that decide how a row is read, as text."""
    return {
        "input.format": settings.format,
        "input.schema_ids": settings.schema_ids,
        "input.entity_fields": ",".join(settings.entity_fields),
        "input.time_field": settings.time_field,
        "input.time_unit": settings.time_unit,
        "input.metric_field": settings.metric_field,
        "input.value_field": settings.value_field,
        "input.include": ",".join(settings.include),
        "input.exclude": ",".join(settings.exclude),
    }


def shown_time(time_ms: int) -> str:
    """Format a time in ISO 8601, UTC; a time outside the calendar as a number."""
    try:
        return iso(time_ms, finest="milliseconds" if time_ms % 1000 else "seconds")
    except OverflowError:
        return f"{time_ms} ms"
