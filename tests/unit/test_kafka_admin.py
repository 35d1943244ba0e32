"""What the admin door makes of a client that waits for a broker that is gone."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from shared.errors import TopicMismatch, TransportError
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
    lost = Client(KafkaException(KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for controller")))
    found = Client(SimpleNamespace(partitions=[0, 1], topic_id="id"))
    admin = admin_of(monkeypatch, lost, found)
    with pytest.raises(TransportError, match="waiting for controller"):
        admin.identity("t")
    assert admin.identity("t") == TopicIdentity(2, "id")


def test_a_client_that_has_answered_is_kept(monkeypatch):
    admin = admin_of(monkeypatch, Client(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))))
    for _ in range(2):
        with pytest.raises(TopicMismatch):
            admin.identity("t")
