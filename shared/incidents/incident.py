"""An incident and its episodes, and the record of ``schemas/incident.avsc`` in both directions.

Invariant: ``Incident.from_record(incident.record()) == incident``; all that a record says beyond
its episodes follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from shared.events import severity_class
from shared.incidents.embedding import of_list, to_list
from shared.incidents.title import title_of

MAX_METRICS = 12
"""Metrics of one episode that are listed."""


class Change(StrEnum):
    """What a record says beyond the incident's previous one."""

    OPENED = "opened"
    WORSE = "worse"
    UPDATED = "updated"
    CLOSED = "closed"


class Ended(StrEnum):
    """Why an episode or an incident ended, the most certain reason first."""

    RECOVERED = "recovered"
    ACCEPTED = "accepted"
    NO_END = "no_end"
    RESTARTED = "restarted"
    SILENT = "silent"
    EXPIRED = "expired"


_RANK = {ended: rank for rank, ended in enumerate(Ended)}


class EpisodeKind(StrEnum):
    """What an episode is about."""

    ANOMALY = "anomaly"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode of an entity; the fields are those of ``IncidentEpisode`` in the schema.

    Times are ms since 1970 UTC, severity is 0 to 1.

    embedding : what its opening record looked like; see ``embedding.py``
    """

    episode_id: str
    kind: EpisodeKind
    entity: str
    metric: str | None
    metrics: tuple[str, ...]
    direction: str | None
    reason: str
    start: int
    end: int | None
    closed_because: Ended | None
    severity: float
    peak_time: int
    peak_value: float | None
    embedding: bytes = b""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.end is None


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as it is after a record of the anomalies topic.

    revision      : number of this state, from 1
    opened_offset : offset of the record that opened it, in the anomalies topic
    offset        : offset of the record that this state follows from
    recorded_ms   : Kafka timestamp of that record, ms since 1970 UTC
    window_start  : start of the opening episode as first reported, ms since 1970 UTC
    episodes      : in the order in which they joined; never empty
    """

    incident_id: str
    revision: int
    change: Change
    opened_offset: int
    offset: int
    recorded_ms: int
    window_start: int
    episodes: tuple[Episode, ...]

    @property
    def is_open(self) -> bool:
        """Whether one of its episodes has not ended."""
        return any(episode.is_open for episode in self.episodes)

    @property
    def severity(self) -> float:
        """The largest severity of its episodes."""
        return max(episode.severity for episode in self.episodes)

    @property
    def start(self) -> int:
        """The start of its first episode."""
        return min(episode.start for episode in self.episodes)

    @property
    def end(self) -> int | None:
        """The end of its last episode; None while it is open."""
        ends = [episode.end for episode in self.episodes if episode.end is not None]
        return max(ends) if len(ends) == len(self.episodes) else None

    @property
    def closed_because(self) -> Ended | None:
        """The least certain reason of its episodes; None while it is open."""
        if self.is_open:
            return None
        reasons = [e.closed_because for e in self.episodes if e.closed_because is not None]
        return max(reasons, key=_RANK.__getitem__)

    @property
    def entities(self) -> list[str]:
        """Its entities, sorted."""
        return sorted({episode.entity for episode in self.episodes})

    @property
    def metrics(self) -> list[str]:
        """Its metrics, sorted."""
        return sorted({name for episode in self.episodes for name in episode.metrics})

    @property
    def peak(self) -> Episode:
        """The episode of the largest severity; of equal ones, the earliest."""
        return max(self.episodes, key=lambda episode: (episode.severity, -episode.peak_time))

    @property
    def title(self) -> str:
        """One line for lists and alerts."""
        first = self.episodes[0]
        stopped = all(episode.kind is EpisodeKind.STOPPED for episode in self.episodes)
        directions = {episode.direction for episode in self.episodes}
        direction = directions.pop() if len(directions) == 1 else None
        return title_of(first.entity, len(self.entities), self.metrics, direction, stopped=stopped)

    def record(self) -> dict[str, Any]:
        """Return the record of ``schemas/incident.avsc``."""
        first, peak, severity = self.episodes[0], self.peak, self.severity
        start, end = self.start, self.end
        entities, metrics, because = self.entities, self.metrics, self.closed_because
        return {
            "incident_id": self.incident_id,
            "revision": self.revision,
            "change": self.change.value,
            "state": "open" if self.is_open else "closed",
            "title": self.title,
            "reason": first.reason,
            "severity": severity,
            "severity_class": severity_class(severity).value,
            "start": start,
            "end": end,
            "duration_ms": None if end is None else end - start,
            "closed_because": None if because is None else because.value,
            "entity": first.entity,
            "metric": first.metric,
            "entity_count": len(entities),
            "metric_count": len(metrics),
            "episode_count": len(self.episodes),
            "open_count": sum(episode.is_open for episode in self.episodes),
            "peak_entity": peak.entity,
            "peak_metric": peak.metric,
            "peak_time": peak.peak_time,
            "peak_value": peak.peak_value,
            "entities": entities,
            "metrics": metrics,
            "opened_offset": self.opened_offset,
            "anomalies_offset": self.offset,
            "recorded_at": self.recorded_ms,
            "window_start": self.window_start,
            "episodes": [_episode_record(episode) for episode in self.episodes],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Incident:
        """Rebuild an incident from its record.

        raises : ValueError, KeyError or TypeError where the record is not one of this version
        """
        episodes = tuple(_episode(fields) for fields in record["episodes"])
        if not episodes:
            raise ValueError(f"incident {record['incident_id']} has no episodes")
        return cls(
            incident_id=record["incident_id"],
            revision=record["revision"],
            change=Change(record["change"]),
            opened_offset=record["opened_offset"],
            offset=record["anomalies_offset"],
            recorded_ms=record["recorded_at"],
            window_start=record["window_start"],
            episodes=episodes,
        )


def _episode_record(episode: Episode) -> dict[str, Any]:
    because = episode.closed_because
    return asdict(episode) | {
        "kind": episode.kind.value,
        "metrics": list(episode.metrics),
        "closed_because": None if because is None else because.value,
        "embedding": to_list(episode.embedding),
    }


def _episode(fields: Mapping[str, Any]) -> Episode:
    names = Episode.__dataclass_fields__.keys() - {"embedding"}
    because = fields["closed_because"]
    return Episode(
        **{name: fields[name] for name in names}
        | {
            "kind": EpisodeKind(fields["kind"]),
            "metrics": tuple(fields["metrics"]),
            "closed_because": None if because is None else Ended(because),
            "embedding": of_list(fields.get("embedding") or ()),  # earlier versions have none
        }
    )
