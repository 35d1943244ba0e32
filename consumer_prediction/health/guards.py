"""Guards stop the predictor where its results would be silently wrong.

Two cases are checked: the topic was recreated under the same name, or a producer uses another
partitioner.

Invariant: a guard never changes a record or a result. It raises a GuardError on the loop's own
           thread, before any record of the poll is scored. A broker that does not answer is no
           reason to raise one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from zlib import crc32

import numpy as np
import numpy.typing as npt
import structlog

from shared.batch import Batch, Blob, Position
from shared.errors import (
    GuardError,
    LapwingError,
    PartitionerMismatch,
    PositionGone,
    TopicMismatch,
    TopicRecreated,
    TransportError,
)
from shared.kafka import TopicIdentity
from shared.kernels.hashing import murmur2_partitions
from shared.ports import RebalanceListener, Source

log = structlog.get_logger()

CHECK_EVERY_S = 10.0
CONFIRM_S = 1.0
"""A difference counts if it persists after this time, because a broker's metadata may be stale."""


class TopicWatch:
    """Checks periodically, on its own thread, that a topic is still the one the state belongs to.

    first     : the topic's identity when the predictor started
    fetch     : asks the broker for the identity; raises TransportError, or TopicMismatch when there
                is no such topic
    every_s   : time between two checks
    confirm_s : time after which a difference is checked again
    """

    def __init__(
        self,
        topic: str,
        first: TopicIdentity,
        fetch: Callable[[], TopicIdentity],
        *,
        every_s: float = CHECK_EVERY_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self.topic = topic
        self.first = first
        self._fetch = fetch
        self._every_s = every_s
        self._confirm_s = confirm_s
        self._finding: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="topic-watch", daemon=True)

    def __enter__(self) -> TopicWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(self._confirm_s)

    def check(self) -> None:
        """Raise what the thread has found, if anything, without a broker request."""
        if self._finding is not None:
            raise self._finding

    def check_now(self) -> None:
        """Ask the broker now.

        raises : TopicMismatch, TopicRecreated; TransportError when the broker does not answer
        """
        if self._difference() is not None:
            self._closing.wait(self._confirm_s)
            if (found := self._difference()) is not None:
                raise found

    def _difference(self) -> GuardError | None:
        try:
            now = self._fetch()
        except GuardError as error:
            return error
        if now.topic_id != self.first.topic_id:
            return TopicRecreated(
                f"{self.topic} was deleted and recreated: its id is {now.topic_id}, and was"
                f" {self.first.topic_id} when this predictor started; to start over, use another"
                " predict.group"
            )
        if now.partitions != self.first.partitions:
            return TopicMismatch(
                f"{self.topic} has {now.partitions} partitions, and had {self.first.partitions}"
                " when this predictor started, so keys move to other partitions but their state"
                " does not; start a new dataset (topics.dataset), or set topics.partitions to"
                f" {now.partitions}: entities that moved then warm up again"
            )
        return None

    def _watch(self) -> None:
        while self._finding is None and not self._closing.wait(self._every_s):
            try:
                self.check_now()
            except Exception as error:  # noqa: BLE001 - raised again on the loop's thread
                if isinstance(error, LapwingError) and not isinstance(error, GuardError):
                    log.debug("topic check failed", topic=self.topic, because=str(error))
                else:
                    self._finding = error


class KeyCheck:
    """Checks that the keys of a partition belong there.

    partitioner : "murmur2", "crc32", or "unchecked" = any key may be in any partition
    partitions  : number of partitions of the topic
    """

    def __init__(self, partitioner: str, partitions: int) -> None:
        self.partitioner = partitioner
        self.partitions = partitions
        self._partition_of = _PARTITIONERS.get(partitioner)

    def check(self, batch: Batch) -> None:
        """Check every key of a batch; records without a key may be in any partition.

        raises : PartitionerMismatch that names the first key in a wrong partition
        cost   : a few ns per key for murmur2, a few tenths of a us for crc32
        """
        if self._partition_of is None:
            return
        expected = self._partition_of(batch.keys, self.partitions)
        wrong = np.flatnonzero((expected != batch.partition) & (np.diff(batch.keys.bounds) > 0))
        if not len(wrong):
            return
        row = int(wrong[0])
        raise PartitionerMismatch(
            f"{batch.topic}[{batch.partition}]@{batch.offsets[row]}: the key {batch.keys[row]!r}"
            f" belongs in partition {expected[row]} of {self.partitions} by input.partitioner ="
            f" {self.partitioner}{self._hint(batch, row)}; records of one entity may be in two"
            " partitions, so configure that producer's partitioner and start a new dataset"
            " (topics.dataset), or set input.partitioner to what all producers use, or to"
            " unchecked"
        )

    def _hint(self, batch: Batch, row: int) -> str:
        """Name the other partitioner that would choose the partition of this key."""
        key = Blob.join([batch.keys[row]])
        for name, partition_of in _PARTITIONERS.items():
            other = name != self.partitioner
            if other and partition_of(key, self.partitions)[0] == batch.partition:
                return f" ({name} would put it here)"
        return ""


