"""What the admin door makes of a client that waits for a broker that is gone."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from shared.batch import Position
from shared.errors import LapwingError, TopicMismatch, TransportError
from shared.kafka import admin as doors
from shared.kafka.admin import Admin, TopicIdentity
from shared.settings import Settings


class Client:
    """An AdminClient that answers a description with what the test says."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def list_topics(self, *_, **__):
        return SimpleNamespace(cluster_id="real", topics={}, brokers={}, controller_id=1)

    def describe_topics(self, *_, **__):
        future = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        else:
            future.set_result(self.answer)
        return {"t": future}


def admin_of(monkeypatch, *clients) -> Admin:
    waiting = list(clients)
    monkeypatch.setattr(doors, "open_client", lambda *_: waiting.pop(0))
    monkeypatch.setattr(doors, "TopicCollection", list)
    return Admin(Settings(), timeout_s=0.01)


def test_a_client_that_waits_for_a_dead_controller_is_replaced(monkeypatch):
    lost = Client(
        KafkaException(KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for controller"))
    )
    found = Client(SimpleNamespace(partitions=[0, 1], topic_id="id"))
    admin = admin_of(monkeypatch, lost, found)
    with pytest.raises(TransportError, match="waiting for controller"):
        admin.identity("t")
    assert admin.identity("t") == TopicIdentity(2, "id")


def test_a_client_that_has_answered_is_kept(monkeypatch):
    admin = admin_of(
        monkeypatch, Client(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    )
    for _ in range(2):
        with pytest.raises(TopicMismatch):
            admin.identity("t")


class Positions:
    """A consumer whose broker has no coordinator for the group in the first answers."""

    def __init__(self, refusals: int, code: int = KafkaError.NOT_COORDINATOR) -> None:
        self.refusals, self.code, self.asked, self.closed = refusals, code, 0, False

    def committed(self, places, timeout_s):
        self.asked += 1
        if self.asked <= self.refusals:
            raise KafkaException(KafkaError(self.code))
        return [
            SimpleNamespace(partition=place.partition, offset=7, metadata="m", error=None)
            for place in places
        ]

    def close(self):
        self.closed = True


def asking(monkeypatch, consumer: Positions, timeout_s: float) -> Admin:
    admin = admin_of(monkeypatch, Client(None))
    admin.timeout_s = timeout_s
    monkeypatch.setattr(doors, "RETRY_S", 0.01)
    monkeypatch.setattr(admin, "partitions", lambda topic: 2)
    monkeypatch.setattr(admin, "_consumer", lambda group: consumer)
    return admin


def test_a_broker_that_has_no_coordinator_yet_is_asked_again(monkeypatch):
    consumer = Positions(2)
    assert asking(monkeypatch, consumer, 5).committed("g", "t") == {
        0: Position(7, "m"),
        1: Position(7, "m"),
    }
    assert (consumer.asked, consumer.closed) == (3, True)


def test_but_not_for_ever_nor_for_another_refusal(monkeypatch):
    with pytest.raises(TransportError, match="NOT_COORDINATOR"):
        asking(monkeypatch, Positions(10**6), 0.05).committed("g", "t")
    other = Positions(1, KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(LapwingError):
        asking(monkeypatch, other, 5).committed("g", "t")
    assert (other.asked, other.closed) == (1, True)
