"""Feedback on incidents from the command line: given, listed, taken back and exported.

Invariant: of each incident the newest feedback counts; an unknown incident is refused by name.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from dashboard.feedback_writer import FeedbackWriter
from lapwing.incidents.incident_list import (
    all_feedback,
    all_incidents,
    find_incident,
    printable,
)
from shared.errors import ConfigError, DataError
from shared.incidents.feedback import Was, feedback_on, labels_text
from shared.operations.telemetry import line
from shared.settings import Settings
from shared.wording import iso, minute

Record = Mapping[str, Any]
Write = Callable[[str, dict[str, Any] | None], None]


def add_feedback(
    settings: Settings,
    incident_id: str,
    was: Was,
    note: str,
    author: str,
    write: Write | None = None,
    out: TextIO | None = None,
) -> None:
    """Write what an incident was; it replaces earlier feedback on it.

    incident_id : or its beginning, if no other has the same
    raises      : ConfigError for an unknown or ambiguous id, or too long a text; TransportError,
                  TopicMismatch
    """
    incident = find_incident(settings, incident_id, all_incidents(settings))
    try:
        record = feedback_on(incident, was, note, author, int(time.time() * 1000))
    except ValueError as error:
        raise ConfigError(f"feedback: {error}") from error
    (write or FeedbackWriter(settings).write)(incident["incident_id"], record)
    (out or sys.stdout).write(to_line(record) + "\n")


def undo_feedback(
    settings: Settings, incident_id: str, write: Write | None = None, out: TextIO | None = None
) -> None:
    """Take feedback back.

    incident_id : or its beginning, if there is no feedback on another one with the same
    raises      : ConfigError where there is none; TransportError, TopicMismatch
    """
    found = [one for one in all_feedback(settings) if incident_id and one.startswith(incident_id)]
    if len(found) != 1:
        raise ConfigError(
            f"incident {incident_id!r}: there is feedback on {len(found)} incidents that begin with"
            f" it in {settings.topics.feedback}; `lapwing feedback list` shows all"
        )
    (write or FeedbackWriter(settings).write)(found[0], None)
    (out or sys.stdout).write(line("feedback taken back", {"incident": found[0]}) + "\n")


def list_feedback(settings: Settings, *, as_json: bool, out: TextIO | None = None) -> int:
    """Print all feedback, the newest last; return how many there are.

    raises : TransportError, TopicMismatch
    """
    records = sorted(all_feedback(settings).values(), key=lambda one: int(one["written_at"]))
    target = out or sys.stdout
    for record in records:
        target.write((_to_json(record) if as_json else to_line(record)) + "\n")
    if not records and not as_json:
        target.write(f"no feedback in {settings.topics.feedback}\n")
    return len(records)


def export_feedback(settings: Settings, file: Path, out: TextIO | None = None) -> int:
    """Write incidents that were real as a label file; return the number of windows.

    raises : DataError where there is none, or the file cannot be written; TransportError,
             TopicMismatch
    """
    text = labels_text(all_feedback(settings), all_incidents(settings))
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise DataError(f"{file}: it cannot be written: {error.strerror or error}") from error
    count = len(json.loads(text)["anomalies"])
    windows = "1 window" if count == 1 else f"{count} windows"
    target = out or sys.stdout
    target.write(f"{file}: {windows}; use it with `lapwing train --labels {file}`\n")
    return count


def to_line(record: Record) -> str:
    """Write a record as one line for a person."""
    fields = {
        "incident": record["incident_id"][:12],
        "at": minute(record["written_at"]),
        "by": printable(record["author"]) or None,
        "note": printable(record["note"]) or None,
        "title": record["title"],
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return line(f"feedback {record['was']}", given)


def _to_json(record: Record) -> str:
    windows = [
        {**one, "start": iso(one["start"]), "end": None if one["end"] is None else iso(one["end"])}
        for one in record["windows"]
    ]
    shown = {**record, "written_at": iso(record["written_at"]), "windows": windows}
    return json.dumps(shown, ensure_ascii=False)
