"""A member of a real consumer group: batches, ownership, failures, a broker that dies."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from shared.batch import Batch, Position
from shared.errors import (
    ProducerFenced,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.kafka import GroupSource, Publisher, TransactionalSink
from shared.settings import Settings
from tests.support.services.fixtures import each_engine
from tests.support.services.records import (
    Log,
    after,
    member,
    numbered,
    outgoing,
    poll_records,
    poll_until,
    publish,
    shows,
    values,
)
from tests.support.services.service import Service

pytestmark = pytest.mark.integration


@each_engine
def test_batches_hold_each_record_once_in_log_order(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 5000))
    with member(ready, Log()) as source:
        batches: list[Batch] = []
        while sum(map(len, batches)) < 5000:
            polled = source.poll(700, 1.0)
            assert sum(map(len, polled)) <= 700
            assert len({b.partition for b in polled}) == len(polled)
            batches += polled
        assert sorted(values(batches)) == numbered(0, 5000)
        for partition in range(3):
            offsets = np.concatenate([b.offsets for b in batches if b.partition == partition])
            assert offsets.tolist() == list(range(len(offsets)))
        began = time.monotonic()
        assert source.poll(700, 0.3) == []
        assert 0.25 < time.monotonic() - began < 1.0


def test_pause_seek_and_rewind_lose_and_repeat_nothing(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 3000))
    listener = Log()
    with member(ready, listener) as source:
        source.pause()
        poll_until(source, lambda: len(listener.owned) == 3)
        assert source.poll(1000, 0.5) == []
        source.resume()
        batches = poll_records(source, 500)
        source.pause()
        assert source.poll(1000, 0.3) == []
        source.resume()
        batches += poll_records(source, 3000 - sum(map(len, batches)))
        assert sorted(values(batches)) == numbered(0, 3000)

        ends = {b.partition: int(b.offsets[-1]) + 1 for b in batches}
        source.seek(1, ends[1] - 7)
        again = poll_records(source, 7)
        assert [(b.partition, b.offsets.tolist()) for b in again] == [
            (1, list(range(ends[1] - 7, ends[1])))
        ]
        with pytest.raises(ValueError, match="does not own it"):
            source.seek(17, 0)

        source.commit({p: Position(end - 5, f"m{p}") for p, end in ends.items()})
        source.rewind()
        assert listener.calls[-1] == ("assigned", [0, 1, 2])
        assert listener.committed == {p: Position(end - 5, f"m{p}") for p, end in ends.items()}
        rest = poll_records(source, 15)
        assert {b.partition: b.offsets[-1] - b.offsets[0] + 1 for b in rest} == dict.fromkeys(
            range(3), 5
        )
        assert source.poll(1000, 0.3) == []


@each_engine
def test_a_rebalance_tells_the_listener_and_hands_records_over_exactly_once(
    ready: Settings,
) -> None:
    publish(ready, ready.topics.input, numbered(0, 600))
    left, right = Log(), Log()
    with ExitStack() as stack:
        first = stack.enter_context(member(ready, left))
        seen = poll_records(first, 600)
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-g", first)
        stack.callback(sink.close)

        def commit() -> None:
            sink.send(outgoing(ready.topics.scores, values(seen)))
            sink.commit(after(seen, "from the callback"))

        left.before_revoke = commit
        second = stack.enter_context(member(ready, right))
        got: list[Batch] = []
        deadline = time.monotonic() + 15
        while not (right.owned and left.owned | right.owned == {0, 1, 2}):
            assert time.monotonic() < deadline
            assert first.poll(1000, 0.05) == []
            got += second.poll(1000, 0.05)
        assert got == []
        assert [what for what, _ in left.calls] == ["assigned", "revoked"]
        assert {p: right.committed[p].metadata for p in right.owned} == dict.fromkeys(
            right.owned, "from the callback"
        )
        assert shows(ready, ready.topics.scores, numbered(0, 600))

        publish(ready, ready.topics.input, numbered(600, 900))
        deadline = time.monotonic() + 15
        while sum(map(len, got)) < 300:
            assert time.monotonic() < deadline
            for source, listener in ((first, left), (second, right)):
                polled = source.poll(1000, 0.05)
                assert {b.partition for b in polled} <= listener.owned
                got += polled
        assert sorted(values(got)) == numbered(600, 900)


def test_a_failed_takeover_is_tried_again_and_survives_a_rebalance_meanwhile(
    ready: Settings,
) -> None:
    publish(ready, ready.topics.input, numbered(0, 90))
    left, right = Log(), Log()
    left.fail = [TransportError("no history yet"), TransportError("no history yet")]
    with member(ready, left) as first:
        failures, got = 0, []
        while not left.owned:
            try:
                got += first.poll(100, 0.05)
            except TransportError:
                failures += 1
        assert failures >= 2
        assert left.calls == [("assigned", [0, 1, 2])] * 3
        got += poll_records(first, 90 - sum(map(len, got)))
        assert sorted(values(got)) == numbered(0, 90)
    left = Log(fail=[TransportError("never")] * 1000)
    with member(ready, left) as first:
        while not left.calls:
            with pytest.raises(TransportError):
                poll_until(first, lambda: False)
        with member(ready, right) as second:
            deadline = time.monotonic() + 15
            while not right.owned:
                assert time.monotonic() < deadline
                with pytest.raises(TransportError):
                    first.poll(100, 0.05)
                second.poll(100, 0.05)
            assert 0 < len(right.owned) < 3
            assert [what for what, _ in left.calls if what != "assigned"] == []


def test_an_error_of_the_listener_comes_out_of_poll_and_no_record_is_lost(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 300))
    left, right = Log(), Log()

    def fail() -> None:
        raise TransactionAborted("asked to fail")

    left.before_revoke = fail
    with ExitStack() as stack:
        first = stack.enter_context(member(ready, left))
        poll_until(first, lambda: len(left.owned) == 3)
        first.rewind()
        second = stack.enter_context(member(ready, right))
        got: list[Batch] = []
        raised = 0
        deadline = time.monotonic() + 20
        while sum(map(len, got)) < 300 or not raised:
            assert time.monotonic() < deadline
            try:
                got += [b for b in first.poll(10, 0.02) if b.partition in left.owned]
            except TransactionAborted:
                raised += 1
                got = [b for b in got if b.partition in left.owned]
            got += second.poll(1000, 0.02)
        assert raised == 1
        assert sorted(values(got)) == numbered(0, 300)


def patient_poll(source: GroupSource) -> None:
    """Poll; a busy broker may need more than one attempt to hand partitions over."""
    try:
        source.poll(10, 0.05)
    except TransportError as error:
        if not error.retriable:
            raise


def test_a_static_member_comes_back_without_a_rebalance(ready: Settings) -> None:
    other = Log()
    with member(ready, other, instance_id="slot-b") as stays:
        listener = Log()
        with member(ready, listener, instance_id="slot-a") as goes:
            deadline = time.monotonic() + 15
            while len(listener.owned) + len(other.owned) < 3 or not (
                listener.owned and other.owned
            ):
                assert time.monotonic() < deadline
                patient_poll(goes)
                patient_poll(stays)
            owned, calls, mine = set(listener.owned), len(other.calls), len(listener.calls)
        assert len(listener.calls) == mine, "close() must not call the listener"
        again = Log()
        with member(ready, again, instance_id="slot-a") as back:
            deadline = time.monotonic() + 15
            while again.owned != owned:
                assert time.monotonic() < deadline
                patient_poll(back)
            patient_poll(stays)
        assert len(other.calls) == calls
        usurper = Log()
        with member(ready, Log(), instance_id="slot-b") as twin:
            poll_until(twin, lambda: True)
            with pytest.raises(ProducerFenced, match="same slot"):
                poll_until(stays, lambda: bool(twin.poll(1, 0)) or bool(usurper.owned))


def test_an_open_transaction_of_a_dead_owner_is_waited_for(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 30))
    first = GroupSource(ready, instance_id="slot-x")
    first.subscribe(Log())
    batches = poll_records(first, 30)
    dead = TransactionalSink(
        ready, f"{ready.topics.dataset}-dead", first, transaction_timeout_ms=2000
    )
    dead.commit(after(batches[:1], "committed"))
    producer = dead._outbox.producer
    producer.begin_transaction()
    open_positions = {p: Position(1, "undecided") for p in range(3)}
    producer.send_positions(first.topic, open_positions, first.group_metadata(), 5)
    first.close()
    began = time.monotonic()
    listener = Log()
    with member(ready, listener, instance_id="slot-x") as source:
        while not listener.owned:
            assert time.monotonic() - began < 15
            with suppress(TransportError):
                source.poll(10, 0.1)
    waited = time.monotonic() - began
    print(f"took over after {waited:.1f} s")
    assert [p.metadata for p in listener.committed.values() if p] == ["committed"]
    dead.close()


def test_a_killed_broker_is_reported_and_everything_goes_on_after_it(
    ready: Settings, kafka_service: Service
) -> None:
    publish(ready, ready.topics.input, numbered(0, 300))
    listener = Log()
    publisher = Publisher(ready, stall_s=1)
    with member(ready, listener, instance_id="slot-k") as source:
        batches = poll_records(source, 300)
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-k", source, timeout_s=3)
        sink.send(outgoing(ready.topics.scores, numbered(0, 300)))
        sink.commit(after(batches))
        sink.send(outgoing(ready.topics.scores, [b"in doubt"]))
        kafka_service.kill()
        try:
            publisher.send(outgoing(ready.topics.input, numbered(300, 400)))
            with pytest.raises(TransportError) as outage:
                poll_until(source, lambda: False, 10)
            assert outage.value.retriable
            assert ready.bootstrap in str(outage.value)
            with pytest.raises((TransactionInDoubt, TransactionAborted)):
                sink.commit(after(batches))
            sink.close()
        finally:
            kafka_service.start()
        sink = TransactionalSink(ready, f"{ready.topics.dataset}-k", source)
        assert publisher.flush(20) == 0
        assert (publisher.acknowledged, publisher.failed) == (100, 0)
        got: list[Batch] = []
        last: TransportError | None = None
        deadline = time.monotonic() + 30
        while sum(map(len, got)) < 100:
            assert time.monotonic() < deadline, (last, listener.calls)
            try:
                got += source.poll(1000, 0.1)
            except TransportError as error:
                last = error
        assert sorted(values(got)) == numbered(300, 400)
        sink.send(outgoing(ready.topics.scores, numbered(300, 400)))
        sink.commit(after(got))
        sink.close()
    assert shows(ready, ready.topics.scores, numbered(0, 400))
