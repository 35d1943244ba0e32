"""Builds the incident loop with its real dependencies and runs it until SIGTERM.

Invariant: wiring only; what an incident is, is decided in ``shared.incidents``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

import schemas
from lapwing.incidents.incident_loop import Dependencies, IncidentLoop, Topics
from lapwing.incidents.incident_records import AnomalyRecords
from shared.errors import GuardError, ProducerFenced
from shared.incidents.grouping import Rules
from shared.incidents.incident import Incident
from shared.incidents.incident_topic import newest_records, restored
from shared.kafka import (
    Admin,
    AtLeastOnceSink,
    GroupSource,
    Reader,
    TransactionalSink,
    topic_specs,
    wrong_count,
)
from shared.operations.counters import Counters
from shared.operations.health import LoopHealth
from shared.operations.retry import Outage, Retry
from shared.operations.telemetry import TelemetryServer
from shared.ports import Sink
from shared.registry import Registry
from shared.settings import Settings

log = structlog.get_logger()

SETTLE_S = 5.0
"""Time without an error after which an outage is over."""


def run(settings: Settings, counters: Counters, stopping: Callable[[], bool]) -> None:
    """Fold the anomalies topic into incidents until a request to stop.

    raises : LapwingError
    """
    try:
        _run(settings, counters, stopping)
    except GuardError as error:
        log.error("stopped by a guard", guard=type(error).__name__, because=str(error))
        raise
    except ProducerFenced as error:
        why = (
            f"another process of group {settings.incidents.group} has taken over the anomalies"
            " topic; start this one again to have it on standby"
        )
        log.error("fenced by another incidents service", because=why)
        raise ProducerFenced(f"{why} ({error})") from error


def _run(settings: Settings, counters: Counters, stopping: Callable[[], bool]) -> None:
    health = LoopHealth()
    with TelemetryServer(settings.telemetry, counters, health):
        outage = Outage(settings.outage_deadline_s, counters, health=health, settle_s=SETTLE_S)
        retry = Retry(outage, stopping)
        broker = f"the broker at {settings.bootstrap}"
        registry = Registry(settings.registry)
        admin = Admin(settings)
        topics = retry(lambda: topics_of(settings, admin), broker)
        schema_id = None
        if not settings.output.is_json:
            schema_id = retry(
                lambda: registry.lookup(
                    f"{settings.topics.incidents}-value", schemas.text(schemas.INCIDENT)
                ),
                f"the registry at {registry.address}",
            )
        admin.close()
        if topics is None or (schema_id is None and not settings.output.is_json):
            return
        source = GroupSource(
            settings,
            settings.incidents.group,
            settings.topics.anomalies,
            instance_id=f"{settings.incidents.group}-{settings.slot}" if settings.slot else None,
        )
        dependencies = Dependencies(
            source=source,
            open_sink=partial(_open_sink, settings, source),
            read_state=partial(read_state, settings, registry),
            records=AnomalyRecords(registry.schema, counters),
            sleep=time.sleep,
        )
        rules = Rules.of(settings.incidents)
        loop = IncidentLoop(dependencies, topics, rules, schema_id, counters, outage)
        health.loop = loop
        log.info(
            "folding incidents",
            topic=topics.anomalies,
            to=topics.incidents,
            delivery=settings.predict.delivery,
        )
        loop.run(stopping)
    log.info("shut down cleanly")


def topics_of(settings: Settings, admin: Admin) -> Topics:
    """Return the two topics with their ids.

    raises : TopicMismatch when one is missing or has more than one partition, TransportError
    """
    specs = {spec.name: spec for spec in topic_specs(settings)}
    ids = {}
    anomalies, incidents = settings.topics.anomalies, settings.topics.incidents
    for name in (anomalies, incidents):
        found = admin.identity(name)
        if found.partitions != 1:
            raise wrong_count(specs[name], found.partitions)
        ids[name] = found.topic_id
    return Topics(anomalies, incidents, ids[anomalies], ids[incidents], settings.incidents.group)


def read_state(settings: Settings, registry: Registry) -> list[Incident]:
    """Read the incidents back from their topic.

    raises : LapwingError
    """
    topic = settings.topics.incidents
    records = newest_records(Reader(settings).read(topic), registry.schema)
    return restored(records, topic)


def _open_sink(settings: Settings, source: GroupSource) -> Sink:
    if settings.predict.delivery == "at-least-once":
        return AtLeastOnceSink(settings, source)
    return TransactionalSink(settings, settings.incidents.group, source)
