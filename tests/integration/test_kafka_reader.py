"""Reading topics on a real broker: where a read ends, what it shows, what it never skips."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from shared.batch import Position
from shared.errors import (
    HistoryGone,
    TransportError,
)
from shared.kafka import Admin, Reader, TransactionalSink
from shared.settings import Settings
from tests.support.services.records import (
    Log,
    member,
    numbered,
    outgoing,
    poll_until,
    publish,
    shows,
    values,
)

pytestmark = pytest.mark.integration


def test_a_read_ends_behind_markers_and_aborted_records(ready: Settings) -> None:
    topic, reader = ready.topics.scores, Reader(ready, stall_s=5)
    with member(ready, Log()) as source:
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-r", source)
        assert list(reader.read(topic)) == []
        for start in range(0, 200, 50):
            sink.send(outgoing(topic, numbered(start, start + 50)))
            sink.commit({})
            sink.send(outgoing(topic, [b"aborted"] * 70))
            sink._outbox.producer.flush(5)
            sink.abort()
        began = time.monotonic()
        assert shows(ready, topic, numbered(0, 200))
        assert time.monotonic() - began < 4
        time.sleep(0.3)
        ends = Admin(ready).end_offsets(topic)
        assert sum(ends.values()) > 200 + 4 * 70

        sink.send(outgoing(topic, [b"open"] * 90))
        time.sleep(0.3)
        assert Admin(ready).end_offsets(topic) == ends, (
            "an open transaction must not move the last stable offset"
        )
        assert shows(ready, topic, numbered(0, 200))
        sink.commit({})
        window = list(reader.read(topic, Admin(ready).start_offsets(topic), ends))
        assert sorted(values(window)) == numbered(0, 200)
        deadline = time.monotonic() + 10
        while len(found := values(list(reader.read(topic, ends)))) < 90:
            assert time.monotonic() < deadline
        assert found == [b"open"] * 90
        sink.close()


def test_a_window_is_exact_and_in_log_order(ready: Settings) -> None:
    topic = ready.topics.input
    publish(ready, topic, numbered(0, 3000))
    reader = Reader(ready, max_records=100)
    whole = {
        p: np.concatenate([b.offsets for b in reader.read(topic) if b.partition == p])
        for p in range(3)
    }
    assert {p: offsets.tolist() for p, offsets in whole.items()} == {
        p: list(range(end)) for p, end in Admin(ready).end_offsets(topic).items()
    }
    start, end = {0: 10, 2: 500}, {0: 310, 2: 501}
    found: dict[int, list[int]] = {}
    for batch in reader.read(topic, start, end):
        found.setdefault(batch.partition, []).extend(batch.offsets.tolist())
    assert found == {0: list(range(10, 310)), 2: [500]}
    with pytest.raises(TransportError, match=r"still missing \[1\] up to 9999"):
        list(Reader(ready, stall_s=0.5).read(topic, {1: 0}, {1: 9999}))


def test_following_shows_what_comes_until_it_is_closed(ready: Settings) -> None:
    topic, reader = ready.topics.input, Reader(ready)
    publish(ready, topic, numbered(0, 10))
    found: list[bytes] = []
    started = threading.Event()

    def follow() -> None:
        stop = time.monotonic() + 10
        for batch in reader.follow(topic, "beginning", stopping=lambda: time.monotonic() > stop):
            found.extend(values([batch]))
            started.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert started.wait(10)
    publish(ready, topic, numbered(10, 20))
    deadline = time.monotonic() + 10
    while len(found) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    reader.close()
    thread.join(5)
    assert not thread.is_alive()
    assert sorted(found) == numbered(0, 20)
    newest = Reader(ready)
    asked = iter([False] * 5 + [True])
    assert list(newest.follow(topic, stopping=lambda: next(asked))) == []


def test_deleted_records_are_named_not_skipped(ready: Settings) -> None:
    topic = ready.topics.input
    publish(ready, topic, numbered(0, 300))
    ends = Admin(ready).end_offsets(topic)
    admin = AdminClient({"bootstrap.servers": ready.bootstrap})
    for future in admin.delete_records(
        [TopicPartition(topic, p, end) for p, end in ends.items()]
    ).values():
        future.result(10)
    assert Admin(ready).start_offsets(topic) == ends
    with pytest.raises(
        HistoryGone, match=rf"cannot be read from offset 0: its log starts at offset {ends[1]}"
    ):
        list(Reader(ready).read(topic, {1: 0}, ends | {}))
    assert list(Reader(ready).read(topic)) == []

    class Stubborn(Log):
        def assigned(
            self, committed: Mapping[int, Position | None], start: Mapping[int, int]
        ) -> Mapping[int, int]:
            super().assigned(committed, start)
            return dict.fromkeys(committed, 0)

    with (
        member(ready, Stubborn()) as source,
        pytest.raises(HistoryGone, match="must be read from offset 0"),
    ):
        poll_until(source, lambda: False)
    listener = Log()
    with member(ready, listener) as source:
        poll_until(source, lambda: len(listener.owned) == 3)
        source.seek(1, 0)
        with pytest.raises(HistoryGone, match=rf"{topic}\[1\]"):
            poll_until(source, lambda: False)


def test_reading_uncommitted_would_have_shown_the_difference(ready: Settings) -> None:
    """The tests above would mean little if aborted records were not in the log at all."""
    with member(ready, Log()) as source:
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-u", source)
        sink.send(outgoing(ready.topics.scores, [b"aborted"] * 20))
        sink._outbox.producer.flush(5)
        sink.abort()
        sink.close()
    consumer = Consumer(
        {
            "bootstrap.servers": ready.bootstrap,
            "group.id": "raw",
            "isolation.level": "read_uncommitted",
        }
    )
    consumer.assign([TopicPartition(ready.topics.scores, p, 0) for p in range(3)])
    seen = 0
    deadline = time.monotonic() + 10
    while seen < 20 and time.monotonic() < deadline:
        seen += sum(message.value() == b"aborted" for message in consumer.consume(100, 0.1))
    consumer.close()
    assert seen == 20
    assert shows(ready, ready.topics.scores, [])
