"""The port's producer on confluent-kafka.

Invariant: rows are queued in order. A delivered record costs no Python call; only failures call
back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shared.batch import Blob, Outgoing, Position
from shared.kafka.engine.confluent.consumer import to_topic_partitions
from shared.kafka.engine.confluent.errors import client_error, open_client
from shared.kafka.engine.librdkafka import flush_steps
from shared.kafka.engine.port import ClientError

_POLL_S = 0.1


class ConfluentProducer:
    """``shared.kafka.engine.port.Producer``.

    raises : ConfigError
    """

    def __init__(
        self, config: Mapping[str, Any], on_failed: Callable[[ClientError], None] | None
    ) -> None:
        config = {**config, "delivery.report.only.error": True}
        if on_failed is not None:
            config["on_delivery"] = _failures_only(on_failed)
        self._client = open_client(Producer, config)
        self._split: tuple[Outgoing, list[bytes], list[bytes]] | None = None
        self._is_accepted = False

    def put(self, records: Outgoing, row: int) -> tuple[int, ClientError | None]:
        """Queue rows; see Producer."""
        produce, topic, headers = self._client.produce, records.topic, records.headers
        partitions = records.partitions
        values, keys = self._columns(records)
        try:
            for row in range(row, len(values)):  # noqa: B020 - goes on from the given row
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
        except BufferError:
            return row, None
        except KafkaException as error:
            self._split = None
            return row, client_error(error)
        self._split = None
        return len(values), None

    def poll(self, wait_s: float) -> None:
        """Call on_failed for records that have failed; see Producer."""
        with self._failures():
            self._client.poll(wait_s)

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; see Producer."""
        deadline = time.monotonic() + timeout_s
        with self._failures():
            # A flush loses a fatal error if records fail as well; a poll returns right after it.
            # It is what a principal gets that may not write: no id for an idempotent producer.
            while not self._is_accepted and len(self._client):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return len(self._client)
                self._client.poll(min(left_s, _POLL_S))
            self._is_accepted = True
            for step_s in flush_steps(max(0.0, deadline - time.monotonic())):
                waiting = self._client.flush(step_s)
                if not waiting:
                    break
            return waiting

    def waiting(self) -> int:
        """Return how many records are queued or in flight; see Producer."""
        return len(self._client)

    def drop(self) -> None:
        """Drop records that are queued or in flight; see Producer."""
        with self._failures():
            self._client.purge(blocking=True)

    def init_transactions(self, timeout_s: float) -> None:
        """Fence the previous owner of this transactional.id; see Producer."""
        with self._failures():
            self._client.init_transactions(timeout_s)

    def begin_transaction(self) -> None:
        """Open a transaction; see Producer."""
        with self._failures():
            self._client.begin_transaction()

    def send_positions(
        self, topic: str, positions: Mapping[int, Position], membership: bytes, timeout_s: float
    ) -> None:
        """Add a group's positions to the open transaction; see Producer."""
        with self._failures():
            self._client.send_offsets_to_transaction(
                to_topic_partitions(topic, positions), membership, timeout_s
            )

    def commit_transaction(self, timeout_s: float) -> None:
        """Flush, and commit the transaction; see Producer."""
        with self._failures():
            self._client.commit_transaction(timeout_s)

    def abort_transaction(self, timeout_s: float) -> None:
        """Abort the transaction; see Producer."""
        with self._failures():
            self._client.abort_transaction(timeout_s)

    def close(self) -> None:
        """End the client's threads and connections; see Producer."""
        del self._client

    def _columns(self, records: Outgoing) -> tuple[list[bytes], list[bytes]]:
        """Return values and keys, split once even if the queue was full several times."""
        if self._split is None or self._split[0] is not records:
            self._split = records, split(records.values), split(records.keys)
        return self._split[1:]

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Translate exceptions of the library, also a fatal error within a callback."""
        try:
            yield
        except KafkaException as error:
            raise client_error(self._cause(error)) from error
        except SystemError as error:
            if isinstance(error.__cause__, KafkaException):
                raise client_error(error.__cause__) from None
            raise

    def _cause(self, error: KafkaException) -> KafkaException:
        """Return what made the client unusable, where the error only reports that it is."""
        if error.args[0].code() == KafkaError._FATAL:
            try:
                self._client.poll(0)
            except KafkaException as real:
                return real
            except SystemError as called_back:
                if isinstance(called_back.__cause__, KafkaException):
                    return called_back.__cause__
        return error


def split(blob: Blob) -> list[bytes]:
    """Return the values of a blob."""
    data, bounds = blob.data, blob.bounds.tolist()
    return [data[start:stop] for start, stop in pairwise(bounds)]


def _failures_only(
    on_failed: Callable[[ClientError], None],
) -> Callable[[KafkaError | None, Message[bytes, bytes]], None]:
    def delivered(error: KafkaError | None, _: Message[bytes, bytes]) -> None:
        if error is not None:
            on_failed(client_error(error))

    return delivered
