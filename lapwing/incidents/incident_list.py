"""The commands ``lapwing incidents list``, ``show`` and ``follow``.

Invariant: what is shown is what committed records of the incidents topic say; nothing is changed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TextIO

from shared.encode.results import decode_result
from shared.errors import ConfigError, TopicMismatch
from shared.incidents.incident_topic import newest_records
from shared.incidents.similar import episodes_of, nearest, question_of, similar_document
from shared.kafka import Reader
from shared.operations.telemetry import line
from shared.registry import Registry
from shared.settings import Settings
from shared.wording import duration, iso, minute

_TIMES = ("start", "end", "peak_time", "recorded_at", "window_start")

Record = Mapping[str, Any]


def list_incidents(
    settings: Settings, *, state: str, limit: int, as_json: bool, out: TextIO | None = None
) -> int:
    """Print the newest incidents, one per line; return how many.

    state  : open, closed or all
    raises : TransportError, TopicMismatch
    """
    records = [one for one in all_incidents(settings).values() if state in ("all", one["state"])]
    records.sort(key=lambda one: (one["start"], one["incident_id"]))
    target = out or sys.stdout
    for record in records[-limit:]:
        target.write((to_json(record) if as_json else to_line(record)) + "\n")
    if not records and not as_json:
        kind = "" if state == "all" else f"{state} "
        target.write(f"no {kind}incidents in {settings.topics.incidents}\n")
    return len(records)


def show_incident(
    settings: Settings, incident_id: str, *, as_json: bool, out: TextIO | None = None
) -> None:
    """Print one incident with its episodes, and similar past ones.

    incident_id : or its beginning, if no other has the same
    raises      : ConfigError for an unknown or ambiguous id; TransportError, TopicMismatch
    """
    records = all_incidents(settings)
    found = find_incident(settings, incident_id, records)
    similar = similar_to(found, records, feedback_if_any(settings))
    record = dict(found) | {"similar": similar}
    text = to_json(record) if as_json else "\n".join(to_page(record))
    (out or sys.stdout).write(text + "\n")


def find_incident(settings: Settings, incident_id: str, records: Mapping[str, Record]) -> Record:
    """Return the incident of an id or of its beginning.

    records : all incidents
    raises  : ConfigError for an unknown or ambiguous id
    """
    if incident_id in records:
        return records[incident_id]
    found = [one for one in records.values() if one["incident_id"].startswith(incident_id)]
    if incident_id and len(found) == 1:
        return found[0]
    topic = settings.topics.incidents
    many = f"{len(found)} incidents of {topic} begin with it; write more of it"
    none = f"{topic} has no such incident; `lapwing incidents list --state all` shows all"
    raise ConfigError(f"incident {incident_id!r}: {many if found else none}")


def similar_to(
    record: Record, records: Mapping[str, Record], feedback: Mapping[str, Record]
) -> list[dict[str, Any]]:
    """Return the past episodes of other incidents that resemble the one that opened an incident."""
    question = question_of(record)
    if question is None:
        return []
    near = nearest(question, episodes_of(records))
    incidents = [one.episode.incident_id for one in near]
    return [
        similar_document(one, records[incident], feedback.get(incident))
        for one, incident in zip(near, incidents, strict=True)
    ]


def follow_incidents(
    settings: Settings,
    *,
    from_beginning: bool,
    limit: int | None,
    timeout_s: float | None,
    as_json: bool,
    out: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Print each change as it comes; return how many.

    limit     : end after this number; None = no limit
    timeout_s : end when no change came for this long; None = wait for ever
    raises    : TransportError, TopicMismatch
    """
    schema = Registry(settings.registry).schema
    start: Literal["beginning", "end"] = "beginning" if from_beginning else "end"
    target = out or sys.stdout
    shown = 0
    last_s = clock()

    def is_silent() -> bool:
        return timeout_s is not None and clock() - last_s >= timeout_s

    for batch in Reader(settings).follow(settings.topics.incidents, start, stopping=is_silent):
        last_s = clock()
        for row in range(len(batch)):
            if not batch.values[row]:
                continue  # a deletion
            record = _or_undecodable(batch.values[row], schema, int(batch.offsets[row]))
            target.write((to_json(record) if as_json else to_line(record)) + "\n")
            shown += 1
            if shown == limit:
                target.flush()
                return shown
        target.flush()
    return shown


