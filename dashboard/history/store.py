"""The writing side of the history: records of the topics become rows, in one transaction.

Invariant: rows and the offsets after their records are committed together, so that a restart
           continues at exactly the next record; a repeated record changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from dashboard.history import points as forms
from dashboard.history.incidents import (
    forget_feedback,
    forget_incidents,
    write_activations,
    write_feedback,
    write_incidents,
)
from dashboard.history.results import Arrived, Stream
from dashboard.history.retention import Retention
from dashboard.history.tables import open_for_writing, set_aside
from dashboard.history.tail import GrowingTail, Sealing, Tail, rows_by_series
from shared.events import Kind
from shared.kernels.units import MINUTE_MS

log = structlog.get_logger()

SEAL_AT = 500_000
"""Points in the tail at which they are moved into blocks."""

SEAL_S = 0.1
"""Time for moving points into blocks after each transaction."""

BLOCK_POINTS = 512
"""A series' last block takes further points while it has fewer."""

_MEASURED = ("value", "expected", "lower", "upper", "severity")
_LATEST = itemgetter(
    "event_time", "state", "score", "severity", "threshold", "top_metric", "warmup_percent",
    "warmup_minutes_left", "model_id", "source_partition",
)  # fmt: skip
"""What an entity shows of its newest score."""


@dataclass(slots=True)
class Changes:
    """What one transaction changed, for those who follow live.

    entities  : names with new points
    anomalies : anomaly events that were not known before, as they lie in the topic
    incidents : what a list shows of the incidents that changed
    clock_ms  : newest event time so far; None before the first record
    """

    entities: set[str] = field(default_factory=set)
    anomalies: list[Mapping[str, Any]] = field(default_factory=list)
    incidents: list[Mapping[str, Any]] = field(default_factory=list)
    dead_letters: int = 0
    scored: int = 0
    clock_ms: int | None = None


