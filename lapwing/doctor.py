"""Looks at everything that a service needs, and says what to do about what is wrong.

Law: it changes nothing (a test file in each folder is removed again), and every failed check comes with a next step.
"""

from __future__ import annotations

import email.utils
import json
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import schemas
from lapwing.inspect.command import inspect_topic
from lapwing.inspect.reading import Inspection
from lapwing.topics import result_subjects
from shared import artifacts
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError, LapwingError, TopicMismatch, TransportError
from shared.kafka import Admin, topic_specs
from shared.registry import Registry
from shared.settings import Settings

CLOCK_WARN_S = 5.0
LOOKED_AT = 500
"""Newest records of the input that are looked at."""

Result = Literal["ok", "warning", "failed", "skipped"]
_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "·"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; remedy = what to do, empty when there is nothing to do."""

    check: str
    result: Result
    said: str
    remedy: str = ""


class Cluster(Protocol):
    """What the doctor asks of a broker."""

    def cluster_id(self) -> str:
        """Return the cluster's id."""
        ...

    def partitions(self, topic: str) -> int:
        """Return the partition count; raises TopicMismatch when the topic is missing."""
        ...

    def lag(self, group: str, topic: str) -> Mapping[int, int]:
        """Return how far a group is behind in each partition."""
        ...

    def members(self, group: str) -> int | None:
        """Return how many members a group has; None where the broker does not tell."""
        ...


class Subjects(Protocol):
    """What the doctor asks of a registry."""

    def lookup(self, subject: str, schema_text: str) -> int:
        """Return the schema's id; raises ConfigError when it is not registered."""
        ...


def examine(settings: Settings, *, as_json: bool) -> int:
    """Run all checks and print what they found; return 1 if any failed, else 0."""
    found = []
    doors = (lambda: Admin(settings), lambda: Registry(settings.registry), lambda: inspect_topic(settings, limit=LOOKED_AT))
    for finding in findings(settings, *doors, registry_time_s, time.time):
        found.append(finding)
        if not as_json:
            print(to_line(finding), flush=True)  # noqa: T201 - this is the command's output
    failed = sum(finding.result == "failed" for finding in found)
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in found]}))  # noqa: T201
    else:
        print(f"\n{failed} of {len(found)} checks failed" if failed else f"\nall {len(found)} checks passed")  # noqa: T201
    return 1 if failed else 0


def to_line(finding: Finding) -> str:
    """Write a finding for a person."""
    text = f"{_SIGNS[finding.result]} {finding.check:<11} {finding.said}"
    return text + (f"\n  {'':<11} → {finding.remedy}" if finding.remedy else "")


def findings(
    settings: Settings,
    open_cluster: Callable[[], Cluster],
    open_registry: Callable[[], Subjects],
    look: Callable[[], Inspection],
    registry_clock: Callable[[Settings], float | None],
    clock: Callable[[], float],
) -> Iterator[Finding]:
    """Run the checks in order; those that need a broker or registry are skipped when there is none.

    look : at the newest records of the input
    """
    cluster = open_cluster()
    broker = _broker(settings, cluster)
    yield broker
    yield from _topics(settings, cluster) if broker.result == "ok" else _skipped(("topics", "group"), "needs the broker")
    registered = list(_schemas(settings, open_registry()))
    yield from registered
    both = broker.result == registered[0].result == "ok"
    yield _input(settings, look) if both else Finding("input", "skipped", "needs the broker and the registry")
    yield _clock(settings, registry_clock, clock)
    yield _model(settings)
    yield _folder("models_dir", settings.models_dir, "`lapwing train` writes models there, predictors only read", needed=False)
    yield _folder("state_dir", settings.state_dir, "predictors keep their snapshots there", needed=True)


def _skipped(checks: tuple[str, ...], why: str) -> Iterator[Finding]:
    for check in checks:
        yield Finding(check, "skipped", why)


def _broker(settings: Settings, cluster: Cluster) -> Finding:
    try:
        name = cluster.cluster_id()
    except LapwingError as error:
        remedy = (
            f"start Kafka, or name it: KAFKA_BOOTSTRAP_SERVERS (now {settings.bootstrap}); "
            "behind TLS or SASL set LAPWING_KAFKA__SECURITY_PROTOCOL and its kin"
        )
        return Finding("broker", "failed", str(error), remedy)
    return Finding("broker", "ok", f"{settings.bootstrap} answers, cluster {name or 'without an id'}")


def _topics(settings: Settings, cluster: Cluster) -> Iterator[Finding]:
    missing, wrong = [], []
    for spec in topic_specs(settings):
        try:
            count = cluster.partitions(spec.name)
        except TopicMismatch:
            missing.append(spec.name)
            continue
        except TransportError as error:
            wrong.append(str(error))
            continue
        if count != spec.partitions:
            wrong.append(f"{spec.name} has {count} partitions, the settings say {spec.partitions}")
    if missing:
        yield Finding("topics", "failed", f"missing: {', '.join(missing)}", "lapwing topics ensure")
    elif wrong:
        remedy = "set topics.partitions to what is there, or begin a new dataset (topics.dataset)"
        yield Finding("topics", "failed", "; ".join(wrong), remedy)
    else:
        yield Finding("topics", "ok", f"all {len(topic_specs(settings))} there, {settings.topics.partitions} partitions")
    yield _group(settings, cluster) if not missing else Finding("group", "skipped", "needs the topics")


