"""Checks of the broker, the topics and the consumer group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from lapwing.doctor.findings import Finding, count
from shared.batch import Position
from shared.errors import LapwingError, TopicMismatch, TransportError
from shared.kafka import topic_specs, unused_session_timeout, wrong_count
from shared.settings import Settings


class Cluster(Protocol):
    """A Kafka cluster."""

    def cluster_id(self) -> str:
        """Return the cluster's id."""
        ...

    def partitions(self, topic: str) -> int:
        """Return the partition count; raises TopicMismatch if the topic is missing."""
        ...

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Return the first and the last stable offset of each partition."""
        ...

    def end_offsets(self, topic: str) -> Mapping[int, int]:
        """Return the last stable offset of each partition."""
        ...

    def committed(self, group: str, topic: str) -> Mapping[int, Position]:
        """Return a group's committed positions; partitions without one are left out."""
        ...

    def lag(self, group: str, topic: str) -> Mapping[int, int]:
        """Return a group's lag in each partition."""
        ...

    def members(self, group: str) -> int | None:
        """Return a group's number of members; None if the broker does not return it."""
        ...


def check_broker(settings: Settings, cluster: Cluster) -> Finding:
    """Check that the broker answers."""
    try:
        name = cluster.cluster_id()
    except LapwingError as error:
        remedy = (
            f"start Kafka, or set KAFKA_BOOTSTRAP_SERVERS (now {settings.bootstrap}); "
            "with TLS or SASL, set LAPWING_KAFKA__SECURITY_PROTOCOL and related settings"
        )
        return Finding("broker", "failed", str(error), remedy)
    message = f"{settings.bootstrap} answers, cluster {name or 'without an id'}"
    return Finding("broker", "ok", message)


def check_topics(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    """Compare topics and their partitions with the settings, then check the group."""
    missing, wrong, other, remedies = [], [], [], dict[str, None]()
    for spec in topic_specs(settings):
        try:
            found = cluster.partitions(spec.name)
        except TopicMismatch:
            missing.append(spec.name)
            continue
        except TransportError as error:
            wrong.append(str(error))
            remedies["run this again when the broker answers"] = None
            continue
        if found != spec.partitions and spec.exact:
            message, _, remedy = str(wrong_count(spec, found)).partition(": ")
            wrong.append(message)
            remedies[remedy] = None
        elif found != spec.partitions:
            other.append(f"; {spec.name} has {found}, which works")
    if missing:
        wrong.append(f"missing: {', '.join(missing)}")
        remedies["lapwing topics ensure"] = None
    if wrong:
        yield Finding("topics", "failed", "; ".join(wrong), "; then ".join(remedies))
    else:
        all_there = f"all {len(topic_specs(settings))} exist"
        message = f"{all_there}, {settings.topics.partitions} partitions{''.join(other)}"
        yield Finding("topics", "ok", message)
    if missing:
        yield Finding("group", "skipped", "needs the topics")
    else:
        yield check_group(settings, cluster)


def check_group(settings: Settings, cluster: Cluster) -> Finding:
    """Count the predictors and their unread records."""
    group, topic = settings.predict.group, settings.topics.input
    try:
        members, behind, partitions = (
            cluster.members(group),
            sum(cluster.lag(group, topic).values()),
            cluster.partitions(topic),
        )
    except LapwingError as error:
        remedy = f"inspect consumer group {group} with Kafka's own tools"
        return Finding("group", "warning", str(error), remedy)
    message = f"{group}: {count(members, 'predictor')}, {behind:,} records behind"
    if members is not None and members > partitions:
        remedy = (
            f"stop {members - partitions}, or create the next dataset with more partitions:"
            f" {topic} has"
            f" {partitions}"
        )
        return Finding(
            "group", "warning", f"{message}; {members - partitions} of them idle", remedy
        )
    if unused := unused_session_timeout(settings):
        message = f"{message}; {unused}"
    if members == 0:
        return Finding("group", "warning", message, "lapwing predict")
    return Finding("group", "ok", message)
