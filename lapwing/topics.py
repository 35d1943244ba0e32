"""Topics and schemas as they should be (``ensure``) and as they are (``describe``).

Invariant: what is missing is made and what exists is never altered, so both may be run at any time,
by anybody, twice. The input's subject belongs to whoever writes the input: nothing here registers
there or sets its level.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import schemas
from shared.decode.avro.schema import SchemaInvalid, parse_schema
from shared.errors import (
    ConfigError,
    LapwingError,
    SchemaRefused,
    TopicMismatch,
    TransportError,
)
from shared.kafka import Admin, ConfigDifference, topic_specs
from shared.registry import Registry
from shared.settings import Settings

FULL = "FULL"
"""Level of the result subjects: readers are of any version."""


@dataclass(frozen=True, slots=True)
class Ensured:
    """What ``ensure`` did; schemas are {subject: id}.

    missing    : topics that are not there and were not created, because of what was refused
    left_alone : topics and subjects that are not Lapwing's, or not as it would have made them, with
                 why
    refused    : what Lapwing needs and could not get, with the error
    """

    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    differences: tuple[ConfigDifference, ...] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)
    left_alone: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, LapwingError] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def checked(self) -> Ensured:
        """Return itself; raise what was refused first, if anything was."""
        for error in self.refused.values():
            raise error
        return self

    @property
    def exit_code(self) -> int:
        """0 where all is there that Lapwing needs; 2 where a setting is to blame, else 1."""
        return max((error.exit_code for error in self.refused.values()), default=0)

    @property
    def document(self) -> dict[str, Any]:
        """All of it, as JSON can carry it."""
        made = {
            "created": self.created,
            "existing": self.existing,
            "missing": self.missing,
            "differences": [asdict(one) for one in self.differences],
        }
        refused = {part: str(error) for part, error in self.refused.items()}
        return made | {
            "schemas": dict(self.schemas),
            "left_alone": dict(self.left_alone),
            "refused": refused,
        }


def input_subject(settings: Settings) -> str:
    """Return the subject of the input's schemas, which is not Lapwing's."""
    return f"{settings.topics.input}-value"


def result_subjects(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (subject, schema name, compatibility) of what Lapwing writes."""
    topics = settings.topics
    return [
        (f"{topics.scores}-value", schemas.SCORE_EVENT, FULL),
        (f"{topics.anomalies}-value", schemas.ANOMALY_EVENT, FULL),
        (f"{topics.activations}-value", schemas.MODEL_ACTIVATION, FULL),
    ]


def ensure(settings: Settings, *, schemas_only: bool = False) -> Ensured:
    """Create the topics and register the schemas that are missing.

    Nothing is created or registered while the registry does not answer or a topic has a partition
    count that it must not have. Any other refusal is part of the answer, and keeps nothing else
    from being made.
    """
    registry = Registry(settings.registry)
    unanswered = dict[str, LapwingError]()
    try:
        registry.subjects()
    except LapwingError as error:
        unanswered["registry"] = error
    made = Ensured() if schemas_only else _ensure_topics(settings, create=not unanswered)
    made = replace(made, refused={**made.refused, **unanswered})
    if any(isinstance(error, TopicMismatch) for error in made.refused.values()) or unanswered:
        return made
    return _ensure_schemas(settings, registry, made)


def _ensure_schemas(settings: Settings, registry: Registry, made: Ensured) -> Ensured:
    ids, left_alone, refused = dict[str, int](), dict(made.left_alone), dict(made.refused)
    for subject, name, level in result_subjects(settings):
        try:
            ids[subject] = registry.register(subject, schemas.text(name), level)
            found = registry.level(subject)
        except LapwingError as error:
            refused[subject] = _with_advice(error, subject)
            if isinstance(error, TransportError) and error.retriable:
                break
            continue
        if found != level:
            left_alone[subject] = (
                f"its compatibility level is {found}, Lapwing gives a new one {level}"
            )
    else:
        left_alone[input_subject(settings)] = _said_of_input(settings, registry)
    return replace(made, schemas=ids, left_alone=left_alone, refused=refused)


