"""An admin client of confluent-kafka under the port.

Invariant: every call ends soon after its timeout, also where the library would wait on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its stubs
    AdminClient,
    ConfigResource,
    OffsetSpec,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its stubs
    NewTopic as LibraryTopic,
)

from shared.kafka.engine.confluent.errors import client_error, failures, no_answer, open_client
from shared.kafka.engine.port import ClientError, Cluster, Group, NewTopic, Topic

Answer = TypeVar("Answer")

GRACE_S = 0.5
"""How much later than its timeout an answer may come."""


class ConfluentAdmin:
    """``shared.kafka.engine.port.AdminClient``.

    raises : ConfigError
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._client = open_client(AdminClient, config)

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        """Describe one topic, or all; see AdminClient."""
        with failures():
            found = self._client.list_topics(topic, timeout=timeout_s)
        topics = {name: _topic(one) for name, one in found.topics.items()}
        return Cluster(str(found.cluster_id or ""), topics)

    def create_topics(
        self, topics: Sequence[NewTopic], timeout_s: float
    ) -> Mapping[str, ClientError | None]:
        """Make topics; see AdminClient."""
        wanted = [
            LibraryTopic(t.name, t.partitions, t.replication, config=dict(t.config)) for t in topics
        ]
        with failures():
            answers = self._client.create_topics(
                wanted, operation_timeout=timeout_s, request_timeout=timeout_s
            )
        made = {name: _answer(future, timeout_s) for name, future in answers.items()}
        return {name: one if isinstance(one, ClientError) else None for name, one in made.items()}

    def topic_identity(self, topic: str, timeout_s: float) -> tuple[int, str]:
        """Return the partition count and the topic's id; see AdminClient."""
        with failures():
            answers = self._client.describe_topics(
                TopicCollection([topic]), request_timeout=timeout_s
            )
        found = _result(answers[topic], timeout_s)
        return len(found.partitions), str(found.topic_id)

    def topic_settings(
        self, topics: Sequence[str], timeout_s: float
    ) -> Mapping[str, Mapping[str, str] | ClientError]:
        """Return the settings of topics; see AdminClient."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
        with failures():
            answers = self._client.describe_configs(resources, request_timeout=timeout_s)
        told = {one.name: _answer(future, timeout_s) for one, future in answers.items()}
        return {
            topic: found
            if isinstance(found, ClientError)
            else {name: entry.value for name, entry in found.items()}
            for topic, found in told.items()
        }

    def group(self, group: str, timeout_s: float) -> Group:
        """Describe a group; see AdminClient."""
        with failures():
            answers = self._client.describe_consumer_groups([group], request_timeout=timeout_s)
        found = _result(answers[group], timeout_s)
        owned: dict[str, set[int]] = {}
        for member in found.members:
            for place in member.assignment.topic_partitions:
                owned.setdefault(place.topic, set()).add(place.partition)
        return Group(len(found.members), found.state == ConsumerGroupState.STABLE, owned)

    def ask_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Future[int]]:
        """Ask for high watermarks; see AdminClient."""
        newest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, partition): newest for partition in partitions}
        with failures():
            asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=timeout_s
            )
        return {place.partition: _offset(answer) for place, answer in asked.items()}


def _topic(found: Any) -> Topic:
    partitions = found.partitions.values()
    return Topic(
        len(partitions),
        bool(partitions) and all(partition.leader >= 0 for partition in partitions),
        None if found.error is None else client_error(found.error),
    )


def _answer(future: Future[Answer], timeout_s: float) -> Answer | ClientError:
    try:
        return future.result(timeout_s + GRACE_S)
    except KafkaException as error:
        return client_error(error)
    except TimeoutError:
        return no_answer()


def _result(future: Future[Any], timeout_s: float) -> Any:
    found = _answer(future, timeout_s)
    if isinstance(found, ClientError):
        raise found
    return found


def _offset(asked: Future[Any]) -> Future[int]:
    """Return the answer to come as a number."""
    offset: Future[int] = Future()

    def answered(_: Future[Any]) -> None:
        error = asked.exception()
        if error is None:
            offset.set_result(asked.result().offset)
        else:
            offset.set_exception(error)

    asked.add_done_callback(answered)
    return offset
