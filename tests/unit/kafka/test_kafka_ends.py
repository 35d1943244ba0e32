"""Where partitions end: what the client has heard, and what a broker that is asked answers later."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shared.kafka import ends as door
from shared.kafka.ends import ASK_EVERY_S, PartitionEnds
from shared.settings import Settings


class Client:
    """A consumer's memory of its fetches, and an admin client whose answers the test gives."""

    def __init__(self) -> None:
        self.cached: dict[int, int] = {}
        self.requests: list[dict[int, Future[Any]]] = []
        self.opened = 0

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "a question to the broker"
        if place.partition not in self.cached:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return 0, self.cached[place.partition]

    def list_offsets(
        self, wanted: dict[TopicPartition, Any], **_: Any
    ) -> dict[TopicPartition, Future[Any]]:
        self.requests.append({place.partition: Future() for place in wanted})
        return {TopicPartition("t", p): answer for p, answer in self.requests[-1].items()}

    def answer(self, partition: int, offset: int) -> None:
        self.requests[-1][partition].set_result(SimpleNamespace(offset=offset))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    client.now_s = 100.0  # type: ignore[attr-defined]
    monkeypatch.setattr(door, "open_client", lambda *_: client)
    monkeypatch.setattr(door.time, "monotonic", lambda: client.now_s)  # type: ignore[attr-defined]
    return client


@pytest.fixture
def ends() -> PartitionEnds:
    return PartitionEnds(Settings(), "t")


def test_the_last_fetch_says_it(client: Client, ends: PartitionEnds) -> None:
    client.cached = {0: 7, 1: -1001}
    assert ends.known(client, [0, 1, 2]) == {0: 7}  # type: ignore[arg-type]
    ends.hear(1, 40)
    client.cached[0] = 9
    assert ends.known(client, [0, 1]) == {0: 9, 1: 40}  # type: ignore[arg-type]
    assert client.requests == []


def test_a_broker_that_is_asked_is_not_waited_for(client: Client, ends: PartitionEnds) -> None:
    client.cached = {0: 7, 1: 8}
    ends.ask([0, 1])
    assert ends.known(client, [0, 1]) == {0: 7, 1: 8}  # type: ignore[arg-type]
    client.answer(0, 70)
    assert ends.known(client, [0, 1]) == {0: 70, 1: 8}  # type: ignore[arg-type]
    client.answer(1, 5)
    assert ends.known(client, [0, 1]) == {0: 70, 1: 8}  # type: ignore[arg-type]


def test_it_is_asked_now_and_then_and_one_question_at_a_time(
    client: Client, ends: PartitionEnds
) -> None:
    for _ in range(10):
        ends.ask([0])
    client.now_s += 10 * ASK_EVERY_S  # type: ignore[attr-defined]
    ends.ask([0])
    assert len(client.requests) == 1
    client.answer(0, 1)
    assert ends.known(client, [0]) == {0: 1}  # type: ignore[arg-type]
    ends.ask([0])
    assert len(client.requests) == 2
    client.requests[-1][0].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    assert ends.known(client, [0]) == {0: 1}  # type: ignore[arg-type]


def test_what_was_given_up_is_forgotten_with_its_answer(
    client: Client, ends: PartitionEnds
) -> None:
    ends.hear(0, 50)
    ends.ask([0])
    ends.forget([0])
    client.answer(0, 60)
    assert ends.known(client, [0]) == {}  # type: ignore[arg-type]
    ends.hear(0, 3)
    assert ends.known(client, [0]) == {0: 3}  # type: ignore[arg-type]
