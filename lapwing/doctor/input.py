"""Check of how the newest records of the input are read."""

from __future__ import annotations

from collections.abc import Callable

from lapwing.doctor.findings import Finding, count
from lapwing.inspect.reading import Inspection
from shared.errors import LapwingError, TopicMismatch
from shared.settings import Settings

LOOKED_AT = 500
"""Newest records of the input that are looked at."""

SHOWN_HINTS = 3
"""So many of what may be misread are said in full."""


def check_input(settings: Settings, look: Callable[[], Inspection]) -> Finding:
    """Say in one line what is read as entity, time and metrics, and what is not read.

    look : at the newest records of the input
    """
    try:
        seen = look()
    except TopicMismatch:
        return Finding("input", "skipped", "needs the topics")
    except LapwingError as error:
        remedy = "lapwing inspect, once broker and registry answer"
        return Finding("input", "warning", str(error), remedy)
    if not seen.rows and not seen.readings:
        said = f"{settings.topics.input} has no records, and its subject no schema yet"
        return Finding("input", "skipped", said)
    return _of_inspection(seen)


def _of_inspection(seen: Inspection) -> Finding:
    said = "none of the newest records has a schema that is known"
    if seen.readings:
        said = seen.readings[0].line
    further = len(seen.readings) - 1
    if further > 0:
        said += f"; {further} other schema{'' if further == 1 else 's'}"
    unread = max(seen.rows - seen.read, 0)
    if unread:
        reasons = ", ".join(f"{one.reason} {one.count:,}" for one in seen.dead)
        said += (
            f"; {unread:,} of the newest {seen.rows:,} records would become dead letters: {reasons}"
        )
    hints = [*seen.warnings, *(hint for reading in seen.readings for hint in reading.warnings)]
    said += "".join(f"; {hint}" for hint in hints[:SHOWN_HINTS])
    if len(hints) > SHOWN_HINTS:
        said += f"; and {count(len(hints) - SHOWN_HINTS, 'further warning')}"
    nothing_read = seen.rows > 0 and not seen.read
    if nothing_read or any(reading.unfit for reading in seen.readings[:1]):
        remedy = "lapwing inspect says which field or setting is missing"
        return Finding("input", "failed", said, remedy)
    if hints:
        remedy = "lapwing inspect shows all of it"
        return Finding("input", "warning", said, remedy)
    if unread:
        remedy = "lapwing inspect says why; repair the producer"
        return Finding("input", "warning", said, remedy)
    return Finding("input", "ok", said)
