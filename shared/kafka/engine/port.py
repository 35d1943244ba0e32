"""The interface of a Kafka client library: ints, bytes, columns and one kind of error.

Invariant: no object of a library passes through this interface. Ownership of partitions and the
handling of errors are decided above it, once for every library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from enum import IntFlag
from typing import NamedTuple, Protocol

from shared.batch import Batch, Outgoing, Position


class Flags(IntFlag):
    """What a client knows about an error besides its code."""

    NONE = 0
    FATAL = 1
    """The client is unusable from now on."""
    RETRIABLE = 2
    """The same call may succeed later."""
    ABORT = 4
    """The open transaction can only be aborted."""


class ClientError(Exception):
    """An error of a client; raised, or a value where it comes with other results.

    code      : int, see ``shared.kafka.engine.codes``
    text      : the client's message, with its own name of the code
    flags     : Flags
    partition : int, where the error is about one
    """

    def __init__(
        self, code: int, text: str, flags: Flags = Flags.NONE, partition: int | None = None
    ) -> None:
        super().__init__(code, text, flags)
        self.code = code
        self.text = text
        self.flags = flags
        self.partition = partition


class NewTopic(NamedTuple):
    """A topic to create."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Fetched(NamedTuple):
    """The result of one fetch.

    batches : at most one per partition, in order of first appearance; rows in log order
    ends    : {partition: end offset that was reached}; only with enable.partition.eof
    errors  : errors that came with the records, each once
    """

    batches: list[Batch]
    ends: Mapping[int, int]
    errors: Sequence[ClientError]


NOTHING = Fetched([], {}, ())


class Topic(NamedTuple):
    """A topic as a broker describes it.

    has_leaders : every partition has one
    error       : why the broker does not describe it
    """

    partitions: int
    has_leaders: bool
    error: ClientError | None


class Cluster(NamedTuple):
    """A cluster as a broker describes it; the id is "" where it has none."""

    cluster_id: str
    topics: Mapping[str, Topic]


class Group(NamedTuple):
    """A consumer group as its coordinator describes it.

    is_stable : False during a rebalance
    owned     : {topic: partitions that a member owns}
    """

    members: int
    is_stable: bool
    owned: Mapping[str, set[int]]


class GroupEvents(Protocol):
    """Rebalance callbacks, called from within ``Consumer.fetch`` and ``close``, on their thread.

    Each one calls ``start`` or ``stop`` and never raises.
    """

    def assigned(self, partitions: Sequence[int]) -> None:
        """Handle assigned partitions; calls ``start`` for some of them or none, the rest later."""
        ...

    def revoked(self, partitions: Sequence[int]) -> None:
        """Handle revoked partitions; calls ``stop`` for those that were started."""
        ...

    def lost(self, partitions: Sequence[int]) -> None:
        """Handle lost partitions, which may have another owner already; like ``revoked``."""
        ...


class Consumer(Protocol):
    """Fetches records of partitions that were started, as a member of a group or without one.

    Every method raises ClientError. Positions advance with the records that are returned.
    """

    def join(self, topic: str, events: GroupEvents) -> None:
        """Join the group that the configuration names."""
        ...

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        """Wait at most wait_s for a first record, then return all that have arrived.

        gather_s : wait for more after the first one, within wait_s, while there is room
        """
        ...

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Fetch additional partitions from these offsets on."""
        ...

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        """Stop fetching these partitions, and drop their fetched records."""
        ...

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch nothing from these for now; ``fetch`` keeps the membership alive."""
        ...

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch from them again."""
        ...

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Position | None]:
        """Return the group's positions; None where there is none.

        An open transaction that changes one of them is an error.
        """
        ...

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        """Commit positions and wait for the answer."""
        ...

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        """Return first and end offset of a partition; read_committed: the last stable offset."""
        ...

    def cached_end(self, topic: str, partition: int) -> int:
        """Return the high watermark of the last fetch; -1 before the first."""
        ...

    def membership(self) -> bytes | None:
        """Return the serialised member id and generation; None where this is not a member."""
        ...

    def refresh_metadata(self, topic: str, timeout_s: float) -> None:
        """Request the topic's metadata; raises where no broker answers."""
        ...

    def close(self) -> None:
        """Leave the group; a member with group.instance.id only stops its heartbeats."""
        ...


class Producer(Protocol):
    """Sends records in order, within transactions where the configuration has transactional.id.

    Methods raise ClientError: the cause, where the client only reports that it is unusable.
    """

    def put(self, records: Outgoing, row: int) -> tuple[int, ClientError | None]:
        """Queue rows from ``row`` on.

        returns : the first row that was not queued, and the error; None where the queue is full
        """
        ...

    def poll(self, wait_s: float) -> None:
        """Call on_failed for records that have failed; waits at most wait_s for an event."""
        ...

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; return how many records still wait."""
        ...

    def waiting(self) -> int:
        """Return how many records are queued or in flight; a few requests may count as well."""
        ...

    def drop(self) -> None:
        """Drop records that are queued or in flight."""
        ...

    def init_transactions(self, timeout_s: float) -> None:
        """Fence the previous owner of this transactional.id and end its open transaction."""
        ...

    def begin_transaction(self) -> None:
        """Open a transaction."""
        ...

    def send_positions(
        self, topic: str, positions: Mapping[int, Position], membership: bytes, timeout_s: float
    ) -> None:
        """Add a group's positions to the open transaction."""
        ...

    def commit_transaction(self, timeout_s: float) -> None:
        """Flush, and commit the transaction."""
        ...

    def abort_transaction(self, timeout_s: float) -> None:
        """Abort the transaction."""
        ...

    def close(self) -> None:
        """End the client's threads and connections, also within a transaction."""
        ...


class AdminClient(Protocol):
    """Queries brokers and creates topics; every method raises ClientError."""

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        """Describe one topic, or all for None; creates none."""
        ...

    def create_topics(
        self, topics: Sequence[NewTopic], timeout_s: float
    ) -> Mapping[str, ClientError | None]:
        """Create topics; return the error, or None, for each."""
        ...

    def topic_identity(self, topic: str, timeout_s: float) -> tuple[int, str]:
        """Return the partition count and the topic's id."""
        ...

    def topic_settings(
        self, topics: Sequence[str], timeout_s: float
    ) -> Mapping[str, Mapping[str, str] | ClientError]:
        """Return the settings, or the error, of each topic."""
        ...

    def group(self, group: str, timeout_s: float) -> Group:
        """Describe a group."""
        ...

    def query_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Future[int]]:
        """Request high watermarks; returns futures at once."""
        ...


class Engine(Protocol):
    """Creates the clients of one library.

    config : settings by librdkafka's names; values are str
    raises : ConfigError that names the setting which is unknown or invalid
    """

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> Consumer:
        """Create a consumer; on_error gets errors that no call has caused."""
        ...

    def producer(
        self,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        on_failed: Callable[[ClientError], None] | None,
    ) -> Producer:
        """Create a producer; on_failed is called for each record that was not delivered."""
        ...

    def admin(self, config: Mapping[str, str]) -> AdminClient:
        """Create an admin client."""
        ...
