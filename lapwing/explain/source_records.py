"""Finds in Kafka what belongs to a verdict: the input record, its score, its anomaly records.

Invariant: reads only, without a consumer group; a record that cannot be found is an error that says
where it was looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.explain.explain_target import ExplainTarget
from lapwing.explain.verdict_comparison import ResultRecord
from shared.batch import Batch, Blob
from shared.encode.results import Schema, decode_result
from shared.errors import ConfigError, HistoryGone
from shared.kafka import Reader, topic_bounds
from shared.kernels.hashing import murmur2_partitions
from shared.settings import Settings

SCAN_RECORDS = 20_000
"""So many scores are read through; a longer part of the topic is narrowed down by halving."""

PROBE_RECORDS = 500


@dataclass(frozen=True, slots=True)
class Source:
    """Where a verdict comes from.

    event_id : that was asked for; empty = coordinates were
    entity   : that the verdict is about; empty = not known yet
    """

    partition: int
    offset: int
    event_id: str = ""
    entity: str = ""


class ResultTopics:
    """The topics of scores and anomalies, searched for results of one input record."""

    def __init__(self, settings: Settings, schema: Schema) -> None:
        self.settings = settings
        self.schema = schema
        self._reader = Reader(settings, max_records=20_000)

    def locate(self, target: ExplainTarget) -> Source:
        """Return the coordinates of a target's input record.

        raises : ConfigError for an unknown id, TransportError, TopicMismatch
        """
        if target.partition is not None and target.offset is not None:
            return Source(target.partition, target.offset)
        topics = self.settings.topics
        for topic in (topics.anomalies, topics.scores):
            for batch, row in self._containing(topic, target.event_id.encode()):
                record = self._decoded(batch.values[row])
                if record is None or record.get("event_id") != target.event_id:
                    continue
                if record["source_topic"] != topics.input:
                    raise ConfigError(
                        f"event {target.event_id} is about {record['source_topic']}, not about"
                        f" {topics.input} (topics.input)"
                    )
                return Source(
                    record["source_partition"],
                    record["source_offset"],
                    target.event_id,
                    record["entity"],
                )
        raise ConfigError(
            f"event {target.event_id} is neither in {topics.anomalies} nor in {topics.scores}"
            f" (kept for {topics.scores_retention_hours:g} h): unknown, or removed by retention;"
            " PARTITION:OFFSET of its input record works without it"
        )

    def input_record(self, source: Source) -> Batch:
        """Return the input record, a batch of one.

        raises : ConfigError where there is none, HistoryGone where retention removed it
        """
        topic, partition, offset = self.settings.topics.input, source.partition, source.offset
        low, high = topic_bounds(self.settings, topic)
        name = f"{topic}[{partition}]@{offset}"
        if partition not in low:
            raise ConfigError(
                f"{topic} has no partition {partition}; it has {', '.join(map(str, sorted(low)))}"
            )
        if offset < low[partition]:
            raise HistoryGone(
                f"{name} is past the input's retention: partition {partition} begins at offset"
                f" {low[partition]} now (topics.input_retention_hours ="
                f" {self.settings.topics.input_retention_hours:g})"
            )
        if offset >= high[partition]:
            raise ConfigError(
                f"{name} does not exist yet: partition {partition} ends at offset {high[partition]}"
            )
        window = {partition: offset}, {partition: offset + 1}
        for batch in self._reader.read(topic, *window):
            return batch
        raise ConfigError(f"{name} is a transaction marker or was aborted: it is no record")

    def score(self, source: Source, key: bytes, event_id: str) -> tuple[ResultRecord | None, bool]:
        """Return the score event with an id, and whether retention may have removed it.

        key : of the score event, which decides its partition
        """
        topic = self.settings.topics.scores
        low, high = topic_bounds(self.settings, topic)
        where = np.zeros(1, np.int64)
        data = np.frombuffer(key, np.uint8)
        murmur2_partitions(data, np.array([0, len(data)], np.int64), len(low), where)
        partition = int(where[0])
        start, end = self._narrowed(source, partition, low[partition], high[partition])
        wanted = event_id.encode()
        for first, last in ((start, end), (low[partition], high[partition])):
            for batch, row in self._containing(topic, wanted, {partition: (first, last)}):
                record = self._decoded(batch.values[row])
                if record is not None and record.get("event_id") == event_id:
                    return _result(batch, row), False
        return None, any(offset > 0 for offset in low.values())

    def anomalies(self, source: Source, entity: str) -> tuple[list[ResultRecord], bool]:
        """Return the anomaly records about an entity that an input record led to.

        returns : (records, whether retention may have removed some)
        """
        topic = self.settings.topics.anomalies
        low, _ = topic_bounds(self.settings, topic)
        key, found = entity.encode(), []
        own = self.settings.topics.input, source.partition, source.offset
        for batch in self._reader.read(topic):
            if key not in batch.keys.data:
                continue
            for row in range(len(batch)):
                if batch.keys[row] != key:
                    continue
                record = self._decoded(batch.values[row])
                if record is not None and own == (
                    record["source_topic"],
                    record["source_partition"],
                    record["source_offset"],
                ):
                    found.append(_result(batch, row))
        return found, any(offset > 0 for offset in low.values())

    def _narrowed(self, source: Source, partition: int, low: int, high: int) -> tuple[int, int]:
        """Return the part of a scores partition that has the score of an input record.

        Scores of one input partition lie in the order of their records.
        """
        topic, end = self.settings.topics.scores, high
        probe = Reader(self.settings, max_records=PROBE_RECORDS)
        while high - low > SCAN_RECORDS:
            middle = (low + high) // 2
            batch = next(probe.read(topic, {partition: middle}, {partition: end}), None)
            at = None if batch is None else self._source_offset(batch, source.partition)
            if at is None:
                break
            if at > source.offset:
                high = middle + PROBE_RECORDS
            else:
                low = middle
        return low, min(high, end)

    def _source_offset(self, batch: Batch, partition: int) -> int | None:
        """Return the source offset of the first score of an input partition in a batch."""
        for row in range(len(batch)):
            record = self._decoded(batch.values[row])
            if record is not None and record["source_partition"] == partition:
                return int(record["source_offset"])
        return None

    def _containing(
        self, topic: str, wanted: bytes, window: dict[int, tuple[int, int]] | None = None
    ) -> Iterator[tuple[Batch, int]]:
        """Yield the rows whose value contains some bytes."""
        start = None if window is None else {p: first for p, (first, _) in window.items()}
        end = None if window is None else {p: last for p, (_, last) in window.items()}
        for batch in self._reader.read(topic, start, end):
            for row in rows_containing(batch.values, wanted):
                yield batch, row

    def _decoded(self, value: bytes) -> dict[str, Any] | None:
        try:
            return decode_result(value, self.schema)
        except ValueError:
            return None


def rows_containing(values: Blob, wanted: bytes) -> list[int]:
    """Return the rows whose value contains some bytes, increasing."""
    rows: list[int] = []
    begin, end = int(values.bounds[0]), int(values.bounds[-1])
    at = values.data.find(wanted, begin, end)
    while at >= 0:
        row = int(np.searchsorted(values.bounds, at, side="right")) - 1
        if at + len(wanted) <= values.bounds[row + 1] and (not rows or rows[-1] != row):
            rows.append(row)
        at = values.data.find(wanted, at + 1, end)
    return rows


def _result(batch: Batch, row: int) -> ResultRecord:
    coordinates = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
    return ResultRecord(
        batch.keys[row], batch.values[row], tuple(batch.headers.get(row, ())), coordinates
    )
