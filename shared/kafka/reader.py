"""Reads a topic, or a window of it, without a group.

Invariant: a read ends when the position of every partition has reached its end, never at the first
empty poll. Transaction markers and aborted records advance a position but are not returned. No
progress within the deadline is an error, not an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from shared.batch import Batch
from shared.errors import HistoryGone, TransportError
from shared.kafka.admin import Admin
from shared.kafka.client import (
    CALL_TIMEOUT_S,
    CONSUMER_REQUIRED,
    CONSUMER_TUNING,
    client_config,
    log_client_error,
    topic_partition_of,
    translate,
)
from shared.kafka.engine import engine_of
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Consumer, Engine, Fetched
from shared.settings import Settings

_REQUIRED = CONSUMER_REQUIRED | {"enable.partition.eof": "true"}
_SLICE_S = 0.1


class Reader:
    """Reads committed records of any topic.

    max_records : in one batch of ``read`` and ``follow``
    stall_s     : longest time without any progress
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_records: int = 5_000,
        stall_s: float = CALL_TIMEOUT_S,
        engine: Engine | None = None,
    ) -> None:
        self.settings = settings
        self.max_records = max_records
        self.stall_s = stall_s
        self._engine = engine or engine_of(settings)
        self._admin = Admin(settings, engine=engine)
        self._closed = False

    def read(
        self,
        topic: str,
        start: Mapping[int, int] | None = None,
        end: Mapping[int, int] | None = None,
    ) -> Iterator[Batch]:
        """Yield the records of start..end of each partition, each partition in log order.

        start  : {partition: first offset}; None = the start of the log
        end    : {partition: offset after the last}; None = the last stable offset when the read
                 begins
        raises : HistoryGone when the log starts later than start; TransportError, TopicMismatch
        """
        low, high = self._admin.bounds(topic)
        ends = dict(high if end is None else end)
        unknown = sorted(set(ends) - set(low))
        if unknown:
            raise HistoryGone(f"{topic} has partitions {sorted(low)}, and none of {unknown}")
        starts = {partition: low[partition] for partition in ends} | {
            partition: offset for partition, offset in (start or {}).items() if partition in ends
        }
        for partition, offset in starts.items():
            if offset < low[partition] and offset < ends[partition]:
                raise HistoryGone(
                    f"{topic}[{partition}] cannot be read from offset {offset}: its log starts at"
                    f" offset {low[partition]}"
                )
        window = {
            partition: (offset, ends[partition])
            for partition, offset in starts.items()
            if offset < ends[partition]
        }
        if window:
            yield from self._window(topic, window)

    def follow(
        self,
        topic: str,
        start: Literal["beginning", "end"] | Mapping[int, int] = "end",
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[Batch]:
        """Yield records as they arrive, until ``close`` or until ``stopping`` returns True.

        raises : HistoryGone, TopicMismatch, TransportError when the broker has not answered for
                 stall_s
        """
        if start == "beginning":
            start = self._admin.start_offsets(topic)
        elif start == "end":
            start = self._admin.end_offsets(topic)
        with self._consumer(topic, start) as consumer:
            answered_s = time.monotonic()
            while not (self._closed or stopping()):
                fetched = self._fetch(consumer, topic)
                if fetched.batches or fetched.ends:
                    answered_s = time.monotonic()
                elif time.monotonic() - answered_s >= self.stall_s:
                    self._admin.partitions(topic)
                    answered_s = time.monotonic()
                yield from fetched.batches

    def close(self) -> None:
        """End every ``follow`` within a tenth of a second."""
        self._closed = True

    def _window(self, topic: str, window: Mapping[int, tuple[int, int]]) -> Iterator[Batch]:
        starts = {partition: start for partition, (start, _) in window.items()}
        unread = {partition: end for partition, (_, end) in window.items()}
        with self._consumer(topic, starts) as consumer:
            progress_s = time.monotonic()
            while unread:
                fetched = self._fetch(consumer, topic)
                if fetched.batches or fetched.ends:
                    progress_s = time.monotonic()
                elif time.monotonic() - progress_s >= self.stall_s:
                    raise self._stalled(topic, unread)
                for batch in fetched.batches:
                    if batch.partition not in unread:
                        continue
                    stop = int(batch.offsets.searchsorted(unread[batch.partition]))
                    position = int(batch.offsets[-1]) + 1
                    if stop:
                        yield batch.rows(0, stop)
                    self._stop_if_reached(consumer, topic, unread, batch.partition, position)
                # After the batches: an end may be reported together with the records before it.
                for partition, end in fetched.ends.items():
                    self._stop_if_reached(consumer, topic, unread, partition, end)

    def _stalled(self, topic: str, unread: Mapping[int, int]) -> TransportError:
        missing = ", ".join(
            f"[{partition}] up to {end}" for partition, end in sorted(unread.items())
        )
        return TransportError(
            f"reading {topic} of {self.settings.bootstrap}: no progress for {self.stall_s:g} s,"
            f" still missing {missing}"
        )

    def _stop_if_reached(
        self,
        consumer: Consumer,
        topic: str,
        unread: dict[int, int],
        partition: int,
        position: int,
    ) -> None:
        """Stop fetching a partition whose position has reached its end."""
        if partition in unread and position >= unread[partition]:
            del unread[partition]
            with self._translated(topic):
                consumer.stop(topic, [partition])

    @contextmanager
    def _consumer(self, topic: str, start: Mapping[int, int]) -> Iterator[Consumer]:
        required = _REQUIRED | {"group.id": "lapwing-reader"}
        config = client_config(self.settings, "consumer", tuning=CONSUMER_TUNING, required=required)
        consumer = self._engine.consumer(config, log_client_error)
        try:
            with self._translated(topic):
                consumer.start(topic, start)
            yield consumer
        finally:
            consumer.close()

    def _fetch(self, consumer: Consumer, topic: str) -> Fetched:
        """Return records and partition ends; raise an error that came with them."""
        with self._translated(topic):
            fetched = consumer.fetch(self.max_records, _SLICE_S)
            for error in fetched.errors:
                # The client looks for the coordinator of its group, which it never joins.
                if error.code != Code.GROUP_AUTHORIZATION_FAILED:
                    raise error
        return fetched

    @contextmanager
    def _translated(self, topic: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            partition = topic_partition_of(error, topic)
            raise translate(error, f"reading {partition} of {self.settings.bootstrap}") from error


def topic_bounds(settings: Settings, topic: str) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the last stable offsets of a topic; see ``Admin.bounds``.

    raises : TopicMismatch when there is no such topic, TransportError
    """
    admin = Admin(settings)
    try:
        return admin.bounds(topic)
    finally:
        admin.close()
