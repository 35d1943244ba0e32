"""The reading side of the history: what the API answers.

Invariant: every answer is bounded, whatever the history holds: at most ``limit`` rows, and at most
           four points per pixel of a chart.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dashboard.history import points as forms
from dashboard.history.decimation import gaps, m4, usual_interval_ms
from dashboard.history.incidents import escaped
from dashboard.history.store import Store
from dashboard.history.tables import open_for_reading
from shared.kernels.units import HOUR_MS, MINUTE_MS

MOST_POINTS = 2_000_000
"""Points of one series that one answer reads; the newest ones of a longer range."""

MOST_METRICS = 24
"""Metrics of an entity in one answer, unless they are named."""

MOST_SPANS = 500
"""Episodes, verdicts and model changes in one answer."""

LEAST_SPREAD = 2.0**-12
"""Spread of a small chart, as a share of its largest value, at which float32 draws it as well.

Its 24 bits give the chart at least 4,096 heights then.
"""

FIELDS = ("value", "expected", "lower", "upper", "severity")
Row = Mapping[str, Any]

_ENTITY = (
    "name, first_ms, last_ms, state, score, severity, threshold, top_metric, warmup_percent,"
    " warmup_minutes_left, model_id, partition, records, open_severity, open_episodes"
)
_ORDERS = {
    "severity": "open_severity DESC NULLS LAST, severity DESC NULLS LAST, name",
    "name": "name",
    "newest": "last_ms DESC, name",
}
ORDERS = tuple(_ORDERS)


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Which entities a list shows.

    text  : part of the name, case ignored
    state : WARMING, READY or STALE; empty = any
    """

    text: str = ""
    state: str = ""
    is_anomalous: bool = False
    order: str = "severity"

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition and its parameters."""
        conditions, given = ["1"], []
        if self.text:
            conditions.append(r"name LIKE ? ESCAPE '\'")
            given.append(f"%{escaped(self.text)}%")
        if self.state:
            conditions.append("state = ?")
            given.append(self.state)
        if self.is_anomalous:
            conditions.append("open_episodes > 0")
        return " AND ".join(conditions), given


@dataclass(frozen=True, slots=True)
class AnomalyFilter:
    """Which anomaly events a list shows; None and empty = any.

    kinds  : kinds of events
    before : (time, event_id) of the last row of the page before
    """

    entity: str | None = None
    metric: str | None = None
    kinds: Sequence[str] = ()
    severities: Sequence[str] = ()
    from_ms: int | None = None
    to_ms: int | None = None
    is_open: bool = False
    before: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """A time range of a chart, and its width in pixels."""

    from_ms: int
    to_ms: int
    width: int


class History:
    """Answers questions about the history; any thread may ask."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._store = store
        self._local = threading.local()

    @property
    def db(self) -> sqlite3.Connection:
        """The calling thread's connection."""
        generation, connection = getattr(self._local, "opened", (-1, None))
        if connection is None or generation != self._store.generation:
            generation, connection = self._store.generation, open_for_reading(self._path)
            self._local.opened = generation, connection
        return connection

    # -- entities ----------------------------------------------------------------------------------

    def entities(self, wanted: EntityFilter, limit: int, offset: int) -> tuple[int, list[Row]]:
        """Return how many entities match, and one page of them."""
        where, given = wanted.where()
        (total,) = self.db.execute(
            f"SELECT count(*) FROM entities WHERE {where}",  # noqa: S608 - values are parameters
            given,
        ).fetchone()
        rows = self.db.execute(
            f"SELECT {_ENTITY} FROM entities WHERE {where} ORDER BY {_ORDERS[wanted.order]}"  # noqa: S608
            " LIMIT ? OFFSET ?",
            [*given, limit, offset],
        )
        return total, [dict(row) for row in rows]

    def entity(self, name: str) -> Row | None:
        """Return one entity with the names of its metrics; None = not known."""
        row = self.db.execute(
            f"SELECT id, {_ENTITY} FROM entities WHERE name = ?",  # noqa: S608
            (name,),
        ).fetchone()
        if row is None:
            return None
        found = dict(row)
        metrics = self.db.execute(
            "SELECT metric FROM series WHERE entity = ? ORDER BY id", (found.pop("id"),)
        )
        return found | {"metrics": [metric for (metric,) in metrics]}

    def totals(self) -> Row:
        """Return counts of the whole fleet."""
        row = self.db.execute(
            "SELECT count(*) entities, coalesce(sum(open_episodes > 0), 0) anomalous,"
            " coalesce(sum(open_episodes), 0) open_episodes,"
            " coalesce(sum(state = 'WARMING'), 0) warming,"
            " coalesce(sum(state = 'STALE'), 0) stale, max(last_ms) clock_ms FROM entities"
        ).fetchone()
        last = self.db.execute(
            "SELECT event_id, time_ms FROM anomalies WHERE kind = 'anomaly'"
            " ORDER BY time_ms DESC LIMIT 1"
        ).fetchone()
        return dict(row) | {"last_anomaly": dict(last) if last else None}

    def version(self) -> tuple[int, int]:
        """Return what changes with every transaction that changed more than points."""
        return self._store.generation, self._store.version

    def clock_ms(self) -> int | None:
        """Return the newest event time; None before the first record."""
        newest: int | None = self.db.execute("SELECT max(last_ms) FROM entities").fetchone()[0]
        return newest

    # -- series ------------------------------------------------------------------------------------

    def series(self, entity: str, metrics: Sequence[str], asked: Range) -> list[Row]:
        """Return an entity's metrics as charts: decimated points, and gaps.

        metrics : empty = the first MOST_METRICS
        returns : columns are arrays (n,), NaN = missing: time_ms int64, value float64, expected,
                  lower, upper and severity float32, flags uint8
        """
        numbers = self._series_of(entity)
        chosen = [name for name in metrics if name in numbers] or list(numbers)[:MOST_METRICS]
        tails = self._store.tail_of([numbers[name] for name in chosen])
        return [
            _chart(name, self._points(numbers[name], tails[numbers[name]], asked), asked, FIELDS)
            for name in chosen
        ]

    def sparks(self, rows: Sequence[Row], hours: float, width: int) -> list[Row | None]:
        """Return a small chart of each entity's most deviating metric, up to its newest record.

        Cost: four queries, however many rows.
        """
        names = json.dumps([row["name"] for row in rows])
        numbers = self._series_of_all(names)
        since_ms = int(hours * HOUR_MS)
        episodes = self._episodes_of_all(names, since_ms)
        chosen: list[tuple[str, int] | None] = []
        for row in rows:
            own = numbers.get(row["name"], {})
            opened = [one for one in episodes.get(row["name"], ()) if one["end_ms"] is None]
            worst = max(opened, key=lambda one: one["peak_severity"] or 0.0, default=None)
            wanted = [worst["metric"] if worst else None, row["top_metric"], *own]
            name = next((name for name in wanted if name in own), None)
            chosen.append(None if name is None else (name, own[name]))
        tails = self._store.tail_of([number for _, number in filter(None, chosen)])
        blocks = self._blocks_of_all(
            [
                (series[1], int(row["last_ms"]) - since_ms)
                for row, series in zip(rows, chosen, strict=True)
                if series is not None
            ]
        )
        charts: list[Row | None] = []
        for row, series in zip(rows, chosen, strict=True):
            if series is None:
                charts.append(None)
                continue
            name, number = series
            to_ms = int(row["last_ms"])
            asked = Range(to_ms - since_ms, to_ms, width)
            own_episodes = episodes.get(row["name"], ())
            shown = [span for span in own_episodes if span["metric"] in (name, None)]
            found = _within([*blocks.get(number, ()), tails[number]], asked)
            chart = dict(_chart(name, found, asked, ("value",)))
            chart |= {"value": _shortened(chart["value"]), "from_ms": asked.from_ms}
            charts.append({**chart, "to_ms": to_ms, "episodes": shown})
        return charts

    def _series_of_all(self, names: str) -> dict[str, dict[str, int]]:
        """Return of each entity {metric: number of its series}; ``names`` is JSON."""
        found: dict[str, dict[str, int]] = {}
        rows = self.db.execute(
            "SELECT name, metric, series.id FROM entities JOIN series ON series.entity ="
            " entities.id WHERE name IN (SELECT value FROM json_each(?)) ORDER BY series.id",
            (names,),
        )
        for name, metric, number in rows:
            found.setdefault(name, {})[metric] = number
        return found

    def _episodes_of_all(self, names: str, since_ms: int) -> dict[str, list[Row]]:
        """Return of each entity the episodes of its newest ``since_ms``; ``names`` is JSON."""
        found: dict[str, list[Row]] = {}
        rows = self.db.execute(
            "SELECT entities.name, episodes.metric, episodes.start_ms, episodes.end_ms,"
            " episodes.peak_severity FROM entities JOIN episodes ON episodes.entity = entities.id"
            " WHERE entities.name IN (SELECT value FROM json_each(?1)) AND (episodes.end_ms IS NULL"
            " OR episodes.end_ms >= entities.last_ms - ?2) ORDER BY episodes.start_ms",
            (names, since_ms),
        )
        for row in rows:
            found.setdefault(row["name"], []).append(dict(row))
        return found

    def _blocks_of_all(self, wanted: Sequence[tuple[int, int]]) -> dict[int, list[forms.Points]]:
        """Return the blocks of some series that reach beyond a time, (number, ms)."""
        found: dict[int, list[forms.Points]] = {}
        rows = self.db.execute(
            "SELECT series, points FROM json_each(?) AS one CROSS JOIN blocks ON blocks.series ="
            " json_extract(one.value, '$[0]') AND blocks.last_ms >="
            " json_extract(one.value, '$[1]') ORDER BY series, last_ms",
            (json.dumps(wanted),),
        )
        for series, packed in rows:
            found.setdefault(series, []).append(forms.unpack(packed))
        return found

    def spans(self, entity: str, asked: Range) -> Row:
        """Return episodes, data-quality verdicts and model changes within a range."""
        row = self.db.execute("SELECT id FROM entities WHERE name = ?", (entity,)).fetchone()
        given = {
            "number": row[0] if row else None,
            "from": asked.from_ms,
            "to": asked.to_ms,
            "most": MOST_SPANS,
        }
        queries = {
            "episodes": (
                "SELECT id, metric, direction, start_ms, end_ms, closed_because, peak_time_ms,"
                " peak_value, peak_severity FROM episodes WHERE entity = :number"
                " AND start_ms <= :to AND coalesce(end_ms, :to) >= :from"
                " ORDER BY start_ms DESC LIMIT :most"
            ),
            "verdicts": (
                "SELECT event_id, kind, metric, time_ms,"
                " coalesce(json_extract(document, '$.since'), time_ms) since_ms,"
                " json_extract(document, '$.reason') reason FROM anomalies"
                " WHERE entity = :number AND kind NOT IN ('anomaly', 'episode_closed')"
                " AND time_ms BETWEEN :from AND :to ORDER BY time_ms DESC LIMIT :most"
            ),
            "models": (
                "SELECT time_ms, model_id FROM models WHERE entity = :number"
                " AND time_ms BETWEEN :from AND :to ORDER BY time_ms DESC LIMIT :most"
            ),
        }
        return {
            name: [dict(row) for row in self.db.execute(query, given)][::-1]
            for name, query in queries.items()
        }

    def _series_of(self, entity: str) -> dict[str, int]:
        rows = self.db.execute(
            "SELECT metric, id FROM series WHERE entity = (SELECT id FROM entities WHERE name = ?)"
            " ORDER BY id",
            (entity,),
        )
        return dict(rows.fetchall())

    def _points(self, series: int, tail: forms.Points, asked: Range) -> forms.Points:
        """Return the points within a range, and one on each side so that lines reach the edge."""
        blocks: list[forms.Points] = []
        count = 0
        rows = self.db.execute(
            "SELECT count, points FROM blocks WHERE series = ? AND last_ms >= ? AND first_ms <= ?"
            " ORDER BY last_ms DESC",
            (series, asked.from_ms, asked.to_ms),
        )
        for row in rows:
            blocks.append(forms.unpack(row["points"]))
            count += row["count"]
            if count > MOST_POINTS:
                break
        return _within([*blocks[::-1], tail], asked)

    # -- anomalies ---------------------------------------------------------------------------------

    def anomalies(self, wanted: AnomalyFilter, limit: int) -> list[Row]:
        """Return events with their episodes, the newest first."""
        conditions, given = ["1"], []
        exact = {
            "entities.name = ?": wanted.entity,
            "anomalies.metric = ?": wanted.metric,
            "anomalies.time_ms >= ?": wanted.from_ms,
            "anomalies.time_ms <= ?": wanted.to_ms,
        }
        for condition, value in exact.items():
            if value is not None:
                conditions.append(condition)
                given.append(value)
        several = {"anomalies.kind": wanted.kinds, "anomalies.severity_class": wanted.severities}
        for column, values in several.items():
            if values:
                conditions.append(f"{column} IN ({', '.join('?' * len(values))})")
                given += values
        if wanted.is_open:
            conditions.append("episodes.id IS NOT NULL AND episodes.end_ms IS NULL")
        if wanted.before:
            conditions.append("(anomalies.time_ms, anomalies.event_id) < (?, ?)")
            given += wanted.before
        rows = self.db.execute(
            f"{_ANOMALIES} WHERE {' AND '.join(conditions)}"
            " ORDER BY anomalies.time_ms DESC, anomalies.event_id DESC LIMIT ?",
            [*given, limit],
        )
        return [_anomaly(row) for row in rows]

    def anomaly(self, event_id: str) -> Row | None:
        """Return one event with its episode and the episode's other records; None = not known."""
        row = self.db.execute(f"{_ANOMALIES} WHERE anomalies.event_id = ?", (event_id,)).fetchone()
        if row is None:
            return None
        found = _anomaly(row)
        related = self.db.execute(
            "SELECT event_id, phase, time_ms, severity, severity_class,"
            " json_extract(document, '$.reason') reason FROM anomalies"
            " WHERE episode_id = ? ORDER BY time_ms, event_id LIMIT ?",
            (row["episode_id"], MOST_SPANS),
        )
        return dict(found) | {"records": [dict(other) for other in related]}

    def episode_of(self, event_id: str) -> str | None:
        """Return the episode of an event, the event's own id without one; None = not known."""
        row = self.db.execute(
            "SELECT coalesce(episode_id, event_id) FROM anomalies WHERE event_id = ?", (event_id,)
        ).fetchone()
        return None if row is None else str(row[0])

    # -- pipeline ----------------------------------------------------------------------------------

    def rates(self, minutes: int) -> list[Row]:
        """Return counts of results by the minute in which they were written, oldest first."""
        (newest,) = self.db.execute("SELECT max(minute_ms) FROM minutes").fetchone()
        if newest is None:
            return []
        rows = self.db.execute(
            "SELECT * FROM minutes WHERE minute_ms > ? ORDER BY minute_ms",
            (newest - minutes * MINUTE_MS,),
        )
        return [dict(row) for row in rows]

    def dead_letters(self, limit: int) -> Row:
        """Return the number of dead letters by reason, and the newest ones."""
        reasons = self.db.execute(
            "SELECT reason, count(*) count, max(written_ms) newest_ms FROM dead_letters"
            " GROUP BY reason ORDER BY count DESC"
        )
        newest = self.db.execute(
            "SELECT document FROM dead_letters ORDER BY written_ms DESC LIMIT ?", (limit,)
        )
        return {
            "by_reason": [dict(row) for row in reasons],
            "newest": [json.loads(document) for (document,) in newest],
        }

    def models(self) -> list[Row]:
        """Return the models that scored the entities' newest records, most entities first."""
        rows = self.db.execute(
            "SELECT model_id, count(*) entities, max(last_ms) newest_ms FROM entities"
            " GROUP BY model_id ORDER BY entities DESC LIMIT ?",
            (MOST_SPANS,),
        )
        return [dict(row) for row in rows]

    def counts(self) -> Row:
        """Return the size of the history."""
        row = self.db.execute(
            "SELECT (SELECT coalesce(sum(count), 0) FROM blocks) points,"
            " (SELECT count(*) FROM anomalies) anomalies, (SELECT count(*) FROM series) series,"
            " (SELECT count(*) FROM entities) entities"
        ).fetchone()
        return dict(row) | {"points": row["points"] + self._store.tail_points}


