"""Creates and compares topics, and reads offsets and groups.

Invariant: missing topics are created, existing ones are never altered; differences are reported.
Every call returns within 10 s or raises.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.batch import Position
from shared.errors import LapwingError, NotAuthorized, TopicMismatch, TransportError
from shared.kafka.client import (
    CALL_TIMEOUT_S,
    client_config,
    is_secured,
    log_client_error,
    topic_partition_of,
    translate,
)
from shared.kafka.engine import engine_of
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import (
    AdminClient,
    ClientError,
    Cluster,
    Consumer,
    Engine,
    Group,
    NewTopic,
)
from shared.settings import Settings
from shared.settings.topic_specs import TopicSpec, topic_specs, wrong_count

_EMBEDDED = "mockCluster"
"""Start of the cluster id of librdkafka's mock cluster, which never gets a controller."""

_COORDINATOR_NOT_READY = (
    Code.NOT_COORDINATOR,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
)
RETRY_S = 0.2

FIRST_WAIT_S = 2.0
"""A client that waits so long for positions may lack the right to see the group: it waits for the
group's coordinator, without saying that it is refused (see
findings/librdkafka-committed-hides-refusal.sh).
"""


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A topic setting that differs from the specification; it is left as it is."""

    topic: str
    name: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class TopicReport:
    """The result of ``ensure_topics``.

    refused    : topics that are not as they must be, each with its error
    missing    : topics that do not exist and were not created
    other      : {topic: (found, wanted)} partition counts that differ and are allowed to
    uncompared : topics whose settings the broker does not return, each with its error
    compared   : False where the broker cannot return the settings of any topic
    """

    created: tuple[str, ...]
    existing: tuple[str, ...]
    differences: tuple[ConfigDifference, ...]
    refused: Mapping[str, LapwingError] = field(default_factory=dict)
    uncompared: Mapping[str, LapwingError] = field(default_factory=dict)
    compared: bool = True
    missing: tuple[str, ...] = ()
    other: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """The partition count and the id of a topic; the id changes when it is recreated.

    topic_id : "" on the embedded broker, which has none
    """

    partitions: int
    topic_id: str


class Admin:
    """Queries a cluster and creates topics.

    timeout_s : longest wait for the answer to one call
    engine    : the client library
    """

    def __init__(
        self,
        settings: Settings,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        engine: Engine | None = None,
    ) -> None:
        self.address = settings.bootstrap
        self.timeout_s = timeout_s
        self._settings = settings
        self._engine = engine or engine_of(settings)
        self._client = self._connect()
        self._offsets_consumer: Consumer | None = None
        self._embedded: bool | None = None

    def ensure_topics(self, specs: Sequence[TopicSpec]) -> TopicReport:
        """Create what is missing and compare what exists.

        raises : TopicMismatch when the input, anomalies or activations have another partition
                 count (nothing is created then), ConfigError when the broker refuses a setting,
                 TransportError
        """
        report = self.try_topics(specs)
        for error in report.refused.values():
            raise error
        return report

    def try_topics(self, specs: Sequence[TopicSpec], *, create: bool = True) -> TopicReport:
        """Create what is missing and compare what exists.

        Nothing is created while a topic has a wrong partition count, because the new topics would
        get theirs from the same setting. Any other error concerns one topic only.

        create : False = only compare
        raises : TransportError when the broker does not answer at all
        """
        found = self._partition_counts()
        wrong = _wrong_counts(specs, found)
        missing = [spec for spec in specs if spec.name not in found]
        may_create = create and not wrong
        created, refused = self._create(missing if may_create else [])
        if may_create and len(created) + len(refused) < len(missing):
            found = self._partition_counts()
            wrong = _wrong_counts(specs, found)
        existing = [spec for spec in specs if spec.name in found and spec.name not in created]
        refused = wrong | refused
        differences, uncompared = self._differences(existing)
        return TopicReport(
            tuple(created),
            tuple(spec.name for spec in existing if spec.name not in refused),
            tuple(differences),
            refused,
            uncompared,
            compared=not self._is_embedded(),
            missing=() if may_create else tuple(spec.name for spec in missing),
            other={
                spec.name: (found[spec.name], spec.partitions)
                for spec in existing
                if not spec.exact and found[spec.name] != spec.partitions
            },
        )

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has.

        raises : TopicMismatch when there is no such topic, NotAuthorized, TransportError
        """
        count = self._partition_counts().get(topic)
        if count is None:
            self._raise_if_hidden(topic)
            raise TopicMismatch(f"there is no topic {topic} at {self.address}{self._hint(topic)}")
        return count

    def bounds(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """Return the first and the last stable offset of each partition.

        Records at or after the last stable offset cannot be read yet.
        """
        bounds = self._bounds(topic)
        lows = {partition: low for partition, (low, _) in bounds.items()}
        highs = {partition: high for partition, (_, high) in bounds.items()}
        return lows, highs

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset of each partition's log."""
        return self.bounds(topic)[0]

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the last stable offset of each partition; see ``bounds``."""
        return self.bounds(topic)[1]

    def cluster_id(self) -> str:
        """Return the cluster's id; "" where it has none."""
        return self._cluster(None).cluster_id

    def identity(self, topic: str) -> TopicIdentity:
        """Return partition count and id of a topic.

        raises : TopicMismatch when there is no such topic, TransportError
        """
        if self._is_embedded():
            return TopicIdentity(self.partitions(topic), "")
        with self._answer(f"describing topic {topic}") as client:
            return TopicIdentity(*client.topic_identity(topic, self.timeout_s))

    def topic_id(self, topic: str) -> str:
        """Return the id of a topic; "" on the embedded broker, which has none."""
        return self.identity(topic).topic_id

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        """Return a group's committed positions; partitions without one are left out."""
        partitions = range(self.partitions(topic))
        consumer = self._consumer(group)
        try:
            answer = self._positions(consumer, group, topic, partitions)
        finally:
            consumer.close()
        return {
            partition: position for partition, position in answer.items() if position is not None
        }

    def _positions(
        self, consumer: Consumer, group: str, topic: str, partitions: Sequence[int]
    ) -> Mapping[int, Position | None]:
        """Read positions; wait for a broker that creates its offsets topic at the first request."""
        deadline, wait_s = time.monotonic() + self.timeout_s, FIRST_WAIT_S
        while True:
            try:
                return consumer.committed(topic, partitions, min(wait_s, _remaining_s(deadline)))
            except ClientError as error:
                may_retry = error.code in _COORDINATOR_NOT_READY
                if error.code == Code.LOCAL_TIMED_OUT and wait_s == FIRST_WAIT_S:
                    self._require_right(group, min(wait_s, _remaining_s(deadline)))
                    may_retry, wait_s = True, self.timeout_s
                if not may_retry or time.monotonic() + RETRY_S >= deadline:
                    partition = topic_partition_of(error, topic)
                    action = f"reading the positions of group {group} in {partition}"
                    raise translate(error, f"{action} at {self.address}") from error
            time.sleep(RETRY_S)

    def members(self, group: str) -> int:
        """Return how many members a group has; 0 for an unknown group.

        raises : TransportError, also where the broker cannot tell (the embedded one)
        """
        return self._described(group, self.timeout_s).members

    def _described(self, group: str, timeout_s: float) -> Group:
        with self._answer(f"describing group {group}") as client:
            return client.group(group, timeout_s)

    def _require_right(self, group: str, timeout_s: float) -> None:
        """Raise NotAuthorized where a group may not be seen; other errors do not count here."""
        try:
            self._described(group, timeout_s)
        except NotAuthorized:
            raise
        except LapwingError:
            return

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Return the lag of a group in each partition; without a position that is the whole log."""
        committed = self.committed(group, topic)
        lag = {}
        for partition, (low, high) in self._bounds(topic).items():
            position = committed.get(partition)
            read_to = low if position is None else position.offset
            lag[partition] = max(0, high - read_to)
        return lag

    def close(self) -> None:
        """Close the connections that are kept open between calls."""
        if self._offsets_consumer is not None:
            self._offsets_consumer.close()
            self._offsets_consumer = None

    def _hint(self, topic: str) -> str:
        if any(spec.name == topic for spec in topic_specs(self._settings)):
            return "; `lapwing topics ensure` creates it"
        near = difflib.get_close_matches(topic, list(self._partition_counts()), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    # -- inside ------------------------------------------------------------------------------------

    def _create(self, specs: Sequence[TopicSpec]) -> tuple[list[str], dict[str, LapwingError]]:
        if not specs:
            return [], {}
        if self._is_embedded():
            reason = "it creates topics only when it starts"
            return [], {
                spec.name: TopicMismatch(f"the embedded broker has no topic {spec.name}; {reason}")
                for spec in specs
            }
        wanted = [
            NewTopic(spec.name, spec.partitions, spec.replication, spec.config) for spec in specs
        ]
        created: list[str] = []
        refused: dict[str, LapwingError] = {}
        with self._answer("creating topics") as client:
            answers = client.create_topics(wanted, self.timeout_s)
        for name, error in answers.items():
            if error is None:
                created.append(name)
            elif error.code != Code.TOPIC_ALREADY_EXISTS:
                refused[name] = translate(error, f"creating topic {name} at {self.address}")
        self._await_leaders([name for name in answers if name not in refused])
        return created, refused

    def _await_leaders(self, names: Sequence[str]) -> None:
        """Wait until every new partition has a leader, so that the next client finds it."""
        deadline = time.monotonic() + self.timeout_s
        for name in names:
            while True:
                topic = self._cluster(name).topics.get(name)
                if topic is not None and topic.error is None and topic.has_leaders:
                    break
                if time.monotonic() >= deadline:
                    raise TransportError(
                        f"topic {name} at {self.address} still has partitions without a leader"
                        f" {self.timeout_s:g} s after its creation"
                    )
                time.sleep(0.02)

    def _differences(
        self, specs: Sequence[TopicSpec]
    ) -> tuple[list[ConfigDifference], dict[str, LapwingError]]:
        """Return the settings that differ, and the topics that could not be compared."""
        topics = [spec.name for spec in specs if spec.config]
        if not topics or self._is_embedded():
            return [], {}
        with self._answer("reading the settings of topics") as client:
            answers = client.topic_settings(topics, self.timeout_s)
        uncompared: dict[str, LapwingError] = {}
        differences: list[ConfigDifference] = []
        for spec in specs:
            answer = answers.get(spec.name, {})
            if isinstance(answer, ClientError):
                action = f"reading the settings of topic {spec.name}"
                uncompared[spec.name] = self._failure(answer, action, client)
            else:
                differences += _differences_of(spec, answer)
        return differences, uncompared

    def _partition_counts(self) -> dict[str, int]:
        """Return the partition counts of all topics; a query for one topic might create it."""
        return {
            name: found.partitions
            for name, found in self._cluster(None).topics.items()
            if found.error is None
        }

    def _is_embedded(self) -> bool:
        if self._embedded is None:
            self._embedded = self.cluster_id().startswith(_EMBEDDED)
        return self._embedded

    def _raise_if_hidden(self, topic: str) -> None:
        """Raise NotAuthorized for a topic that the list of topics does not show to this client."""
        found = self._cluster(topic).topics.get(topic) if is_secured(self._settings) else None
        if found is not None and found.error is not None:
            failure = translate(found.error, f"describing topic {topic} at {self.address}")
            if isinstance(failure, NotAuthorized):
                raise failure

    def _cluster(self, topic: str | None) -> Cluster:
        try:
            return self._client.cluster(topic, self.timeout_s)
        except ClientError as error:
            raise translate(error, f"listing the topics at {self.address}") from error

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        count = self.partitions(topic)
        if self._offsets_consumer is None:
            self._offsets_consumer = self._consumer("lapwing-admin")
        consumer = self._offsets_consumer
        deadline = time.monotonic() + self.timeout_s
        bounds = {}
        for partition in range(count):
            try:
                bounds[partition] = consumer.bounds(topic, partition, _remaining_s(deadline))
            except ClientError as error:
                action = f"reading the end offset of {topic}[{partition}] at {self.address}"
                raise translate(error, action) from error
        return bounds

    def _consumer(self, group: str) -> Consumer:
        required = {
            "group.id": group,
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
        }
        config = client_config(self._settings, "consumer", required=required)
        return self._engine.consumer(config, log_client_error)

    def _connect(self) -> AdminClient:
        return self._engine.admin(client_config(self._settings, "admin"))

    @contextmanager
    def _answer(self, action: str) -> Iterator[AdminClient]:
        """Yield the client for a call that the controller or a coordinator answers."""
        client = self._client
        try:
            yield client
        except ClientError as error:
            raise self._failure(error, action, client) from error

    def _failure(self, error: ClientError, action: str, client: AdminClient) -> LapwingError:
        failure = translate(error, f"{action} at {self.address}")
        if failure.retriable and self._client is client:
            # A client waits for the controller that it knows, and does not look for a new one.
            # Threads that still wait for an answer keep the old client alive.
            self._client = self._connect()
        return failure


def _wrong_counts(specs: Sequence[TopicSpec], found: Mapping[str, int]) -> dict[str, LapwingError]:
    return {
        spec.name: wrong_count(spec, found[spec.name])
        for spec in specs
        if spec.exact and found.get(spec.name, spec.partitions) != spec.partitions
    }


def _differences_of(spec: TopicSpec, found: Mapping[str, str]) -> list[ConfigDifference]:
    return [
        ConfigDifference(spec.name, name, wanted, found[name])
        for name, wanted in spec.config.items()
        if name in found and found[name] != wanted
    ]


def _remaining_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
