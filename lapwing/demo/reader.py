"""Reads the embedded broker's input and results, and records them in the ledger.

Invariant: every topic is read from its first record; a record that the broker dropped before it was
           read ends the demo.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import schemas
from lapwing.demo.ledger import DEAD, SCORED, Ledger
from lapwing.demo.view import AnomalyLine
from shared.batch import Batch, Position
from shared.decode.avro.decoder import AvroDecoder
from shared.directory import Directory
from shared.encode.dead_letters import PREFIX
from shared.encode.results import decode_result
from shared.errors import HistoryGone, LapwingError
from shared.events import Kind, SeverityClass
from shared.kafka import GroupSource, Reader
from shared.settings import Settings

GROUP = "lapwing-demo"
"""Consumer group that commits an input record when its result was read.

The replay can then wait for this process as well.
"""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

KEPT_ANOMALIES = 12
"""Entities whose newest anomaly is kept for the view."""

CLOSE_S = 2.0


class _FromFirstOffset:
    """Takes every partition from offset 0 on."""

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        for partition, low in start.items():
            if low > 0 and committed[partition] is None:
                raise HistoryGone(
                    f"the embedded broker dropped {low} records of partition {partition} before"
                    " they were read"
                )
        return {p: position.offset if position else 0 for p, position in committed.items()}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing to release."""

    def lost(self, partitions: Sequence[int]) -> None:
        """Nothing to release."""


@dataclass(slots=True)
class Totals:
    """Totals that the ledger does not have.

    data_quality   : verdicts on the data itself
    unscored       : records that got no score, because their entity was still warming up or had no
                     model yet
    first_at_s     : when the first anomaly was read, by ``clock``
    """

    anomalies: int = 0
    data_quality: int = 0
    unscored: int = 0
    first_at_s: float | None = None
    event_ms: int | None = None


