"""The history's file: its tables, how it is opened, and what happens when it is damaged.

Invariant: a file that cannot be used is set aside and replaced by an empty one; the topics then
           fill it again. Nothing else is lost with it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import structlog

from shared.errors import ConfigError

log = structlog.get_logger()

VERSION = 3
"""Changes with the tables; a file of another version is rebuilt."""

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE offsets (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE entities (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, first_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL, state TEXT NOT NULL, score REAL, severity REAL, threshold REAL,
  top_metric TEXT, warmup_percent REAL, warmup_minutes_left REAL, model_id TEXT,
  partition INTEGER NOT NULL, records INTEGER NOT NULL DEFAULT 0, open_severity REAL,
  open_episodes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX entities_by_rank ON entities (open_severity DESC, severity DESC, name);
CREATE TABLE series (
  id INTEGER PRIMARY KEY, entity INTEGER NOT NULL, metric TEXT NOT NULL,
  UNIQUE (entity, metric));
CREATE TABLE blocks (
  id INTEGER PRIMARY KEY, series INTEGER NOT NULL, first_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL, count INTEGER NOT NULL, points BLOB NOT NULL);
CREATE INDEX blocks_by_series ON blocks (series, last_ms, first_ms, count);
CREATE TABLE tail (id INTEGER PRIMARY KEY, points BLOB NOT NULL);
CREATE TABLE anomalies (
  event_id TEXT PRIMARY KEY, entity INTEGER NOT NULL, kind TEXT NOT NULL, metric TEXT,
  time_ms INTEGER NOT NULL, severity REAL, severity_class TEXT, phase TEXT, episode_id TEXT,
  document TEXT NOT NULL);
CREATE INDEX anomalies_by_time ON anomalies (time_ms);
CREATE INDEX anomalies_by_entity ON anomalies (entity, time_ms);
CREATE INDEX anomalies_by_episode ON anomalies (episode_id);
CREATE TABLE episodes (
  id TEXT PRIMARY KEY, entity INTEGER NOT NULL, metric TEXT, direction TEXT,
  start_ms INTEGER NOT NULL, end_ms INTEGER, closed_because TEXT, peak_time_ms INTEGER,
  peak_value REAL, peak_severity REAL) WITHOUT ROWID;
CREATE INDEX episodes_by_entity ON episodes (entity, start_ms);
CREATE TABLE models (
  entity INTEGER NOT NULL, time_ms INTEGER NOT NULL, model_id TEXT,
  PRIMARY KEY (entity, time_ms)) WITHOUT ROWID;
CREATE TABLE incidents (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, severity REAL NOT NULL, severity_class TEXT NOT NULL,
  start_ms INTEGER NOT NULL, end_ms INTEGER, document TEXT NOT NULL);
CREATE INDEX incidents_by_start ON incidents (start_ms DESC, id);
CREATE TABLE incident_entities (
  entity TEXT NOT NULL, incident TEXT NOT NULL, PRIMARY KEY (entity, incident)) WITHOUT ROWID;
CREATE INDEX entities_of_incidents ON incident_entities (incident);
CREATE TABLE embeddings (
  episode TEXT PRIMARY KEY, incident TEXT NOT NULL, start_ms INTEGER NOT NULL,
  features BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX embeddings_by_start ON embeddings (start_ms DESC, episode);
CREATE INDEX embeddings_of_incidents ON embeddings (incident);
CREATE TABLE feedback (
  incident TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE activations (
  grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE dead_letters (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, record INTEGER NOT NULL, reason TEXT NOT NULL,
  written_ms INTEGER NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (topic, partition, record)) WITHOUT ROWID;
CREATE TABLE minutes (
  minute_ms INTEGER PRIMARY KEY, scored INTEGER NOT NULL DEFAULT 0,
  anomalies INTEGER NOT NULL DEFAULT 0, dead_letters INTEGER NOT NULL DEFAULT 0);
"""


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, str]:
    """Open the history, or create it.

    returns : the connection, and why an earlier file was set aside; empty = it was not
    raises  : ConfigError when the folder cannot be written
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"dashboard: {path.parent}: {error.strerror or error}") from error
    existed = path.exists()
    try:
        connection = _connect(path)
        why = _unusable(connection) if existed else ""
        if not why:
            if not existed:
                _create(connection)
            return connection, ""
        connection.close()
    except sqlite3.DatabaseError as error:
        if not existed:
            raise ConfigError(f"dashboard: {path}: {error}") from error
        why = f"it is damaged ({error})"
    set_aside(path)
    connection = _connect(path)
    _create(connection)
    log.warning("history rebuilt from the topics", file=str(path), because=why)
    return connection, why


def set_aside(path: Path) -> None:
    """Rename an unusable file to ``*.unusable``; an earlier one of that name is replaced."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.replace(path.with_name(path.name + ".unusable"))


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the history read-only; readers and the writer do not block one another."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA busy_timeout = 2000")
    connection.execute("PRAGMA cache_size = -2000")
    connection.row_factory = sqlite3.Row
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "cache_size = -16000",
        "busy_timeout = 5000",
        "journal_size_limit = 16777216",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    connection.executescript(f"BEGIN;{TABLES}PRAGMA user_version = {VERSION};COMMIT;")


def _unusable(connection: sqlite3.Connection) -> str:
    """Return why a file cannot be used; empty if it can."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        return f"it has version {version}, this Lapwing writes version {VERSION}"
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return "" if verdict == "ok" else f"it is damaged ({verdict})"
