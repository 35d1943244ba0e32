"""Similar past episodes in the history, from the embeddings in the incidents topic.

Invariant: the answer is that of ``lapwing incidents show ID`` on the same records; its cost is
           bounded by the number of episodes that are compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from shared.incidents.similar import (
    MOST_COMPARED,
    PastEpisode,
    episodes_of,
    nearest,
    similar_document,
)

Row = Mapping[str, Any]


def write_embeddings(db: sqlite3.Connection, record: Row) -> None:
    """Replace the embeddings of an incident's episodes."""
    forget_embeddings(db, record["incident_id"])
    episodes = episodes_of({record["incident_id"]: record})
    db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", episodes)


def forget_embeddings(db: sqlite3.Connection, incident: str) -> None:
    """Delete the embeddings of an incident's episodes."""
    db.execute("DELETE FROM embeddings WHERE incident = ?", (incident,))


def similar(db: sqlite3.Connection, episode_id: str, limit: int) -> Row:
    """Return the past episodes that resemble one, the most similar first, and how many there are.

    incident_id : of the episode; None = it has no embedding, and nothing resembles it
    compared    : number of episodes that have one
    event_id    : of each: the anomaly event that opened it, None = not in the history
    """
    found = db.execute("SELECT * FROM embeddings WHERE episode = ?", (episode_id,)).fetchone()
    if found is None:
        return {"episode_id": episode_id, "incident_id": None, "compared": 0, "similar": []}
    question = PastEpisode(*found)
    rows = db.execute(
        "SELECT * FROM embeddings ORDER BY start_ms DESC, episode LIMIT ?", (MOST_COMPARED,)
    )
    past = [PastEpisode(*row) for row in rows]
    return {
        "episode_id": episode_id,
        "incident_id": question.incident_id,
        "compared": len(past),
        "similar": [
            {
                **similar_document(one, record, feedback_of(db, one.episode.incident_id)),
                "event_id": _event_id(db, one.episode.episode_id),
            }
            for one in nearest(question, past, limit)
            if (record := _record(db, one.episode.incident_id)) is not None
        ],
    }


def feedback_of(db: sqlite3.Connection, incident_id: str) -> Row | None:
    """Return what was said about an incident; None = nothing."""
    row = db.execute("SELECT document FROM feedback WHERE incident = ?", (incident_id,)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def _record(db: sqlite3.Connection, incident: str) -> Row | None:
    """Return an incident's record; None = it was deleted just now."""
    row = db.execute("SELECT document FROM incidents WHERE id = ?", (incident,)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def _event_id(db: sqlite3.Connection, episode_id: str) -> str | None:
    row = db.execute("SELECT 1 FROM anomalies WHERE event_id = ?", (episode_id,)).fetchone()
    return None if row is None else episode_id
