"""Where the partitions that a member owns end, known without waiting for a broker.

Invariant: what is fetched says so itself, at every fetch; only where fetching is paused is the
broker asked, now and then, and nobody waits for its answer.
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

ASK_EVERY_S = 2.0


class PartitionEnds:
    """The high watermarks of one topic's partitions, as far as they are known.

    Records of an open transaction and the marks of ended ones count, as for Kafka's own tools.
    """

    def __init__(self, settings: Settings, topic: str, engine: Engine) -> None:
        self.topic = topic
        self._engine = engine
        self._settings = settings
        self._heard: dict[int, int] = {}
        self._asked: dict[int, Future[int]] = {}
        self._asked_s = -ASK_EVERY_S
        self._client: AdminClient | None = None

    def hear(self, partition: int, end: int) -> None:
        """Take note of an end; an older answer that arrives late changes nothing."""
        if end > self._heard.get(partition, -1):
            self._heard[partition] = end

    def forget(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are no longer owned."""
        for partition in partitions:
            self._heard.pop(partition, None)
            self._asked.pop(partition, None)

    def known(self, consumer: Consumer, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the ends of owned partitions; one of which nothing was heard yet is left out."""
        for partition in partitions:
            self.hear(partition, consumer.last_end(self.topic, partition))
        self._take_answers()
        return {p: self._heard[p] for p in partitions if p in self._heard}

    def ask(self, partitions: Iterable[int]) -> None:
        """Ask the broker, at most every ASK_EVERY_S and never twice at a time.

        ``known`` takes what it answers.
        """
        now_s = time.monotonic()
        if self._asked or now_s - self._asked_s < ASK_EVERY_S:
            return
        self._asked_s = now_s
        wanted = sorted(partitions)
        if not wanted:
            return
        with suppress(ClientError, LapwingError):
            config = client_config(self._settings, "admin")
            self._client = self._client or self._engine.admin(config)
            self._asked = dict(self._client.ask_ends(self.topic, wanted, CALL_TIMEOUT_S))

    def _take_answers(self) -> None:
        for partition in [partition for partition, answer in self._asked.items() if answer.done()]:
            answer = self._asked.pop(partition)
            if answer.exception() is None:
                self.hear(partition, answer.result())
