"""Builds the prediction loop with its real dependencies and runs it until SIGTERM.

Invariant: wiring only; computations are in ``shared``, decisions in ``loop``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

import schemas
from consumer_prediction.connection import KafkaConnection
from consumer_prediction.dependencies import Dependencies
from consumer_prediction.health.guards import GuardedSource, KeyCheck, TopicWatch
from consumer_prediction.health.readiness import Readiness
from consumer_prediction.health.rejections import Rejections
from consumer_prediction.health.watchdog import Watchdog
from consumer_prediction.loop import SETTLE_S, PredictionLoop
from consumer_prediction.models import ModelVolume
from consumer_prediction.outgoing import AS_JSON, Encoder, SchemaIds
from shared.decode.field_choice import MetSchema
from shared.decode.formats import open_decoder
from shared.encode.results import decode_result
from shared.errors import GuardError, LapwingError, ProducerFenced, TransportError
from shared.events import Activation
from shared.kafka import (
    Admin,
    Reader,
    TopicIdentity,
    engine_name,
    input_limit_bytes,
    topic_bounds,
    topic_specs,
    unused_session_timeout,
    wrong_count,
)
from shared.operations.counters import Counters
from shared.operations.retry import Outage, Retry
from shared.registry import Registry
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules
from shared.settings import Settings
from shared.snapshots import SnapshotFolder, SnapshotWriter

log = structlog.get_logger()

_OF_OTHERS = ("topics.incidents", "topics.feedback", "topics.unsent", "route.dead_letters")
"""Settings of topics that only other services need."""

CHECK_TIMEOUT_S = 2.0
"""Timeout of a topic check; short, because partitions may be waiting for it."""


class ActivationLog:
    """Reads the activations of a partition from the topic that keeps them all."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._registry = Registry(settings.registry)

    def _decoded(self, topic: str, value: bytes) -> dict[str, Any]:
        try:
            return decode_result(value, self._registry.schema)
        except ValueError as error:
            raise LapwingError(f"{topic}: a record cannot be read: {error}") from error

    def __call__(self, partition: int, after: int, newest: Activation) -> list[Activation]:
        """Return the activations after an offset up to the newest one, oldest first.

        raises : TransportError when the topic does not hold the newest one yet
        """
        topic = self.settings.topics.activations
        found = [
            Activation(
                r["model_sha256"],
                r["source_offset"],
                r["model_version"],
                r["state_version"],
                r.get("settings", ""),
            )
            for r in self._records()
            if r["source_partition"] == partition and after < r["source_offset"] <= newest.offset
        ]
        if newest not in found:
            raise TransportError(
                f"{topic} does not show activation {newest.model_id} of"
                f" {topic}[{partition}]@{newest.offset} yet"
            )
        return sorted(found, key=lambda activation: activation.offset)

    def scored(self) -> dict[int, int]:
        """Return {partition: offset of the newest activation} of the partitions with results."""
        positions = [(r["source_partition"], r["source_offset"]) for r in self._records()]
        return dict(sorted(positions))

    def _records(self) -> list[dict[str, Any]]:
        """Return all activations of the group for the input topic."""
        topic = self.settings.topics.activations
        start, end = topic_bounds(self.settings, topic)
        values = [
            batch.values[row]
            for batch in Reader(self.settings).read(topic, start, end)
            for row in range(len(batch))
        ]
        own = self.settings.predict.group, self.settings.topics.input
        records = (self._decoded(topic, value) for value in values)
        return [r for r in records if (r["group"], r["source_topic"]) == own]


def run(
    settings: Settings,
    counters: Counters,
    connection: KafkaConnection,
    stopping: Callable[[], bool],
    readiness: Readiness,
) -> None:
    """Score until stopping() returns True.

    readiness : says why the service is not ready
    raises : LapwingError; the supervisor restarts the process, and a guard stops it again for as
             long as the cause remains
    """
    try:
        _run(settings, counters, connection, stopping, readiness)
    except GuardError as error:
        log.error("stopped by a guard", guard=type(error).__name__, because=str(error))
        raise
    except ProducerFenced as error:
        why = _fencing_reason(settings)
        log.error("fenced by another predictor", because=why)
        raise ProducerFenced(f"{why} ({error})") from error


def _fencing_reason(settings: Settings) -> str:
    """Describe which predictor has taken over, and the remedy."""
    group = settings.predict.group
    if not settings.slot:
        return f"another process of group {group} has taken over this one's transactions"
    return (
        f"another process runs with slot {settings.slot!r} in group {group}, so this one stops:"
        " each predictor needs its own slot (--slot, LAPWING_SLOT)"
    )


