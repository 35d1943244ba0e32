"""Replays a stream into the input topic, as fast as schedule, consumers and broker allow.

Invariant: only records that the broker confirmed count as acknowledged; a stop flushes, and during
           an outage the replay waits and logs the cause.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from producer.loop import Destination, Maker, Monitoring, Replay
from producer.pacing import ConsumerPace, parse_groups
from producer.progress import open_progress
from producer.records import (
    ENTITY_FIELD,
    TIME_FIELD,
    JsonRecordMaker,
    RecordMaker,
    event_schema,
)
from producer.replay import Schedule, plan
from producer.sources import Source, SourceOptions, check_times, open_source
from shared.errors import ConfigError, SchemaRefused, TransportError
from shared.operations.counters import Counters
from shared.operations.health import Health
from shared.operations.retry import Outage, Retry
from shared.operations.telemetry import Logger, TelemetryServer, logger
from shared.settings import Settings
from shared.wording import second

if TYPE_CHECKING:
    from shared.kafka import Admin


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is replayed and how fast.

    start, stop, backfill : shares of the events: where to begin, where to end, and what to send at
                            full speed first
    speed                 : event seconds per second; inf = as fast as the broker accepts
    pace_groups           : ``GROUP`` or ``GROUP@TOPIC``: consumer groups whose total lag may be at
                            most pace_records
    labels                : file for the anomalies of a generated fleet
    resume                : skip as many events as the input topic has received; it must contain
                            records of this replay only
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    start: float = 0.0
    stop: float = 1.0
    backfill: float = 0.0
    speed: float = 300.0
    loop: bool = False
    pace_groups: tuple[str, ...] = ()
    pace_records: int = 20_000
    labels: Path | None = None
    resume: bool = False

    def check(self) -> None:
        """Raise ConfigError when the options contradict each other."""
        shares = {"--from": self.start, "--to": self.stop, "--backfill": self.backfill}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"{name} {share:g}: a share of the events from 0 to 1")
        if self.start > self.stop:
            raise ConfigError(f"--from {self.start:g} is greater than --to {self.stop:g}")
        if self.loop and self.stop < 1:
            raise ConfigError("--loop and --to exclude each other")
        if not self.speed > 0:
            raise ConfigError(
                f"--speed {self.speed:g}: event seconds per second, more than 0, or max"
            )
        if self.pace_records < 1:
            raise ConfigError(f"--pace-records {self.pace_records}: at least 1")


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a replay.

    produced     : number of records sent
    acknowledged : number of records that the broker confirmed
    first_event_time, last_event_time : event times of the first and last record sent
    """

    produced: int
    acknowledged: int
    entities: int
    metrics: tuple[str, ...]
    first_event_time: str | None
    last_event_time: str | None
    seconds: float
    events_per_s: float
    skipped_bad: int
    source: str
    stopped: bool

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))


def run(
    settings: Settings, options: ReplayOptions, counters: Counters, stopping: Callable[[], bool]
) -> Summary:
    """Read the series, check the topic, register the schema, and replay.

    raises : ConfigError, DataError before any connection; TopicMismatch; TransportError
    """
    log = logger()
    options.check()
    if ENTITY_FIELD not in settings.input.entity_fields:
        fields = ", ".join(settings.input.entity_fields)
        raise ConfigError(
            f"input.entity_fields is {fields}, but the replay writes the entity into the field"
            f" {ENTITY_FIELD!r}"
        )
    groups = parse_groups(options.pace_groups, settings.topics.input)
    source = open_source(options.source)
    for note in source.notes:
        log.info("series", note=note)
    for name, count in source.skipped.items():
        log.warning("bad rows skipped", file=name, rows=count)
    if options.labels is not None:
        _write_labels(options.labels, source)
    _warn_of_times(source, settings, log)
    text = event_schema(source.stream.metrics)
    if settings.input.format == "json":
        _check_readable_json(source.stream.metrics, settings, log)
    else:
        _check_readable(text, settings, log)
    health = Health()
    retry = Retry(Outage(settings.outage_deadline_s, counters, health=health), stopping)
    with TelemetryServer(settings.telemetry, counters, health):
        job = _Job(settings, options, source, groups, retry, health, counters, log)
        return _replay(job, text)


