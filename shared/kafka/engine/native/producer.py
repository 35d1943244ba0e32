"""The port's producer on librdkafka's own functions, without a Python call per record.

Invariant: rows are queued in order, and none after one that was refused. Only failures call back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shared.batch import Outgoing, Position
from shared.kafka.engine.librdkafka import flush_steps
from shared.kafka.engine.native.compiled import kernels
from shared.kafka.engine.native.errors import check_error, of_client, of_code
from shared.kafka.engine.native.handle import Handle, milliseconds
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.positions import position_list
from shared.kafka.engine.native.structs import (
    COPY_PAYLOAD,
    FLAGS_ARGUMENT,
    HEADER_ARGUMENT,
    KEY_ARGUMENT,
    NO_ERROR,
    PARTITION_ARGUMENT,
    PRODUCER,
    PURGE_IN_FLIGHT,
    PURGE_QUEUE,
    QUEUE_FULL,
    TOPIC_ARGUMENT,
    UNASSIGNED_PARTITION,
    VALUE_ARGUMENT,
    Argument,
    DeliveryCallback,
    address_of,
)
from shared.kafka.engine.port import ClientError

_REFUSED = "Unable to produce message: "


class NativeProducer:
    """``shared.kafka.engine.port.Producer``.

    raises : ConfigError
    """

    def __init__(
        self,
        library: Library,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        on_failed: Callable[[ClientError], None] | None,
    ) -> None:
        self._library = library
        self._topics: dict[str, int] = {}
        self._on_failed = on_failed
        config = {**config, "delivery.report.only.error": "true"}
        callbacks: dict[str, Any] = {}
        if on_failed is not None:
            callbacks["conf_set_dr_msg_cb"] = DeliveryCallback(self._delivered)
        self._handle = Handle(library, PRODUCER, config, on_error, callbacks)
        self._functions = np.array(
            [library.address("produce"), library.address("last_error")], np.int64
        )

    def put(self, records: Outgoing, row: int) -> tuple[int, ClientError | None]:
        """Queue rows; see Producer."""
        special = records.headers.keys() | records.partitions.keys()
        stops = sorted(place for place in special if place >= row)
        with self._handle.using() as client:
            topic = self._topic(client, records.topic)
            for stop in (*stops, len(records)):
                row, code = self._put_plain(records, topic, row, stop)
                if code == NO_ERROR and row < len(records):
                    code = self._put_special(client, records, topic, row)
                    row += code == NO_ERROR
                if code != NO_ERROR:
                    return row, self._refusal(client, code)
        return row, None

    def poll(self, wait_s: float) -> None:
        """Call on_failed for records that have failed; see Producer."""
        with self._handle.using() as client:
            self._library.poll(client, milliseconds(wait_s))

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; see Producer."""
        with self._handle.using() as client:
            for step_s in flush_steps(timeout_s):
                self._library.flush(client, milliseconds(step_s))
                waiting = int(self._library.outq_len(client))
                if not waiting:
                    break
        return waiting

    def waiting(self) -> int:
        """Return how many records are queued or in flight; see Producer."""
        with self._handle.held() as client:
            return int(self._library.outq_len(client))

    def drop(self) -> None:
        """Drop records that are queued or in flight; see Producer."""
        with self._handle.using() as client:
            self._library.purge(client, PURGE_QUEUE | PURGE_IN_FLIGHT)

    def init_transactions(self, timeout_s: float) -> None:
        """Fence the previous owner of this transactional.id; see Producer."""
        with self._handle.using() as client:
            error = self._library.init_transactions(client, milliseconds(timeout_s))
            check_error(self._library, client, error)

    def begin_transaction(self) -> None:
        """Open a transaction; see Producer."""
        with self._handle.using() as client:
            check_error(self._library, client, self._library.begin_transaction(client))

    def send_positions(
        self, topic: str, positions: Mapping[int, Position], membership: bytes, timeout_s: float
    ) -> None:
        """Add a group's positions to the open transaction; see Producer."""
        library = self._library
        group = ctypes.c_void_p()
        with self._handle.using() as client, position_list(library, topic, positions) as listed:
            error = library.consumer_group_metadata_read(
                ctypes.byref(group), membership, len(membership)
            )
            check_error(library, client, error)
            try:
                error = library.send_offsets_to_transaction(
                    client, listed, group, milliseconds(timeout_s)
                )
                check_error(library, client, error)
            finally:
                library.consumer_group_metadata_destroy(group)

    def commit_transaction(self, timeout_s: float) -> None:
        """Flush, and commit the transaction; see Producer."""
        with self._handle.using() as client:
            error = self._library.commit_transaction(client, milliseconds(timeout_s))
            check_error(self._library, client, error)

    def abort_transaction(self, timeout_s: float) -> None:
        """Abort the transaction; see Producer."""
        with self._handle.using() as client:
            error = self._library.abort_transaction(client, milliseconds(timeout_s))
            check_error(self._library, client, error)

    def close(self) -> None:
        """End the client's threads and connections; see Producer.

        A call that is under way in another thread goes on; the client ends with it.
        """
        self._handle.close()

    def _topic(self, client: int, name: str) -> int:
        """Return the handle of a topic, which lives as long as the client."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._library.topic_new(client, name.encode(), None)
            if not topic:
                raise of_client(self._library, client, self._library.last_error())
            self._topics[name] = self._handle.own("topic_destroy", topic)
        return topic

    def _put_plain(self, records: Outgoing, topic: int, row: int, stop: int) -> tuple[int, int]:
        """Queue rows without headers and with the partition of their key; return as queue_rows."""
        values = np.frombuffer(records.values.data, np.uint8)
        keys = np.frombuffer(records.keys.data, np.uint8)
        memory = np.array([topic, values.ctypes.data, keys.ctypes.data], np.int64)
        value_bounds = np.ascontiguousarray(records.values.bounds, np.int64)
        key_bounds = np.ascontiguousarray(records.keys.bounds, np.int64)
        row, code = kernels().queue_rows(
            self._functions, memory, value_bounds, key_bounds, row, stop
        )
        return int(row), int(code)

    def _put_special(self, client: int, records: Outgoing, topic: int, row: int) -> int:
        """Queue a row with headers or a fixed partition; return its error."""
        headers = [(name.encode(), value) for name, value in records.headers.get(row, ())]
        partition = records.partitions.get(row, UNASSIGNED_PARTITION)
        arguments = _arguments(topic, partition, headers)
        value, key = records.values[row], records.keys[row]
        _set_memory(arguments[2], VALUE_ARGUMENT, value)
        _set_memory(arguments[3], KEY_ARGUMENT, key)
        error = self._library.produceva(client, arguments, len(arguments))
        if not error:
            return NO_ERROR
        code = int(self._library.error_code(error))
        self._library.error_destroy(error)
        return code

    def _refusal(self, client: int, code: int) -> ClientError | None:
        """Return the error of a record that was not queued; None where the queue is full."""
        if code == QUEUE_FULL:
            return None
        text = _REFUSED + self._library.err2str(code).decode()
        return of_client(self._library, client, code, text)

    def _delivered(self, _: int, message: Any, __: int) -> None:
        """Report a record that was not delivered; the library reports no others."""
        code = message.contents.err
        if code != NO_ERROR and self._on_failed is not None:
            self._handle.guarded(self._on_failed)(of_code(self._library, code))


def _arguments(
    topic: int, partition: int, headers: Sequence[tuple[bytes, bytes]]
) -> ctypes.Array[Argument]:
    """Return the arguments of ``rd_kafka_produceva``; those of value and key are still empty.

    headers : the arguments point to their bytes, which the caller keeps alive
    """
    arguments = (Argument * (5 + len(headers)))()
    arguments[0].kind = TOPIC_ARGUMENT
    arguments[0].value.handle = topic
    arguments[1].kind = PARTITION_ARGUMENT
    arguments[1].value.partition = partition
    arguments[4].kind = FLAGS_ARGUMENT
    arguments[4].value.number = COPY_PAYLOAD
    for argument, (name, value) in zip(arguments[5:], headers, strict=True):
        argument.kind = HEADER_ARGUMENT
        argument.value.header.name = name
        argument.value.header.value = address_of(value)
        argument.value.header.size = len(value)
    return arguments


def _set_memory(argument: Argument, kind: int, data: bytes) -> None:
    """Point an argument to bytes, which the caller keeps alive; empty ones are null."""
    argument.kind = kind
    if data:
        argument.value.memory.address = address_of(data)
        argument.value.memory.size = len(data)
