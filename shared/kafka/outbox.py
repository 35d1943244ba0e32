"""A producer's queue, and the configuration that all producers share.

Invariant: rows are queued in order; a full queue is waited for with a deadline, and skips no row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from shared.batch import Outgoing
from shared.kafka.client import LOG, client_config, log_client_error
from shared.kafka.engine import engine_of
from shared.kafka.engine.port import ClientError, Engine
from shared.settings import Settings
from shared.settings.topic_specs import dead_letter_limit_bytes

REQUIRED = {"enable.idempotence": "true", "acks": "all", "partitioner": "murmur2_random"}

_WAIT_S = 0.05


class Outbox:
    """A producer that counts how many of its records were acknowledged and how many failed.

    A transactional one counts no failures: a transaction fails as a whole.

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
        on_failed = None if "transactional.id" in config else self._note_failed
        engine = engine or engine_of(settings)
        self.producer = engine.producer(config, log_client_error, on_failed)
        self._closed = False
        self.queued = 0
        self.failed = 0
        self.first_error: ClientError | None = None

    @property
    def waiting(self) -> int:
        """Records that are queued or in flight; may count a few requests as well."""
        return 0 if self._closed else self.producer.waiting()

    @property
    def acknowledged(self) -> int:
        """Records that the broker has acknowledged; never too high, exact once none is waiting."""
        return max(0, self.queued - self.failed - self.waiting)

    def put(
        self,
        records: Outgoing,
        row: int,
        timeout_s: float,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Queue rows from ``row`` on; return the first row that was not queued, or len(records).

        timeout_s   : longest wait for space in the queue
        should_stop : called while waiting; True = stop waiting
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
            if not self._wait_for_room(timeout_s, should_stop):
                return row

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; return how many records still wait."""
        return self.producer.flush(timeout_s)

    def drop(self) -> None:
        """Drop records that are queued or in flight; the latter may have been written."""
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

    def _wait_for_room(self, timeout_s: float, should_stop: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        before = self.producer.waiting()
        while time.monotonic() < deadline and not should_stop():
            self.producer.poll(_WAIT_S)
            if self.producer.waiting() < before:
                return True
        return False

    def _note_failed(self, error: ClientError) -> None:
        self.failed += 1
        self.first_error = self.first_error or error
