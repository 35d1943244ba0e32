"""Incidents and activations in the history: the newest record of each, as in its topic.

Invariant: of one incident the record that came last stays, and none after its deletion.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.history.results import Arrived
from dashboard.history.similar import forget_embeddings, write_embeddings

Row = Mapping[str, Any]

_NOT_IN_A_LIST = ("episodes", "anomalies_offset", "opened_offset", "window_start")
MOST_LISTED = 20
"""Entities and metrics of an incident that a list names; their numbers are in the row as well."""

_ORDERS = {
    "severity": "severity DESC, start_ms DESC, id",
    "newest": "start_ms DESC, id",
}


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """Which incidents a list shows; None and empty = any.

    state  : open or closed
    entity : exact name of one of its entities
    text   : part of the title or of an entity's name, case ignored
    span   : (from, to), ms; incidents that overlap it
    """

    state: str = ""
    severities: Sequence[str] = ()
    entity: str | None = None
    text: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    order: str = "newest"

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition and its parameters."""
        conditions: list[str] = ["1"]
        given: list[Any] = []
        if self.state:
            conditions.append("state = ?")
            given.append(self.state)
        if self.severities:
            conditions.append(f"severity_class IN ({', '.join('?' * len(self.severities))})")
            given += self.severities
        if self.entity is not None:
            conditions.append("id IN (SELECT incident FROM incident_entities WHERE entity = ?)")
            given.append(self.entity)
        if self.text:
            part = f"%{escaped(self.text)}%"
            conditions.append(
                r"(json_extract(document, '$.title') LIKE ? ESCAPE '\' OR id IN"
                r" (SELECT incident FROM incident_entities WHERE entity LIKE ? ESCAPE '\'))"
            )
            given += [part, part]
        if self.from_ms is not None:
            conditions.append("coalesce(end_ms, 9e18) >= ?")
            given.append(self.from_ms)
        if self.to_ms is not None:
            conditions.append("start_ms <= ?")
            given.append(self.to_ms)
        return " AND ".join(conditions), given


def escaped(text: str) -> str:
    """Return a text as a pattern of LIKE that matches only itself; its ESCAPE is a backslash."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


# -- writing ---------------------------------------------------------------------------------------


def write_incidents(db: sqlite3.Connection, batch: Arrived) -> list[Row]:
    """Write a batch's incidents; return what a list shows of those that were not deleted."""
    changed = []
    for record in batch.incidents:
        incident = record["incident_id"]
        db.execute("DELETE FROM incident_entities WHERE incident = ?", (incident,))
        if record["state"] == "deleted":
            db.execute("DELETE FROM incidents WHERE id = ?", (incident,))
            forget_embeddings(db, incident)
            continue
        write_embeddings(db, record)
        db.execute(
            "REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                incident,
                record["state"],
                record["severity"],
                record["severity_class"],
                record["start"],
                record["end"],
                json.dumps(_without_embeddings(record), ensure_ascii=False),
            ),
        )
        db.executemany(
            "INSERT OR IGNORE INTO incident_entities VALUES (?, ?)",
            [(entity, incident) for entity in record["entities"]],
        )
        changed.append(listed(record))
    return changed


def forget_incidents(db: sqlite3.Connection) -> None:
    """Delete all incidents, because their topic is another one now."""
    db.execute("DELETE FROM incidents")
    db.execute("DELETE FROM incident_entities")
    db.execute("DELETE FROM embeddings")


def _without_embeddings(record: Row) -> Row:
    """Return what is shown of an incident; embeddings have a table of their own."""
    shown = [
        {name: value for name, value in episode.items() if name != "embedding"}
        for episode in record["episodes"]
    ]
    return {**record, "episodes": shown}


def write_activations(db: sqlite3.Connection, batch: Arrived) -> None:
    """Write a batch's activations: of each partition the newest."""
    for record in batch.activations:
        db.execute(
            "REPLACE INTO activations VALUES (?, ?, ?, ?)",
            (
                record["group"],
                record["source_topic"],
                record["source_partition"],
                json.dumps(record, ensure_ascii=False),
            ),
        )


