"""How columns get into a producer's queue, and the configuration that every producer here shares.

Law: rows are queued in order; a full queue is waited for, with a deadline, and never skips a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shared.batch import Blob, Outgoing
from shared.kafka.client import LOG, client_config, open_client
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
    raises           : ConfigError
    """

    def __init__(
        self, settings: Settings, tuning: dict[str, str], required: dict[str, str] | None = None
    ) -> None:
        tuning = {"message.max.bytes": str(dead_letter_limit_bytes(settings))} | tuning
        config: dict[str, Any] = client_config(
            settings, "producer", tuning=tuning, required=REQUIRED | (required or {})
        )
        # The callback costs a Python call per record, so the client is told to keep successes to
        # itself.
        config |= {"delivery.report.only.error": True, "error_cb": _heard}
        if "transactional.id" not in config:
            config["on_delivery"] = self._not_delivered
        self.producer = open_client(Producer, config)
        self._closed = False
        self.queued = 0
        self.failed = 0
        self.first_error: KafkaError | None = None

    @property
    def waiting(self) -> int:
        """Records that are queued or under way; may count a few requests as well."""
        return 0 if self._closed else len(self.producer)

    @property
    def acknowledged(self) -> int:
        """Records that the broker has confirmed; never too high, and exact once nothing is waiting."""
        return max(0, self.queued - self.failed - self.waiting)

    def put(
        self,
        records: Outgoing,
        row: int,
        timeout_s: float,
        told: Callable[[], bool] = lambda: False,
    ) -> int:
        """Queue rows from ``row`` on; return the first row that found no room for timeout_s, or
        len(records).

        told   : asked while waiting; True = stop waiting
        raises : KafkaException
        """
        produce, topic, headers = self.producer.produce, records.topic, records.headers
        partitions = records.partitions
        values, keys = split(records.values), split(records.keys)
        first = row
        try:
            for row in range(first, len(values)):
                while True:
                    try:
                        if row in headers or row in partitions:
                            produce(
                                topic,
                                values[row] or None,
                                keys[row] or None,
                                partitions.get(row, -1),
                                headers=list(headers.get(row, ())),
                            )
                        else:
                            produce(topic, values[row] or None, keys[row] or None)
                        break
                    except BufferError:
                        if not self._room(timeout_s, told):
                            return row
            row = len(values)
        finally:
            self.queued += row - first
        self.serve(lambda: self.producer.poll(0))
        return row

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; return how many records still wait.

        raises : KafkaException
        """
        return self.serve(lambda: self.producer.flush(timeout_s))

    def drop(self) -> None:
        """Throw away what is queued or under way; nobody knows what of the latter was written."""
        try:
            self.producer.purge(blocking=True)
            self.flush(1.0)
        except KafkaException as error:
            LOG.debug("dropping the queue: %s", error)

    def close(self) -> None:
        """Drop everything and end the client's threads; a second call does nothing."""
        if not self._closed:
            self.drop()
            self._closed = True
            del self.producer

    @staticmethod
    def serve(call: Callable[[], int]) -> int:
        """Make a call that serves callbacks.

        raises : KafkaException, also where the client reports a fatal error while it is calling
                 back
        """
        try:
            return call()
        except SystemError as error:
            if isinstance(error.__cause__, KafkaException):
                raise error.__cause__ from None
            raise

    def cause(self, error: KafkaException) -> KafkaException:
        """Return what made the client unusable, where the error only says that it is."""
        if error.args[0].code() == KafkaError._FATAL:
            try:
                self.serve(lambda: self.producer.poll(0))
            except KafkaException as real:
                return real
        return error

    def _room(self, timeout_s: float, told: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        before = len(self.producer)
        while time.monotonic() < deadline and not told():
            self.serve(lambda: self.producer.poll(_WAIT_S))
            if len(self.producer) < before:
                return True
        return False

    def _not_delivered(self, error: KafkaError | None, message: Message[bytes, bytes]) -> None:
        if error is not None:
            self.failed += 1
            self.first_error = self.first_error or error


def _heard(error: KafkaError) -> None:
    """Take note; without a callback the client would write each complaint to its log once more."""
    LOG.debug("%s", error)


def split(blob: Blob) -> list[bytes]:
    """Return the values of a blob."""
    data, bounds = blob.data, blob.bounds.tolist()
    return [data[start:stop] for start, stop in pairwise(bounds)]