def all_incidents(settings: Settings) -> dict[str, Record]:
    """Return the newest record of each incident.

    raises : TransportError, TopicMismatch
    """
    batches = Reader(settings).read(settings.topics.incidents)
    return newest_records(batches, Registry(settings.registry).schema)


def all_feedback(settings: Settings) -> dict[str, Record]:
    """Return the newest feedback on each incident.

    raises : TransportError; TopicMismatch where the topic is missing
    """
    batches = Reader(settings).read(settings.topics.feedback)
    return newest_records(batches, Registry(settings.registry).schema)


def feedback_if_any(settings: Settings) -> dict[str, Record]:
    """Return the newest feedback on each incident; none where the topic is missing."""
    try:
        return all_feedback(settings)
    except TopicMismatch:
        return {}


def _or_undecodable(value: bytes, schema: Callable[[int], str | None], offset: int) -> Record:
    try:
        return decode_result(value, schema)
    except ValueError as error:
        return {"undecodable": offset, "because": str(error)}


def to_json(record: Record) -> str:
    """Write a record as one line of JSON; times as ISO 8601 UTC."""
    return json.dumps(_with_times(record), ensure_ascii=False)


def _with_times(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: iso(value) if name in _TIMES and value is not None else value
        for name, value in record.items()
        if name != "embedding"
    }
    for name in ("episodes", "similar"):
        if name in shown:
            shown[name] = [_with_times(episode) for episode in shown[name]]
    return shown


def to_line(record: Record) -> str:
    """Write a record as one line for a person."""
    if "undecodable" in record:
        return line("undecodable", record)
    fields = {
        "id": record["incident_id"][:12],
        "severity": record["severity_class"],
        "since": minute(record["start"]),
        "change": record["change"] if record["change"] in ("worse", "updated") else None,
        "took": None if record["duration_ms"] is None else duration(record["duration_ms"]),
        "closed": record["closed_because"],
        "title": record["title"],
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return line(f"incident {record['state']}", given)


def to_page(record: Record) -> list[str]:
    """Return the lines of one incident with its episodes."""
    state = record["state"]
    if state == "closed":
        state = f"closed after {duration(record['duration_ms'])}: {record['closed_because']}"
    peak = f"{record['peak_entity']} {record['peak_metric'] or ''}".strip()
    lines = [
        record["title"],
        f"  id        {record['incident_id']} (revision {record['revision']})",
        f"  state     {state}",
        f"  severity  {record['severity_class']} ({record['severity']:.2f})",
        f"  since     {minute(record['start'])} UTC",
        f"  peak      {minute(record['peak_time'])} UTC, {peak}",
        f"  reason    {record['reason']}",
        f"  entities  {', '.join(record['entities'])}",
        f"  metrics   {', '.join(record['metrics']) or '-'}",
        "  episodes",
    ]
    for episode in record["episodes"]:
        until = "open" if episode["end"] is None else minute(episode["end"])
        because = f" ({episode['closed_because']})" if episode["closed_because"] else ""
        subject = f"{episode['entity']} {episode['metric'] or episode['kind']}"
        lines.append(f"    {minute(episode['start'])} to {until}{because}  {subject}")
        lines.append(f"      {episode['reason']}")
        lines.append(f"      lapwing explain {episode['episode_id']}")
    return [*lines, "  similar past ones", *_similar_lines(record["similar"])]


def printable(text: str) -> str:
    """Return a text without what would control a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _similar_lines(similar: list[dict[str, Any]]) -> list[str]:
    if not similar:
        return ["    none that is kept"]
    lines = []
    for one in similar:
        ended = "open" if one["end"] is None else f"{one['closed_because']} after"
        took = "" if one["end"] is None else f" {duration(one['end'] - one['start'])}"
        subject = f"{one['entity']} {one['metric'] or ''}".strip()
        lines.append(f"    {minute(one['start'])}  {one['likeness']}: {subject}, {ended}{took}")
        if one["was"]:
            note = f": {printable(one['note'])}" if one["note"] else ""
            lines.append(f"      it was {one['was']}{note}")
        lines.append(f"      {one['reason']}")
        lines.append(f"      lapwing incidents show {one['incident_id'][:12]}")
    return lines
