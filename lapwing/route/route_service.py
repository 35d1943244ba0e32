"""Builds the route loop with its real dependencies and runs it until SIGTERM.

Invariant: wiring only; what a row becomes is decided in ``row_router``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from lapwing.route.formats.choice import open_row_decoder
from lapwing.route.route_loop import RouteDependencies, RouteLoop, RouteTopics
from lapwing.route.row_records import long_schema, wide_schema
from lapwing.route.row_router import RouteRules, RowRouter
from shared.errors import ConfigError, GuardError, ProducerFenced
from shared.kafka import (
    Admin,
    AtLeastOnceSink,
    GroupSource,
    TransactionalSink,
    source_limit_bytes,
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


class RouteSchemas:
    """Registers the schemas of events under the input's subject; each once.

    ``lapwing route`` writes the input, so its schemas are its own to register.
    """

    def __init__(self, settings: Settings, registry: Registry, rules: RouteRules) -> None:
        self._subject = f"{settings.topics.input}-value"
        self._registry = registry
        self._rules = rules

    def __call__(self, metrics: Sequence[str]) -> int:
        """Return the id of the schema of these metrics, of long form where there are none.

        raises : SchemaRefused, ConfigError, TransportError
        """
        rules = self._rules
        text = (
            wide_schema(rules.entity_field, metrics)
            if metrics
            else long_schema(rules.entity_field, rules.metric_field, rules.value_field)
        )
        return self._registry.register(self._subject, text, "BACKWARD")


def run(settings: Settings, counters: Counters, stopping: Callable[[], bool]) -> None:
    """Route rows until a request to stop.

    raises : LapwingError; ConfigError without a source
    """
    check_source(settings)
    router = router_of(settings)
    try:
        _run(settings, router, counters, stopping)
    except GuardError as error:
        log.error("stopped by a guard", guard=type(error).__name__, because=str(error))
        raise
    except ProducerFenced as error:
        why = (
            f"another process of group {settings.route.group} has the same slot"
            f" {settings.slot!r}, so this one stops: each needs its own (--slot, LAPWING_SLOT)"
        )
        log.error("fenced by another route service", because=why)
        raise ProducerFenced(f"{why} ({error})") from error


def check_source(settings: Settings) -> None:
    """Check the names of topics; raises ConfigError."""
    route, topics = settings.route, settings.topics
    if not route.source:
        raise ConfigError(
            "route.source (LAPWING_ROUTE__SOURCE, --source) is empty: name the topic to read"
        )
    if route.source in (topics.input, route.dead_letters) or route.dead_letters == topics.input:
        raise ConfigError(
            f"route.source is {route.source}, route.dead_letters {route.dead_letters} and"
            f" topics.input {topics.input}: these are three topics"
        )


def router_of(settings: Settings) -> RowRouter:
    """Return the router of the settings, which registers schemas; raises ConfigError."""
    rules = RouteRules.of(settings)
    schema_id = RouteSchemas(settings, Registry(settings.registry), rules)
    return RowRouter(open_row_decoder(settings.route), rules, schema_id)


def _run(
    settings: Settings, router: RowRouter, counters: Counters, stopping: Callable[[], bool]
) -> None:
    health = LoopHealth()
    with TelemetryServer(settings.telemetry, counters, health):
        outage = Outage(settings.outage_deadline_s, counters, health=health, settle_s=SETTLE_S)
        retry = Retry(outage, stopping)
        broker = f"the broker at {settings.bootstrap}"
        admin = Admin(settings)
        topics = retry(lambda: topics_of(settings, admin), broker)
        admin.close()
        if topics is None:
            return
        route = settings.route
        source = GroupSource(
            settings,
            route.group,
            route.source,
            instance_id=f"{route.group}-{settings.slot}" if settings.slot else None,
        )
        dependencies = RouteDependencies(
            source, partial(_open_sink, settings, source), router, time.monotonic, time.sleep
        )
        loop = retry(
            lambda: RouteLoop(
                dependencies, topics, route.commit_interval_ms / 1000, counters, outage
            ),
            broker,
        )
        if loop is None:
            return
        health.loop = loop
        log.info(
            "routing",
            topic=topics.source,
            to=topics.target,
            format=route.format,
            entity=route.entity,
            delivery=settings.predict.delivery,
        )
        loop.run(stopping)
    log.info("shut down cleanly")


def topics_of(settings: Settings, admin: Admin) -> RouteTopics:
    """Return the topics with the source's id.

    raises : TopicMismatch when one is missing, or the input has another number of partitions than
             topics.partitions; TransportError
    """
    route, topics = settings.route, settings.topics
    found = admin.partitions(topics.input)
    if found != topics.partitions:
        raise wrong_count(topic_specs(settings)[0], found)
    admin.partitions(route.dead_letters)
    return RouteTopics(
        route.source,
        topics.input,
        route.dead_letters,
        admin.identity(route.source).topic_id,
        route.group,
        source_limit_bytes(settings),
    )


def _open_sink(settings: Settings, source: GroupSource) -> Sink:
    if settings.predict.delivery == "at-least-once":
        return AtLeastOnceSink(settings, source)
    identity = settings.slot or f"{socket.gethostname()}-{os.getpid()}"
    return TransactionalSink(settings, f"{settings.route.group}-{identity}", source)
