"""Topics, transactions, delivery and outages of the Kafka adapter on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from shared.batch import Blob, Outgoing, Position
from shared.errors import (
    ConfigError,
    LapwingError,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka import (
    Admin,
    AtLeastOnceSink,
    Counts,
    GroupSource,
    Publisher,
    Reader,
    TopicSpec,
    TransactionalSink,
    topic_specs,
)
from shared.kafka.engine import engine_of
from shared.kafka.member import unassigned
from shared.settings import Settings
from tests.support.services.fixtures import each_engine
from tests.support.services.records import (
    Log,
    after,
    member,
    murmur2,
    numbered,
    outgoing,
    poll_records,
    poll_until,
    publish,
    shows,
)
from tests.support.services.service import free_port

pytestmark = pytest.mark.integration


def test_topics_are_made_once_compared_later_and_never_altered(settings: Settings) -> None:
    admin, specs = Admin(settings), topic_specs(settings)
    first = admin.ensure_topics(specs)
    assert (set(first.created), first.existing, first.differences) == (
        {s.name for s in specs},
        (),
        (),
    )
    again = admin.ensure_topics(specs)
    assert (again.created, set(again.existing), again.differences) == (
        (),
        {s.name for s in specs},
        (),
    )
    assert {s.name: admin.partitions(s.name) for s in specs} == {
        s.name: s.partitions for s in specs
    }

    shorter = settings.model_copy(
        update={"topics": settings.topics.model_copy(update={"scores_retention_hours": 1.0})}
    )
    (difference,) = admin.ensure_topics(topic_specs(shorter)).differences
    assert (difference.topic, difference.name) == (settings.topics.scores, "retention.ms")
    assert (difference.wanted, difference.found) == ("3600000", "259200000")
    assert admin.ensure_topics(specs).differences == ()


def test_another_partition_count_is_refused_with_both_counts(ready: Settings) -> None:
    spec = TopicSpec(ready.topics.input, 4, 1)
    with pytest.raises(
        TopicMismatch, match=rf"{ready.topics.input} has 3 partitions, topics.partitions says 4"
    ):
        Admin(ready).ensure_topics([spec])
    missing = f"{ready.topics.dataset}.missing"
    report = Admin(ready).try_topics([spec, TopicSpec(missing, 4, 1)])
    assert (report.created, report.missing, list(report.refused)) == ((), (missing,), [spec.name])
    with pytest.raises(TopicMismatch, match="there is no topic nothing"):
        Admin(ready).partitions("nothing.here")
    with pytest.raises(ConfigError, match=r"creating topic .*x"):
        Admin(ready).ensure_topics(
            [TopicSpec(f"{ready.topics.dataset}.x", 1, 1, {"cleanup.policy": "sometimes"})]
        )


def test_asking_about_a_topic_creates_none(ready: Settings, kafka: str) -> None:
    """The broker creates topics by itself, as Kafka does unless told otherwise."""
    missing = f"{ready.topics.dataset}-missing"
    admin = Admin(ready)
    plain = AdminClient({"bootstrap.servers": kafka, "allow.auto.create.topics": False})
    for ask in (admin.partitions, admin.identity, admin.end_offsets):
        with pytest.raises(TopicMismatch, match=missing):
            ask(missing)
    assert unassigned(ready, engine_of(ready), "nobody", missing) == set()
    publisher = Publisher(ready)
    publisher.send(Outgoing(missing, Blob.join([b"v"]), Blob.join([b"k"])))
    publisher.flush(2.0)
    publisher.close()
    time.sleep(1.0)
    assert missing not in plain.list_topics(timeout=10).topics
    plain.list_topics(f"{missing}-control", timeout=10)
    Producer({"bootstrap.servers": kafka}).list_topics(f"{missing}-control", timeout=10)
    time.sleep(1.0)
    assert f"{missing}-control" in plain.list_topics(timeout=10).topics, "this broker creates none"


def test_cluster_and_topic_are_identified(ready: Settings) -> None:
    admin = Admin(ready)
    assert admin.cluster_id()
    ids = {admin.topic_id(spec.name) for spec in topic_specs(ready)}
    assert len(ids) == 8
    assert all(len(one) >= 20 for one in ids)
    assert admin.topic_id(ready.topics.input) == Admin(ready).topic_id(ready.topics.input)


@each_engine
def test_a_commit_shows_records_and_positions_together_an_abort_neither(ready: Settings) -> None:
    scores, admin = ready.topics.scores, Admin(ready)
    publish(ready, ready.topics.input, numbered(0, 300))
    with member(ready, Log()) as source:
        batches = poll_records(source, 300)
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-a", source)
        positions = after(batches, "model=abc@7")

        sink.send(outgoing(scores, [b"dropped"] * 50))
        sink.abort()
        sink.send(outgoing(scores, numbered(0, 100)))
        assert shows(ready, scores, [])
        assert admin.committed(ready.predict.group, ready.topics.input) == {}
        sink.commit(positions)
        assert shows(ready, scores, numbered(0, 100))
        assert admin.committed(ready.predict.group, ready.topics.input) == positions
        assert set(admin.lag(ready.predict.group, ready.topics.input).values()) == {0}

        sink.commit(dict.fromkeys(positions, Position(0, "")) | {0: Position(5, "x" * 2000)})
        assert admin.committed(ready.predict.group, ready.topics.input)[0] == Position(
            5, "x" * 2000
        )
        sink.close()


@each_engine
def test_headers_keys_and_partitions_arrive_as_sent(ready: Settings) -> None:
    topic = ready.topics.dead_letters
    records = Outgoing(
        topic,
        Blob.join([b"one", b"", b"three"]),
        Blob.join([b"host-1", b"host-2", b""]),
        {0: (("reason", b"empty"), ("n", b"\x00\xff")), 2: (("reason", b""),)},
    )
    with member(ready, Log()) as source:
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-h", source)
        sink.send(records)
        sink.commit({})
        sink.close()
    found = {}
    for batch in Reader(ready).read(topic):
        for row in range(len(batch)):
            found[batch.values[row]] = (
                batch.keys[row],
                batch.headers.get(row, ()),
                batch.partition,
            )
            assert abs(int(batch.broker_ms[row]) - time.time() * 1000) < 60_000
    assert found[b"one"][:2] == (b"host-1", (("reason", b"empty"), ("n", b"\x00\xff")))
    assert found[b""][:2] == (b"host-2", ())
    assert found[b"three"][:2] == (b"", (("reason", b""),))
    # murmur2 as the Java client computes it: toPositive(murmur2(key)) % 3
    assert (found[b"one"][2], found[b""][2]) == (murmur2(b"host-1") % 3, murmur2(b"host-2") % 3)


@each_engine
def test_a_second_producer_with_the_same_id_fences_the_first_and_aborts_what_it_left_open(
    ready: Settings,
) -> None:
    scores = ready.topics.scores
    with member(ready, Log()) as source, ExitStack() as stack:
        first = TransactionalSink(ready, f"{ready.topics.dataset}-f", source)
        stack.callback(first.close)
        first.send(outgoing(scores, [b"zombie"] * 10))
        second = TransactionalSink(ready, f"{ready.topics.dataset}-f", source)
        stack.callback(second.close)
        with pytest.raises(ProducerFenced) as fenced:
            first.commit({})
        assert not fenced.value.retriable
        with pytest.raises(ProducerFenced):
            first.send(outgoing(scores, [b"zombie"]))
        second.send(outgoing(scores, [b"owner"]))
        second.commit({})
    assert shows(ready, scores, [b"owner"])


@each_engine
def test_a_record_that_is_not_delivered_aborts_the_transaction(ready: Settings) -> None:
    topic = f"{ready.topics.dataset}.small"
    Admin(ready).ensure_topics([TopicSpec(topic, 1, 1, {"max.message.bytes": "2000"})])
    with member(ready, Log()) as source:
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-d", source)
        sink.send(outgoing(topic, [b"x" * 5000]))
        with pytest.raises(TransactionAborted):
            sink.commit({})
        sink.abort()
        sink.send(outgoing(topic, [b"fits"]))
        sink.commit({})
        with pytest.raises(TransactionAborted, match="MSG_SIZE_TOO_LARGE"):
            sink.send(outgoing(topic, [b"x" * 5_000_000]))
        sink.abort()
        sink.close()
    assert shows(ready, topic, [b"fits"])


def test_a_member_that_was_thrown_out_cannot_commit_positions(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 30))
    with ExitStack() as stack:
        source = stack.enter_context(member(ready, Log()))
        batches = poll_records(source, 30)
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-z", source)
        old, listener = source.group_metadata(), Log()
        other = stack.enter_context(member(ready, listener))
        poll_until(other, lambda: bool(source.poll(10, 0)) or bool(listener.owned))
        sink.send(outgoing(ready.topics.scores, [b"stale"]))
        source.group_metadata = lambda: old  # type: ignore[method-assign]
        with pytest.raises(TransactionAborted):
            sink.commit(after(batches))
        sink.abort()
        sink.close()
    assert Admin(ready).committed(ready.predict.group, ready.topics.input) == {}
    assert shows(ready, ready.topics.scores, [])


def test_at_least_once_commits_only_what_was_acknowledged(ready: Settings) -> None:
    small = f"{ready.topics.dataset}.small"
    Admin(ready).ensure_topics([TopicSpec(small, 1, 1, {"max.message.bytes": "2000"})])
    publish(ready, ready.topics.input, numbered(0, 90))
    with member(ready, Log()) as source:
        batches = poll_records(source, 90)
        sink = AtLeastOnceSink(ready, source)
        sink.send(outgoing(ready.topics.scores, numbered(0, 90)))
        sink.commit(after(batches, "m"))
        assert shows(ready, ready.topics.scores, numbered(0, 90))
        committed = Admin(ready).committed(ready.predict.group, ready.topics.input)
        assert committed == after(batches, "m")
        sink.send(outgoing(small, [b"x" * 5000]))
        with pytest.raises(TransportError, match="1 records were not delivered") as failure:
            sink.commit({0: Position(1)})
        assert not failure.value.retriable
        assert Admin(ready).committed(ready.predict.group, ready.topics.input) == committed
        sink.abort()
        sink.commit({0: Position(1)})
        assert Admin(ready).committed(ready.predict.group, ready.topics.input)[0] == Position(1)
        sink.close()


def test_the_publisher_accounts_for_every_record(ready: Settings) -> None:
    tight = ready.model_copy(
        update={"produce": ready.produce.model_copy(update={"queue_records": 100})}
    )
    small = f"{ready.topics.dataset}.small"
    Admin(ready).ensure_topics([TopicSpec(small, 1, 1, {"max.message.bytes": "2000"})])
    publisher = Publisher(tight)
    for start in range(0, 20_000, 1000):
        publisher.send(outgoing(ready.topics.input, numbered(start, start + 1000)))
        counts = publisher.counts()
        assert counts.acknowledged + counts.failed + counts.waiting == start + 1000
        assert counts.waiting <= 100
    publisher.send(outgoing(small, [b"x" * 5000]))
    assert publisher.flush(10) == 0
    assert (publisher.acknowledged, publisher.failed) == (20_000, 1)
    assert "MSG_SIZE_TOO_LARGE" in str(publisher.first_error)
    with pytest.raises(TransportError, match="MSG_SIZE_TOO_LARGE"):
        publisher.send(outgoing(small, [b"fits", b"x" * 5_000_000, b"not tried"]))
    assert publisher.flush(10) == 0
    assert publisher.counts() == Counts(20_001, 3, 0)
    assert shows(ready, ready.topics.input, numbered(0, 20_000))
    publisher.close()
    assert publisher.counts() == Counts(20_001, 3, 0)


def test_an_unreachable_broker_is_named_within_ten_seconds(settings: Settings) -> None:
    address = f"127.0.0.1:{free_port()}"
    nowhere = settings.model_copy(update={"kafka": {"bootstrap.servers": address}})
    source = GroupSource(nowhere)
    tries: dict[str, Callable[[], object]] = {
        "admin": lambda: Admin(nowhere).partitions("t"),
        "reader": lambda: list(Reader(nowhere).read("t")),
        "sink": lambda: TransactionalSink(nowhere, "t", source),
        "source": lambda: poll_until(source, lambda: False, 10),
    }
    source.subscribe(Log())
    outcomes: dict[str, tuple[float, LapwingError]] = {}

    def run(name: str) -> None:
        began = time.monotonic()
        try:
            tries[name]()
        except LapwingError as error:
            outcomes[name] = (time.monotonic() - began, error)

    threads = [threading.Thread(target=run, args=(name,)) for name in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(outcomes) == set(tries)
    for name, (took, error) in outcomes.items():
        assert isinstance(error, TransportError), (name, error)
        assert error.retriable, name
        assert address in str(error), name
        assert took < 10, name
    source.close()
