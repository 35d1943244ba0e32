"""What is read of rows of one kind, and of a whole source: the values that ``lapwing inspect``
shows.

Invariant: values only; whoever fills them has looked, whoever renders them adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.decode.field_choice import FieldChoice
from shared.settings import InputSettings
from shared.wording import iso

EXAMPLES = 3
"""Rows that are shown decoded."""


@dataclass(frozen=True, slots=True)
class Example:
    """One decoded row; the time in ISO 8601, None for a value that is missing."""

    entity: str
    time: str
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows of one writer schema, or of one file, are read.

    source   : the schema's id and record, or the file
    rows     : how many were looked at; read: how many of them can be read
    entity   : fields (columns) that are joined to the entity
    time     : field of the event time;  time_by: what says its unit
    metrics  : names of what is measured
    left_out : (field, why) of everything else
    unfit    : why nothing can be read of such rows; empty where it can
    warnings : sentences about what may be misread
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
        """What the fields are read as; of a reading that is not unfit."""
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
        """All of it in one line."""
        return f"{self.source}: {self.unfit or self.fields.line}"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Records that cannot be read, of one reason.

    why    : the reason in a sentence, with what helps where that is known
    header : that holds their schema id, empty if none
    place  : of the newest of them
    """

    reason: str
    count: int
    why: str
    header: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was seen of a topic or a folder.

    source   : what was looked at, in words
    kind     : of what: record or row
    rows     : how many of them were looked at
    readings : the kinds of rows, that of the newest row first
    dead     : what would become dead letters (or is a bad row), most frequent reason first
    warnings : about the source as a whole
    settings : {name: value} of those that decide how it is read
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
        """How many of the rows can be read."""
        return sum(reading.read for reading in self.readings)

    @property
    def document(self) -> dict[str, Any]:
        """All of it, as JSON can carry it."""
        return asdict(self) | {"read": self.read, "dead_letters": self.rows - self.read}


def deciding_settings(settings: InputSettings) -> dict[str, str]:
    """Return the settings that decide how a row is read, as they are written."""
    return {
        "input.entity_fields": ",".join(settings.entity_fields),
        "input.time_field": settings.time_field,
        "input.time_unit": settings.time_unit,
        "input.include": ",".join(settings.include),
        "input.exclude": ",".join(settings.exclude),
    }


def shown_time(time_ms: int) -> str:
    """Write a time in ISO 8601, UTC; one that no calendar has as a number."""
    try:
        return iso(time_ms, finest="milliseconds" if time_ms % 1000 else "seconds")
    except OverflowError:
        return f"{time_ms} ms"
