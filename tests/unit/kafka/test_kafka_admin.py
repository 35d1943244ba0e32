"""The admin client while its broker does not answer."""

import pytest

from shared.batch import Position
from shared.errors import ConfigError, LapwingError, NotAuthorized, TopicMismatch, TransportError
from shared.kafka import admin as admin_module
from shared.kafka.admin import Admin, ConfigDifference, TopicIdentity
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Cluster, Group, Topic
from shared.settings import Settings
from shared.settings.topic_specs import TopicSpec

LATE = ClientError(Code.LOCAL_TIMED_OUT, "Timed out waiting for controller")


class Client:
    """An admin client that answers what the test says."""

    def __init__(self, identity=None, topics=(), made=(), settings=()) -> None:
        self.identity, self.topics = identity, dict(topics)
        self.made, self.settings = dict(made), dict(settings)
        self.is_refused = False

    def cluster(self, topic, timeout_s):
        return Cluster("real", self.topics)

    def topic_identity(self, topic, timeout_s):
        if isinstance(self.identity, Exception):
            raise self.identity
        return self.identity

    def group(self, group, timeout_s):
        if self.is_refused:
            raise ClientError(Code.GROUP_AUTHORIZATION_FAILED, "not allowed")
        return Group(0, True, {})

    def create_topics(self, topics, timeout_s):
        for one in topics:
            if self.made.get(one.name) is None:
                self.topics[one.name] = Topic(one.partitions, True, None)
        return {one.name: self.made.get(one.name) for one in topics}

    def topic_settings(self, topics, timeout_s):
        return {topic: self.settings.get(topic, {}) for topic in topics}


class Engine:
    """Hands out these admin clients, one after another, and one consumer."""

    def __init__(self, *clients, consumer=None) -> None:
        self.waiting, self.single = list(clients), consumer

    def admin(self, config):
        return self.waiting.pop(0)

    def consumer(self, config, on_error):
        return self.single


def admin_of(*clients, consumer=None, timeout_s=0.01) -> Admin:
    return Admin(Settings(), timeout_s=timeout_s, engine=Engine(*clients, consumer=consumer))


def test_a_client_that_waits_for_a_dead_controller_is_replaced():
    admin = admin_of(Client(LATE), Client((2, "id")))
    with pytest.raises(TransportError, match="waiting for controller"):
        admin.identity("t")
    assert admin.identity("t") == TopicIdentity(2, "id")


def test_a_client_that_has_answered_is_kept():
    admin = admin_of(Client(ClientError(Code.UNKNOWN_TOPIC_OR_PART, "unknown")))
    for _ in range(2):
        with pytest.raises(TopicMismatch):
            admin.identity("t")


def test_a_topic_that_is_refused_keeps_no_other_from_being_made_nor_from_being_compared():
    there = {"old": Topic(2, True, None), "silent": Topic(1, True, None)}
    client = Client(
        topics=there,
        made={"wrong": ClientError(Code.INVALID_CONFIG, "no such policy")},
        settings={"old": {"retention.ms": "7"}, "silent": LATE},
    )
    wanted = {"retention.ms": "5"}
    specs = [
        TopicSpec("wrong", 1, 1),
        TopicSpec("new", 1, 1),
        TopicSpec("old", 2, 1, wanted),
        TopicSpec("silent", 1, 1, wanted),
    ]
    report = admin_of(client, Client()).try_topics(specs)
    assert (report.created, report.existing) == (("new",), ("old", "silent"))
    assert report.differences == (ConfigDifference("old", "retention.ms", "5", "7"),)
    assert [type(error) for error in report.refused.values()] == [ConfigError]
    assert isinstance(report.uncompared["silent"], TransportError)


def test_another_partition_count_is_refused():
    client = Client(topics={"t": Topic(4, True, None)})
    report = admin_of(client).try_topics([TopicSpec("t", 3, 1)])
    assert (report.created, report.existing) == ((), ())
    assert [type(error) for error in report.refused.values()] == [TopicMismatch]


class Positions:
    """A consumer whose broker has no coordinator for the group in the first answers."""

    def __init__(self, refusals: int, code: int = Code.NOT_COORDINATOR) -> None:
        self.refusals, self.code, self.asked, self.closed = refusals, code, 0, False

    def committed(self, topic, partitions, timeout_s):
        self.asked += 1
        if self.asked <= self.refusals:
            raise ClientError(self.code, f"{Code(self.code).name} of test")
        return {partition: Position(7, "m") if partition else None for partition in partitions}

    def close(self):
        self.closed = True


def asking(monkeypatch, consumer: Positions, timeout_s: float) -> Admin:
    monkeypatch.setattr(admin_module, "RETRY_S", 0.01)
    client = Client(topics={"t": Topic(2, True, None)})
    return admin_of(client, consumer=consumer, timeout_s=timeout_s)


def test_a_broker_that_has_no_coordinator_yet_is_asked_again(monkeypatch):
    consumer = Positions(2)
    assert asking(monkeypatch, consumer, 5).committed("g", "t") == {1: Position(7, "m")}
    assert (consumer.asked, consumer.closed) == (3, True)


def test_a_wait_for_positions_that_ends_is_continued(monkeypatch):
    consumer = Positions(1, Code.LOCAL_TIMED_OUT)
    assert asking(monkeypatch, consumer, 5).committed("g", "t") == {1: Position(7, "m")}
    assert consumer.asked == 2
    silent = Positions(10**6, Code.LOCAL_TIMED_OUT)
    with pytest.raises(TransportError, match="LOCAL_TIMED_OUT of test"):
        asking(monkeypatch, silent, 5).committed("g", "t")
    assert silent.asked == 2


def test_a_group_that_may_not_be_seen_is_named(monkeypatch):
    consumer = Positions(10**6, Code.LOCAL_TIMED_OUT)
    admin = asking(monkeypatch, consumer, 5)
    admin._client.is_refused = True
    with pytest.raises(NotAuthorized, match=r"describing group g at .*: not allowed"):
        admin.committed("g", "t")
    assert (consumer.asked, consumer.closed) == (1, True)


def test_but_not_for_ever_nor_for_another_refusal(monkeypatch):
    with pytest.raises(TransportError, match="NOT_COORDINATOR"):
        asking(monkeypatch, Positions(10**6), 0.05).committed("g", "t")
    other = Positions(1, Code.FENCED_INSTANCE_ID)
    with pytest.raises(LapwingError):
        asking(monkeypatch, other, 5).committed("g", "t")
    assert (other.asked, other.closed) == (1, True)
