"""What people say about incidents: whether there was a trouble, and why.

Invariant: of each incident the newest feedback counts, so that writing it twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import schemas
from shared.batch import Blob, Outgoing
from shared.encode.results import encode_results
from shared.errors import DataError
from shared.wording import iso

MOST_NOTE, MOST_AUTHOR = 1_000, 100
REQUIRED = ("incident_id", "was", "note", "author", "written_at", "title", "windows")

Record = Mapping[str, Any]


class Was(StrEnum):
    """What an incident was."""

    REAL = "real"
    NOISE = "noise"


def feedback_on(incident: Record, was: Was, note: str, author: str, now_ms: int) -> dict[str, Any]:
    """Return the feedback record on an incident.

    incident : its newest record
    now_ms   : wall-clock time
    raises   : ValueError that names the field and what is allowed
    """
    for name, text, most in (("note", note, MOST_NOTE), ("author", author, MOST_AUTHOR)):
        if len(text) > most:
            raise ValueError(f"{name} has {len(text)} characters, at most {most} are allowed")
    return {
        "incident_id": incident["incident_id"],
        "was": was.value,
        "note": note,
        "author": author,
        "written_at": now_ms,
        "title": incident["title"],
        "windows": _windows(incident),
    }


def outgoing(
    topic: str, incident_id: str, feedback: Record | None, schema_id: int | None
) -> Outgoing:
    """Return the record for the topic; feedback None = it is taken back, schema_id None = JSON."""
    values = Blob.join([b""])
    if feedback is not None:
        values = encode_results(schemas.text(schemas.FEEDBACK), schema_id, [feedback])
    return Outgoing(topic, values, Blob.join([incident_id.encode()]))


def complete(record: Record) -> Record:
    """Return a decoded record; raise KeyError or ValueError for another one."""
    for name in REQUIRED:
        record[name]
    Was(record["was"])
    return record


def labels_text(feedback: Mapping[str, Record], incidents: Mapping[str, Record]) -> str:
    """Return the incidents that were real as a file that ``lapwing train --labels`` reads.

    incidents : records that are kept; their times count, because they may have changed since
    raises    : DataError where no incident was real, or all that were are still open
    """
    real = [one for one in feedback.values() if one["was"] == Was.REAL]
    windows = [
        window
        for one in sorted(real, key=lambda one: str(one["incident_id"]))
        for window in (
            _windows(incidents[one["incident_id"]])
            if one["incident_id"] in incidents
            else one["windows"]
        )
    ]
    closed = [window for window in windows if window["end"] is not None]
    if not closed:
        state = "all that are marked real are still open" if real else "none is marked real"
        raise DataError(f"no incident can be exported: {state}")
    anomalies = [
        {
            "entity": window["entity"],
            "start": iso(window["start"]),
            "end": iso(window["end"]),
            "kind": Was.REAL.value,
        }
        for window in closed
    ]
    return json.dumps({"anomalies": anomalies}, ensure_ascii=False, indent=1) + "\n"


def _windows(incident: Record) -> list[dict[str, Any]]:
    return [
        {"entity": one["entity"], "start": one["start"], "end": one["end"]}
        for one in incident["episodes"]
    ]
