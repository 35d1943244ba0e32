"""A plain idempotent producer for the replay: no transactions, no positions, an honest count.

Invariant: every record given to ``send`` is in the end acknowledged, failed or still waiting, and
counted as exactly one of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shared.batch import Outgoing
from shared.errors import LapwingError, TransportError
from shared.kafka.client import CALL_TIMEOUT_S, translate
from shared.kafka.engine.port import ClientError, Engine
from shared.kafka.outbox import Outbox
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by what became of them; the sum is what was given to ``send``."""

    acknowledged: int
    failed: int
    waiting: int


class Publisher:
    """Sends as fast as the broker takes it; produce.linger_ms, .batch_bytes and .queue_records tune
    it.

    stall_s : longest wait for room in a full queue before it is reported
    stopping : asked while waiting for room; True = return at once, the rest is kept
    raises  : ConfigError
    """

    def __init__(
        self,
        settings: Settings,
        *,
        stall_s: float = CALL_TIMEOUT_S,
        stopping: Callable[[], bool] = lambda: False,
        engine: Engine | None = None,
    ) -> None:
        self.stall_s = stall_s
        self._stopping = stopping
        self._address = settings.bootstrap
        self._outbox = Outbox(
            settings,
            {
                "linger.ms": f"{settings.produce.linger_ms:g}",
                "batch.size": str(settings.produce.batch_bytes),
                "batch.num.messages": "10000",
                "queue.buffering.max.messages": str(settings.produce.queue_records),
            },
            engine=engine,
        )
        self._kept: deque[tuple[Outgoing, int]] = deque()
        self._refused = 0

    def counts(self) -> Counts:
        """Return what became of all records given so far, as of one moment."""
        given = self._outbox.queued + self._refused + self._unqueued()
        acknowledged, failed = self._outbox.acknowledged, self._outbox.failed + self._refused
        return Counts(acknowledged, failed, given - acknowledged - failed)

    @property
    def acknowledged(self) -> int:
        """Records that the broker has confirmed; never too high, exact when all is flushed."""
        return self.counts().acknowledged

    @property
    def failed(self) -> int:
        """Records given up; ``first_error`` says why."""
        return self.counts().failed

    @property
    def waiting(self) -> int:
        """Records that are neither acknowledged nor failed yet."""
        return self.counts().waiting

    @property
    def first_error(self) -> LapwingError | None:
        """Why the first failed record failed."""
        error = self._outbox.first_error
        return None if error is None else translate(error, f"sending to {self._address}")

    def send(self, records: Outgoing) -> None:
        """Queue records, waiting for room where the queue is full.

        raises : TransportError when there was no room for stall_s: the rest is kept and goes first
                 with the next ``send`` or ``flush``, so do not send it again. TopicMismatch, or a
                 TransportError that is not retriable: a record that can never be sent; the rest is
                 dropped.
        """
        self._kept.append((records, 0))
        self._drain()

    def flush(self, timeout_s: float) -> int:
        """Wait until nothing is waiting, at most timeout_s; return how many records still are."""
        if self._kept:
            self._drain()
        try:
            self._outbox.flush(timeout_s)
        except ClientError as error:
            raise translate(error, f"sending to {self._address}") from error
        return self.waiting

    def close(self) -> None:
        """Let go of what is still waiting, which counts as failed; flush first."""
        self._refused += self._unqueued()
        self._kept.clear()
        self._outbox.close()

    def _drain(self) -> None:
        while self._kept:
            records, row = self._kept[0]
            queued = self._outbox.queued
            try:
                row = self._outbox.put(records, row, self.stall_s, self._stopping)
            except ClientError as error:
                self._refused += self._unqueued() - (self._outbox.queued - queued)
                self._outbox.first_error = self._outbox.first_error or error
                self._kept.clear()
                raise translate(error, f"sending to {records.topic} at {self._address}") from error
            if row < len(records):
                self._kept[0] = (records, row)
                if self._stopping():
                    return
                raise TransportError(
                    f"{self._address} takes no records: the queue of {self._unqueued()} has had no"
                    f" room for {self.stall_s:g} s"
                )
            self._kept.popleft()

    def _unqueued(self) -> int:
        return sum(len(records) - row for records, row in self._kept)