class Store:
    """The history in one SQLite file; one thread writes, any thread may call ``tail_of``.

    rebuilt    : why an earlier file was set aside; empty = it was not
    generation : grows with every file, so that readers open the new one
    version    : grows with every transaction that changed more than points
    """

    def __init__(self, path: Path, retention: Retention, seal_at: int = SEAL_AT) -> None:
        self.path = path
        self.seal_at = seal_at
        self.generation = 0
        self.version = 0
        self._retention = retention
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._db, self.rebuilt = open_for_writing(self.path)
        self._entities = dict(self._db.execute("SELECT name, id FROM entities").fetchall())
        self._series = {
            (entity, metric): number
            for number, entity, metric in self._db.execute("SELECT id, entity, metric FROM series")
        }
        self._models = dict(self._db.execute("SELECT id, model_id FROM entities").fetchall())
        (newest,) = self._db.execute("SELECT max(last_ms) FROM entities").fetchone()
        self.clock_ms: int | None = newest
        parts = [
            np.frombuffer(blob, forms.TAIL)
            for (blob,) in self._db.execute("SELECT points FROM tail ORDER BY id")
        ]
        self._tail = GrowingTail()
        self._sealing: Sealing | None = None
        for part in parts:
            self._extend_tail(part)

    @property
    def tail_points(self) -> int:
        """Points behind the newest sealing."""
        return self._tail.count

    def _extend_tail(self, new: Tail) -> None:
        """Add points behind the others."""
        with self._lock:
            self._tail.extend(new)

    def offsets(self, topic: str) -> dict[int, int]:
        """Return the next offset of each partition that was read."""
        rows = self._db.execute("SELECT partition, next FROM offsets WHERE topic = ?", (topic,))
        return dict(rows.fetchall())

    def identity(self, topic: str) -> str:
        """Return the id of the topic whose offsets are stored; empty = not known."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (f"id:{topic}",)).fetchone()
        return row[0] if row else ""

    def set_identity(self, topic: str, topic_id: str) -> None:
        """Remember a topic's id."""
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (f"id:{topic}", topic_id))

    def forget_offsets(self, topic: str, stream: Stream) -> None:
        """Read a topic from its first record again, because it is another topic now."""
        with self._transaction():
            self._db.execute("DELETE FROM offsets WHERE topic = ?", (topic,))
            if stream == "incidents":
                forget_incidents(self._db)
            if stream == "feedback":
                forget_feedback(self._db)

    def apply(self, arrived: Sequence[Arrived]) -> Changes:
        """Write records and the offsets after them in one transaction.

        raises : sqlite3.Error; by then nothing of it is written
        """
        changes = Changes()
        try:
            with self._transaction():
                tail = self._write(arrived, changes)
        except BaseException:
            self._reload_names()
            raise
        for part in tail:
            self._extend_tail(part)
        if self._sealing is not None or self.tail_points >= self.seal_at:
            self._seal_some()
        changes.clock_ms = self.clock_ms
        if any(len(batch.scores) < len(batch.written_ms) for batch in arrived):
            self.version += 1
        return changes

    def _write(self, arrived: Sequence[Arrived], changes: Changes) -> list[Tail]:
        """Write rows and offsets; return the new points."""
        new = [self._scores(batch, changes) for batch in arrived if batch.scores]
        for batch in arrived:
            self._anomalies(batch, changes)
            self._dead_letters(batch, changes)
            changes.incidents += write_incidents(self._db, batch)
            write_activations(self._db, batch)
            write_feedback(self._db, batch)
            self._db.execute(
                "REPLACE INTO offsets VALUES (?, ?, ?)",
                (batch.topic, batch.partition, batch.next_offset),
            )
        found = [part for part in new if len(part)]
        if not found:
            return []
        joined = np.concatenate(found)
        self._db.execute("INSERT INTO tail (points) VALUES (?)", (joined.tobytes(),))
        return [joined]

    def tail_of(self, series: Sequence[int]) -> dict[int, forms.Points]:
        """Return the points of some series that are not in blocks yet."""
        with self._lock:
            newest, numbers = self._tail.held()
            sealing = self._sealing
        parts = rows_by_series(newest, numbers, series)
        found = {}
        for number in series:
            older = [sealing.rows_of(number)] if sealing is not None else []
            points = [forms.of_tail(rows) for rows in (*older, parts[number]) if len(rows)]
            found[int(number)] = forms.ordered(points)
        return found

    def _seal_some(self) -> None:
        """Seal for a moment; a full disk or a lock only postpones it, the rows are written."""
        try:
            self.seal(SEAL_S if self.tail_points < 2 * self.seal_at else math.inf)
        except sqlite3.OperationalError as error:
            log.warning("sealing postponed", file=str(self.path), because=str(error))

    def seal(self, budget_s: float = math.inf) -> None:
        """Move points of the tail into blocks, series by series, for about ``budget_s`` seconds.

        What is not finished then goes on with the next call; the points stay in the tail until
        all are in blocks. A restart in between repeats some, which ``ordered`` removes.
        """
        if self._sealing is None:
            self._sealing = self._begin_sealing()
        sealing = self._sealing
        if sealing is None:
            return
        begin = sealing.next
        try:
            with self._transaction():
                if not self._seal_until(sealing, time.monotonic() + budget_s):
                    return
        except BaseException:
            sealing.next = begin
            raise
        self._sealing = None
        self._retention.apply(self._db)

    def _seal_until(self, sealing: Sealing, until_s: float) -> bool:
        """Write blocks until a time by the monotonic clock; return whether all are written."""
        while sealing.next < len(sealing.starts) - 1:
            start, end = sealing.starts[sealing.next : sealing.next + 2]
            rows = sealing.tail[start:end]
            self._append(int(rows["series"][0]), forms.of_tail(rows))
            sealing.next += 1
            if time.monotonic() >= until_s:
                return False
        self._db.execute("DELETE FROM tail WHERE id <= ?", (sealing.last_id,))
        return True

    def _begin_sealing(self) -> Sealing | None:
        """Freeze the tail and begin an empty one."""
        with self._lock:
            tail, numbers = self._tail.held()
        if not len(tail):
            return None
        (last_id,) = self._db.execute("SELECT max(id) FROM tail").fetchone()
        order = np.argsort(numbers, kind="stable")
        tail, numbers = tail[order], numbers[order]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        sealing = Sealing(tail, numbers, [*starts.tolist(), len(tail)], last_id)
        with self._lock:
            self._sealing = sealing
            self._tail = GrowingTail()
        return sealing

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                self._db.execute("ROLLBACK")
            raise

    def size_bytes(self) -> int:
        """Return the size of the used part of the file."""
        return self._retention.size_bytes(self._db)

    def rebuild(self, why: str) -> None:
        """Set the file aside and begin an empty one, which the topics then fill."""
        self._db.close()
        set_aside(self.path)
        self._open()
        self.rebuilt = why
        self.generation += 1
        log.warning("history rebuilt from the topics", file=str(self.path), because=why)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- scores ------------------------------------------------------------------------------------

    def _scores(self, batch: Arrived, changes: Changes) -> Tail:
        rows: list[tuple[Any, ...]] = []
        latest: dict[int, Mapping[str, Any]] = {}
        counts: dict[int, int] = {}
        earliest: dict[int, int] = {}
        for event in batch.scores:
            entity = self._entity(event)
            time_ms = event["event_time"]
            counts[entity] = counts.get(entity, 0) + 1
            changes.entities.add(event["entity"])
            flags = (
                (forms.IS_ANOMALY if event["is_anomaly"] else 0)
                | (forms.IMPUTED if event["imputed"] else 0)
                | (forms.LATE if event["late"] else 0)
                | (forms.WARMING if event["state"] == "WARMING" else 0)
            )
            if event["ahead"]:
                continue
            earliest[entity] = min(time_ms, earliest.get(entity, time_ms))
            if not event["late"]:
                latest[entity] = event
                self._model(entity, event)
                self.clock_ms = max(self.clock_ms or time_ms, time_ms)
            for metric in event["metrics"]:
                number = self._series_number(entity, metric["name"])
                measured = [metric[name] for name in _MEASURED]
                if None in measured:
                    measured = [_float(value) for value in measured]
                rows.append((number, time_ms, *measured, flags))
        changes.scored += len(batch.scores)
        self._update_entities(latest, counts, earliest)
        self._count("scored", batch.minutes())
        return np.array(rows, forms.TAIL)

    def _update_entities(
        self,
        latest: Mapping[int, Mapping[str, Any]],
        counts: Mapping[int, int],
        earliest: Mapping[int, int],
    ) -> None:
        """Write what is new of the entities; the topic of anomalies may have been read first."""
        self._db.executemany(
            "UPDATE entities SET last_ms = ?, state = ?, score = ?, severity = ?, threshold = ?,"
            " top_metric = ?, warmup_percent = ?, warmup_minutes_left = ?, model_id = ?,"
            " partition = ?, records = records + ?, first_ms = min(first_ms, ?) WHERE id = ?",
            [
                (*_LATEST(event), counts[entity], earliest[entity], entity)
                for entity, event in latest.items()
            ],
        )
        self._db.executemany(
            "UPDATE entities SET records = records + ?,"
            " first_ms = min(first_ms, coalesce(?, first_ms)) WHERE id = ?",
            [
                (count, earliest.get(entity), entity)
                for entity, count in counts.items()
                if entity not in latest
            ],
        )

    def _entity(self, event: Mapping[str, Any]) -> int:
        name, time_ms = event["entity"], event["event_time"]
        number = self._entities.get(name)
        if number is None:
            values = (name, time_ms, time_ms, event["state"], event["source_partition"])
            row = self._db.execute(
                "INSERT INTO entities (name, first_ms, last_ms, state, partition)"
                " VALUES (?, ?, ?, ?, ?) RETURNING id",
                values,
            ).fetchone()
            number = self._entities[name] = int(row[0])
        return number

    def _series_number(self, entity: int, metric: str) -> int:
        number = self._series.get((entity, metric))
        if number is None:
            row = self._db.execute(
                "INSERT INTO series (entity, metric) VALUES (?, ?) RETURNING id", (entity, metric)
            ).fetchone()
            number = self._series[entity, metric] = int(row[0])
        return number

    def _model(self, entity: int, event: Mapping[str, Any]) -> None:
        model_id = event["model_id"]
        if entity not in self._models or self._models[entity] != model_id:
            if self._models.get(entity) or model_id:
                self._db.execute(
                    "REPLACE INTO models VALUES (?, ?, ?)", (entity, event["event_time"], model_id)
                )
            self._models[entity] = model_id

    # -- anomalies and dead letters ----------------------------------------------------------------

    def _anomalies(self, batch: Arrived, changes: Changes) -> None:
        new = 0
        for event in batch.anomalies:
            entity = self._entity(event)
            names = ("kind", "metric", "event_time", "severity", "severity_class", "phase")
            values = (*(event[name] for name in names), event["episode_id"])
            added = self._db.execute(
                "INSERT OR IGNORE INTO anomalies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (event["event_id"], entity, *values, json.dumps(event, ensure_ascii=False)),
            ).rowcount
            if added:
                new += 1
                changes.anomalies.append(event)
                if event["episode_id"]:
                    self._episode(entity, event)
        if new:
            self._count("anomalies", batch.minutes())

    def _episode(self, entity: int, event: Mapping[str, Any]) -> None:
        is_closed = event["kind"] == Kind.EPISODE_CLOSED
        end_ms = event["event_time"] if is_closed else None
        self._db.execute(
            "INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET start_ms = excluded.start_ms, end_ms = coalesce(excluded.end_ms, end_ms),"
            " closed_because = coalesce(excluded.closed_because, closed_because),"
            " peak_time_ms = coalesce(excluded.peak_time_ms, peak_time_ms),"
            " peak_value = coalesce(excluded.peak_value, peak_value),"
            " peak_severity = coalesce(excluded.peak_severity, peak_severity)",
            (
                event["episode_id"],
                entity,
                event["metric"],
                event["direction"],
                event["episode_start"] or event["event_time"],
                end_ms,
                event["closed_because"],
                event["peak_time"],
                event["peak_value"],
                event["peak_severity"]
                if is_closed
                else event["peak_severity"] or event["severity"],
            ),
        )
        self._db.execute(
            "UPDATE entities SET (open_severity, open_episodes) = (SELECT max(peak_severity),"
            " count(*) FROM episodes WHERE entity = ?1 AND end_ms IS NULL) WHERE id = ?1",
            (entity,),
        )

    def _dead_letters(self, batch: Arrived, changes: Changes) -> None:
        for letter in batch.dead_letters:
            changes.dead_letters += self._db.execute(
                "INSERT OR IGNORE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?)",
                (
                    batch.topic,
                    batch.partition,
                    letter["offset"],
                    letter["reason"],
                    letter["written_ms"],
                    json.dumps(letter, ensure_ascii=False),
                ),
            ).rowcount
        if batch.dead_letters:
            self._count("dead_letters", batch.minutes())

    def _count(self, what: str, minutes: Mapping[int, int]) -> None:
        self._db.executemany(
            f"INSERT INTO minutes (minute_ms, {what}) VALUES (?, ?) ON CONFLICT (minute_ms)"  # noqa: S608 - one of our own three names
            f" DO UPDATE SET {what} = {what} + excluded.{what}",
            [(minute * MINUTE_MS, count) for minute, count in minutes.items()],
        )

    # -- blocks ------------------------------------------------------------------------------------

    def _append(self, series: int, new: forms.Points) -> None:
        """Add points to the last block of a series while that is short, else begin another."""
        new = forms.ordered([new])
        row = self._db.execute(
            "SELECT id, count, points FROM blocks WHERE series = ? ORDER BY last_ms DESC LIMIT 1",
            (series,),
        ).fetchone()
        number = None
        if row is not None and row["count"] < BLOCK_POINTS:
            number = row["id"]
            new = forms.ordered([forms.unpack(row["points"]), new])
        times = new["time_ms"]
        self._db.execute(
            "REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
            (number, series, int(times[0]), int(times[-1]), len(new), forms.pack(new)),
        )

    def _reload_names(self) -> None:
        """Forget numbers that a rolled-back transaction had given."""
        self._entities = dict(self._db.execute("SELECT name, id FROM entities").fetchall())
        self._series = {
            (entity, metric): number
            for number, entity, metric in self._db.execute("SELECT id, entity, metric FROM series")
        }
        self._models = dict(self._db.execute("SELECT id, model_id FROM entities").fetchall())


def is_full(error: sqlite3.Error) -> bool:
    """Return whether a write failed because the disk is full."""
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def _float(value: float | None) -> float:
    return math.nan if value is None else value
