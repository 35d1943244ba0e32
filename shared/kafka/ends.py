"""The end offsets of a member's partitions, without waiting for a broker.

Invariant: every fetch brings the end of its partition. Only where fetching is paused is the broker
queried, at intervals, and no caller waits for its answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress

from shared.errors import LapwingError
from shared.kafka.client import CALL_TIMEOUT_S, client_config
from shared.kafka.engine.port import AdminClient, ClientError, Consumer, Engine
from shared.settings import Settings

QUERY_EVERY_S = 2.0


class PartitionEnds:
    """The known high watermarks of one topic's partitions.

    As in Kafka's own tools, records of open transactions and transaction markers count.
    """

    def __init__(self, settings: Settings, topic: str, engine: Engine) -> None:
        self.topic = topic
        self._engine = engine
        self._settings = settings
        self._ends: dict[int, int] = {}
        self._pending: dict[int, Future[int]] = {}
        self._queried_s = -QUERY_EVERY_S
        self._client: AdminClient | None = None

    def record(self, partition: int, end: int) -> None:
        """Record an end; an older answer that arrives late is ignored."""
        if end > self._ends.get(partition, -1):
            self._ends[partition] = end

    def forget(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are no longer owned."""
        for partition in partitions:
            self._ends.pop(partition, None)
            self._pending.pop(partition, None)

    def known(self, consumer: Consumer, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the ends of owned partitions, without those that are not known yet."""
        for partition in partitions:
            self.record(partition, consumer.cached_end(self.topic, partition))
        self._collect_answers()
        return {p: self._ends[p] for p in partitions if p in self._ends}

    def query(self, partitions: Iterable[int]) -> None:
        """Query the broker, at most every QUERY_EVERY_S and one query at a time.

        ``known`` collects the answers.
        """
        now_s = time.monotonic()
        if self._pending or now_s - self._queried_s < QUERY_EVERY_S:
            return
        self._queried_s = now_s
        wanted = sorted(partitions)
        if not wanted:
            return
        with suppress(ClientError, LapwingError):
            config = client_config(self._settings, "admin")
            self._client = self._client or self._engine.admin(config)
            self._pending = dict(self._client.query_ends(self.topic, wanted, CALL_TIMEOUT_S))

    def _collect_answers(self) -> None:
        answered = [partition for partition, answer in self._pending.items() if answer.done()]
        for partition in answered:
            answer = self._pending.pop(partition)
            if answer.exception() is None:
                self.record(partition, answer.result())
