"""End offsets of partitions on a real Kafka: with traffic, without it, while all are paused."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from shared.batch import Blob, Outgoing
from shared.kafka import Admin, GroupSource, TransactionalSink
from shared.settings import Settings
from tests.support.services.records import Log, member, numbered, poll_records, poll_until, publish

pytestmark = pytest.mark.integration


def truth(settings: Settings) -> dict[int, int]:
    return Admin(settings).end_offsets(settings.topics.input)


def soon(source: GroupSource, wanted: dict[int, int], within_s: float = 10.0) -> None:
    """Poll until the source knows these ends."""
    deadline = time.monotonic() + within_s
    while (found := dict(source.ends())) != wanted:
        assert time.monotonic() < deadline, f"known {found}, wanted {wanted}"
        source.poll(5_000, 0.1)


def test_ends_are_known_at_the_takeover_and_grow_with_every_fetch(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 300))
    with member(ready, Log()) as source:
        poll_until(source, lambda: len(source.ends()) == 3)
        assert source.ends() == truth(ready)
        poll_records(source, 300)
        publish(ready, ready.topics.input, numbered(300, 400))
        soon(source, truth(ready))
        asked_s = time.monotonic()
        for _ in range(1000):
            source.ends()
        assert time.monotonic() - asked_s < 1.0  # no call to the broker


def test_ends_go_on_growing_while_everything_is_paused(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 30))
    with member(ready, Log()) as source:
        poll_records(source, 30)
        source.pause()
        source.poll(10, 0.3)
        publish(ready, ready.topics.input, numbered(30, 2030))
        soon(source, truth(ready))
        publish(ready, ready.topics.input, numbered(2030, 2060))
        soon(source, truth(ready))
        source.resume()
        assert sum(map(len, poll_records(source, 2030))) == 2030
        assert source.ends() == truth(ready)


def test_what_another_member_has_is_not_known(ready: Settings) -> None:
    publish(ready, ready.topics.input, numbered(0, 30))
    with ExitStack() as stack:
        first = stack.enter_context(member(ready, Log()))
        poll_until(first, lambda: len(first.ends()) == 3)
        others = Log()
        second = stack.enter_context(member(ready, others))
        _poll_both(first, second, others)
        assert set(first.ends()) | set(second.ends()) == {0, 1, 2}
        assert not set(first.ends()) & set(second.ends())


def _poll_both(first: GroupSource, second: GroupSource, others: Log) -> None:
    deadline = time.monotonic() + 30
    while not others.owned:
        assert time.monotonic() < deadline
        first.poll(10, 0.1)
        second.poll(10, 0.1)


def test_an_open_transaction_counts_as_it_does_for_kafkas_own_tools(ready: Settings) -> None:
    with member(ready, Log()) as source:
        poll_until(source, lambda: len(source.ends()) == 3)
        sink = TransactionalSink(ready, "writer", source, transaction_timeout_ms=20_000)
        sink.send(Outgoing(ready.topics.input, Blob.join([b"x"]), Blob.join([b"k"])))
        deadline = time.monotonic() + 10
        while sum(source.ends().values()) < 1:
            assert time.monotonic() < deadline
            assert source.poll(10, 0.1) == []
        assert sum(truth(ready).values()) == 0  # the last stable offset
        sink.abort()
        sink.close()
