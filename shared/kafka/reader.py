"""Reads a topic, or a window of it, without a group.

Invariant: a read is over when every partition's position has reached its end, never at the first
empty poll; transaction markers and aborted records count as positions but are not seen. No progress
within the deadline is an error, not an end.
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
    log_complaint,
    place_of,
    translate,
)
from shared.kafka.engine import engine_of
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
        """Yield what lies in start..end of each partition, log order within a partition.

        start  : {partition: first offset}; None = where the log begins
        end    : {partition: offset after the last}; None = the last stable offset when the read
                 begins
        raises : HistoryGone when the log begins later than start; TransportError, TopicMismatch
        """
        low, high = self._admin.bounds(topic)
        ends = dict(high if end is None else end)
        starts = {p: low[p] if start is None else start.get(p, low[p]) for p in ends if p in low}
        if set(starts) != set(ends):
            raise HistoryGone(f"{topic} has partitions {sorted(low)}, asked for {sorted(ends)}")
        for partition, offset in starts.items():
            if offset < low[partition] and offset < ends[partition]:
                raise HistoryGone(
                    f"{topic}[{partition}] begins at offset {low[partition]}, cannot be read from"
                    f" {offset} on"
                )
        window = {p: (starts[p], ends[p]) for p in ends if starts[p] < ends[p]}
        if window:
            yield from self._window(topic, window)

    def follow(
        self,
        topic: str,
        start: Literal["beginning", "end"] | Mapping[int, int] = "end",
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[Batch]:
        """Yield records as they come, until closed or told to stop.

        raises : HistoryGone, TopicMismatch, TransportError when the broker has not answered for
                 stall_s
        """
        if start == "beginning":
            start = self._admin.start_offsets(topic)
        elif start == "end":
            start = self._admin.end_offsets(topic)
        with self._consumer(topic, start) as consumer:
            alive_s = time.monotonic()
            while not (self._closed or stopping()):
                fetched = self._fetch(consumer, topic)
                if fetched.batches or fetched.ends:
                    alive_s = time.monotonic()
                elif time.monotonic() - alive_s >= self.stall_s:
                    self._admin.partitions(topic)
                    alive_s = time.monotonic()
                yield from fetched.batches

    def close(self) -> None:
        """End every ``follow`` within a tenth of a second."""
        self._closed = True

    def _window(self, topic: str, window: Mapping[int, tuple[int, int]]) -> Iterator[Batch]:
        left = {partition: end for partition, (_, end) in window.items()}
        with self._consumer(
            topic, {partition: start for partition, (start, _) in window.items()}
        ) as consumer:
            progress_s = time.monotonic()
            while left:
                fetched = self._fetch(consumer, topic)
                if fetched.batches or fetched.ends:
                    progress_s = time.monotonic()
                elif time.monotonic() - progress_s >= self.stall_s:
                    raise TransportError(
                        f"reading {topic} of {self.settings.bootstrap}: nothing came for"
                        f" {self.stall_s:g} s, still missing"
                        f" {', '.join(f'[{p}] up to {end}' for p, end in sorted(left.items()))}"
                    )
                for batch in fetched.batches:
                    if batch.partition not in left:
                        continue
                    stop = int(batch.offsets.searchsorted(left[batch.partition]))
                    position = int(batch.offsets[-1]) + 1
                    if stop:
                        yield batch.rows(0, stop)
                    self._reached(consumer, topic, left, batch.partition, position)
                # After the records: the mark of a partition's end may come with the records before
                # it.
                for partition, end in fetched.ends.items():
                    self._reached(consumer, topic, left, partition, end)

    def _reached(
        self,
        consumer: Consumer,
        topic: str,
        left: dict[int, int],
        partition: int,
        position: int,
    ) -> None:
        """Stop fetching a partition whose position has reached its end."""
        if partition in left and position >= left[partition]:
            del left[partition]
            with self._doing(topic):
                consumer.stop(topic, [partition])

    @contextmanager
    def _consumer(self, topic: str, start: Mapping[int, int]) -> Iterator[Consumer]:
        required = _REQUIRED | {"group.id": "lapwing-reader"}
        config = client_config(self.settings, "consumer", tuning=CONSUMER_TUNING, required=required)
        consumer = self._engine.consumer(config, log_complaint)
        try:
            with self._doing(topic):
                consumer.start(topic, start)
            yield consumer
        finally:
            consumer.close()

    def _fetch(self, consumer: Consumer, topic: str) -> Fetched:
        """Return records and partition ends; raise everything else."""
        with self._doing(topic):
            fetched = consumer.fetch(self.max_records, _SLICE_S)
            for error in fetched.errors:
                raise error
        return fetched

    @contextmanager
    def _doing(self, topic: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            place = place_of(error, topic)
            raise translate(error, f"reading {place} of {self.settings.bootstrap}") from error