def write_feedback(db: sqlite3.Connection, batch: Arrived) -> None:
    """Write a batch's feedback: of each incident the newest, none where it was taken back."""
    for record in batch.feedback:
        if record["was"] is None:
            db.execute("DELETE FROM feedback WHERE incident = ?", (record["incident_id"],))
            continue
        db.execute(
            "REPLACE INTO feedback VALUES (?, ?)",
            (record["incident_id"], json.dumps(record, ensure_ascii=False)),
        )


def forget_feedback(db: sqlite3.Connection) -> None:
    """Delete all feedback, because its topic is another one now."""
    db.execute("DELETE FROM feedback")


# -- reading ---------------------------------------------------------------------------------------


def listed(record: Row) -> Row:
    """Return what a list shows of an incident."""
    row = {name: value for name, value in record.items() if name not in _NOT_IN_A_LIST}
    return row | {name: record[name][:MOST_LISTED] for name in ("entities", "metrics")}


def incidents(
    db: sqlite3.Connection, wanted: IncidentFilter, limit: int, offset: int
) -> tuple[int, list[Row]]:
    """Return how many incidents match, and one page of them."""
    where, given = wanted.where()
    (total,) = db.execute(
        f"SELECT count(*) FROM incidents WHERE {where}",  # noqa: S608 - values are parameters
        given,
    ).fetchone()
    chosen = f"SELECT document FROM incidents WHERE {where}"  # noqa: S608 - values are parameters
    rows = db.execute(
        f"{chosen} ORDER BY {_ORDERS[wanted.order]} LIMIT ? OFFSET ?", [*given, limit, offset]
    )
    return total, [listed(json.loads(document)) for (document,) in rows]


def incident(db: sqlite3.Connection, incident_id: str) -> Row | None:
    """Return one incident as it lies in the topic, but for embeddings; None = not known.

    Each episode has ``event_id``: of the anomaly event that opened it, None = not in the history.
    """
    row = db.execute("SELECT document FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    if row is None:
        return None
    found: dict[str, Any] = json.loads(row[0])
    known = {
        event_id
        for (event_id,) in db.execute(
            "SELECT event_id FROM anomalies WHERE event_id IN"
            " (SELECT json_extract(value, '$.episode_id') FROM json_each(?))",
            (json.dumps(found["episodes"]),),
        )
    }
    for episode in found["episodes"]:
        episode["event_id"] = episode["episode_id"] if episode["episode_id"] in known else None
    return found


def incident_of(db: sqlite3.Connection, episode_id: str) -> str | None:
    """Return the id of the incident that an episode belongs to; None = none that is known."""
    row = db.execute(
        "SELECT id FROM incidents WHERE id IN (SELECT incident FROM incident_entities WHERE entity"
        " = (SELECT name FROM entities WHERE id = (SELECT entity FROM episodes WHERE id = ?1)))"
        " AND EXISTS (SELECT 1 FROM json_each(document, '$.episodes')"
        " WHERE json_extract(value, '$.episode_id') = ?1) LIMIT 1",
        (episode_id,),
    ).fetchone()
    return None if row is None else str(row[0])


def counts(db: sqlite3.Connection) -> Row:
    """Return how many incidents are open, and how many there are."""
    row = db.execute(
        "SELECT count(*) incidents, coalesce(sum(state = 'open'), 0) open_incidents FROM incidents"
    ).fetchone()
    return dict(row)


def activations(db: sqlite3.Connection, group: str, topic: str) -> list[Row]:
    """Return of each partition of the input what scores it now, by partition."""
    rows = db.execute(
        "SELECT document FROM activations WHERE grp = ? AND topic = ? ORDER BY partition",
        (group, topic),
    )
    return [json.loads(document) for (document,) in rows]
