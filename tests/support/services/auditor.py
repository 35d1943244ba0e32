"""Reads all committed results while the predictors run, and keeps what it has read.

Invariant: it reads each result once. At the end each must exist exactly once, in input order.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import schemas
from shared.encode.records import decode_records
from shared.settings import Settings, TopicSettings
from tests.support.services.broker import SILENT

Coordinates = tuple[int, int]
"""(partition, offset) of an input record."""

Result = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]
"""(key, value, headers) of a record."""

KINDS = ("scores", "anomalies", "dead_letters", "activations")
_SCHEMAS = {
    "scores": schemas.SCORE_EVENT,
    "anomalies": schemas.ANOMALY_EVENT,
    "activations": schemas.MODEL_ACTIVATION,
}
_TEXTS = {kind: schemas.text(name) for kind, name in _SCHEMAS.items()}


def topic_of(topics: TopicSettings, kind: str) -> str:
    """Return the topic that holds results of a kind."""
    return str(getattr(topics, kind))


def coordinates(kind: str, result: Result) -> Coordinates:
    """Return which input record a result is about."""
    if kind == "dead_letters":
        headers = dict(result[2])
        return int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"])
    [record] = decode_records([result[1]], [_TEXTS[kind]])
    return record["source_partition"], record["source_offset"]


@dataclass
class Account:
    """What a reader has seen.

    results  : {kind: {(partition, offset) in the result's topic: what it is}}
    places   : {kind: {coordinates of the input record: how many results}}
    disorder : results of an input partition that came after one of a later input record, within one
               partition of their topic
    progress : {input partition: [(monotonic seconds, newest input offset with a score or dead
               letter)]}
    """

    results: dict[str, dict[tuple[int, int], Result]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    places: dict[str, dict[Coordinates, list[Result]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    disorder: int = 0
    progress: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    _newest: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def note(self, kind: str, partition: int, offset: int, result: Result) -> None:
        """Take one record of a topic of results into account."""
        source, source_offset = place = coordinates(kind, result)
        self.results[kind][partition, offset] = result
        self.places[kind][place].append(result)
        before = self._newest.get((kind, partition, source), -1)
        self.disorder += source_offset < before
        self._newest[kind, partition, source] = max(before, source_offset)
        if kind in ("scores", "dead_letters"):
            steps = self.progress[source]
            if not steps or source_offset > steps[-1][1]:
                steps.append((time.monotonic(), source_offset))

    def reached_s(self, partition: int, offset: int) -> float | None:
        """Return when a result of this or a later input record was first read; None if never."""
        steps = self.progress.get(partition, [])
        place = bisect_left(steps, offset, key=lambda step: step[1])
        return steps[place][0] if place < len(steps) else None


class Auditor:
    """Reads result topics from the beginning, on its own thread, until closed; survives outages."""

    def __init__(self, settings: Settings, partitions: dict[str, int]) -> None:
        self.account = Account()
        self.trouble: list[str] = []
        self._topics = {topic_of(settings.topics, kind): kind for kind in KINDS}
        config = {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "auditor",
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": "10",
            "reconnect.backoff.max.ms": "200",
            "logger": SILENT,
        }
        self._consumer = Consumer(config)
        self._consumer.assign(
            [
                TopicPartition(topic, p, 0)
                for topic in self._topics
                for p in range(partitions[topic])
            ]
        )
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="auditor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10)
        self._consumer.close()

    def _follow(self) -> None:
        while not self._closing.is_set():
            with suppress(KafkaException):
                for message in self._consumer.consume(500, 0.02):
                    error = message.error()
                    if error is None:
                        result = (
                            message.key() or b"",
                            message.value() or b"",
                            tuple(message.headers() or ()),
                        )
                        self.account.note(
                            self._topics[message.topic()],
                            message.partition(),
                            message.offset(),
                            result,
                        )
                    elif error.code() in (
                        KafkaError._AUTO_OFFSET_RESET,
                        KafkaError.OFFSET_OUT_OF_RANGE,
                    ):
                        self.trouble.append(error.str())


def read_again(
    settings: Settings, partitions: dict[str, int], ends: dict[str, dict[int, int]]
) -> Account:
    """Read all results again, from the beginning to the given ends."""
    account = Account()
    for kind in KINDS:
        topic = topic_of(settings.topics, kind)
        for partition, offset, result in _records(settings, topic, partitions[topic], ends[topic]):
            account.note(kind, partition, offset, result)
    return account


def _records(
    settings: Settings, topic: str, partitions: int, end: dict[int, int]
) -> Iterator[tuple[int, int, Result]]:
    from shared.kafka import Reader

    assert len(end) == partitions
    for batch in Reader(settings).read(topic, dict.fromkeys(end, 0), end):
        for row in range(len(batch)):
            result = (batch.keys[row], batch.values[row], tuple(batch.headers.get(row, ())))
            yield batch.partition, int(batch.offsets[row]), result