class ResultReader:
    """Clients that read the topics, one per topic.

    The input is read in this thread, as a group that commits; the results in threads of their own.

    score_ids : schema ids of score events in Avro
    clock     : monotonic seconds
    newest    : the newest anomaly of each entity, the latest to come last
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        score_ids: Sequence[int],
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.totals = Totals()
        self.newest: dict[str, AnomalyLine] = {}
        self._clock = clock
        wanted: dict[str, object] = {
            "entity_fields": ("entity",),
            "time_field": "",
            "time_unit": "",
            "include": ("source_partition", "source_offset", "score"),
            "exclude": (),
        }
        text = schemas.text(schemas.SCORE_EVENT)
        self._input = settings.input.model_copy(update=wanted)
        self._decoder = AvroDecoder.of_schemas(dict.fromkeys(score_ids, text), self._input)
        self._entities, self._metrics = Directory(), ["source_partition", "source_offset", "score"]
        self._anomaly_schema = schemas.text(schemas.ANOMALY_EVENT)
        self._known: set[str] = set()
        self._committed: dict[int, int] = {}
        self._committed_s = 0.0
        self._arrived: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._closed = False
        self._source = GroupSource(settings, GROUP, settings.topics.input)
        self._source.subscribe(_FromFirstOffset())
        topics = settings.topics
        self._handlers = {
            topics.scores: self._scores,
            topics.anomalies: self._anomalies,
            topics.dead_letters: self._dead_letters,
        }
        names = {topic: f"read {topic}" for topic in self._handlers}
        self._threads = [
            threading.Thread(target=self._follow, args=(t,), name=n, daemon=True)
            for t, n in names.items()
        ]
        for thread in self._threads:
            thread.start()

    def poll(self, timeout_s: float) -> None:
        """Record what has arrived; wait at most timeout_s for input records.

        raises : HistoryGone when the broker dropped what was not read yet; TransportError
        """
        for batch in self._source.poll(20_000, timeout_s):
            self.ledger.partitions[batch.partition].sent(batch.offsets, batch.broker_ms)
        while not self._arrived.empty():
            batch_or_error = self._arrived.get()
            if isinstance(batch_or_error, BaseException):
                raise batch_or_error
            self._handlers[batch_or_error.topic](batch_or_error)
        self._commit()

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        for thread in self._threads:
            thread.join(CLOSE_S)
        self._source.close()

    def _follow(self, topic: str) -> None:
        try:
            start = dict.fromkeys(range(self.settings.topics.partitions), 0)
            first = start if topic != self.settings.topics.anomalies else {0: 0}
            for batch in Reader(self.settings, max_records=20_000).follow(
                topic, first, stopping=lambda: self._closed
            ):
                self._arrived.put(batch)
        except LapwingError as error:
            if not self._closed:
                self._arrived.put(error)

    def _commit(self) -> None:
        now_s = self._clock()
        if now_s - self._committed_s < 0.05:
            return
        moved = {
            p: offset
            for p, offset in self.ledger.frontiers().items()
            if offset > self._committed.get(p, 0)
        }
        if moved:
            self._source.commit(
                {partition: Position(offset) for partition, offset in moved.items()}
            )
            self._committed |= moved
            self._committed_s = now_s

    def _score_columns(self, batch: Batch) -> tuple[Ints, Ints, Floats, Ints]:
        """Return source partition, source offset, score and event time of each score event."""
        if self.settings.output.is_json:
            records = [
                decode_result(batch.values[row], lambda _: None) for row in range(len(batch))
            ]
            names = ("source_partition", "source_offset", "event_time")
            partitions, offsets, time_ms = (
                np.array([record[name] for record in records], np.int64) for name in names
            )
            scores = np.array([record["score"] for record in records], np.float64)
            return partitions, offsets, scores, time_ms
        columns = self._decoder.decode(batch, self._entities, self._metrics)
        if len(columns.rejected):
            row = int(columns.rejected[0])
            raise LapwingError(
                f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])} is not a score event"
                " of this version"
            )
        values = columns.values[:, [self._metrics.index(name) for name in self._input.include]]
        partitions, offsets = values[:, 0].astype(np.int64), values[:, 1].astype(np.int64)
        return partitions, offsets, values[:, 2], columns.time_ms

    def _scores(self, batch: Batch) -> None:
        partitions, offsets, scores, time_ms = self._score_columns(batch)
        for partition in np.unique(partitions).tolist():
            rows = np.flatnonzero(partitions == partition)
            fresh = rows[
                self.ledger.partitions[partition].answered(
                    offsets[rows], batch.broker_ms[rows], SCORED
                )
            ]
            self.totals.unscored += int(np.isnan(scores[fresh]).sum())
        if len(time_ms):
            self.totals.event_ms = max(self.totals.event_ms or 0, int(time_ms.max()))

    def _anomalies(self, batch: Batch) -> None:
        values = [batch.values[row] for row in range(len(batch))]
        for value in values:
            record = decode_result(value, lambda _: self._anomaly_schema)
            if record["event_id"] in self._known:
                continue
            self._known.add(record["event_id"])
            if record["kind"] == Kind.EPISODE_CLOSED:
                self._end(record)
                continue
            if not record["is_anomaly"]:
                self.totals.data_quality += 1
                continue
            self.totals.anomalies += 1
            if self.totals.first_at_s is None:
                self.totals.first_at_s = self._clock()
            self.newest.pop(record["entity"], None)
            self.newest[record["entity"]] = _line(record)
        while len(self.newest) > KEPT_ANOMALIES:
            del self.newest[next(iter(self.newest))]

    def _end(self, record: Mapping[str, Any]) -> None:
        """Mark the entity's newest anomaly as ended if this is its episode."""
        shown = self.newest.get(record["entity"])
        if shown is not None and shown.episode_id == record["episode_id"]:
            self.newest[record["entity"]] = replace(shown, ended_ms=record["event_time"])

    def _dead_letters(self, batch: Batch) -> None:
        for row in range(len(batch)):
            headers = dict(batch.headers.get(row, ()))
            partition, offset = int(headers[PREFIX + "partition"]), int(headers[PREFIX + "offset"])
            offsets = np.array([offset], np.int64)
            self.ledger.partitions[partition].answered(
                offsets, batch.broker_ms[row : row + 1], DEAD
            )


def _line(record: Mapping[str, Any]) -> AnomalyLine:
    severity = SeverityClass(record["severity_class"])
    return AnomalyLine(
        record["event_time"],
        record["entity"],
        record["score"],
        severity,
        record["reason"],
        record["episode_id"],
    )