Scored = Callable[[], Mapping[int, int]]
"""Returns {partition: offset of a record that has a committed result of the group}."""


class GuardedSource:
    """A Source that raises what its guards find before it returns records or assigns partitions.

    scored : consulted for partitions without a committed position; None where results may be
             written before positions are committed
    """

    def __init__(
        self, source: Source, watch: TopicWatch, keys: KeyCheck, scored: Scored | None = None
    ) -> None:
        self.source = source
        self.watch = watch
        self.keys = keys
        self.scored = scored

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; see Source."""
        self.source.subscribe(_GuardedListener(listener, self.watch, self.scored))

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return new records; see Source.

        raises : GuardError as well
        """
        self.watch.check()
        try:
            batches = self.source.poll(max_records, timeout_s)
        except GuardError:
            self._raise_cause()
            raise
        for batch in batches:
            self.keys.check(batch)
        return batches

    def _raise_cause(self) -> None:
        """Raise a change of the topic, where that explains the client's error."""
        try:
            self.watch.check_now()
        except TransportError as error:
            log.debug("topic check failed", topic=self.watch.topic, because=str(error))

    def seek(self, partition: int, offset: int) -> None:
        """Continue from offset; see Source."""
        self.source.seek(partition, offset)

    def rewind(self) -> None:
        """Repeat ``assigned``; see Source."""
        self.source.rewind()

    def ends(self) -> Mapping[int, int]:
        """Return the end offsets of owned partitions; see Source."""
        return self.source.ends()

    def pause(self) -> None:
        """Stop delivering records; see Source."""
        self.source.pause()

    def resume(self) -> None:
        """Deliver records again; see Source."""
        self.source.resume()

    def close(self) -> None:
        """Leave the group; see Source."""
        self.source.close()


class _GuardedListener:
    """Checks the topic before a take-over; a broker that does not answer delays the take-over."""

    def __init__(
        self, listener: RebalanceListener, watch: TopicWatch, scored: Scored | None
    ) -> None:
        self.listener = listener
        self.watch = watch
        self.scored = scored

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over partitions of the right topic; see RebalanceListener."""
        self.watch.check_now()
        unset = {partition for partition, position in committed.items() if position is None}
        scored = self.scored() if unset and self.scored is not None else {}
        begins = self.listener.assigned(committed, start)
        self._check_positions(unset, scored)
        return begins

    def _check_positions(self, unset: Set[int], scored: Mapping[int, int]) -> None:
        """Raise PositionGone for a partition that has results but no committed position."""
        for partition in sorted(unset & scored.keys()):
            raise PositionGone(
                f"{self.watch.topic}[{partition}]: the group has a result for offset"
                f" {scored[partition]} but no committed position: the topic was deleted and"
                " recreated, or the group's positions expired or were removed; to start over, use"
                " another predict.group, or set the group's offsets to where it should continue"
            )

    def revoked(self, partitions: Sequence[int]) -> None:
        """Release partitions; see RebalanceListener."""
        self.listener.revoked(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        """Forget partitions; see RebalanceListener."""
        self.listener.lost(partitions)


def _by_murmur2(keys: Blob, partitions: int) -> npt.NDArray[np.int64]:
    """Return partitions as the Java client and ``murmur2_random`` choose them."""
    owners = np.empty(len(keys), np.int64)
    murmur2_partitions(np.frombuffer(keys.data, np.uint8), keys.bounds, partitions, owners)
    return owners


def _by_crc32(keys: Blob, partitions: int) -> npt.NDArray[np.int64]:
    """Return partitions as librdkafka's ``consistent`` and ``consistent_random`` choose them."""
    return np.fromiter(
        (crc32(keys[row]) % partitions for row in range(len(keys))), np.int64, len(keys)
    )


_PARTITIONERS = {"murmur2": _by_murmur2, "crc32": _by_crc32}
