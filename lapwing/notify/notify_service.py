"""Builds the notify loop with its real dependencies and runs it until SIGTERM.

Invariant: wiring only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

import structlog

from lapwing.notify.apprise_receiver import AppriseReceiver
from lapwing.notify.delivery import Delivery, Done
from lapwing.notify.notify_loop import Dependencies, NotifyLoop, Target
from lapwing.notify.receivers import Receiver, receiver_of
from shared.batch import Blob, Outgoing
from shared.encode.results import Schema, decode_result
from shared.errors import ConfigError, GuardError, TransportError
from shared.incidents.incident_topic import newest_records
from shared.kafka import Admin, GroupSource, Publisher, Reader, topic_specs, wrong_count
from shared.notices.bodies import webhook_body
from shared.notices.hours import Hours
from shared.notices.notice import EntityFilter, LabelsOf, Route, Silence
from shared.operations.counters import Counters
from shared.operations.health import LoopHealth
from shared.operations.retry import Outage, Retry
from shared.operations.telemetry import TelemetryServer
from shared.registry import Registry
from shared.settings import NotifySettings, Settings, TargetSettings

log = structlog.get_logger()

SETTLE_S = 5.0
KEEP_S = 10.0
"""Longest wait for the acknowledgement of an unsent notice."""


def run(settings: Settings, counters: Counters, stopping: Callable[[], bool]) -> None:
    """Send notices about incidents until a request to stop.

    raises : LapwingError; ConfigError without any target
    """
    if not settings.notify.targets:
        raise ConfigError(
            "notify.targets (LAPWING_NOTIFY__TARGETS) is empty: name at least one receiver, see"
            " docs/notify.md"
        )
    try:
        _run(settings, counters, stopping)
    except GuardError as error:
        log.error("stopped by a guard", guard=type(error).__name__, because=str(error))
        raise
    log.info("shut down cleanly")


def _run(settings: Settings, counters: Counters, stopping: Callable[[], bool]) -> None:
    health = LoopHealth()
    with TelemetryServer(settings.telemetry, counters, health):
        outage = Outage(settings.outage_deadline_s, counters, health=health, settle_s=SETTLE_S)
        retry = Retry(outage, stopping)
        admin = Admin(settings)
        topic_id = retry(lambda: _checked(settings, admin), f"the broker at {settings.bootstrap}")
        if topic_id is None:
            return
        source = GroupSource(
            settings,
            settings.notify.group,
            settings.topics.incidents,
            instance_id=f"{settings.notify.group}-{settings.slot}" if settings.slot else None,
        )
        schema = Registry(settings.registry).schema
        publisher = Publisher(settings)
        done: SimpleQueue[Done] = SimpleQueue()
        dependencies = Dependencies(
            source=source,
            commit=source.commit,
            read_state=partial(_read_state, settings, admin, schema),
            decode=lambda value: decode_result(value, schema),
            keep=partial(_keep, publisher, settings.topics.unsent),
            clock=time.monotonic,
            now_s=time.time,
            sleep=time.sleep,
            topic_id=topic_id,
        )
        loop = NotifyLoop(
            dependencies,
            targets_of(settings.notify, done, settings.incidents.labels_of),
            done,
            silences_of(settings.notify, settings.incidents.labels_of),
            settings.notify.hold_hours * 900,
            counters,
            outage,
        )
        health.loop = loop
        log.info("notifying", topic=settings.topics.incidents, targets=list(loop.targets))
        try:
            loop.run(stopping)
        finally:
            publisher.close()
            admin.close()


def targets_of(
    settings: NotifySettings,
    done: SimpleQueue[Done],
    labels_of: LabelsOf = lambda _: {},
    now_s: Callable[[], float] = time.time,
) -> dict[str, Target]:
    """Return the targets with their deliveries.

    labels_of : labels of an entity
    now_s     : seconds since 1970 UTC, for hours
    raises    : ConfigError for a target of kind apprise that cannot work
    """
    hold_ms = round(settings.hold_hours * 3_600_000)
    targets = {}
    for name, target in settings.targets.items():
        route = route_of(settings, target, labels_of)
        delivery = Delivery(
            name,
            _receiver(name, target, settings.timeout_s, hold_ms, labels_of),
            done,
            per_minute=settings.max_per_minute,
            give_up_after_s=settings.give_up_after_s,
            is_held=partial(_is_held, route, now_s),
        )
        targets[name] = Target(delivery, route, target.kind == "alertmanager")
    return targets


def _receiver(
    name: str, target: TargetSettings, timeout_s: float, hold_ms: int, labels_of: LabelsOf
) -> Receiver:
    if target.kind == "apprise":
        return AppriseReceiver(name, target, timeout_s, labels_of)
    return receiver_of(target, timeout_s, hold_ms, labels_of)


def _is_held(route: Route, now_s: Callable[[], float]) -> bool:
    return route.is_held(now_s())


def route_of(settings: NotifySettings, target: TargetSettings, labels_of: LabelsOf) -> Route:
    """Return what a target gets, and when."""
    hours = None
    if target.hours:
        inverted = target.hours != target.hours_name
        hours = Hours.of(settings.hours[target.hours_name], inverted=inverted)
    entities = _filter(target.entities, target.labels, labels_of)
    return Route(target.min_severity, entities, hours, target.outside_hours == "hold")


def _filter(name: str, labels: Mapping[str, str], labels_of: LabelsOf) -> EntityFilter:
    patterns = {label: re.compile(pattern) for label, pattern in labels.items()}
    return EntityFilter(re.compile(name), patterns, labels_of)


def silences_of(settings: NotifySettings, labels_of: LabelsOf = lambda _: {}) -> list[Silence]:
    """Return the silences; labels_of = labels of an entity."""
    return [
        Silence(
            _filter(one.entities, one.labels, labels_of),
            one.metric,
            None if one.start is None else one.start.timestamp(),
            None if one.end is None else one.end.timestamp(),
        )
        for one in settings.silences
    ]


def _checked(settings: Settings, admin: Admin) -> str:
    """Check the topics; return the incidents topic's id; raises TopicMismatch, TransportError."""
    specs = {spec.name: spec for spec in topic_specs(settings)}
    for name in (settings.topics.incidents, settings.topics.unsent):
        if (found := admin.partitions(name)) != 1:
            raise wrong_count(specs[name], found)
    return admin.identity(settings.topics.incidents).topic_id


def _read_state(
    settings: Settings, admin: Admin, schema: Schema
) -> tuple[dict[str, Mapping[str, Any]], int]:
    topic = settings.topics.incidents
    end = admin.end_offsets(topic)[0]
    return newest_records(Reader(settings).read(topic, end={0: end}), schema), end


def _keep(publisher: Publisher, topic: str, done: Done) -> None:
    """Write a notice that could not be sent; raises TransportError."""
    notice = done.item.notice
    headers = {
        "lapwing.notice.target": done.target,
        "lapwing.notice.key": notice.key,
        "lapwing.notice.reason": done.why,
    }
    publisher.send(
        Outgoing(
            topic,
            Blob.join([webhook_body(notice, "json")]),
            Blob.join([str(notice.record["incident_id"]).encode()]),
            {0: [(name, text.encode()) for name, text in headers.items()]},
        )
    )
    if publisher.flush(KEEP_S):
        raise TransportError(f"{topic} has not acknowledged an unsent notice for {KEEP_S:g} s")
