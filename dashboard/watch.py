"""What the page measures itself: the predictors' lag, their latency, and changed topics.

Invariant: a measurement that fails says why and never stops another one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from dashboard.history.results import Arrived
from shared.errors import LapwingError
from shared.kafka import Admin, Reader
from shared.settings import Settings

LAG_EVERY_S = 2.0
LATENCY_EVERY = 3
"""Rounds of the lag from one measurement of the latency to the next."""

SAMPLED = 64
"""Newest results of each partition whose latency is measured."""

STALL_S = 2.0


class Followed(Protocol):
    """A reader of a topic.

    partitions : how many it reads; 0 = it is not reading now
    """

    topic: str
    partitions: int

    def begin_again(self) -> None:
        """Read on with all partitions that the topic has by then."""


class Latency:
    """Time from an input record's Kafka timestamp to that of its score."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[int, deque[tuple[int, int]]] = {}
        self._measured: dict[int, list[int]] = {}
        self.problem = "no result has been read yet"

    def add(self, batch: Arrived) -> None:
        """Remember when the newest scores of a batch were written."""
        if not batch.scores or batch.undecodable:
            return
        recent = list(zip(batch.scores, batch.written_ms, strict=True))[-SAMPLED:]
        with self._lock:
            for event, written_ms in recent:
                kept = self._newest.setdefault(event["source_partition"], deque(maxlen=SAMPLED))
                kept.append((event["source_offset"], written_ms))

    def measure(self, settings: Settings, admin: Admin) -> None:
        """Read the timestamps of the input records to these scores.

        raises : TransportError, TopicMismatch
        """
        with self._lock:
            newest = {partition: dict(rows) for partition, rows in self._newest.items()}
            self._newest.clear()
        if not newest:
            return
        reader = Reader(settings, max_records=SAMPLED, stall_s=STALL_S)
        topic = settings.topics.input
        low, high = admin.bounds(topic)
        start: dict[int, int] = {}
        end: dict[int, int] = {}
        for partition, written in newest.items():
            last = max(written) + 1
            if low.get(partition, last) < last <= high.get(partition, 0):
                start[partition] = max(low[partition], last - SAMPLED)
                end[partition] = last
        if not end:
            return
        for batch in reader.read(topic, start, end):
            offsets, sent_ms = batch.offsets.tolist(), batch.broker_ms.tolist()
            written = newest[batch.partition]
            self._measured[batch.partition] = [
                max(0, written[offset] - sent)
                for offset, sent in zip(offsets, sent_ms, strict=True)
                if offset in written
            ] or self._measured.get(batch.partition, [])
        self.problem = ""

    def status(self) -> Mapping[str, Any]:
        """Return quantiles of the latest measurement of each partition, ms."""
        measured = [value for values in list(self._measured.values()) for value in values]
        if not measured:
            return {"problem": self.problem, "records": 0}
        p50, p95, p99 = np.quantile(measured, [0.5, 0.95, 0.99]).tolist()
        return {
            "problem": self.problem,
            "records": len(measured),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
        }


class Watch:
    """A thread that measures every few seconds."""

    def __init__(
        self,
        settings: Settings,
        followers: Sequence[Followed],
        stopping: threading.Event,
    ) -> None:
        self.settings = settings
        self.lag: Mapping[str, Any] = {"problem": "it has not been read yet"}
        self.latency = Latency()
        self._followers = followers
        self._stopping = stopping
        self.thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def _run(self) -> None:
        admin = Admin(self.settings)
        rounds = 0
        while not self._stopping.is_set():
            self.read_lag(admin)
            self.look_for_partitions(admin)
            if rounds % LATENCY_EVERY == 0:
                self.measure_latency(admin)
            rounds += 1
            self._stopping.wait(LAG_EVERY_S)
        admin.close()

    def read_lag(self, admin: Admin) -> None:
        """Read the predictors' lag of each partition."""
        group, topic = self.settings.predict.group, self.settings.topics.input
        try:
            by_partition = {str(p): lag for p, lag in sorted(admin.lag(group, topic).items())}
        except LapwingError as error:
            self.lag = {"problem": str(error)}
            return
        self.lag = {"partitions": by_partition, "problem": ""}

    def look_for_partitions(self, admin: Admin) -> None:
        """Restart the readers of topics that have more partitions by now."""
        for follower in self._followers:
            read = follower.partitions
            try:
                count = admin.partitions(follower.topic) if read else 0
            except LapwingError:
                continue  # its reader says why
            if count != read:
                follower.begin_again()

    def measure_latency(self, admin: Admin) -> None:
        """Measure the latency; keep the last one where the input cannot be read."""
        try:
            self.latency.measure(self.settings, admin)
        except LapwingError as error:
            self.latency.problem = str(error)
