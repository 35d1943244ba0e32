"""Topics and schemas as they should be (``ensure``) and as they are (``describe``).

Law: what is missing is made and what exists is never altered, so both may be run at any time, by anybody, twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import schemas
from shared.kafka import Admin, ConfigDifference, topic_specs
from shared.registry import Registry
from shared.settings import Settings

BACKWARD, FULL = "BACKWARD", "FULL"


@dataclass(frozen=True, slots=True)
class Ensured:
    """What ``ensure`` did; schemas are {subject: id}."""

    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    differences: tuple[ConfigDifference, ...] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)


def subjects(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (subject, schema name, compatibility) of every subject: BACKWARD for the input, FULL for what others read."""
    topics = settings.topics
    return [
        (f"{topics.input}-value", schemas.METRIC_EVENT, BACKWARD),
        (f"{topics.scores}-value", schemas.SCORE_EVENT, FULL),
        (f"{topics.anomalies}-value", schemas.ANOMALY_EVENT, FULL),
        (f"{topics.activations}-value", schemas.MODEL_ACTIVATION, FULL),
    ]


def ensure(settings: Settings, *, schemas_only: bool = False) -> Ensured:
    """Create the topics and register the schemas that are missing.

    raises : TopicMismatch for a topic with another partition count, ConfigError for a schema that the registry refuses,
             TransportError
    """
    made = Ensured() if schemas_only else _topics(settings)
    registry = Registry(settings.registry)
    ids = {subject: registry.register(subject, schemas.text(name), level) for subject, name, level in subjects(settings)}
    return Ensured(made.created, made.existing, made.differences, ids)


def _topics(settings: Settings) -> Ensured:
    admin = Admin(settings)
    try:
        report = admin.ensure_topics(topic_specs(settings))
    finally:
        admin.close()
    return Ensured(report.created, report.existing, report.differences)


def ensure_all(settings: Settings, *, schemas_only: bool, as_json: bool) -> None:
    """Do ``ensure`` and say what was done."""
    done = ensure(settings, schemas_only=schemas_only)
    if as_json:
        _say(json.dumps(asdict(done)))
        return
    for topic in done.created:
        _say(f"created   {topic}")
    for topic in done.existing:
        _say(f"exists    {topic}")
    for one in done.differences:
        _say(f"differs   {one.topic}: {one.name} is {one.found}, the settings say {one.wanted}; nothing was changed")
    for subject, number in done.schemas.items():
        _say(f"schema    {subject} has id {number}")


def describe_all(settings: Settings, *, as_json: bool) -> None:
    """Say what is there: partitions, records and group position of each topic.

    raises : TopicMismatch when a topic is missing, TransportError
    """
    from rich.console import Console
    from rich.table import Table

    rows = describe(settings)
    if as_json:
        _say(json.dumps([asdict(row) for row in rows]))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("topic", no_wrap=True, overflow="ignore")
    for name in ("partitions", "records", "unread"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.topic, str(row.partitions), f"{row.records:,}", "" if row.unread is None else f"{row.unread:,}")
    Console(width=max(80, 50 + max(len(row.topic) for row in rows))).print(table)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is.

    records       : end offsets minus first offsets; on a topic with transactions their markers are counted too
    first_offsets : of each partition, by its number
    unread        : what the prediction group has not committed; None but for the input
    """

    topic: str
    partitions: int
    records: int
    first_offsets: tuple[int, ...]
    end_offsets: tuple[int, ...]
    unread: int | None


def describe(settings: Settings) -> list[TopicState]:
    """Ask the broker about every topic.

    raises : TopicMismatch when one is missing, TransportError
    """
    admin = Admin(settings)
    try:
        found = []
        for spec in topic_specs(settings):
            first, end = admin.start_offsets(spec.name), admin.end_offsets(spec.name)
            lag = admin.lag(settings.predict.group, spec.name) if spec.name == settings.topics.input else None
            lows, highs = (tuple(offsets[p] for p in sorted(offsets)) for offsets in (first, end))
            unread = None if lag is None else sum(lag.values())
            found.append(TopicState(spec.name, len(highs), sum(highs) - sum(lows), lows, highs, unread))
        return found
    finally:
        admin.close()


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this is the command's output