class _Job(NamedTuple):
    """One replay with everything that its steps need.

    groups : (group, topic) that the replay must not be too far ahead of
    """

    settings: Settings
    options: ReplayOptions
    source: Source
    groups: Sequence[tuple[str, str]]
    retry: Retry
    health: Health
    counters: Counters
    log: Logger


def _replay(job: _Job, schema_text: str) -> Summary:
    from shared.kafka import Admin, Publisher

    settings, source, retry = job.settings, job.source, job.retry
    admin = Admin(settings)
    retry(partial(_check_topic, admin, settings))
    schedule = _schedule(job, admin)
    maker = _maker(job, schema_text)
    publisher = Publisher(_with_message_timeout(settings), stopping=retry.stopping)
    started_s = retry.outage.clock()
    _log_begin(job, schedule)
    total = None if schedule.stop is None else schedule.stop - schedule.start
    with open_progress(job.log, total, started_s) as progress:
        replay = Replay(
            source.stream,
            schedule,
            Destination(maker, publisher, settings.bootstrap),
            ConsumerPace(job.groups, job.options.pace_records, partial(_lag, admin, retry)),
            Monitoring(retry, job.health, job.counters, progress),
        )
        gc.freeze()
        try:
            if not retry.stopping():
                replay.run()
        finally:
            seconds = retry.outage.clock() - started_s
            summary = _summary(replay, source, seconds, retry.stopping())
            publisher.close()
            admin.close()
            known = {name: value for name, value in asdict(summary).items() if value is not None}
            job.log.info("replay ends", **known)
    if summary.acknowledged < summary.produced:
        raise TransportError(
            f"{settings.bootstrap} acknowledged {summary.acknowledged} of {summary.produced}"
            " records",
            retriable=False,
        )
    return summary


def _maker(job: _Job, schema_text: str) -> Maker:
    """Return the encoder of the records; registers the schema of Avro records."""
    topic, stream = job.settings.topics.input, job.source.stream
    if job.settings.input.format == "json":
        return JsonRecordMaker(topic, stream.metrics, stream.entities)
    schema_id = job.retry(partial(_schema_id, job.settings, schema_text, job.log))
    return RecordMaker(topic, schema_id or 0, stream.entities)


def _schedule(job: _Job, admin: Admin) -> Schedule:
    """Plan what is sent; with --resume, the records in the topic count as sent."""
    options = job.options
    received: Mapping[int, int] | None = None
    if options.resume:
        received = job.retry(partial(admin.end_offsets, job.settings.topics.input))
    return plan(
        job.source.stream,
        start=options.start,
        stop=options.stop,
        backfill=options.backfill,
        speed=options.speed,
        loop=options.loop,
        sent_before=sum((received or {}).values()),
    )


def _log_begin(job: _Job, schedule: Schedule) -> None:
    stream = job.source.stream
    job.log.info(
        "replay begins",
        topic=job.settings.topics.input,
        source=job.source.name,
        entities=len(stream.entities),
        metrics=",".join(stream.metrics),
        events="endless" if schedule.stop is None else schedule.stop - schedule.start,
        from_event=schedule.start,
        speed=job.options.speed,
        first=second(int(stream.time_ms[0])),
        last=second(int(stream.time_ms[-1])),
    )


def _check_topic(admin: Admin, settings: Settings) -> None:
    from shared.kafka import topic_specs, wrong_count

    found = admin.partitions(settings.topics.input)
    if found != settings.topics.partitions:
        raise wrong_count(topic_specs(settings)[0], found)


def _schema_id(settings: Settings, text: str, log: Logger) -> int:
    """Return the id of the schema; register it if the subject does not have it.

    raises : SchemaRefused when it is incompatible with the subject's schemas; TransportError
    """
    from shared.registry import Registry

    registry, topic = Registry(settings.registry), settings.topics.input
    subject = f"{topic}-value"
    try:
        return registry.lookup(subject, text)
    except ConfigError:
        pass
    try:
        schema_id = registry.register(subject, text, "BACKWARD")
    except SchemaRefused as error:
        raise SchemaRefused(
            f"{error}. The subject has schemas of another producer, and nothing was changed: send"
            " the replay to a separate topic (topics.input, or topics.dataset for all topics), or,"
            f" if {topic} should hold both, set the subject's level to NONE",
            error.subject,
            error.level,
        ) from error
    log.info("schema registered", subject=subject, schema_id=schema_id)
    return schema_id


