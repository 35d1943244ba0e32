"""Where partitions end: what the client has heard, and what a broker answers later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future

import pytest

from shared.kafka import ends as ends_module
from shared.kafka.ends import QUERY_EVERY_S, PartitionEnds
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError
from shared.settings import Settings


class Client:
    """A consumer's memory of its fetches, and an admin client whose answers the test gives."""

    def __init__(self) -> None:
        self.cached: dict[int, int] = {}
        self.requests: list[dict[int, Future[int]]] = []
        self.opened = 0

    def cached_end(self, topic: str, partition: int) -> int:
        return self.cached.get(partition, -1)

    def admin(self, config: Mapping[str, str]) -> Client:
        return self

    def query_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> dict[int, Future[int]]:
        self.requests.append({partition: Future() for partition in partitions})
        return self.requests[-1]

    def answer(self, partition: int, offset: int) -> None:
        self.requests[-1][partition].set_result(offset)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    client.now_s = 100.0  # type: ignore[attr-defined]
    monkeypatch.setattr(ends_module.time, "monotonic", lambda: client.now_s)  # type: ignore[attr-defined]
    return client


@pytest.fixture
def ends(client: Client) -> PartitionEnds:
    return PartitionEnds(Settings(), "t", client)  # type: ignore[arg-type]


def test_the_last_fetch_says_it(client: Client, ends: PartitionEnds) -> None:
    client.cached = {0: 7, 1: -1001}
    assert ends.known(client, [0, 1, 2]) == {0: 7}  # type: ignore[arg-type]
    ends.record(1, 40)
    client.cached[0] = 9
    assert ends.known(client, [0, 1]) == {0: 9, 1: 40}  # type: ignore[arg-type]
    assert client.requests == []


def test_a_broker_that_is_asked_is_not_waited_for(client: Client, ends: PartitionEnds) -> None:
    client.cached = {0: 7, 1: 8}
    ends.query([0, 1])
    assert ends.known(client, [0, 1]) == {0: 7, 1: 8}  # type: ignore[arg-type]
    client.answer(0, 70)
    assert ends.known(client, [0, 1]) == {0: 70, 1: 8}  # type: ignore[arg-type]
    client.answer(1, 5)
    assert ends.known(client, [0, 1]) == {0: 70, 1: 8}  # type: ignore[arg-type]


def test_it_is_asked_now_and_then_and_one_question_at_a_time(
    client: Client, ends: PartitionEnds
) -> None:
    for _ in range(10):
        ends.query([0])
    client.now_s += 10 * QUERY_EVERY_S  # type: ignore[attr-defined]
    ends.query([0])
    assert len(client.requests) == 1
    client.answer(0, 1)
    assert ends.known(client, [0]) == {0: 1}  # type: ignore[arg-type]
    ends.query([0])
    assert len(client.requests) == 2
    client.requests[-1][0].set_exception(ClientError(Code.LOCAL_TIMED_OUT, "late"))
    assert ends.known(client, [0]) == {0: 1}  # type: ignore[arg-type]


def test_what_was_given_up_is_forgotten_with_its_answer(
    client: Client, ends: PartitionEnds
) -> None:
    ends.record(0, 50)
    ends.query([0])
    ends.forget([0])
    client.answer(0, 60)
    assert ends.known(client, [0]) == {}  # type: ignore[arg-type]
    ends.record(0, 3)
    assert ends.known(client, [0]) == {0: 3}  # type: ignore[arg-type]