def _ensure_topics(settings: Settings, *, create: bool) -> Ensured:
    admin = Admin(settings)
    try:
        report = admin.try_topics(topic_specs(settings), create=create)
    except LapwingError as error:
        return Ensured(refused={"topics": error})
    finally:
        admin.close()
    left_alone = {
        topic: f"its settings cannot be compared: {error}"
        for topic, error in report.uncompared.items()
    }
    left_alone |= {
        topic: f"it has {found} partitions, a new one gets {wanted}; both are fine"
        for topic, (found, wanted) in report.other.items()
    }
    return Ensured(
        report.created,
        report.existing,
        report.differences,
        left_alone=left_alone,
        refused=report.refused,
        missing=report.missing,
    )


def _with_advice(error: LapwingError, subject: str) -> LapwingError:
    if not isinstance(error, SchemaRefused):
        return error
    topic = subject.removesuffix("-value")
    return ConfigError(
        f"{error}; Lapwing writes {topic} itself, so take another dataset (topics.dataset) if the"
        " subject is somebody else's, else delete it or set its level to NONE while you run this"
        " again"
    )


def _said_of_input(settings: Settings, registry: Registry) -> str:
    subject = input_subject(settings)
    owner = "it belongs to whoever writes the input"
    try:
        versions = registry.versions(subject)
        if not versions:
            return (
                f"{owner}; it has no schema yet (`lapwing produce` registers its own, and writes)"
            )
        count = f"{len(versions)} version{'' if len(versions) == 1 else 's'}"
        level = registry.level(subject)
        return f"{owner}; it has {count} at level {level} (`lapwing inspect` shows how it is read)"
    except LapwingError as error:
        return f"{owner}; {error}"


def ensure_all(settings: Settings, *, schemas_only: bool, as_json: bool) -> int:
    """Do ``ensure`` and say what was done; return the exit code."""
    done = ensure(settings, schemas_only=schemas_only)
    if as_json:
        _say(json.dumps(done.document))
    else:
        _say_done(done, settings)
    for error in done.refused.values():
        print(f"lapwing: {error}", file=sys.stderr)  # noqa: T201
    return done.exit_code


def _say_done(done: Ensured, settings: Settings) -> None:
    for topic in done.created:
        _say(f"created   {topic}")
    for topic in done.existing:
        _say(f"exists    {topic}")
    for topic in done.missing:
        _say(f"missing   {topic}: not created, because of what was refused")
    for one in done.differences:
        _say(f"differs   {said_of_difference(one, settings.topics.input)}; nothing was changed")
    for subject, number in done.schemas.items():
        _say(f"schema    {subject} has id {number}")
    for part, why in done.left_alone.items():
        _say(f"left      {part}: {why}; nothing was changed")
    for part in done.refused:
        _say(f"refused   {part}")


def said_of_difference(one: ConfigDifference, input_topic: str) -> str:
    """Say what differs; of an input that is kept for a shorter time also when that matters."""
    said = f"{one.topic}: {one.name} is {one.found}, the settings say {one.wanted}"
    is_retention = one.topic == input_topic and one.name == "retention.ms"
    if not is_retention or not one.found.isdigit() or int(one.found) > int(one.wanted):
        return said
    return (
        f"{said}; this is fine unless predictors may be down for more than {_days(int(one.found))}"
    )


def _days(duration_ms: int) -> str:
    """Write a duration in days, a short one in hours."""
    hours = duration_ms / 3_600_000
    return f"{hours / 24:.3g} days" if hours > 48 else f"{hours:.3g} hours"