def _lag(admin: Admin, retry: Retry, group: str, topic: str) -> int:
    lags = retry(partial(admin.lag, group, topic))
    return sum(lags.values()) if lags else 0


def _with_message_timeout(settings: Settings) -> Settings:
    """Let the client keep records for the longest outage; by default it drops them after 5 min."""
    if {"message.timeout.ms", "delivery.timeout.ms"} & set(settings.kafka):
        return settings
    timeout_ms = min(int((settings.outage_deadline_s + 60) * 1000), 2**31 - 1)
    return settings.model_copy(
        update={"kafka": settings.kafka | {"message.timeout.ms": str(timeout_ms)}}
    )


def _write_labels(path: Path, source: Source) -> None:
    if source.labels is None:
        raise ConfigError("--labels: only a generated fleet has labels (--fleet N)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(source.labels, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(f"--labels {path}: {error.strerror or error}") from error


def _warn_of_times(source: Source, settings: Settings, log: Logger) -> None:
    outside = check_times(source, settings.input)
    if outside:
        log.warning(
            "event times out of range", events=outside,
            because="they are outside input.min_time..input.max_time and will become dead letters",
        )  # fmt: skip


def _check_readable(text: str, settings: Settings, log: Logger) -> None:
    """Warn about columns that predictors with these settings ignore.

    raises : ConfigError when they could not read any record
    """
    from shared.decode.avro.plan import compile_plan
    from shared.decode.field_choice import UnsupportedSchema

    try:
        fields = compile_plan(text, settings.input).fields
    except UnsupportedSchema as unfit:
        raise ConfigError(
            f"predictors with these settings could not read the replay's records: {unfit}; the"
            f" replay writes the entity into {ENTITY_FIELD!r} and the time into {TIME_FIELD!r}"
        ) from unfit
    if fields.left_out:
        log.warning("columns that predictors ignore", columns=fields.facts["left_out"])


def _check_readable_json(metrics: Sequence[str], settings: Settings, log: Logger) -> None:
    """Warn about columns that predictors with these settings ignore.

    raises : ConfigError when they could not read any record
    """
    from shared.decode.field_choice import UnsupportedSchema
    from shared.decode.json.choice import choose_names

    names = (ENTITY_FIELD, TIME_FIELD, *metrics)
    try:
        choice = choose_names(names, settings.input)
        if not choice.metrics:
            raise UnsupportedSchema("input.include and input.exclude leave no metric")
        if choice.time != TIME_FIELD or settings.input.time_unit != "ms":
            raise UnsupportedSchema("the replay needs input.time_unit=ms")
    except UnsupportedSchema as unfit:
        raise ConfigError(
            f"predictors with these settings could not read the replay's records: {unfit}; the"
            f" replay writes the entity into {ENTITY_FIELD!r} and the time into {TIME_FIELD!r}"
        ) from unfit
    if choice.left_out:
        ignored = ", ".join(f"{name} ({why})" for name, why in choice.left_out.items())
        log.warning("columns that predictors ignore", columns=ignored)


def _summary(replay: Replay, source: Source, seconds: float, stopped: bool) -> Summary:
    stream = replay.stream
    start = replay.schedule.start
    acknowledged = replay.sender.acknowledged
    first_event = None
    if replay.sent:
        first_event = second(int(stream.rows(start, start + 1).time_ms[0]))
    last_ms = replay.last_ms
    return Summary(
        produced=replay.sent,
        acknowledged=acknowledged,
        entities=len(stream.entities),
        metrics=stream.metrics,
        first_event_time=first_event,
        last_event_time=None if last_ms is None else second(last_ms),
        seconds=round(seconds, 3),
        events_per_s=round(acknowledged / seconds, 1) if seconds > 0 else 0.0,
        skipped_bad=sum(source.skipped.values()),
        source=source.name,
        stopped=stopped,
    )
