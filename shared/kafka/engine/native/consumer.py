"""The port's consumer on librdkafka's own queue, without a Python object per record.

Invariant: each record is returned exactly once, in a batch or as an error. Records that a call had
fetched before it failed are returned by the next one. A message is destroyed by the call that has
fetched it, after its bytes were copied.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import numpy as np

from shared.batch import Position
from shared.kafka.engine.librdkafka import is_member
from shared.kafka.engine.native.errors import check_code, check_error, of_client, of_code
from shared.kafka.engine.native.handle import Handle, milliseconds
from shared.kafka.engine.native.library import Library
from shared.kafka.engine.native.messages import MessageReader
from shared.kafka.engine.native.positions import (
    List,
    check,
    numbers,
    partition_list,
    position_list,
    positions,
)
from shared.kafka.engine.native.structs import (
    ASSIGN_PARTITIONS,
    CONSUMER,
    NO_ERROR,
    REVOKE_PARTITIONS,
    CommitCallback,
    RebalanceCallback,
)
from shared.kafka.engine.port import NOTHING, ClientError, Fetched, GroupEvents

_FIRST_ROOM = 1024
"""Messages that one call may fetch before the list of their addresses grows."""


class NativeConsumer:
    """``shared.kafka.engine.port.Consumer``.

    raises : ConfigError
    """

    def __init__(
        self, library: Library, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> None:
        self._library = library
        self._events: GroupEvents | None = None
        self._is_decided = False
        self._kept: Fetched | None = None
        self._messages = np.zeros(_FIRST_ROOM, np.int64)
        callbacks = {"conf_set_rebalance_cb": RebalanceCallback(self._rebalance)}
        self._handle = Handle(library, CONSUMER, config, on_error, callbacks)
        self._reader = MessageReader(library)
        with self._handle.using() as client:
            check_code(library, client, library.poll_set_consumer(client))
            queue = library.queue_get_consumer(client)
            self._queue = self._handle.own("queue_destroy", queue)

    def join(self, topic: str, events: GroupEvents) -> None:
        """Join the group; see Consumer."""
        self._events = events
        with self._handle.using() as client, self._partitions(topic, [-1]) as listed:
            check_code(self._library, client, self._library.subscribe(client, listed))

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        """Return records that have arrived; see Consumer.

        A ClientError of a callback is returned with the records; anything else that a callback
        raises is raised, and the next call returns the records.
        """
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        with self._handle.held() as client:
            fetched = self._fetch(client, max_records, wait_s, gather_s)
        failure = self._handle.take_failure()
        if failure is None:
            return fetched
        if isinstance(failure, ClientError):
            return fetched._replace(errors=[*fetched.errors, failure])
        self._kept = fetched
        raise failure

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Fetch additional partitions; see Consumer."""
        self._is_decided = True
        starts = {partition: Position(offset) for partition, offset in offsets.items()}
        with self._handle.using() as client, position_list(self._library, topic, starts) as listed:
            error = self._library.incremental_assign(client, listed)
            check_error(self._library, client, error)

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        """Stop fetching these; see Consumer."""
        self._is_decided = True
        partitions = set(partitions)
        if self._kept is not None:
            rest = [batch for batch in self._kept.batches if batch.partition not in partitions]
            self._kept = self._kept._replace(batches=rest)
        with self._handle.using() as client, self._partitions(topic, partitions) as listed:
            error = self._library.incremental_unassign(client, listed)
            check_error(self._library, client, error)

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch nothing from these for now; see Consumer."""
        with self._handle.using() as client, self._partitions(topic, partitions) as listed:
            check_code(self._library, client, self._library.pause_partitions(client, listed))

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch from them again; see Consumer."""
        with self._handle.using() as client, self._partitions(topic, partitions) as listed:
            check_code(self._library, client, self._library.resume_partitions(client, listed))

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Position | None]:
        """Return the group's positions; see Consumer."""
        with self._handle.using() as client, self._partitions(topic, partitions) as listed:
            code = self._library.committed(client, listed, milliseconds(timeout_s))
            check_code(self._library, client, code)
            check(self._library, listed)
            return positions(listed)

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        """Commit positions; see Consumer."""
        answers: list[ClientError | None] = []

        def answered(_: int, code: int, listed: List, __: int) -> None:
            answers.append(self._refusal(code, listed))

        callback = CommitCallback(self._handle.guarded(answered))
        library = self._library
        with (
            self._handle.using() as client,
            position_list(library, topic, positions) as listed,
            self._temporary_queue(client) as queue,
        ):
            address = ctypes.cast(callback, ctypes.c_void_p)
            check_code(library, client, library.commit_queue(client, listed, queue, address, None))
            library.queue_poll_callback(queue, -1)
        if answers and answers[0] is not None:
            raise answers[0]

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        """Return first and end offset of a partition; see Consumer."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        ends = ctypes.byref(low), ctypes.byref(high)
        with self._handle.using() as client:
            code = self._library.query_watermark_offsets(
                client, topic.encode(), partition, *ends, milliseconds(timeout_s)
            )
            check_code(self._library, client, code)
        return low.value, high.value

    def cached_end(self, topic: str, partition: int) -> int:
        """Return the high watermark of the last fetch; see Consumer."""
        low, high = ctypes.c_int64(), ctypes.c_int64()
        ends = ctypes.byref(low), ctypes.byref(high)
        with self._handle.using() as client:
            code = self._library.get_watermark_offsets(client, topic.encode(), partition, *ends)
        return max(-1, high.value) if code == NO_ERROR else -1

    def membership(self) -> bytes | None:
        """Return the serialised member id and generation; see Consumer."""
        library = self._library
        with self._handle.using() as client:
            described = library.consumer_group_metadata(client)
            if not described:
                return None
            data, size = ctypes.c_void_p(), ctypes.c_size_t()
            try:
                error = library.consumer_group_metadata_write(
                    described, ctypes.byref(data), ctypes.byref(size)
                )
                check_error(library, client, error)
                metadata = ctypes.string_at(data, size.value)
                library.mem_free(client, data)
            finally:
                library.consumer_group_metadata_destroy(described)
        return metadata if is_member(metadata) else None

    def refresh_metadata(self, topic: str, timeout_s: float) -> None:
        """Request the topic's metadata; see Consumer."""
        library = self._library
        with self._handle.using() as client:
            handle = library.topic_new(client, topic.encode(), None)
            if not handle:
                raise of_client(library, client, library.last_error())
            found = ctypes.c_void_p()
            try:
                code = library.metadata(
                    client, 0, handle, ctypes.byref(found), milliseconds(timeout_s)
                )
                check_code(library, client, code)
                library.metadata_destroy(found)
            finally:
                library.topic_destroy(handle)

    def close(self) -> None:
        """Leave the group; see Consumer. A second call does nothing."""
        if self._handle.is_closed:
            return
        with self._handle.held() as client:
            self._library.consumer_close(client)
        self._handle.close()
        failure = self._handle.take_failure()
        if failure is not None and not isinstance(failure, ClientError):
            raise failure

    def _fetch(self, client: int, max_records: int, wait_s: float, gather_s: float) -> Fetched:
        if len(self._messages) < max_records:
            self._messages = np.zeros(max_records, np.int64)
        count = 0
        until_s = time.monotonic() + wait_s
        if wait_s > 0.0:
            count = self._consume(client, 0, 1, wait_s)
        if count < max_records and (count or wait_s <= 0.0):
            more_s = min(gather_s, until_s - time.monotonic())
            count += self._consume(client, count, max_records, max(0.0, more_s))
        if not count:
            return NOTHING
        return self._reader.take(client, self._messages[:count])

    def _consume(self, client: int, first: int, stop: int, wait_s: float) -> int:
        """Fetch addresses of messages into first..stop; return how many."""
        count = self._library.consume_batch_queue(
            self._queue, milliseconds(wait_s), self._messages[first:].ctypes.data, stop - first
        )
        if count < 0:
            self._handle.note(of_client(self._library, client, self._library.last_error()))
        return max(0, int(count))

    def _rebalance(self, client: int, code: int, listed: List, _: int) -> None:
        """Let the events decide about the partitions; what they leave open is as the group says."""
        self._is_decided = False
        self._handle.guarded(self._notify)(client, code, listed)
        if not self._is_decided:
            self._handle.guarded(self._follow)(client, code, listed)

    def _notify(self, client: int, code: int, listed: List) -> None:
        if self._events is None:
            return
        if code == ASSIGN_PARTITIONS:
            self._events.assigned(numbers(listed))
        elif code == REVOKE_PARTITIONS:
            is_lost = self._library.assignment_lost(client)
            released = self._events.lost if is_lost else self._events.revoked
            released(numbers(listed))

    def _follow(self, client: int, code: int, listed: List) -> None:
        library = self._library
        if code == ASSIGN_PARTITIONS:
            check_error(library, client, library.incremental_assign(client, listed))
        elif code == REVOKE_PARTITIONS:
            check_error(library, client, library.incremental_unassign(client, listed))
        else:
            check_code(library, client, library.assign(client, None))

    def _refusal(self, code: int, listed: List) -> ClientError | None:
        """Return why a commit was refused; None where it was not."""
        if code != NO_ERROR:
            return of_code(self._library, code)
        try:
            if listed:
                check(self._library, listed)
        except ClientError as error:
            return error
        return None

    def _partitions(self, topic: str, partitions: Iterable[int]) -> AbstractContextManager[List]:
        return partition_list(self._library, topic, partitions)

    @contextmanager
    def _temporary_queue(self, client: int) -> Iterator[int]:
        queue = self._library.queue_new(client)
        try:
            yield queue
        finally:
            self._library.queue_destroy(queue)
