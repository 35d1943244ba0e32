"""Topics as they should be and as they are, and where groups stand.

Law: what is missing is made, what exists is never altered; a difference is reported. Every call
     answers within 10 s or raises.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]  # not in its stubs

from shared.batch import Position
from shared.errors import LapwingError, TopicMismatch, TransportError
from shared.kafka.client import CALL_TIMEOUT_S, client_config, open_client, translate
from shared.kafka.outbox import dead_letter_limit_bytes, input_limit_bytes
from shared.settings import Settings
from shared.settings.names import variable_of

Answer = TypeVar("Answer")

_EMBEDDED = "mockCluster"
"""How the cluster id of librdkafka's mock cluster begins; it has no controller, and whoever waits
for one waits in vain.
"""


_COORDINATOR_COMES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    setting : the setting that names it
    exact   : whether it must have so many partitions; else they are what it is created with
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)
    setting: str = "topics.input"
    exact: bool = True


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A topic setting that is not what the specification says; nobody has changed it."""

    topic: str
    name: str
    wanted: str
    found: str


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What ``ensure_topics`` did and saw.

    refused    : topics that are not as they must be, each with the error that says why
    missing    : topics that are not there and were not to be created
    other      : {topic: (found, wanted)} partition counts that differ and may
    uncompared : topics whose settings the broker does not tell, each with its answer
    compared   : False where the broker cannot tell the settings of any topic
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
    """What a topic keeps from its creation to its deletion, unless somebody adds partitions.

    topic_id : "" on the embedded broker, which has none
    """

    partitions: int
    topic_id: str


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the topics of one dataset: input, scores, anomalies, activations, dead letters.

    Anomalies and dead letters stay as long as the input that explains them; activations stay for
    ever (compaction would delete what an older snapshot needs). A dead letter may be larger than
    the largest input record by the headers added to it.
    """
    topics = settings.topics
    explained = {"cleanup.policy": "delete", "retention.ms": _hours(topics.input_retention_hours)}
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    shown = {"cleanup.policy": "delete", "retention.ms": _hours(topics.scores_retention_hours)}
    input_limit = {"max.message.bytes": str(input_limit_bytes(settings))}
    dead_limit = {"max.message.bytes": str(dead_letter_limit_bytes(settings))}
    many, one = (topics.partitions, topics.replication), (1, topics.replication)
    return [
        TopicSpec(topics.input, *many, explained | input_limit),
        TopicSpec(topics.scores, *many, shown, "topics.scores", exact=False),
        TopicSpec(topics.anomalies, *one, explained, "topics.anomalies"),
        TopicSpec(topics.activations, *one, kept, "topics.activations"),
        TopicSpec(
            topics.dead_letters, *many, explained | dead_limit, "topics.dead_letters", exact=False
        ),
    ]


def wrong_count(spec: TopicSpec, found: int) -> TopicMismatch:
    """Return the error for a topic that must have another number of partitions; it says what to set.

    found : how many it has
    """
    if spec.setting == "topics.input":
        said = (
            f"{spec.name} has {found} partitions, topics.partitions says {spec.partitions}: set"
            f" topics.partitions ({variable_of('topics.partitions')}) to {found}"
        )
    else:
        said = (
            f"{spec.name} has {found} partitions and must have {spec.partitions}: name another"
            f" topic in {spec.setting} ({variable_of(spec.setting)}), or delete it if nothing needs"
            " it"
        )
    return TopicMismatch(said.replace(" has 1 partitions", " has 1 partition"))


def _hours(hours: float) -> str:
    return str(round(hours * 3_600_000))


class Admin:
    """Asks the cluster and makes topics.

    timeout_s : longest wait for the answer to one call
    """

    def __init__(self, settings: Settings, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.address = settings.bootstrap
        self.timeout_s = timeout_s
        self._settings = settings
        self._client = self._connect()
        self._watcher: Consumer | None = None
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

        Nothing is created while a topic has a partition count that it must not have, for the new
        ones would get theirs by the same setting; any other refusal concerns one topic only.

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
        """Return how many partitions a topic has; raises TopicMismatch when there is no such topic."""
        count = self._partition_counts().get(topic)
        if count is None:
            raise TopicMismatch(
                f"there is no topic {topic} at {self.address}{self._what_makes(topic)}"
            )
        return count

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition still holds."""
        return {partition: low for partition, (low, _) in self._bounds(topic).items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the last stable offset of each partition: nothing at or beyond it is decided and
        readable yet.
        """
        return {partition: high for partition, (_, high) in self._bounds(topic).items()}

    def cluster_id(self) -> str:
        """Return the cluster's id; "" where it has none."""
        return str(self._metadata(None).cluster_id or "")

    def identity(self, topic: str) -> TopicIdentity:
        """Return by what to know a topic again.

        raises : TopicMismatch when there is no such topic, TransportError
        """
        if self._is_embedded():
            return TopicIdentity(self.partitions(topic), "")
        client = self._client
        described = client.describe_topics(TopicCollection([topic]), request_timeout=self.timeout_s)
        found = self._wait(client, described[topic], f"describing topic {topic}")
        return TopicIdentity(len(found.partitions), str(found.topic_id))

    def topic_id(self, topic: str) -> str:
        """Return the id that a topic keeps until it is deleted; "" on the embedded broker, which
        has none.
        """
        return self.identity(topic).topic_id

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        """Return a group's committed positions; partitions without one are left out."""
        places = [TopicPartition(topic, partition) for partition in range(self.partitions(topic))]
        consumer = self._consumer(group)
        try:
            answer = self._positions(
                consumer, places, f"asking for the positions of group {group} in {topic}"
            )
        finally:
            consumer.close()
        for place in answer:
            if place.error:
                raise translate(
                    place.error,
                    f"asking for the position of group {group} in {topic}[{place.partition}]",
                )
        return {
            place.partition: Position(place.offset, place.metadata or "")
            for place in answer
            if place.offset >= 0
        }

    def _positions(
        self, consumer: Consumer, places: Sequence[TopicPartition], doing: str
    ) -> Sequence[TopicPartition]:
        """Ask for positions; a broker that makes its topic of positions at this first question is
        given time for it.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                return consumer.committed(list(places), left_s)
            except KafkaException as error:
                if (
                    error.args[0].code() not in _COORDINATOR_COMES
                    or time.monotonic() + RETRY_S >= deadline
                ):
                    raise translate(error, f"{doing} at {self.address}") from error
            time.sleep(RETRY_S)

    def members(self, group: str) -> int:
        """Return how many members a group has, 0 when nobody knows it.

        raises : TransportError, also where the broker does not tell (the embedded one)
        """
        client, doing = self._client, f"describing group {group}"
        asked = self._call(
            doing, lambda: client.describe_consumer_groups([group], request_timeout=self.timeout_s)
        )
        return len(self._wait(client, asked[group], doing).members)

    def lag(self, group: str, topic: str) -> dict[int, int]:
        """Return how many offsets a group is behind in each partition; without a position it is
        behind the whole log.
        """
        committed = self.committed(group, topic)
        bounds = self._bounds(topic)
        return {
            p: max(0, high - (committed[p].offset if p in committed else low))
            for p, (low, high) in bounds.items()
        }

    def close(self) -> None:
        """Let go of the connections that are kept open between calls."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _what_makes(self, topic: str) -> str:
        if any(spec.name == topic for spec in topic_specs(self._settings)):
            return "; `lapwing topics ensure` creates it"
        near = difflib.get_close_matches(topic, list(self._partition_counts()), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    # -- inside ------------------------------------------------------------------------------------

    def _create(self, specs: Sequence[TopicSpec]) -> tuple[list[str], dict[str, LapwingError]]:
        if not specs:
            return [], {}
        if self._is_embedded():
            why = "topics of the embedded broker are made only when it starts"
            return [], {
                s.name: TopicMismatch(f"the embedded broker has no topic {s.name}, and {why}")
                for s in specs
            }
        wanted = [
            NewTopic(s.name, s.partitions, s.replication, config=dict(s.config)) for s in specs
        ]
        futures = self._client.create_topics(
            wanted, operation_timeout=self.timeout_s, request_timeout=self.timeout_s
        )
        created, refused = [], dict[str, LapwingError]()
        for name, future in futures.items():
            try:
                future.result(self.timeout_s + 0.5)
                created.append(name)
            except (KafkaException, TimeoutError) as error:
                if not _says(error, KafkaError.TOPIC_ALREADY_EXISTS):
                    refused[name] = _translated(error, f"creating topic {name} at {self.address}")
        self._await_leaders([name for name in futures if name not in refused])
        return created, refused

    def _await_leaders(self, names: Sequence[str]) -> None:
        """Wait until every new partition has a leader, so that the next client finds it."""
        deadline = time.monotonic() + self.timeout_s
        for name in names:
            while True:
                topic = self._metadata(name).topics.get(name)
                if (
                    topic
                    and topic.error is None
                    and topic.partitions
                    and all(p.leader >= 0 for p in topic.partitions.values())
                ):
                    break
                if time.monotonic() >= deadline:
                    raise TransportError(
                        f"topic {name} at {self.address} has no leaders {self.timeout_s:g} s after"
                        " its creation"
                    )
                time.sleep(0.02)

    def _differences(
        self, specs: Sequence[TopicSpec]
    ) -> tuple[list[ConfigDifference], dict[str, LapwingError]]:
        """Return what differs, and the topics that nothing is told about, with why."""
        resources = [
            ConfigResource(ConfigResource.Type.TOPIC, spec.name) for spec in specs if spec.config
        ]
        if not resources or self._is_embedded():
            return [], {}
        client = self._client
        answers = client.describe_configs(resources, request_timeout=self.timeout_s)
        found, untold = dict[str, Any](), dict[str, LapwingError]()
        for resource, future in answers.items():
            try:
                found[resource.name] = self._wait(
                    client, future, f"reading the settings of topic {resource.name}"
                )
            except LapwingError as error:
                untold[resource.name] = error
        differences = [
            ConfigDifference(spec.name, name, wanted, found[spec.name][name].value)
            for spec in specs
            for name, wanted in spec.config.items()
            if name in found.get(spec.name, {}) and found[spec.name][name].value != wanted
        ]
        return differences, untold

    def _partition_counts(self) -> dict[str, int]:
        """Return all topics and their partition counts; to ask for one of them may create it."""
        return {
            name: len(found.partitions)
            for name, found in self._metadata(None).topics.items()
            if found.error is None
        }

    def _is_embedded(self) -> bool:
        if self._embedded is None:
            self._embedded = self.cluster_id().startswith(_EMBEDDED)
        return self._embedded

    def _metadata(self, topic: str | None) -> Any:
        return self._call(
            "asking for the topics", lambda: self._client.list_topics(topic, timeout=self.timeout_s)
        )

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        count = self.partitions(topic)
        if self._watcher is None:
            self._watcher = self._consumer("lapwing-admin")
        watcher, deadline = self._watcher, time.monotonic() + self.timeout_s
        found = {}
        for partition in range(count):
            place = TopicPartition(topic, partition)
            left_s = max(0.1, deadline - time.monotonic())
            bounds = self._call(
                f"asking where {topic}[{partition}] ends",
                partial(watcher.get_watermark_offsets, place, left_s),
            )
            if bounds is None:
                raise TransportError(
                    f"asking {self.address} where {topic}[{partition}] ends: no answer in"
                    f" {self.timeout_s:g} s"
                )
            found[partition] = bounds
        return found

    def _consumer(self, group: str) -> Consumer:
        required = {
            "group.id": group,
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
        }
        return open_client(Consumer, client_config(self._settings, "consumer", required=required))

    def _connect(self) -> AdminClient:
        return open_client(AdminClient, client_config(self._settings, "admin"))

    def _wait(self, client: AdminClient, future: Future[Answer], doing: str) -> Answer:
        try:
            return future.result(self.timeout_s + 0.5)
        except (KafkaException, TimeoutError) as error:
            failure = _translated(error, f"{doing} at {self.address}")
            if failure.retriable and self._client is client:
                # This one goes on waiting for the controller that it knows, and asks nobody whether
                # there is another by now. Whoever else still waits for an answer of it holds it, so
                # nothing is destroyed under its hands.
                self._client = self._connect()
            raise failure from error

    def _call(self, doing: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except KafkaException as error:
            raise translate(error, f"{doing} at {self.address}") from error


def _wrong_counts(specs: Sequence[TopicSpec], found: Mapping[str, int]) -> dict[str, LapwingError]:
    return {
        spec.name: wrong_count(spec, found[spec.name])
        for spec in specs
        if spec.exact and found.get(spec.name, spec.partitions) != spec.partitions
    }


def _says(error: Exception, code: int) -> bool:
    return isinstance(error, KafkaException) and bool(error.args[0].code() == code)


def _translated(error: KafkaException | TimeoutError, doing: str) -> LapwingError:
    return (
        translate(error, doing)
        if isinstance(error, KafkaException)
        else TransportError(f"{doing}: no answer")
    )