def _run(
    settings: Settings,
    counters: Counters,
    connection: KafkaConnection,
    stopping: Callable[[], bool],
    readiness: Readiness,
) -> None:
    if unused := unused_session_timeout(settings):
        log.info("session timeout", because=unused)
    outage = Outage(settings.outage_deadline_s, counters, health=readiness, settle_s=SETTLE_S)
    retry = Retry(outage, stopping)
    models = ModelVolume(
        settings.models_dir,
        settings.predict.model_poll_s,
        time.monotonic,
        counters,
        settings.models,
        settings.topics.input,
    )
    remote = _remote_facts(settings, retry)
    if remote is None:
        return
    loop = _loop(settings, counters, connection, models, remote, retry)
    if loop is None:
        return
    readiness.loop = loop
    with remote.watch:
        log.info(
            "predicting",
            topic=settings.topics.input,
            partitions=remote.topic.partitions,
            delivery=settings.predict.delivery,
            engine=engine_name(settings),
        )
        gc.freeze()
        with Watchdog(settings.outage_deadline_s, stopping) as watchdog:
            loop.run(watchdog)
    log.info("shut down cleanly")


@dataclass(frozen=True, slots=True)
class _RemoteFacts:
    """Facts from the broker and the registry, gathered before the first poll.

    topic      : identity of the input topic
    cluster_id : id of the Kafka cluster
    ids        : registry ids of the result schemas
    watch      : checks that the input is still the same topic
    """

    topic: TopicIdentity
    cluster_id: str
    ids: SchemaIds
    watch: TopicWatch


def _remote_facts(settings: Settings, retry: Retry) -> _RemoteFacts | None:
    """Ask the broker and the registry; return None after a request to stop."""
    broker = f"the broker at {settings.bootstrap}"
    registry = f"the registry at {Registry(settings.registry).address}"
    admin = Admin(settings)
    topic = retry(lambda: _checked_topic(admin, settings), broker)
    ids = retry(lambda: result_schemas(settings), registry)
    cluster_id = retry(admin.cluster_id, broker)
    if topic is None or ids is None or cluster_id is None:
        return None
    impatient = Admin(settings, timeout_s=CHECK_TIMEOUT_S)
    watch = TopicWatch(
        settings.topics.input, topic, partial(impatient.identity, settings.topics.input)
    )
    return _RemoteFacts(topic, cluster_id, ids, watch)


def _loop(
    settings: Settings,
    counters: Counters,
    connection: KafkaConnection,
    models: ModelVolume,
    remote: _RemoteFacts,
    retry: Retry,
) -> PredictionLoop | None:
    """Build the loop; return None after a request to stop."""
    topic = remote.topic
    history = ActivationLog(settings)
    registry = Registry(settings.registry)
    scored = (
        history.scored if topic.topic_id and settings.predict.delivery == "exactly-once" else None
    )
    keys = KeyCheck(settings.input.partitioner, topic.partitions)
    dependencies = Dependencies(
        source=GuardedSource(connection.source, remote.watch, keys, scored),
        open_sink=connection.sink,
        decoder=open_decoder(settings.input, registry, time.monotonic, _log_schema),
        models=models,
        history=history,
        snapshots=SnapshotWriter(
            SnapshotFolder(
                settings.state_dir,
                remote.cluster_id,
                settings.topics.input,
                topic.topic_id,
                settings.predict.group,
                settings.predict.snapshots_kept,
                settings.predict.checkpoint_days,
            )
        ),
        clock=time.monotonic,
        now_ms=lambda: time.time_ns() // 1_000_000,
        sleep=time.sleep,
    )
    rules = Rules(Configuration.from_settings(settings))
    limit_bytes = input_limit_bytes(settings)
    encoder = Encoder(settings.topics, remote.ids, settings.predict.group, limit_bytes)
    rejections = Rejections(settings.input, settings.topics, dependencies.clock)
    return retry(
        lambda: PredictionLoop(
            dependencies, rules, encoder, settings.predict, counters, retry.outage, rejections
        ),
        f"the broker at {settings.bootstrap}",
    )


def _checked_topic(admin: Admin, settings: Settings) -> TopicIdentity:
    """Return the input topic's identity.

    raises : TopicMismatch when a topic is missing or the input has another number of partitions
             than topics.partitions
    """
    specs = topic_specs(settings)
    for spec in specs[1:]:
        if spec.setting not in _OF_OTHERS:
            admin.partitions(spec.name)
    admin.partitions(settings.topics.input)
    found = admin.identity(settings.topics.input)
    if found.partitions != settings.topics.partitions:
        raise wrong_count(specs[0], found.partitions)
    return found


def _log_schema(schema: MetSchema) -> None:
    if schema.schema_id is None:
        log.info("names of a record", **schema.facts)
        return
    log.info("writer schema", schema_id=schema.schema_id, **schema.facts)
    if schema.unsupported:
        log.warning(
            "writer schema not supported", schema_id=schema.schema_id, because=schema.unsupported
        )


def result_schemas(settings: Settings) -> SchemaIds:
    """Look up the ids of the result schemas; without the registry for results in JSON.

    raises : ConfigError that says what to run, when one is not registered
    """
    if settings.output.is_json:
        return AS_JSON
    registry = Registry(settings.registry)
    topics = settings.topics
    return SchemaIds(
        score=registry.lookup(f"{topics.scores}-value", schemas.text(schemas.SCORE_EVENT)),
        anomaly=registry.lookup(f"{topics.anomalies}-value", schemas.text(schemas.ANOMALY_EVENT)),
        activation=registry.lookup(
            f"{topics.activations}-value", schemas.text(schemas.MODEL_ACTIVATION)
        ),
    )
