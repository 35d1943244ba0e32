"""Which notice follows from a record of an incident, and who gets it.

Invariant: the same record gives the same notice with the same key, however often it is read; a
receiver that keeps the keys it has seen acts on each notice once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.events import SeverityClass

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


@dataclass(frozen=True, slots=True)
class Route:
    """What a receiver gets.

    min_class : least severity class
    entities  : matches the whole name of one of the incident's entities
    """

    min_class: str
    entities: re.Pattern[str]

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Return whether an incident is sent to the receiver."""
        if _CLASSES.index(record["severity_class"]) < _CLASSES.index(self.min_class):
            return False
        return any(self.entities.fullmatch(name) for name in record["entities"])


@dataclass(frozen=True, slots=True)
class Silence:
    """Incidents that nobody is told about.

    entities       : matches the whole name of every entity of the incident
    metric         : every metric of the incident; empty = any
    start_s, end_s : seconds since 1970 UTC; None = without a limit
    """

    entities: re.Pattern[str]
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
        return all(self.entities.fullmatch(name) for name in record["entities"])


def is_silenced(record: Mapping[str, Any], silences: Sequence[Silence], now_s: float) -> bool:
    """Return whether a silence covers an incident."""
    return any(silence.covers(record, now_s) for silence in silences)
