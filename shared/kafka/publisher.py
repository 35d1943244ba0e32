"""An idempotent producer for the replay, without transactions and positions.

Invariant: each record that was passed to ``send`` is counted as exactly one of acknowledged, failed
and waiting.
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
    """Records by outcome; the sum is the number of records passed to ``send``."""

    acknowledged: int
    failed: int
    waiting: int


class Publisher:
    """Sends records as fast as the broker accepts them.

    produce.linger_ms, produce.batch_bytes and produce.queue_records tune it.

    stall_s  : longest wait for space in a full queue before it is reported
    stopping : called while waiting for space; True = return at once, unsent records are kept
    raises   : ConfigError
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
        self._unsent: deque[tuple[Outgoing, int]] = deque()
        self._refused = 0

    def counts(self) -> Counts:
        """Return the records passed to ``send`` so far, by outcome."""
        total = self._outbox.queued + self._refused + self._unqueued()
        acknowledged = self._outbox.acknowledged
        failed = self._outbox.failed + self._refused
        return Counts(acknowledged, failed, total - acknowledged - failed)

    @property
    def acknowledged(self) -> int:
        """Records that the broker has acknowledged; never too high, exact after a flush."""
        return self.counts().acknowledged

    @property
    def failed(self) -> int:
        """Records that were not delivered; see ``first_error``."""
        return self.counts().failed

    @property
    def waiting(self) -> int:
        """Records that are neither acknowledged nor failed yet."""
        return self.counts().waiting

    @property
    def first_error(self) -> LapwingError | None:
        """The error of the first record that failed."""
        error = self._outbox.first_error
        return None if error is None else translate(error, f"sending to {self._address}")

    def send(self, records: Outgoing) -> None:
        """Queue records, waiting for space where the queue is full.

        raises : TransportError when the queue was full for stall_s: unsent records are kept and
                 sent first by the next ``send`` or ``flush``, so do not send them again.
                 TopicMismatch, or a TransportError that is not retriable: a record can never be
                 sent; it and the records after it are dropped.
        """
        self._unsent.append((records, 0))
        self._drain()

    def flush(self, timeout_s: float) -> int:
        """Wait at most timeout_s for acknowledgements; return how many records still wait."""
        if self._unsent:
            self._drain()
        try:
            self._outbox.flush(timeout_s)
        except ClientError as error:
            raise translate(error, f"sending to {self._address}") from error
        return self.waiting

    def close(self) -> None:
        """Drop records that still wait, which count as failed; flush first."""
        self._refused += self._unqueued()
        self._unsent.clear()
        self._outbox.close()

    def _drain(self) -> None:
        while self._unsent:
            records, row = self._unsent[0]
            queued = self._outbox.queued
            try:
                row = self._outbox.put(records, row, self.stall_s, self._stopping)
            except ClientError as error:
                self._refused += self._unqueued() - (self._outbox.queued - queued)
                self._outbox.first_error = self._outbox.first_error or error
                self._unsent.clear()
                raise translate(error, f"sending to {records.topic} at {self._address}") from error
            if row < len(records):
                self._unsent[0] = (records, row)
                if self._stopping():
                    return
                raise TransportError(
                    f"{self._address} accepts no records: the queue has been full for"
                    f" {self.stall_s:g} s, {self._unqueued()} records wait for space"
                )
            self._unsent.popleft()

    def _unqueued(self) -> int:
        return sum(len(records) - row for records, row in self._unsent)
