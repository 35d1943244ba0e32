"""What a Kafka client must do for us: it speaks ints, bytes, columns and one kind of error.

Invariant: nothing of a client's library passes through here. Who owns what, what a failure means
and what is done about it is decided above, once for every client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from enum import IntFlag
from typing import NamedTuple, Protocol

from shared.batch import Batch, Outgoing, Position


class Flags(IntFlag):
    """What a client knows about a failure besides its code."""

    NONE = 0
    FATAL = 1
    """The client is unusable from now on."""
    RETRIABLE = 2
    """The same call may succeed later."""
    ABORT = 4
    """The open transaction can only be aborted."""


class ClientError(Exception):
    """A failure as the client tells it; raised, and a value where it comes with other results.

    code      : int, see ``shared.kafka.engine.codes``
    text      : the client's sentence, with its own name of the code
    flags     : Flags
    partition : int, where the failure is about one
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
    """A topic that is to be made."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Fetched(NamedTuple):
    """What one fetch brought.

    batches : at most one per partition, in order of first appearance; rows in log order
    ends    : {partition: end that was reached}; only with enable.partition.eof
    errors  : what went wrong beside, each once
    """

    batches: list[Batch]
    ends: Mapping[int, int]
    errors: Sequence[ClientError]


NOTHING = Fetched([], {}, ())


class Topic(NamedTuple):
    """A topic as a broker describes it.

    has_leaders : every partition has one
    error       : why the broker does not tell
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

    is_stable : False while partitions are being shared out
    owned     : {topic: partitions that a member has}
    """

    members: int
    is_stable: bool
    owned: Mapping[str, set[int]]


class GroupEvents(Protocol):
    """Told what the group decides, from within ``Consumer.fetch`` and ``close``, on their thread.

    It answers each with ``start`` or ``stop``, and never raises.
    """

    def assigned(self, partitions: Sequence[int]) -> None:
        """These partitions may be started, now or later; answer with ``start``, also of none."""
        ...

    def revoked(self, partitions: Sequence[int]) -> None:
        """These partitions are to be given up: what was started of them is to be stopped."""
        ...

    def lost(self, partitions: Sequence[int]) -> None:
        """As ``revoked``, but they belong to somebody else already."""
        ...


class Consumer(Protocol):
    """Fetches records of partitions that were started, as a member of a group or by itself.

    Every method raises ClientError. Positions move with what is returned, never past it.
    """

    def join(self, topic: str, events: GroupEvents) -> None:
        """Join the group that the configuration names."""
        ...

    def fetch(self, max_records: int, wait_s: float) -> Fetched:
        """Wait at most wait_s for a first record, then take what else is there."""
        ...

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Fetch further partitions from these offsets on."""
        ...

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch no more of these partitions, and forget what was fetched of them."""
        ...

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch nothing of these for now; the membership goes on in ``fetch``."""
        ...

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        """Fetch them again."""
        ...

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Position | None]:
        """Return the group's positions; None where there is none. An open transaction that moves
        one of them is an error.
        """
        ...

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        """Commit positions and wait for the answer."""
        ...

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        """Ask where a partition begins and ends: the last stable offset for read_committed."""
        ...

    def last_end(self, topic: str, partition: int) -> int:
        """Return the high watermark that the last fetch told; -1 where there was none."""
        ...

    def membership(self) -> bytes | None:
        """Return in whose name positions are committed; None for one who is no member."""
        ...

    def ask_for_leaders(self, topic: str, timeout_s: float) -> None:
        """Ask a broker who leads the partitions; raises where none answers."""
        ...

    def close(self) -> None:
        """Leave the group; a member with group.instance.id only falls silent."""
        ...


class Producer(Protocol):
    """Sends records in order, within transactions where the configuration has transactional.id.

    Methods raise ClientError; the cause where the client only says that it is unusable.
    """

    def put(self, records: Outgoing, row: int) -> tuple[int, ClientError | None]:
        """Queue rows from ``row`` on; return the first that was not taken, and why: None where the
        queue is full.
        """
        ...

    def poll(self, wait_s: float) -> None:
        """Tell of records that failed, waiting for something to tell."""
        ...

    def flush(self, timeout_s: float) -> int:
        """Wait for acknowledgements; return how many records still wait."""
        ...

    def waiting(self) -> int:
        """Return how many records are queued or under way; a few requests may count as well."""
        ...

    def drop(self) -> None:
        """Throw away what is queued or under way."""
        ...

    def init_transactions(self, timeout_s: float) -> None:
        """Fence whoever had this transactional.id and end what was open."""
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
        """Flush, and make all of the transaction visible."""
        ...

    def abort_transaction(self, timeout_s: float) -> None:
        """Drop all of the transaction."""
        ...

    def close(self) -> None:
        """End the client's threads and connections, whatever is open."""
        ...


class AdminClient(Protocol):
    """Asks brokers and makes topics; every method raises ClientError."""

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        """Describe one topic, or all for None; asks without making any."""
        ...

    def create_topics(
        self, topics: Sequence[NewTopic], timeout_s: float
    ) -> Mapping[str, ClientError | None]:
        """Make topics; return for each None, or why it was not made."""
        ...

    def topic_identity(self, topic: str, timeout_s: float) -> tuple[int, str]:
        """Return the partition count and the topic's id."""
        ...

    def topic_settings(
        self, topics: Sequence[str], timeout_s: float
    ) -> Mapping[str, Mapping[str, str] | ClientError]:
        """Return the settings of topics, or why a topic's are not told."""
        ...

    def group(self, group: str, timeout_s: float) -> Group:
        """Describe a group."""
        ...

    def ask_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Future[int]]:
        """Ask for high watermarks; return at once with the answers to come."""
        ...


class Engine(Protocol):
    """Makes the clients of one library.

    config : settings by librdkafka's names, which are Lapwing's; values are str
    raises : ConfigError that names the setting which is unknown or impossible
    """

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> Consumer:
        """Make a consumer; on_error hears its complaints that are no answer to a call."""
        ...

    def producer(
        self,
        config: Mapping[str, str],
        on_error: Callable[[ClientError], None],
        on_failed: Callable[[ClientError], None] | None,
    ) -> Producer:
        """Make a producer; on_failed is told of each record that was not delivered."""
        ...

    def admin(self, config: Mapping[str, str]) -> AdminClient:
        """Make an admin client."""
        ...