def describe_all(settings: Settings, *, as_json: bool) -> None:
    """Say what is there: partitions, offsets, group position and schemas of each topic.

    raises : TopicMismatch when a topic is missing, TransportError when the broker does not answer
    """
    from rich.console import Console
    from rich.table import Table

    rows = describe(settings)
    if as_json:
        _say(json.dumps([asdict(row) for row in rows]))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("topic", no_wrap=True, overflow="ignore")
    for name in ("partitions", "offsets", "unread"):
        table.add_column(name, justify="right")
    table.add_column("schema", no_wrap=True, overflow="ignore")
    for row in rows:
        unread = "" if row.unread is None else f"{row.unread:,}"
        shown = "" if row.subject is None else row.subject.text
        table.add_row(row.topic, str(row.partitions), f"{row.records:,}", unread, shown)
    Console(width=max(80, 100 + max(len(row.topic) for row in rows))).print(table)
    _say("offsets: records and, where transactions write, a mark for each of these")
    for problem in dict.fromkeys(
        row.subject.problem for row in rows if row.subject and row.subject.problem
    ):
        _say(f"schemas: {problem}")


@dataclass(frozen=True, slots=True)
class SubjectState:
    """A subject as it is.

    record  : name of its newest record; empty where there is none
    level   : that holds for it; empty where there is no subject
    problem : why the rest is not known; empty where it is
    """

    subject: str
    versions: tuple[int, ...] = ()
    record: str = ""
    level: str = ""
    problem: str = ""

    @property
    def text(self) -> str:
        """The state in a few words."""
        if self.problem:
            return "unknown"
        if not self.versions:
            return "none"
        return f"{self.record or 'no Avro record'}, version {self.versions[-1]}, {self.level}"


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is.

    records       : end offsets minus first offsets; on a topic with transactions their markers are
                    counted too
    first_offsets : of each partition, by its number
    unread        : what the prediction group has not committed; None but for the input
    subject       : of its values; None for the dead letters, which have the schemas of the input
    """

    topic: str
    partitions: int
    records: int
    first_offsets: tuple[int, ...]
    end_offsets: tuple[int, ...]
    unread: int | None
    subject: SubjectState | None = None


def describe(settings: Settings) -> list[TopicState]:
    """Ask the broker about every topic, and the registry about every subject.

    raises : TopicMismatch when a topic is missing, TransportError when the broker does not answer
    """
    admin, topics = Admin(settings), settings.topics
    subjects = describe_subjects(
        Registry(settings.registry),
        [
            f"{topic}-value"
            for topic in (topics.input, topics.scores, topics.anomalies, topics.activations)
        ],
    )
    try:
        found = []
        for spec in topic_specs(settings):
            first, end = admin.start_offsets(spec.name), admin.end_offsets(spec.name)
            lag = (
                admin.lag(settings.predict.group, spec.name) if spec.name == topics.input else None
            )
            lows, highs = (tuple(offsets[p] for p in sorted(offsets)) for offsets in (first, end))
            unread = None if lag is None else sum(lag.values())
            subject = subjects.get(f"{spec.name}-value")
            found.append(
                TopicState(
                    spec.name, len(highs), sum(highs) - sum(lows), lows, highs, unread, subject
                )
            )
        return found
    finally:
        admin.close()


def describe_subjects(registry: Registry, subjects: Sequence[str]) -> dict[str, SubjectState]:
    """Ask the registry about subjects; once it has not answered it is not asked again."""
    found, problem = dict[str, SubjectState](), ""
    for subject in subjects:
        try:
            found[subject] = (
                SubjectState(subject, problem=problem)
                if problem
                else _subject_state(registry, subject)
            )
        except LapwingError as error:
            problem = str(error)
            found[subject] = SubjectState(subject, problem=problem)
    return found


def _subject_state(registry: Registry, subject: str) -> SubjectState:
    versions = registry.versions(subject)
    if not versions:
        return SubjectState(subject)
    try:
        newest = parse_schema(registry.latest(subject) or "")
    except SchemaInvalid:
        return SubjectState(subject, tuple(versions), "", registry.level(subject))
    return SubjectState(subject, tuple(versions), newest.name, registry.level(subject))


def _say(text: str) -> None:
    print(text)  # noqa: T201 - this is the command's output
