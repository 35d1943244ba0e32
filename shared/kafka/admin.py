"""Topics as they should be and as they are, and where groups stand.

Invariant: what is missing is made, what exists is never altered; a difference is reported. Every
call answers within 10 s or raises.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.batch import Position
from shared.errors import LapwingError, TopicMismatch, TransportError
from shared.kafka.client import (
    CALL_TIMEOUT_S,
    client_config,
    log_complaint,
    place_of,
    translate,
)
from shared.kafka.engine import engine_of
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import AdminClient, ClientError, Cluster, Consumer, Engine, NewTopic
from shared.kafka.outbox import dead_letter_limit_bytes, input_limit_bytes
from shared.settings import Settings
from shared.settings.names import variable_of

_EMBEDDED = "mockCluster"
"""How the cluster id of librdkafka's mock cluster begins; it has no controller, and whoever waits
for one waits in vain.
"""


_COORDINATOR_COMES = (
    Code.NOT_COORDINATOR,
    Code.COORDINATOR_NOT_AVAILABLE,
    Code.COORDINATOR_LOAD_IN_PROGRESS,
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
    engine    : the client to use
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
        """Return how many partitions a topic has.

        raises : TopicMismatch when there is no such topic, TransportError
        """
        count = self._partition_counts().get(topic)
        if count is None:
            raise TopicMismatch(
                f"there is no topic {topic} at {self.address}{self._what_makes(topic)}"
            )
        return count

    def bounds(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """Return the first offset that each partition still holds, and its last stable offset:
        nothing at or beyond it is decided and readable yet.
        """
        bounds = self._bounds(topic)
        lows = {partition: low for partition, (low, _) in bounds.items()}
        highs = {partition: high for partition, (_, high) in bounds.items()}
        return lows, highs

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset that each partition still holds."""
        return self.bounds(topic)[0]

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return the last stable offset of each partition; see ``bounds``."""
        return self.bounds(topic)[1]

    def cluster_id(self) -> str:
        """Return the cluster's id; "" where it has none."""
        return self._cluster(None).cluster_id

    def identity(self, topic: str) -> TopicIdentity:
        """Return by what to know a topic again.

        raises : TopicMismatch when there is no such topic, TransportError
        """
        if self._is_embedded():
            return TopicIdentity(self.partitions(topic), "")
        with self._answer(f"describing topic {topic}") as client:
            return TopicIdentity(*client.topic_identity(topic, self.timeout_s))

    def topic_id(self, topic: str) -> str:
        """Return the id that a topic keeps until it is deleted; "" on the embedded broker, which
        has none.
        """
        return self.identity(topic).topic_id

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        """Return a group's committed positions; partitions without one are left out."""
        partitions = range(self.partitions(topic))
        consumer = self._consumer(group)
        try:
            answer = self._positions(consumer, group, topic, partitions)
        finally:
            consumer.close()
        return {partition: one for partition, one in answer.items() if one is not None}

    def _positions(
        self, consumer: Consumer, group: str, topic: str, partitions: Sequence[int]
    ) -> Mapping[int, Position | None]:
        """Ask for positions; a broker that makes its topic of positions at this first question is
        given time for it.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return consumer.committed(topic, partitions, _left_s(deadline))
            except ClientError as error:
                if error.code not in _COORDINATOR_COMES or time.monotonic() + RETRY_S >= deadline:
                    doing = f"asking for the positions of group {group} in {place_of(error, topic)}"
                    raise translate(error, f"{doing} at {self.address}") from error
            time.sleep(RETRY_S)

    def members(self, group: str) -> int:
        """Return how many members a group has, 0 when nobody knows it.

        raises : TransportError, also where the broker does not tell (the embedded one)
        """
        with self._answer(f"describing group {group}") as client:
            return client.group(group, self.timeout_s).members

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
        wanted = [NewTopic(s.name, s.partitions, s.replication, s.config) for s in specs]
        created, refused = [], dict[str, LapwingError]()
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
                        f"topic {name} at {self.address} has no leaders {self.timeout_s:g} s after"
                        " its creation"
                    )
                time.sleep(0.02)

    def _differences(
        self, specs: Sequence[TopicSpec]
    ) -> tuple[list[ConfigDifference], dict[str, LapwingError]]:
        """Return what differs, and the topics that nothing is told about, with why."""
        asked = [spec.name for spec in specs if spec.config]
        if not asked or self._is_embedded():
            return [], {}
        with self._answer("reading the settings of topics") as client:
            answers = client.topic_settings(asked, self.timeout_s)
        found, untold = dict[str, Mapping[str, str]](), dict[str, LapwingError]()
        for topic, answer in answers.items():
            if isinstance(answer, ClientError):
                untold[topic] = self._failure(
                    answer, f"reading the settings of topic {topic}", client
                )
            else:
                found[topic] = answer
        differences = [
            ConfigDifference(spec.name, name, wanted, found[spec.name][name])
            for spec in specs
            for name, wanted in spec.config.items()
            if name in found.get(spec.name, {}) and found[spec.name][name] != wanted
        ]
        return differences, untold

    def _partition_counts(self) -> dict[str, int]:
        """Return all topics and their partition counts; to ask for one of them may create it."""
        return {
            name: found.partitions
            for name, found in self._cluster(None).topics.items()
            if found.error is None
        }

    def _is_embedded(self) -> bool:
        if self._embedded is None:
            self._embedded = self.cluster_id().startswith(_EMBEDDED)
        return self._embedded

    def _cluster(self, topic: str | None) -> Cluster:
        try:
            return self._client.cluster(topic, self.timeout_s)
        except ClientError as error:
            raise translate(error, f"asking for the topics at {self.address}") from error

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        count = self.partitions(topic)
        if self._watcher is None:
            self._watcher = self._consumer("lapwing-admin")
        watcher, deadline = self._watcher, time.monotonic() + self.timeout_s
        found = {}
        for partition in range(count):
            try:
                found[partition] = watcher.bounds(topic, partition, _left_s(deadline))
            except ClientError as error:
                doing = f"asking where {topic}[{partition}] ends at {self.address}"
                raise translate(error, doing) from error
        return found

    def _consumer(self, group: str) -> Consumer:
        required = {
            "group.id": group,
            "enable.auto.commit": "false",
            "isolation.level": "read_committed",
        }
        config = client_config(self._settings, "consumer", required=required)
        return self._engine.consumer(config, log_complaint)

    def _connect(self) -> AdminClient:
        return self._engine.admin(client_config(self._settings, "admin"))

    @contextmanager
    def _answer(self, doing: str) -> Iterator[AdminClient]:
        """Hand out the client for a call that its controller or a coordinator answers."""
        client = self._client
        try:
            yield client
        except ClientError as error:
            raise self._failure(error, doing, client) from error

    def _failure(self, error: ClientError, doing: str, client: AdminClient) -> LapwingError:
        failure = translate(error, f"{doing} at {self.address}")
        if failure.retriable and self._client is client:
            # This one goes on waiting for the controller that it knows, and asks nobody whether
            # there is another by now. Whoever else still waits for an answer of it holds it, so
            # nothing is destroyed under its hands.
            self._client = self._connect()
        return failure


def topic_bounds(settings: Settings, topic: str) -> tuple[dict[int, int], dict[int, int]]:
    """Ask once where the partitions of a topic begin and end; see ``Admin.bounds``.

    raises : TopicMismatch when there is no such topic, TransportError
    """
    admin = Admin(settings)
    try:
        return admin.bounds(topic)
    finally:
        admin.close()


def _wrong_counts(specs: Sequence[TopicSpec], found: Mapping[str, int]) -> dict[str, LapwingError]:
    return {
        spec.name: wrong_count(spec, found[spec.name])
        for spec in specs
        if spec.exact and found.get(spec.name, spec.partitions) != spec.partitions
    }


def _left_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
