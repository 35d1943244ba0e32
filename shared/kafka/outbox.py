"""How columns get into a producer's queue, and the configuration that every producer here shares.

Invariant: rows are queued in order; a full queue is waited for, with a deadline, and skips no row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from shared.batch import Outgoing
from shared.kafka.client import LOG, client_config, log_complaint
from shared.kafka.engine import engine_of
from shared.kafka.engine.port import ClientError, Engine
from shared.settings import Settings

HEADER_ROOM_BYTES = 65_536
"""Room beside a record's own bytes for the headers that a dead letter adds."""

REQUIRED = {"enable.idempotence": "true", "acks": "all", "partitioner": "murmur2_random"}

_WAIT_S = 0.05


def input_limit_bytes(settings: Settings) -> int:
    """Return max.message.bytes of the input topic: Kafka's default, or what the largest accepted
    record needs.
    """
    return max(1_048_588, settings.input.max_record_bytes + HEADER_ROOM_BYTES)


def dead_letter_limit_bytes(settings: Settings) -> int:
    """Return max.message.bytes of the dead letters: whatever the input let in, and its headers."""
    return input_limit_bytes(settings) + HEADER_ROOM_BYTES


class Outbox:
    """A producer with an exact account of what became of its records (a transactional one only
    knows all or nothing).

    tuning, required : as for ``client_config``
    raises           : ConfigError; methods raise ClientError
    """

    def __init__(
        self,
        settings: Settings,
        tuning: Mapping[str, str],
        required: Mapping[str, str] | None = None,
        engine: Engine | None = None,
    ) -> None:
        tuning = {"message.max.bytes": str(dead_letter_limit_bytes(settings)), **tuning}
        config = client_config(
            settings, "producer", tuning=tuning, required={**REQUIRED, **(required or {})}
        )
        told = None if "transactional.id" in config else self._not_delivered
        self.producer = (engine or engine_of(settings)).producer(config, log_complaint, told)
        self._closed = False
        self.queued = 0
        self.failed = 0
        self.first_error: ClientError | None = None

    @property
    def waiting(self) -> int:
        """Records that are queued or under way; may count a few requests as well."""
        return 0 if self._closed else self.producer.waiting()

    @property
    def acknowledged(self) -> int:
        """Records that the broker has confirmed; never too high, exact once nothing is waiting."""
        return max(0, self.queued - self.failed - self.waiting)

    def put(
        self,
        records: Outgoing,
        row: int,
        timeout_s: float,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Queue rows from ``row`` on; return the first row that found no room for timeout_s, or
        len(records).

        should_stop : asked while waiting; True = stop waiting
        raises      : ClientError
        """
        while True:
            first = row
            row, error = self.producer.put(records, first)
            self.queued += row - first
            if error is not None:
                raise error
            if row >= len(records):
                self.producer.poll(0.0)
                return row
            if not self._room(timeout_s, should_stop):
                return row

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; return how many records still wait."""
        return self.producer.flush(timeout_s)

    def drop(self) -> None:
        """Throw away what is queued or under way; nobody knows what of the latter was written."""
        try:
            self.producer.drop()
            self.flush(1.0)
        except ClientError as error:
            LOG.debug("dropping the queue: %s", error.text)

    def close(self) -> None:
        """Drop everything and end the client's threads; a second call does nothing."""
        if not self._closed:
            self.drop()
            self._closed = True
            self.producer.close()
            del self.producer

    def _room(self, timeout_s: float, should_stop: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        before = self.producer.waiting()
        while time.monotonic() < deadline and not should_stop():
            self.producer.poll(_WAIT_S)
            if self.producer.waiting() < before:
                return True
        return False

    def _not_delivered(self, error: ClientError) -> None:
        self.failed += 1
        self.first_error = self.first_error or error
