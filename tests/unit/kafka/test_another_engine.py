"""A second client, added from outside: what is written above the port holds for it as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import pytest

from consumer_prediction.connection import KafkaConnection
from shared.batch import Batch, Blob, Outgoing, Position
from shared.errors import (
    HistoryGone,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.kafka import (
    Admin,
    AtLeastOnceSink,
    Counts,
    GroupSource,
    Publisher,
    Reader,
    TopicIdentity,
    TopicSpec,
    TransactionalSink,
    topic_bounds,
)
from shared.kafka.engine import AUTO, ENGINES
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import Engine, Flags
from shared.kafka.member import unassigned
from shared.settings import Settings
from tests.support.memory_engine import MemoryEngine, failure
from tests.support.services.records import Log, after, numbered, outgoing, values

SETTINGS = Settings.model_validate(
    {"topics": {"dataset": "d", "partitions": 3}, "predict": {"group": "g"}}
)
INPUT, SCORES = SETTINGS.topics.input, SETTINGS.topics.scores


class World:
    """One cluster in memory, and clients of it that are closed in the end."""

    def __init__(self, stack: ExitStack) -> None:
        self.engine = MemoryEngine({INPUT: 3, SCORES: 2})
        self.port: Engine = self.engine
        self.stack = stack

    def fill(self, start: int, stop: int) -> None:
        for number in range(start, stop):
            self.engine.log.append(INPUT, number % 3, b"%06d" % number, b"k%d" % (number % 3))

    def member(self, listener: Log, instance_id: str | None = None) -> GroupSource:
        source = GroupSource(SETTINGS, instance_id=instance_id, engine=self.port)
        self.stack.callback(source.close)
        source.subscribe(listener)
        return source

    def sink(self, source: GroupSource, name: str = "slot") -> TransactionalSink:
        sink = TransactionalSink(SETTINGS, name, source, timeout_s=0.1, engine=self.port)
        self.stack.callback(sink.close)
        return sink

    def scores(self) -> list[bytes]:
        return sorted(record.value for _, _, record in self.engine.log.visible(SCORES))

    def committed(self) -> dict[int, int]:
        found = Admin(SETTINGS, engine=self.port).committed("g", INPUT)
        return {partition: position.offset for partition, position in found.items()}


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def polled(source: GroupSource, count: int, step: int = 7) -> list[Batch]:
    batches: list[Batch] = []
    for _ in range(100):
        batches += source.poll(step, 0.0)
        if sum(map(len, batches)) >= count:
            return batches
    raise AssertionError(f"{sum(map(len, batches))} of {count} records")


def turns(done: Callable[[], bool], *sources: GroupSource) -> list[Batch]:
    batches: list[Batch] = []
    for _ in range(100):
        if done():
            return batches
        for source in sources:
            batches += source.poll(100, 0.0)
    raise AssertionError("it did not happen")


def test_records_come_in_order_and_go_out_together_with_their_positions(world: World) -> None:
    world.fill(0, 60)
    source = world.member(Log())
    sink = world.sink(source)
    for batch in polled(source, 60):
        sink.send(outgoing(SCORES, values([batch])))
        assert not set(values([batch])) & set(world.scores())
        sink.commit(after([batch], "model"))
        assert set(values([batch])) <= set(world.scores())
    assert world.scores() == numbered(0, 60)
    assert world.committed() == {0: 20, 1: 20, 2: 20}
    assert source.ends() == {0: 20, 1: 20, 2: 20}
    assert source.poll(10, 0.0) == []


def test_a_second_member_takes_over_where_the_first_has_committed(world: World) -> None:
    world.fill(0, 30)
    left, right = Log(), Log()
    first = world.member(left)
    seen, sink = polled(first, 30), world.sink(first)

    def commit() -> None:
        sink.send(outgoing(SCORES, values(seen)))
        sink.commit(after(seen))

    left.before_revoke = commit
    second = world.member(right)
    assert (
        turns(lambda: len(left.owned | right.owned) == 3 and bool(right.owned), first, second) == []
    )
    assert [what for what, _ in left.calls] == ["assigned", "revoked"]
    assert not left.owned & right.owned
    world.fill(30, 60)
    got: list[Batch] = []
    while sum(map(len, got)) < 30:
        got += [*first.poll(4, 0.0), *second.poll(4, 0.0)]
    assert sorted(values(got)) == numbered(30, 60)
    assert unassigned(SETTINGS, world.port, "g", INPUT) == set()
    second.close()
    assert unassigned(SETTINGS, world.port, "g", INPUT) == right.owned
    turns(lambda: len(left.owned) == 3, first)
    assert right.calls[-1][0] == "assigned", "close() does not call the listener"


def test_abort_and_rewind_give_the_same_records_again(world: World) -> None:
    world.fill(0, 9)
    listener = Log()
    source = world.member(listener)
    sink = world.sink(source)
    sink.send(outgoing(SCORES, values(polled(source, 9))))
    sink.abort()
    source.rewind()
    again = polled(source, 9)
    sink.send(outgoing(SCORES, values(again)))
    sink.commit(after(again))
    assert world.scores() == numbered(0, 9)
    assert [what for what, _ in listener.calls] == ["assigned", "assigned"]
    source.pause()
    world.fill(9, 12)
    assert source.poll(10, 0.0) == []
    source.seek(1, 2)
    source.resume()
    assert sorted(values(polled(source, 4))) == [b"000007", *numbered(9, 12)]


def test_who_takes_a_transactional_id_fences_its_predecessor(world: World) -> None:
    source = world.member(Log())
    first = world.sink(source)
    first.send(outgoing(SCORES, [b"zombie"]))
    second = world.sink(source)
    with pytest.raises(ProducerFenced, match="another process uses the same slot"):
        first.commit({})
    with pytest.raises(ProducerFenced):
        first.send(outgoing(SCORES, [b"zombie"]))
    second.send(outgoing(SCORES, [b"owner"]))
    second.commit({})
    assert world.scores() == [b"owner"]


def test_who_is_no_member_any_more_commits_nothing(world: World) -> None:
    world.fill(0, 3)
    source = world.member(Log())
    batches, sink = polled(source, 3), world.sink(source)
    sink.send(outgoing(SCORES, [b"stale"]))
    old = source.group_metadata()
    world.member(Log())
    source.group_metadata = lambda: old  # type: ignore[method-assign]
    with pytest.raises(TransactionAborted, match="ILLEGAL_GENERATION"):
        sink.commit(after(batches))
    sink.abort()
    del source.group_metadata
    world.engine.groups["g"].put_out(world.engine.consumers[0])
    with pytest.raises(TransactionAborted, match="no longer a member"):
        sink.commit(after(batches))
    assert (world.scores(), world.committed()) == ([], {})


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_commit_without_an_answer_is_in_doubt_until_the_next_owner(
    world: World, took_effect: bool
) -> None:
    world.fill(0, 3)
    source = world.member(Log())
    batches, sink = polled(source, 3), world.sink(source)
    sink.send(outgoing(SCORES, values(batches)))
    call = "kept, commit_transaction" if took_effect else "commit_transaction"
    world.engine.fail[call] = failure(Code.LOCAL_TIMED_OUT, Flags.RETRIABLE)
    for _ in range(2):
        with pytest.raises(TransactionInDoubt):
            sink.commit(after(batches))
    world.sink(source)
    assert world.scores() == (numbered(0, 3) if took_effect else [])
    assert bool(world.committed()) is took_effect


def test_a_takeover_waits_for_an_open_transaction_and_the_owned_go_on(world: World) -> None:
    world.fill(0, 30)
    source = world.member(Log())
    sink = world.sink(source)
    sink.send(outgoing(SCORES, [b"open"]))
    world.engine.fail["commit_transaction"] = failure(Code.LOCAL_TIMED_OUT)
    with pytest.raises(TransactionInDoubt):
        sink.commit(after(polled(source, 30)))
    source.close()
    listener = Log()
    successor = world.member(listener)
    with pytest.raises(TransportError, match="UNSTABLE_OFFSET_COMMIT") as refusal:
        successor.poll(10, 0.0)
    assert refusal.value.retriable
    assert listener.calls == []
    world.sink(successor)
    successor._takeover._retry_s = 0.0
    assert len(polled(successor, 30)) >= 3


def test_an_outage_is_told_and_over_when_a_broker_answers(world: World) -> None:
    world.fill(0, 3)
    source = world.member(Log())
    polled(source, 3)
    world.engine.log.down = True
    with pytest.raises(
        TransportError, match=r"reading .* of localhost:9092: memory says"
    ) as outage:
        source.poll(10, 0.0)
    assert outage.value.retriable
    world.engine.log.down = False
    world.fill(3, 6)
    assert sorted(values(polled(source, 3))) == numbered(3, 6)


def test_a_twin_ends_a_member_unless_an_outage_explains_it(world: World) -> None:
    world.fill(0, 3)
    left = Log()
    first = world.member(left, "slot-a")
    polled(first, 3)
    twin = world.member(Log(), "slot-a")
    twin.poll(1, 0.0)
    with pytest.raises(ProducerFenced, match="same slot"):
        turns(lambda: False, first)
    world.engine.log.down = True
    with pytest.raises(TransportError):
        twin.poll(1, 0.0)
    world.engine.log.down = False
    world.engine.consumers[-1].fenced = True
    before = len(world.engine.consumers)
    twin.poll(1, 0.0)
    assert len(world.engine.consumers) == before + 1, "it did not join anew"
    assert sorted(values(polled(twin, 3))) == numbered(0, 3)


def test_history_that_is_gone_is_named(world: World) -> None:
    world.fill(0, 9)
    world.engine.log.starts[INPUT, 1] = 2

    class Stubborn(Log):
        def assigned(
            self, committed: Mapping[int, Position | None], start: Mapping[int, int]
        ) -> Mapping[int, int]:
            return dict.fromkeys(committed, 0)

    with pytest.raises(
        HistoryGone, match=r"\[1\] must be read from offset 0 on, but its log starts at 2"
    ):
        world.member(Stubborn()).poll(1, 0.0)
    with pytest.raises(HistoryGone, match="log starts at offset 2"):
        list(Reader(SETTINGS, engine=world.port).read(INPUT, {1: 0}, {1: 3}))


def test_at_least_once_commits_after_the_records(world: World) -> None:
    world.fill(0, 6)
    source = world.member(Log())
    batches = polled(source, 6)
    sink = AtLeastOnceSink(SETTINGS, source, timeout_s=0.1, engine=world.port)
    sink.send(outgoing("nowhere", [b"x"]))
    with pytest.raises(TopicMismatch, match="1 records were not delivered"):
        sink.commit(after(batches))
    assert world.committed() == {}
    sink.abort()
    sink.send(outgoing(SCORES, values(batches)))
    sink.commit(after(batches))
    assert (world.scores(), world.committed()) == (numbered(0, 6), {0: 2, 1: 2, 2: 2})


def test_the_publisher_accounts_for_every_record(world: World) -> None:
    tight = SETTINGS.model_copy(
        update={"produce": SETTINGS.produce.model_copy(update={"queue_records": 10})}
    )
    publisher = Publisher(tight, stall_s=0.05, engine=world.port)
    publisher.send(outgoing(INPUT, numbered(0, 25)))
    world.engine.log.down = True
    with pytest.raises(TransportError, match="15 records wait for space"):
        publisher.send(outgoing(INPUT, numbered(25, 50)))
    assert publisher.counts() == Counts(25, 0, 25)
    world.engine.log.down = False
    assert publisher.flush(1.0) == 0
    publisher.send(outgoing("nowhere", [b"x"]))
    publisher.flush(1.0)
    assert publisher.counts() == Counts(50, 1, 0)
    publisher.close()
    assert read(world, INPUT) == numbered(0, 50)


def read(world: World, topic: str) -> list[bytes]:
    return sorted(values(list(Reader(SETTINGS, engine=world.port).read(topic))))


def test_a_read_ends_behind_markers_and_before_what_is_undecided(world: World) -> None:
    source = world.member(Log())
    sink = world.sink(source)
    for start in (0, 10):
        sink.send(outgoing(SCORES, numbered(start, start + 10)))
        sink.commit({})
        sink.send(outgoing(SCORES, [b"aborted"] * 5))
        sink._outbox.flush(1.0)
        sink.abort()
    sink.send(outgoing(SCORES, [b"open"]))
    sink._outbox.flush(1.0)
    assert read(world, SCORES) == numbered(0, 20)
    admin = Admin(SETTINGS, engine=world.port)
    low, high = admin.bounds(SCORES)
    assert (low, set(high)) == ({0: 0, 1: 0}, {0, 1})
    assert sum(high.values()) < sum(len(records) for records in world.engine.log.topics[SCORES])


def test_topics_are_made_compared_and_identified(world: World) -> None:
    admin = Admin(SETTINGS, engine=world.port)
    specs: Sequence[TopicSpec] = [
        TopicSpec("new", 4, 1),
        TopicSpec(INPUT, 3, 1, {"retention.ms": "5"}),
    ]
    report = admin.ensure_topics(specs)
    assert (report.created, report.existing) == (("new",), (INPUT,))
    assert [(one.wanted, one.found) for one in report.differences] == [("5", "-1")]
    assert admin.identity("new") == TopicIdentity(4, "id of new")
    with pytest.raises(TopicMismatch, match="there is no topic missing"):
        admin.partitions("missing")
    world.engine.log.append("new", 1, b"v")
    assert admin.lag("g", "new") == {0: 0, 1: 1, 2: 0, 3: 0}
    assert admin.members("g") == 0


def test_a_record_that_the_client_refuses_aborts_the_transaction(world: World) -> None:
    sink = world.sink(world.member(Log()))
    large = Outgoing(SCORES, Blob.join([b"x" * 5_000_000]), Blob.join([b"k"]))
    with pytest.raises(TransactionAborted, match="MSG_SIZE_TOO_LARGE"):
        sink.send(large)
    sink.abort()
    sink.send(outgoing("nowhere", [b"x"]))
    with pytest.raises(TransactionAborted, match="UNKNOWN_TOPIC_OR_PART"):
        sink.commit({})
    sink.abort()
    sink.send(outgoing(SCORES, [b"fits"]))
    sink.commit({})
    assert world.scores() == [b"fits"]


def test_a_client_that_is_chosen_is_that_of_every_adapter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, AUTO, lambda: world.port)
    publisher = Publisher(SETTINGS)
    publisher.send(outgoing(INPUT, numbered(0, 30)))
    assert publisher.flush(1.0) == 0
    connection = KafkaConnection(SETTINGS)
    connection.source.subscribe(Log())
    batches = polled(connection.source, 30)
    sink = connection.sink()
    sink.send(outgoing(SCORES, values(batches)))
    sink.commit(after(batches))
    assert sorted(values(list(Reader(SETTINGS).read(SCORES)))) == numbered(0, 30)
    assert set(Admin(SETTINGS).lag("g", INPUT).values()) == {0}
    assert topic_bounds(SETTINGS, INPUT) == ({0: 0, 1: 0, 2: 0}, world.committed())
    sink.close()
    connection.source.close()