def _group(settings: Settings, cluster: Cluster) -> Finding:
    group, topic = settings.predict.group, settings.topics.input
    try:
        members, behind, partitions = cluster.members(group), sum(cluster.lag(group, topic).values()), cluster.partitions(topic)
    except LapwingError as error:
        return Finding("group", "warning", str(error), f"look at consumer group {group} with Kafka's own tools")
    said = f"{group}: {_count(members, 'predictor')}, {behind:,} records behind"
    if members is not None and members > partitions:
        remedy = f"stop {members - partitions}, or give the next dataset more partitions: {topic} has {partitions}"
        return Finding("group", "warning", f"{said}; {members - partitions} of them idle", remedy)
    if members == 0:
        return Finding("group", "warning", said, "lapwing predict")
    return Finding("group", "ok", said)


def _count(number: int | None, noun: str) -> str:
    return f"unknown number of {noun}s" if number is None else f"{number} {noun}{'' if number == 1 else 's'}"


def _schemas(settings: Settings, registry: Subjects) -> Iterator[Finding]:
    ids: dict[str, int] = {}
    for subject, name, _ in result_subjects(settings):
        try:
            ids[subject] = registry.lookup(subject, schemas.text(name))
        except TransportError as error:
            remedy = f"start the Schema Registry, or name it: SCHEMA_REGISTRY_URL (now {settings.registry.url})"
            yield Finding("registry", "failed", str(error), remedy)
            yield Finding("schemas", "skipped", "needs the registry")
            return
        except ConfigError as error:
            yield Finding("registry", "ok", f"{settings.registry.url} answers")
            yield Finding("schemas", "failed", str(error), "lapwing topics ensure")
            return
    yield Finding("registry", "ok", f"{settings.registry.url} answers")
    yield Finding("schemas", "ok", f"all {len(ids)} that results are written with are registered")


def _input(settings: Settings, look: Callable[[], Inspection]) -> Finding:
    try:
        seen = look()
    except TopicMismatch:
        return Finding("input", "skipped", "needs the topics")
    except LapwingError as error:
        return Finding("input", "warning", str(error), "lapwing inspect, once broker and registry answer")
    if not seen.rows and not seen.readings:
        return Finding("input", "skipped", f"{settings.topics.input} has no records, and its subject no schema yet")
    further = len(seen.readings) - 1
    others = f"; {further} other schema{'' if further == 1 else 's'}" if further > 0 else ""
    said = (seen.readings[0].line if seen.readings else "none of the newest records has a schema that is known") + others
    if seen.rows > seen.read:
        reasons = ", ".join(f"{one.reason} {one.count:,}" for one in seen.dead)
        said += f"; {seen.rows - seen.read:,} of the newest {seen.rows:,} records would become dead letters: {reasons}"
    unread = seen.rows > 0 and not seen.read
    if unread or any(reading.unfit for reading in seen.readings[:1]):
        return Finding("input", "failed", said, "lapwing inspect says which field or setting is missing")
    hints = [*seen.warnings, *(hint for reading in seen.readings for hint in reading.warnings)]
    if hints:
        return Finding("input", "warning", f"{said}; {hints[0]}", "lapwing inspect shows all of it")
    remedy = "lapwing inspect says why; repair the producer" if seen.rows > seen.read else ""
    return Finding("input", "warning" if remedy else "ok", said, remedy)


def _clock(settings: Settings, registry_clock: Callable[[Settings], float | None], clock: Callable[[], float]) -> Finding:
    theirs = registry_clock(settings)
    if theirs is None:
        return Finding("clock", "skipped", "nobody to compare with: the registry does not say what time it is")
    apart_s = abs(clock() - theirs)
    if apart_s > CLOCK_WARN_S:
        remedy = "synchronise this machine (timedatectl, chrony); scores do not depend on it, latencies and ages do"
        return Finding("clock", "warning", f"{apart_s:.0f} s apart from the registry's", remedy)
    return Finding("clock", "ok", "agrees with the registry's to a few seconds")


def registry_time_s(settings: Settings) -> float | None:
    """Return the registry's clock in seconds since 1970 by its Date header, a second coarse; None = it does not tell."""
    try:
        with urllib.request.urlopen(settings.registry.url, timeout=settings.registry.timeout_s) as answer:  # noqa: S310
            said = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        said = error.headers.get("Date")
    except (OSError, ValueError):
        return None
    try:
        return email.utils.parsedate_to_datetime(said).timestamp() if said else None
    except ValueError:
        return None


def _model(settings: Settings) -> Finding:
    folder = settings.models_dir
    try:
        sha256 = artifacts.current(folder)
        if sha256 is None:
            without = "events are scored as WARMING" if settings.detector.is_trained else "the online members judge alone"
            return Finding("model", "warning", f"none in {folder} yet; {without}", "lapwing train --once")
        model = artifacts.load(folder, sha256, artifacts.trust(settings.models))
    except ConfigError as error:
        return Finding(
            "model", "failed", str(error), "a PEM file with an Ed25519 public key; docs/models.md says how to make one"
        )
    except (ArtifactMissing, ArtifactRefused) as error:
        remedy = "lapwing train --once publishes a new one; predictors go on with the last good one meanwhile"
        return Finding("model", "failed", str(error), remedy)
    if model.detector != settings.trained_detector:
        remedy = "lapwing train --once with this setting, or set `detector` to what the model is"
        return Finding(
            "model", "failed", f"it is of {model.detector}, the settings ask for {settings.trained_detector}", remedy
        )
    return Finding("model", "ok", f"{model.model_id} loads: {model.detector}, trained up to {model.version}")


def _folder(name: str, folder: Path, purpose: str, *, needed: bool) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".lapwing-doctor-"):
            pass
    except OSError as error:
        said = f"{folder} cannot be written by user {os.getuid()}: {error.strerror}; {purpose}"
        remedy = f"chown or chmod {place}, or set {name} (LAPWING_{name.upper()}) to a folder that can be written"
        return Finding(name, "failed" if needed else "warning", said, remedy)
    return Finding(name, "ok", f"{folder} can be written" if place == folder else f"{folder} can be made")
