"""Creation (``ensure``) and description (``describe``) of topics and schemas.

Invariant: missing topics and schemas are created and existing ones never change, so both are safe
to run at any time and repeatedly. The input's subject belongs to the producer of the input: this
module neither registers schemas in it nor sets its level.
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
from shared.kernels.units import HOUR_MS
from shared.registry import Registry
from shared.settings import Settings

FULL = "FULL"
"""Compatibility level of the result subjects, because readers may have any version."""


@dataclass(frozen=True, slots=True)
class Ensured:
    """Result of ``ensure``; schemas are {subject: id}.

    missing    : topics that do not exist and were not created, because of a refusal
    left_alone : topics and subjects that belong to others, or differ from Lapwing's, with the cause
    refused    : what Lapwing needs and did not get, with the error
    """

    created: tuple[str, ...] = ()
    existing: tuple[str, ...] = ()
    differences: tuple[ConfigDifference, ...] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)
    left_alone: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, LapwingError] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def checked(self) -> Ensured:
        """Return itself; raise the first refusal, if any."""
        for error in self.refused.values():
            raise error
        return self

    @property
    def exit_code(self) -> int:
        """0 if everything that Lapwing needs exists; 2 if a setting is wrong; else 1."""
        return max((error.exit_code for error in self.refused.values()), default=0)

    @property
    def document(self) -> dict[str, Any]:
        """The result as a JSON document."""
        topics = {
            "created": self.created,
            "existing": self.existing,
            "missing": self.missing,
            "differences": [asdict(difference) for difference in self.differences],
        }
        refused = {part: str(error) for part, error in self.refused.items()}
        return topics | {
            "schemas": dict(self.schemas),
            "left_alone": dict(self.left_alone),
            "refused": refused,
        }


def input_subject(settings: Settings) -> str:
    """Return the subject of the input's schemas, which belongs to the input's producer."""
    return f"{settings.topics.input}-value"


def result_subjects(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (subject, schema name, compatibility level) of the results; none in JSON."""
    if settings.output.is_json:
        return []
    topics = settings.topics
    return [
        (f"{topics.scores}-value", schemas.SCORE_EVENT, FULL),
        (f"{topics.anomalies}-value", schemas.ANOMALY_EVENT, FULL),
        (f"{topics.activations}-value", schemas.MODEL_ACTIVATION, FULL),
        (f"{topics.incidents}-value", schemas.INCIDENT, FULL),
        (f"{topics.feedback}-value", schemas.FEEDBACK, FULL),
    ]


def ensure(settings: Settings, *, schemas_only: bool = False) -> Ensured:
    """Create the topics and register the schemas that are missing.

    Nothing is created or registered if the registry does not answer or a topic has a wrong number
    of partitions. Any other refusal is part of the result, and the rest is still created. Without
    any record in Avro the registry is not asked.
    """
    registry = Registry(settings.registry)
    unanswered = dict[str, LapwingError]()
    if settings.needs_registry:
        try:
            registry.subjects()
        except LapwingError as error:
            unanswered["registry"] = error
    made = Ensured() if schemas_only else _ensure_topics(settings, create=not unanswered)
    made = replace(made, refused={**made.refused, **unanswered})
    if any(isinstance(error, TopicMismatch) for error in made.refused.values()) or unanswered:
        return made
    return _ensure_schemas(settings, registry, made) if settings.needs_registry else made


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
            left_alone[subject] = f"its compatibility level is {found}, Lapwing would set {level}"
    else:
        left_alone[input_subject(settings)] = _input_subject_state(settings, registry)
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
        topic: f"it has {found} partitions, a new topic would have {wanted}; both work"
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
        f"{error}; Lapwing writes {topic} itself: if the subject belongs to another program, set"
        " another dataset (topics.dataset); otherwise delete the subject, or set its level to NONE"
        " while you run this again"
    )


def _input_subject_state(settings: Settings, registry: Registry) -> str:
    subject = input_subject(settings)
    owner = "it belongs to the producer of the input"
    try:
        versions = registry.versions(subject)
        if not versions:
            return (
                f"{owner}; it has no schema yet"
                " (`lapwing produce` registers its own when it writes)"
            )
        count = f"{len(versions)} version{'' if len(versions) == 1 else 's'}"
        level = registry.level(subject)
        return f"{owner}; it has {count} at level {level} (`lapwing inspect` shows how it is read)"
    except LapwingError as error:
        return f"{owner}; {error}"


