"""Which notice follows from a record of an incident, and who gets it.

Invariant: the same record gives the same notice with the same key, however often it is read; a
receiver that keeps the keys it has seen acts on each notice once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.events import SeverityClass
from shared.notices.hours import Hours

LabelsOf = Callable[[str], Mapping[str, str]]
"""Returns the labels of an entity."""

_CLASSES = [one.value for one in SeverityClass]


class NoticePhase(StrEnum):
    """What a notice says about its incident."""

    OPEN = "open"
    WORSE = "worse"
    RESOLVED = "resolved"
    """All has recovered."""

    ENDED = "ended"
    """Closed for another reason, which the notice gives."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice about one incident.

    record : the incident's record, by schemas/incident.avsc
    """

    phase: NoticePhase
    record: Mapping[str, Any]

    @property
    def is_end(self) -> bool:
        """Whether it says that the incident is over."""
        return self.phase in (NoticePhase.RESOLVED, NoticePhase.ENDED)

    @property
    def key(self) -> str:
        """The idempotency key: incident and phase; for worse, also the severity class."""
        more = f"/{self.record['severity_class']}" if self.phase is NoticePhase.WORSE else ""
        return f"{self.record['incident_id']}/{self.phase.value}{more}"


def notice_of(record: Mapping[str, Any]) -> Notice | None:
    """Return the notice that follows from a record; None for one that brings no news."""
    change = record["change"]
    if change == "opened":
        # Alarms of version 1 have no end; an end whose opening was lost is no news.
        is_news = record["state"] == "open" or record["closed_because"] == "no_end"
        return Notice(NoticePhase.OPEN, record) if is_news else None
    if change == "worse" and record["state"] == "open":
        return Notice(NoticePhase.WORSE, record)
    if change == "closed":
        has_recovered = record["closed_because"] == "recovered"
        return Notice(NoticePhase.RESOLVED if has_recovered else NoticePhase.ENDED, record)
    return None


def _no_labels(_: str) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Entities by name and labels.

    name      : matches the whole name
    labels    : match the whole of these labels; an entity without one of them is not meant
    labels_of : labels of an entity
    """

    name: re.Pattern[str]
    labels: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    labels_of: LabelsOf = _no_labels

    def matches(self, entity: str) -> bool:
        """Return whether an entity is meant."""
        if not self.name.fullmatch(entity):
            return False
        found = self.labels_of(entity) if self.labels else {}
        return all(
            label in found and pattern.fullmatch(found[label])
            for label, pattern in self.labels.items()
        )


class Timing(StrEnum):
    """When a notice is sent to a receiver."""

    NOW = "now"
    HELD = "held"
    """Once the receiver's hours begin."""

    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Route:
    """What a receiver gets, and when.

    min_class : least severity class
    entities  : one of the incident's entities must match
    hours     : None = always
    holds     : outside the hours, notices wait; otherwise only an end is sent, because the
                receiver may have been told of the beginning
    """

    min_class: str
    entities: EntityFilter
    hours: Hours | None = None
    holds: bool = True

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Return whether the receiver gets notices about an incident."""
        if _CLASSES.index(record["severity_class"]) < _CLASSES.index(self.min_class):
            return False
        return any(self.entities.matches(name) for name in record["entities"])

    def is_held(self, now_s: float) -> bool:
        """Return whether notices wait for the hours."""
        return self.holds and self.hours is not None and not self.hours.contains(now_s)

    def timing(self, notice: Notice, now_s: float) -> Timing:
        """Return when a notice is sent that the receiver gets."""
        if self.hours is None or self.hours.contains(now_s):
            return Timing.NOW
        if self.holds:
            return Timing.HELD
        return Timing.NOW if notice.is_end else Timing.NEVER


@dataclass(frozen=True, slots=True)
class Silence:
    """Incidents that nobody is told about.

    entities       : every entity of the incident must match
    metric         : every metric of the incident; empty = any
    start_s, end_s : seconds since 1970 UTC; None = without a limit
    """

    entities: EntityFilter
    metric: str = ""
    start_s: float | None = None
    end_s: float | None = None

    def covers(self, record: Mapping[str, Any], now_s: float) -> bool:
        """Return whether an incident is silenced now."""
        if self.start_s is not None and now_s < self.start_s:
            return False
        if self.end_s is not None and now_s >= self.end_s:
            return False
        if self.metric and list(record["metrics"]) != [self.metric]:
            return False
        return all(self.entities.matches(name) for name in record["entities"])


def is_silenced(record: Mapping[str, Any], silences: Sequence[Silence], now_s: float) -> bool:
    """Return whether a silence covers an incident."""
    return any(silence.covers(record, now_s) for silence in silences)
