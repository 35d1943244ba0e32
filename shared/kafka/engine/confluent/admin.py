"""The port's admin client on confluent-kafka.

Invariant: every call ends soon after its timeout, even where the library would wait longer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
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

from shared.kafka.engine.codes import is_refusal
from shared.kafka.engine.confluent.errors import client_error, failures, open_client, timed_out
from shared.kafka.engine.librdkafka import LOG
from shared.kafka.engine.port import ClientError, Cluster, Group, NewTopic, Topic
from shared.operations.retry import in_background

Answer = TypeVar("Answer")

GRACE_S = 0.5
"""Time after its timeout in which an answer is still accepted."""

SLICE_S = 0.1
REFUSED_S = 1.0
"""Time after a broker's refusal in which another one may still answer."""


class ConfluentAdmin:
    """``shared.kafka.engine.port.AdminClient``.

    raises : ConfigError
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        protocol = str(config.get("security.protocol", "plaintext"))
        self._is_secured = protocol.lower() != "plaintext"
        self._refusals = _Refusals()
        self._client = open_client(AdminClient, {**config, "error_cb": self._refusals})

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        """Describe one topic, or all; see AdminClient."""
        if self._is_secured:
            found = self._list_if_accepted(topic, timeout_s)
        else:
            with failures():
                found = self._client.list_topics(topic, timeout=timeout_s)
        topics = {name: _topic(described) for name, described in found.topics.items()}
        return Cluster(str(found.cluster_id or ""), topics)

    def _list_if_accepted(self, topic: str | None, timeout_s: float) -> Any:
        """List topics; raise a broker's refusal soon, and not only after the timeout.

        The call itself would only report that no broker could be used.
        """
        client, refusals = self._client, self._refusals
        refusals.clear()
        refused_s = math.inf
        answer = in_background(lambda: client.list_topics(topic, timeout=timeout_s), "topics")
        while not wait([answer], SLICE_S).done:
            client.poll(0)
            if refusals:
                refused_s = min(refused_s, time.monotonic())
                if time.monotonic() >= refused_s + REFUSED_S:
                    raise refusals[-1]
        if answer.exception() is not None:
            client.poll(0)
            if refusals:
                raise refusals[-1]
        with failures():
            return answer.result()

    def create_topics(
        self, topics: Sequence[NewTopic], timeout_s: float
    ) -> Mapping[str, ClientError | None]:
        """Create topics; see AdminClient."""
        wanted = [
            LibraryTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config))
            for topic in topics
        ]
        with failures():
            answers = self._client.create_topics(
                wanted, operation_timeout=timeout_s, request_timeout=timeout_s
            )
        errors: dict[str, ClientError | None] = {}
        for name, future in answers.items():
            answer = _answer(future, timeout_s)
            errors[name] = answer if isinstance(answer, ClientError) else None
        return errors

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
        settings: dict[str, Mapping[str, str] | ClientError] = {}
        for resource, future in answers.items():
            answer = _answer(future, timeout_s)
            if isinstance(answer, ClientError):
                settings[resource.name] = answer
            else:
                settings[resource.name] = {name: entry.value for name, entry in answer.items()}
        return settings

    def group(self, group: str, timeout_s: float) -> Group:
        """Describe a group; see AdminClient."""
        with failures():
            answers = self._client.describe_consumer_groups([group], request_timeout=timeout_s)
        found = _result(answers[group], timeout_s)
        owned: dict[str, set[int]] = {}
        for member in found.members:
            for assigned in member.assignment.topic_partitions:
                owned.setdefault(assigned.topic, set()).add(assigned.partition)
        return Group(len(found.members), found.state == ConsumerGroupState.STABLE, owned)

    def query_ends(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> Mapping[int, Future[int]]:
        """Request high watermarks; see AdminClient."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        requests = {TopicPartition(topic, partition): latest for partition in partitions}
        with failures():
            answers = self._client.list_offsets(
                requests, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=timeout_s
            )
        return {requested.partition: _offset(answer) for requested, answer in answers.items()}


class _Refusals(list[ClientError]):
    """The errors that say that broker and client do not accept each other."""

    def __call__(self, error: KafkaError) -> None:
        found = client_error(error)
        LOG.debug("%s", found.text)
        if is_refusal(found.code, found.text):
            self.append(found)


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
        return timed_out()


def _result(future: Future[Any], timeout_s: float) -> Any:
    found = _answer(future, timeout_s)
    if isinstance(found, ClientError):
        raise found
    return found


def _offset(answer: Future[Any]) -> Future[int]:
    """Return a future of the answer's offset."""
    offset: Future[int] = Future()

    def set_offset(_: Future[Any]) -> None:
        error = answer.exception()
        if error is None:
            offset.set_result(answer.result().offset)
        else:
            offset.set_exception(error)

    answer.add_done_callback(set_offset)
    return offset