_ANOMALIES = (
    "SELECT anomalies.document, anomalies.episode_id, episodes.start_ms, episodes.end_ms,"
    " episodes.closed_because, episodes.peak_time_ms, episodes.peak_value, episodes.peak_severity"
    " FROM anomalies JOIN entities ON entities.id = anomalies.entity"
    " LEFT JOIN episodes ON episodes.id = anomalies.episode_id"
)


def _anomaly(row: sqlite3.Row) -> Row:
    found: dict[str, Any] = json.loads(row["document"])
    episode = None
    if row["start_ms"] is not None:
        names = ("start_ms", "end_ms", "closed_because", "peak_time_ms", "peak_value")
        episode = {name: row[name] for name in (*names, "peak_severity")}
    return found | {"episode": episode}


def _within(parts: Sequence[forms.Points], asked: Range) -> forms.Points:
    """Return the points within a range, and one on each side so that lines reach the edge."""
    found = forms.ordered(parts)
    times = found["time_ms"]
    start = max(0, int(np.searchsorted(times, asked.from_ms)) - 1)
    stop = int(np.searchsorted(times, asked.to_ms, "right")) + 1
    return found[start:stop]


def _shortened(values: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    """Return a small chart's values as float32 where that looks the same: half as much to send."""
    low, high = (function.reduce(values, initial=np.nan) for function in (np.fmin, np.fmax))
    largest = max(abs(low), abs(high))
    is_same = high - low >= LEAST_SPREAD * largest and largest <= np.finfo(np.float32).max
    return values.astype(np.float32) if is_same else values


def _chart(metric: str, found: forms.Points, asked: Range, fields: Sequence[str]) -> Row:
    """Return a chart; its columns are contiguous arrays, NaN = missing."""
    times = np.ascontiguousarray(found["time_ms"])
    bounds = (asked.from_ms, asked.to_ms)
    kept = found[m4(times, np.ascontiguousarray(found["value"]), bounds, asked.width)]
    columns = {name: np.ascontiguousarray(kept[name]) for name in (*fields, "flags")}
    interval_ms = usual_interval_ms(times)
    return {
        "metric": metric,
        "time_ms": np.ascontiguousarray(kept["time_ms"]),
        **columns,
        "gaps": gaps(times, interval_ms),
        "interval_ms": interval_ms,
        "points": len(found),
    }
