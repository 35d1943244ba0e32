"""Check of how the newest records of the input are read."""

from __future__ import annotations

from collections.abc import Callable

from lapwing.doctor.findings import Finding, count
from lapwing.inspect.reading import Inspection
from shared.errors import LapwingError, TopicMismatch
from shared.settings import Settings

NEWEST_RECORDS = 500
"""Number of newest records of the input that are checked."""

SHOWN_HINTS = 3
"""Number of warnings that are shown in full."""


def check_input(settings: Settings, inspect: Callable[[], Inspection]) -> Finding:
    """Report in one line how records are read as entity, time and metrics, and which are not.

    look : returns an inspection of the newest records of the input
    """
    try:
        inspection = inspect()
    except TopicMismatch:
        return Finding("input", "skipped", "needs the topics")
    except LapwingError as error:
        remedy = "lapwing inspect, once broker and registry answer"
        return Finding("input", "warning", str(error), remedy)
    if not inspection.rows and not inspection.readings:
        message = f"{settings.topics.input} has no records, and its subject no schema yet"
        return Finding("input", "skipped", message)
    return _report(inspection)


def _report(inspection: Inspection) -> Finding:
    message = "none of the newest records has a known schema"
    if inspection.readings:
        message = inspection.readings[0].line
    further = len(inspection.readings) - 1
    if further > 0:
        message += f"; {further} other schema{'' if further == 1 else 's'}"
    unread = max(inspection.rows - inspection.read, 0)
    if unread:
        reasons = ", ".join(f"{letters.reason} {letters.count:,}" for letters in inspection.dead)
        message += (
            f"; {unread:,} of the newest {inspection.rows:,} records would become dead letters:"
            f" {reasons}"
        )
    hints = [
        *inspection.warnings,
        *(hint for reading in inspection.readings for hint in reading.warnings),
    ]
    message += "".join(f"; {hint}" for hint in hints[:SHOWN_HINTS])
    if len(hints) > SHOWN_HINTS:
        message += f"; and {count(len(hints) - SHOWN_HINTS, 'further warning')}"
    nothing_read = inspection.rows > 0 and not inspection.read
    if nothing_read or any(reading.unfit for reading in inspection.readings[:1]):
        remedy = "lapwing inspect names the missing field or setting"
        return Finding("input", "failed", message, remedy)
    if hints:
        remedy = "lapwing inspect shows the details"
        return Finding("input", "warning", message, remedy)
    if unread:
        remedy = "lapwing inspect shows the cause; repair the producer"
        return Finding("input", "warning", message, remedy)
    return Finding("input", "ok", message)
