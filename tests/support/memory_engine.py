"""A Kafka client without Kafka: the port on a log in memory, with groups, transactions and fencing.

It keeps the rules that the layer above relies on, and is built from nothing but the port.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from shared.batch import Batch, Outgoing, Position
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import (
    NOTHING,
    ClientError,
    Cluster,
    Fetched,
    Flags,
    Group,
    GroupEvents,
    NewTopic,
    Topic,
)
from tests.support.fakes import MemoryLog, Record, Transaction

OnError = Callable[[ClientError], None]


def failure(code: Code, flags: Flags = Flags.NONE, partition: int | None = None) -> ClientError:
    return ClientError(code, f"memory says {code.name}", flags, partition)


@dataclass
class Members:
    """A consumer group: its members and their partitions."""

    generation: int = 0
    members: list[MemoryConsumer] = field(default_factory=list)
    held: dict[int, MemoryConsumer] = field(default_factory=dict)

    def enter(self, member: MemoryConsumer) -> None:
        """Let a member in; one of the same instance id is put out for it, and fenced."""
        for other in list(self.members):
            if member.instance and other.instance == member.instance:
                other.fenced = other is not member
                self.put_out(other)
        self.members.append(member)
        self.generation += 1

    def put_out(self, member: MemoryConsumer) -> None:
        if member in self.members:
            self.members.remove(member)
            self.held = {p: one for p, one in self.held.items() if one is not member}
            self.generation += 1

    def share(self, member: MemoryConsumer, partitions: int) -> set[int]:
        place = self.members.index(member)
        return {p for p in range(partitions) if p % len(self.members) == place}


class MemoryEngine:
    """``shared.kafka.engine.port.Engine``; all clients of one engine see one cluster.

    fail : {name of a producer's call: what its next call raises}; "kept, " before a call's name
           means that it took effect all the same
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.log = MemoryLog(topics)
        self.groups: dict[str, Members] = {}
        self.fail: dict[str, ClientError] = {}
        self.consumers: list[MemoryConsumer] = []

    def consumer(self, config: Mapping[str, str], on_error: OnError) -> MemoryConsumer:
        self.consumers.append(MemoryConsumer(self, config, on_error))
        return self.consumers[-1]

    def producer(
        self, config: Mapping[str, str], on_error: OnError, on_failed: OnError | None
    ) -> MemoryProducer:
        return MemoryProducer(self, config, on_failed)

    def admin(self, config: Mapping[str, str]) -> MemoryAdmin:
        return MemoryAdmin(self)

    def check_up(self) -> None:
        if self.log.down:
            raise failure(Code.LOCAL_TRANSPORT)

    def partitions(self, topic: str) -> list[list[Record]]:
        self.check_up()
        if topic not in self.log.topics:
            raise failure(Code.UNKNOWN_TOPIC_OR_PART)
        return self.log.topics[topic]

    def read(self, topic: str, partition: int, start: int, most: int) -> tuple[Batch, int]:
        self.partitions(topic)
        return self.log.read(topic, partition, start, most)


class MemoryConsumer:
    """``shared.kafka.engine.port.Consumer``."""

    def __init__(self, engine: MemoryEngine, config: Mapping[str, str], on_error: OnError) -> None:
        self.engine, self.config, self.complain = engine, config, on_error
        self.name, self.instance = config["group.id"], config.get("group.instance.id", "")
        self.group = engine.groups.setdefault(self.name, Members())
        self.topic = ""
        self.events: GroupEvents | None = None
        self.at: dict[tuple[str, int], int] = {}
        self.paused: set[tuple[str, int]] = set()
        self.reported_ends: set[tuple[str, int]] = set()
        self.holds: set[int] = set()
        self.fenced = False

    def join(self, topic: str, events: GroupEvents) -> None:
        self.topic, self.events = topic, events
        self.group.enter(self)

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        time.sleep(min(wait_s, 0.001))
        if self.engine.log.down:
            self.complain(failure(Code.LOCAL_ALL_BROKERS_DOWN))
            return NOTHING
        if self.fenced:
            return Fetched([], {}, [failure(Code.FENCED_INSTANCE_ID, Flags.FATAL)])
        if self.events is not None:
            self._rebalance(self.events)
        batches, ends, room = [], dict[int, int](), max_records
        for place, offset in list(self.at.items()):
            if place not in self.paused and room:
                batch, self.at[place] = self.engine.read(*place, offset, room)
                room -= len(batch)
                batches += [batch] if len(batch) else []
                self._reach(place, ends)
        return Fetched(batches, ends, ())

    def _rebalance(self, events: GroupEvents) -> None:
        """Learn what the group has decided: first what goes, then what comes and is free."""
        group = self.group
        if self not in group.members:
            gone, self.holds = sorted(self.holds), set()
            if gone:
                events.lost(gone)
            group.enter(self)
        wanted = group.share(self, len(self.engine.partitions(self.topic)))
        gone = sorted(self.holds - wanted)
        if gone:
            events.revoked(gone)
            self.holds -= set(gone)
            for partition in gone:
                group.held.pop(partition, None)
        new = sorted(p for p in wanted - self.holds if p not in group.held)
        if new:
            self.holds |= set(new)
            group.held |= dict.fromkeys(new, self)
            events.assigned(new)

    def _reach(self, place: tuple[str, int], ends: dict[int, int]) -> None:
        if self.config.get("enable.partition.eof") != "true":
            return
        at_end = self.at[place] >= self.engine.log.stable(*place)
        if at_end and place not in self.reported_ends:
            ends[place[1]] = self.at[place]
        (self.reported_ends.add if at_end else self.reported_ends.discard)(place)

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        assert not any((topic, partition) in self.at for partition in offsets), "started twice"
        self.at |= {(topic, partition): offset for partition, offset in offsets.items()}

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        for partition in partitions:
            del self.at[topic, partition]
            self.paused.discard((topic, partition))

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        self.paused |= {(topic, partition) for partition in partitions}

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        self.paused -= {(topic, partition) for partition in partitions}

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> dict[int, Position | None]:
        self.engine.check_up()
        log, found = self.engine.log, dict[int, Position | None]()
        for partition in partitions:
            place = self.name, topic, partition
            if any(place in transaction.positions for transaction in log.open.values()):
                raise failure(Code.UNSTABLE_OFFSET_COMMIT, partition=partition)
            found[partition] = log.committed.get(place)
        return found

    def commit(self, topic: str, positions: Mapping[int, Position]) -> None:
        self.engine.check_up()
        if self not in self.group.members:
            raise failure(Code.UNKNOWN_MEMBER_ID)
        self.engine.log.committed |= {(self.name, topic, p): one for p, one in positions.items()}

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        self.engine.partitions(topic)
        log = self.engine.log
        return log.starts.get((topic, partition), 0), log.stable(topic, partition)

    def cached_end(self, topic: str, partition: int) -> int:
        known = (topic, partition) in self.at and not self.engine.log.down
        return len(self.engine.log.topics[topic][partition]) if known else -1

    def membership(self) -> bytes | None:
        """Return the last id of a member that another one has put out, too, as real clients do."""
        has_id = self in self.group.members or self.fenced
        return b"%d %d" % (self.group.generation, id(self)) if has_id else None

    def refresh_metadata(self, topic: str, timeout_s: float) -> None:
        self.engine.partitions(topic)

    def close(self) -> None:
        if self.holds and self.events is not None:
            self.events.revoked(sorted(self.holds))
            self.holds.clear()
        self.group.put_out(self)


class MemoryProducer:
    """``shared.kafka.engine.port.Producer``."""

    def __init__(
        self, engine: MemoryEngine, config: Mapping[str, str], on_failed: OnError | None
    ) -> None:
        self.engine, self.on_failed = engine, on_failed
        self.identity = config.get("transactional.id", "")
        self.room = int(config.get("queue.buffering.max.messages", "1000"))
        self.limit = int(config["message.max.bytes"])
        self.epoch = 0
        self.transaction: Transaction | None = None
        self.queue: list[tuple[str, int | None, Record]] = []
        self.refused: ClientError | None = None
        self.has_gap = False

    def put(self, records: Outgoing, row: int) -> tuple[int, ClientError | None]:
        for at in range(row, len(records)):
            if len(self.queue) >= self.room:
                return at, None
            value, key = records.values[at], records.keys[at]
            if len(value) > self.limit:
                return at, failure(Code.MSG_SIZE_TOO_LARGE)
            record = Record(value, key, records.headers.get(at, ()), self.transaction)
            self.queue.append((records.topic, records.partitions.get(at), record))
        return len(records), None

    def poll(self, wait_s: float) -> None:
        """Write what is queued; a producer that was fenced writes nothing."""
        self._check("poll")
        log = self.engine.log
        if log.down:
            time.sleep(min(wait_s, 0.001))
            return
        queue, self.queue = self.queue, []
        for topic, partition, record in queue:
            if topic in log.topics:
                partitions = log.topics[topic]
                by_key = sum(record.key) % len(partitions)
                partitions[by_key if partition is None else partition].append(record)
            elif self.on_failed is None:
                self.has_gap = True  # in the numbers of its records, as Kafka counts them
                self.refused = failure(Code.UNKNOWN_TOPIC_OR_PART, Flags.ABORT)
            else:
                self.on_failed(failure(Code.UNKNOWN_TOPIC_OR_PART))

    def flush(self, timeout_s: float) -> int:
        self.poll(0.0)
        return len(self.queue)

    def waiting(self) -> int:
        return len(self.queue)

    def drop(self) -> None:
        self.queue.clear()

    def init_transactions(self, timeout_s: float) -> None:
        self.engine.check_up()
        self.epoch = self.engine.log.init_producer(self.identity)

    def begin_transaction(self) -> None:
        self._check("begin_transaction")
        if self.has_gap:
            raise failure(Code.LOCAL_FAIL, Flags.FATAL)
        self.transaction = self.engine.log.open[self.identity] = Transaction(self.identity)

    def send_positions(
        self, topic: str, positions: Mapping[int, Position], membership: bytes, timeout_s: float
    ) -> None:
        self._check("send_positions")
        self.engine.check_up()
        for name, group in self.engine.groups.items():
            if membership in [b"%d %d" % (group.generation, id(one)) for one in group.members]:
                self.transaction.positions |= {(name, topic, p): positions[p] for p in positions}
                return
        raise failure(Code.ILLEGAL_GENERATION, Flags.ABORT)

    def commit_transaction(self, timeout_s: float) -> None:
        if self.flush(timeout_s):
            raise failure(Code.LOCAL_TIMED_OUT, Flags.RETRIABLE)
        if self.refused is not None:
            raise self.refused
        self._end("commit_transaction", "committed")

    def abort_transaction(self, timeout_s: float) -> None:
        self.drop()
        self.refused = None
        self._end("abort_transaction", "aborted")

    def close(self) -> None:
        self.queue.clear()

    def _end(self, call: str, state: str) -> None:
        self.engine.check_up()
        if f"kept, {call}" in self.engine.fail:
            self.engine.log.decide(self.identity, state)
            raise self.engine.fail.pop(f"kept, {call}")
        self._check(call)
        self.engine.log.decide(self.identity, state)
        self.transaction = None

    def _check(self, call: str) -> None:
        if self.identity and self.engine.log.epochs[self.identity] != self.epoch:
            raise failure(Code.LOCAL_FENCED, Flags.FATAL)
        if call in self.engine.fail:
            raise self.engine.fail.pop(call)


class MemoryAdmin:
    """``shared.kafka.engine.port.AdminClient``."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        self.engine.check_up()
        topics = self.engine.log.topics
        names = topics if topic is None else [topic]
        known = {name: Topic(len(topics[name]), True, None) for name in names if name in topics}
        unknown = Topic(0, False, failure(Code.UNKNOWN_TOPIC_OR_PART))
        return Cluster("memory", {name: known.get(name, unknown) for name in names})

    def create_topics(
        self, topics: Sequence[NewTopic], timeout_s: float
    ) -> dict[str, ClientError | None]:
        self.engine.check_up()
        for topic in topics:
            self.engine.log.topics[topic.name] = [[] for _ in range(topic.partitions)]
        return {topic.name: None for topic in topics}

    def topic_identity(self, topic: str, timeout_s: float) -> tuple[int, str]:
        return len(self.engine.partitions(topic)), f"id of {topic}"

    def topic_settings(
        self, topics: Sequence[str], timeout_s: float
    ) -> dict[str, Mapping[str, str] | ClientError]:
        self.engine.check_up()
        return {topic: {"retention.ms": "-1"} for topic in topics}

    def group(self, group: str, timeout_s: float) -> Group:
        self.engine.check_up()
        found = self.engine.groups.get(group, Members())
        topics = {member.topic for member in found.members}
        return Group(len(found.members), True, {topic: set(found.held) for topic in topics})

    def query_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> dict[int, Future[int]]:
        answers: dict[int, Future[int]] = {}
        for partition in partitions:
            answers[partition] = Future()
            answers[partition].set_result(len(self.engine.partitions(topic)[partition]))
        return answers
