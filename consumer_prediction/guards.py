"""What stops the predictor because going on would be silently wrong: another topic behind the name,
a foreign partitioner.

Law: a guard never changes a record or a result; what it finds is raised as a GuardError on the
     loop's own thread, before
anything of what was read is scored. That the broker does not answer is never a finding.
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

LOOK_EVERY_S = 10.0
CONFIRM_S = 1.0
"""A finding counts when a second look after this time has one as well: a broker may be behind with
what it knows.
"""


class TopicWatch:
    """Looks every so often, in a thread of its own, whether a topic is still the one that the state
    belongs to.

    first   : the topic as it was when the predictor started
    look    : asks the broker; raises TransportError, or TopicMismatch when there is no such topic
    every_s : time between two looks of the thread
    """

    def __init__(
        self,
        topic: str,
        first: TopicIdentity,
        look: Callable[[], TopicIdentity],
        *,
        every_s: float = LOOK_EVERY_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self.topic = topic
        self.first = first
        self._look = look
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
        """Raise what the thread has found; costs nothing."""
        if self._finding is not None:
            raise self._finding

    def look(self) -> None:
        """Look now.

        raises : TopicMismatch, TopicRecreated; TransportError when the broker does not answer
        """
        if self._difference() is not None:
            self._closing.wait(self._confirm_s)
            if (found := self._difference()) is not None:
                raise found

    def _difference(self) -> GuardError | None:
        try:
            now = self._look()
        except GuardError as gone:
            return gone
        if now.topic_id != self.first.topic_id:
            return TopicRecreated(
                f"{self.topic} was deleted and made anew: it has the id {now.topic_id}, and had"
                f" {self.first.topic_id} when this predictor started; to begin anew use another"
                " predict.group"
            )
        if now.partitions != self.first.partitions:
            return TopicMismatch(
                f"{self.topic} has {now.partitions} partitions, and had {self.first.partitions}"
                " when this predictor started: keys move to other partitions then, and state"
                " belongs to a partition; begin a new dataset (topics.dataset), or set"
                " topics.partitions to what is there to have entities that moved warm up again"
            )
        return None

    def _watch(self) -> None:
        while self._finding is None and not self._closing.wait(self._every_s):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - raised again on the loop's thread
                if isinstance(error, LapwingError) and not isinstance(error, GuardError):
                    log.debug("the topic could not be looked at", topic=self.topic, why=str(error))
                else:
                    self._finding = error


class KeyCheck:
    """Whether the keys of a partition belong there.

    partitioner : "murmur2", "crc32", or "unchecked" = every key may be anywhere
    partitions  : of the topic
    """

    def __init__(self, partitioner: str, partitions: int) -> None:
        self.partitioner = partitioner
        self.partitions = partitions
        self._owners = {"murmur2": _by_murmur2, "crc32": _by_crc32}.get(partitioner)

    def check(self, batch: Batch) -> None:
        """Look at every key of a batch; records without a key may be anywhere.

        raises : PartitionerMismatch that names the first key in a wrong place
        cost   : murmur2 some ns a key, crc32 some tenths of a us
        """
        if self._owners is None:
            return
        owners = self._owners(batch.keys, self.partitions)
        wrong = np.flatnonzero((owners != batch.partition) & (np.diff(batch.keys.bounds) > 0))
        if not len(wrong):
            return
        row = int(wrong[0])
        raise PartitionerMismatch(
            f"{batch.topic}[{batch.partition}]@{batch.offsets[row]}: the key {batch.keys[row]!r}"
            f" belongs in partition {owners[row]} of {self.partitions} by input.partitioner ="
            f" {self.partitioner}{self._hint(batch, row)}; its entity may have two histories, so"
            " give that producer the right partitioner and begin a new dataset (topics.dataset),"
            " or set input.partitioner to what all producers use, or to unchecked"
        )

    def _hint(self, batch: Batch, row: int) -> str:
        key = Blob.join([batch.keys[row]])
        fits = [
            name
            for name, owners in (("murmur2", _by_murmur2), ("crc32", _by_crc32))
            if name != self.partitioner and owners(key, self.partitions)[0] == batch.partition
        ]
        return f" ({fits[0]} would put it here)" if fits else ""


Scored = Callable[[], Mapping[int, int]]
"""{partition: offset of a record that the group has a committed result about}."""


class GuardedSource:
    """A Source that raises what its guards find, before a record is handed over or a partition
    taken over.

    scored : what a partition without a committed position is compared with; None where results may
             come before positions
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
        """Return what has arrived; see Source.

        raises : GuardError as well
        """
        self.watch.check()
        try:
            batches = self.source.poll(max_records, timeout_s)
        except GuardError:
            self._name_the_cause()
            raise
        for batch in batches:
            self.keys.check(batch)
        return batches

    def _name_the_cause(self) -> None:
        """Raise what has become of the topic where that explains what the client complains about."""
        try:
            self.watch.look()
        except TransportError as error:
            log.debug("the topic could not be looked at", topic=self.watch.topic, why=str(error))

    def seek(self, partition: int, offset: int) -> None:
        """Read on from offset; see Source."""
        self.source.seek(partition, offset)

    def rewind(self) -> None:
        """Go through ``assigned`` again; see Source."""
        self.source.rewind()

    def ends(self) -> Mapping[int, int]:
        """Return where owned partitions end; see Source."""
        return self.source.ends()

    def pause(self) -> None:
        """Deliver nothing; see Source."""
        self.source.pause()

    def resume(self) -> None:
        """Deliver again; see Source."""
        self.source.resume()

    def close(self) -> None:
        """Leave the group; see Source."""
        self.source.close()


class _GuardedListener:
    """Has the topic looked at before partitions of it are taken over; no answer puts that off, as
    any other does.
    """

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
        self.watch.look()
        bare = {partition for partition, position in committed.items() if position is None}
        scored = self.scored() if bare and self.scored is not None else {}
        begins = self.listener.assigned(committed, start)
        self._check_bare(bare, scored)
        return begins

    def _check_bare(self, bare: Set[int], scored: Mapping[int, int]) -> None:
        for partition in sorted(bare & scored.keys()):
            raise PositionGone(
                f"{self.watch.topic}[{partition}]: the group has a result about offset"
                f" {scored[partition]}, but no committed position: the topic was deleted and made"
                " anew, or the group's positions have expired or were removed; to begin anew use"
                " another predict.group, or set the group's offsets to where it is to go on"
            )

    def revoked(self, partitions: Sequence[int]) -> None:
        """Give partitions up; see RebalanceListener."""
        self.listener.revoked(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        """Forget partitions; see RebalanceListener."""
        self.listener.lost(partitions)


def _by_murmur2(keys: Blob, partitions: int) -> npt.NDArray[np.int64]:
    """As the Java client and ``murmur2_random`` choose."""
    owners = np.empty(len(keys), np.int64)
    murmur2_partitions(np.frombuffer(keys.data, np.uint8), keys.bounds, partitions, owners)
    return owners


def _by_crc32(keys: Blob, partitions: int) -> npt.NDArray[np.int64]:
    """As librdkafka's ``consistent`` and ``consistent_random`` choose."""
    return np.fromiter(
        (crc32(keys[row]) % partitions for row in range(len(keys))), np.int64, len(keys)
    )