def ensure_all(settings: Settings, *, schemas_only: bool, as_json: bool) -> int:
    """Run ``ensure`` and print the result; return the exit code."""
    done = ensure(settings, schemas_only=schemas_only)
    if as_json:
        _print(json.dumps(done.document))
    else:
        _print_result(done, settings)
    for error in done.refused.values():
        print(f"lapwing: {error}", file=sys.stderr)  # noqa: T201
    return done.exit_code


def _print_result(done: Ensured, settings: Settings) -> None:
    for topic in done.created:
        _print(f"created   {topic}")
    for topic in done.existing:
        _print(f"exists    {topic}")
    for topic in done.missing:
        _print(f"missing   {topic}: not created, because of a refusal")
    for difference in done.differences:
        text = describe_difference(difference, settings.topics.input)
        _print(f"differs   {text}; nothing was changed")
    for subject, number in done.schemas.items():
        _print(f"schema    {subject} has id {number}")
    for part, why in done.left_alone.items():
        _print(f"left      {part}: {why}; nothing was changed")
    for part in done.refused:
        _print(f"refused   {part}")


def describe_difference(difference: ConfigDifference, input_topic: str) -> str:
    """Describe a difference; for a shorter retention of the input, also when it matters."""
    found, wanted = difference.found, difference.wanted
    text = f"{difference.topic}: {difference.name} is {found}, the settings say {wanted}"
    is_retention = difference.topic == input_topic and difference.name == "retention.ms"
    if not is_retention or not found.isdigit() or int(found) > int(wanted):
        return text
    return f"{text}; this works unless predictors are down for more than {_days(int(found))}"


def _days(duration_ms: int) -> str:
    """Format a duration in days, a short one in hours."""
    hours = duration_ms / HOUR_MS
    return f"{hours / 24:.3g} days" if hours > 48 else f"{hours:.3g} hours"


def describe_all(settings: Settings, *, as_json: bool) -> None:
    """Print partitions, offsets, unread records and schemas of each topic.

    raises : TopicMismatch if a topic is missing, TransportError if the broker does not answer
    """
    from rich.console import Console
    from rich.table import Table

    rows = describe(settings)
    if as_json:
        _print(json.dumps([asdict(row) for row in rows]))
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
    _print("offsets: records, plus one marker per transaction")
    for problem in dict.fromkeys(
        row.subject.problem for row in rows if row.subject and row.subject.problem
    ):
        _print(f"schemas: {problem}")


@dataclass(frozen=True, slots=True)
class SubjectState:
    """The state of a subject.

    record  : name of its newest record; empty if there is none
    level   : compatibility level that applies; empty if the subject does not exist
    problem : why the state is unknown; empty if it is known
    """

    subject: str
    versions: tuple[int, ...] = ()
    record: str = ""
    level: str = ""
    problem: str = ""

    @property
    def text(self) -> str:
        """A short text."""
        if self.problem:
            return "unknown"
        if not self.versions:
            return "none"
        return f"{self.record or 'no Avro record'}, version {self.versions[-1]}, {self.level}"


@dataclass(frozen=True, slots=True)
class TopicState:
    """The state of a topic.

    records       : end offsets minus first offsets; includes transaction markers
    first_offsets : first offset of each partition, by its number
    unread        : offsets that the prediction group has not committed; None except for the input
    subject       : subject of the values; None for dead letters, which have the input's schemas,
                    and for records in JSON
    """

    topic: str
    partitions: int
    records: int
    first_offsets: tuple[int, ...]
    end_offsets: tuple[int, ...]
    unread: int | None
    subject: SubjectState | None = None


def describe(settings: Settings) -> list[TopicState]:
    """Return the state of every topic and its subject.

    raises : TopicMismatch if a topic is missing, TransportError if the broker does not answer
    """
    admin, topics = Admin(settings), settings.topics
    of_results = [subject for subject, _, _ in result_subjects(settings)]
    of_input = [input_subject(settings)] if settings.input.format == "avro" else []
    subjects = describe_subjects(Registry(settings.registry), [*of_input, *of_results])
    try:
        found = []
        for spec in topic_specs(settings):
            first, end = admin.bounds(spec.name)
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
    """Return the state of subjects; after one unanswered call the registry is not called again."""
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


def _print(text: str) -> None:
    print(text)  # noqa: T201 - this is the command's output
