"""What the history forgets: what is too old by each entity's own clock, then what exceeds the size.

Invariant: the clock is event time, so a replay of old series keeps its history.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import structlog

from shared.kernels.units import DAY_MS

log = structlog.get_logger()

DEAD_LETTERS_KEPT = 10_000
MINUTES_KEPT = 7 * 24 * 60
FREED_SHARE = 0.15
"""Share of blocks and anomalies that gives way each time the file is too large, oldest first."""

ROUND_BYTES = 48_000_000
"""What is written until room is made again: the points of two tails, and the blocks of one."""

LEAST_FREE, MOST_FREE = 0.1, 0.5
"""Share of the bound that is left for the next round: as much as that needs, within these."""

VACUUM_PAGES = 4_096
"""Free pages that one round returns to the disk: as many as the log may hold."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds of the history.

    keep_days : age by the event time of the entity's newest record
    max_bytes : of the file's used pages
    """

    keep_days: float
    max_bytes: int

    def size_bytes(self, db: sqlite3.Connection) -> int:
        """Return the size of the pages in use."""
        (page,) = db.execute("PRAGMA page_size").fetchone()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        return int(page * (pages - free))

    def apply(self, db: sqlite3.Connection) -> None:
        """Delete what the bounds exclude; each step is a transaction of its own."""
        keep_ms = int(self.keep_days * DAY_MS)
        db.execute(
            "DELETE FROM blocks WHERE id IN (SELECT blocks.id FROM blocks JOIN series ON"
            " series.id = blocks.series JOIN entities ON entities.id = series.entity"
            " WHERE blocks.last_ms < entities.last_ms - ?)",
            (keep_ms,),
        )
        for table, column in (("anomalies", "time_ms"), ("models", "time_ms")):
            db.execute(
                f"DELETE FROM {table} WHERE {column} < (SELECT last_ms FROM entities"  # noqa: S608 - our own names
                f" WHERE entities.id = {table}.entity) - ?",
                (keep_ms,),
            )
        db.execute(
            "DELETE FROM episodes WHERE end_ms < (SELECT last_ms FROM entities"
            " WHERE entities.id = episodes.entity) - ?",
            (keep_ms,),
        )
        db.execute(
            "DELETE FROM incidents WHERE end_ms < (SELECT max(last_ms) FROM entities) - ?",
            (keep_ms,),
        )
        db.execute("DELETE FROM incident_entities WHERE incident NOT IN (SELECT id FROM incidents)")
        db.execute("DELETE FROM embeddings WHERE incident NOT IN (SELECT id FROM incidents)")
        db.execute(
            "DELETE FROM dead_letters WHERE written_ms < (SELECT written_ms FROM dead_letters"
            " ORDER BY written_ms DESC LIMIT 1 OFFSET ?)",
            (DEAD_LETTERS_KEPT,),
        )
        db.execute(
            "DELETE FROM minutes WHERE minute_ms < (SELECT minute_ms FROM minutes"
            " ORDER BY minute_ms DESC LIMIT 1 OFFSET ?)",
            (MINUTES_KEPT,),
        )
        self._make_room(db)
        # ``execute`` frees one page only: findings/sqlite-vacuum-stops-at-once.sh
        db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _make_room(self, db: sqlite3.Connection) -> None:
        free_bytes = min(max(ROUND_BYTES, LEAST_FREE * self.max_bytes), MOST_FREE * self.max_bytes)
        while (size := self.size_bytes(db)) > self.max_bytes - free_bytes:
            removed = 0
            for table, column in (("blocks", "last_ms"), ("anomalies", "time_ms")):
                (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
                removed += db.execute(
                    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}"  # noqa: S608
                    f" ORDER BY {column} LIMIT ?)",
                    (int(count * FREED_SHARE) + (count > 0),),
                ).rowcount
            log.info("history shortened", size_bytes=size, max_bytes=self.max_bytes, rows=removed)
            if not removed:
                return
