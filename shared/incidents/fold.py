"""The fold of the anomalies topic into incidents.

Invariant: each change is a function of the topic's records up to its offset and of the rules; no
clock, no batch boundary and no restart enters it. The incidents themselves are the whole state: a
fold that begins with those of the incidents topic continues as if it had never stopped. A record
that was folded before changes nothing. A closed incident never opens again.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from shared.events import SeverityClass, severity_class
from shared.incidents.grouping import Rules, merged
from shared.incidents.incident import Change, Ended, Episode, EpisodeKind, Incident
from shared.incidents.occurrence import Effect, Occurrence

_CLASSES = list(SeverityClass)

_SPARSE, _LEAST = 4, 256
"""Former deadlines are dropped when there are so many times more of them than incidents."""


class Changed(NamedTuple):
    """One record for the incidents topic; incident None = a tombstone."""

    incident_id: str
    incident: Incident | None


class Place(NamedTuple):
    """Where a record of the anomalies topic stands.

    recorded_ms : its Kafka timestamp, ms since 1970 UTC
    """

    offset: int
    recorded_ms: int


class IncidentFold:
    """All incidents that are kept, open ones and closed ones.

    incidents : those of the incidents topic, in any order
    """

    def __init__(self, rules: Rules, incidents: Iterable[Incident] = ()) -> None:
        self.rules = rules
        self.incidents: dict[str, Incident] = {}
        self._open: dict[str, None] = {}
        self._episodes: dict[str, str] = {}
        self._of_entity: dict[str, dict[str, None]] = {}
        self._deadlines: list[tuple[int, str]] = []
        for incident in sorted(incidents, key=_age):
            self._keep(incident)

    @property
    def last_offset(self) -> int:
        """Offset of the newest record that has changed an incident; -1 before the first."""
        return max((incident.offset for incident in self.incidents.values()), default=-1)

    @property
    def open_count(self) -> int:
        """Number of open incidents."""
        return len(self._open)

    def apply(self, place: Place, occurrence: Occurrence | None) -> list[Changed]:
        """Fold one record; return the records that follow from it, in order.

        occurrence : None = the record was skipped; time passes nevertheless
        """
        changes = list(self._expire(place))
        if occurrence is None:
            return changes
        if occurrence.effect is Effect.DROPPED:
            changes += self._end_all(place, occurrence)
        elif occurrence.is_alive:
            changes += self._end_silence(place, occurrence)
        if occurrence.episode is not None:
            changes += self._take(place, occurrence, occurrence.episode)
        return changes

    # -- what time does ----------------------------------------------------------------------------

    def _expire(self, place: Place) -> Iterator[Changed]:
        """Close open incidents without news, and delete closed ones after their time."""
        while self._deadlines and self._deadlines[0][0] < place.recorded_ms:
            deadline_ms, incident_id = heapq.heappop(self._deadlines)
            incident = self.incidents.get(incident_id)
            if incident is None or self._deadline_ms(incident) != deadline_ms:
                continue  # it has changed since
            if incident.is_open:
                episodes = [_ended(one, Ended.EXPIRED, one.peak_time) for one in incident.episodes]
                yield self._change(place, incident, episodes)
            else:
                yield self._delete(incident)

    def _deadline_ms(self, incident: Incident) -> int:
        rules = self.rules
        return incident.recorded_ms + (rules.stale_ms if incident.is_open else rules.keep_ms)

    # -- what records do ---------------------------------------------------------------------------

    def _end_silence(self, place: Place, occurrence: Occurrence) -> Iterator[Changed]:
        """Close what is about the silence of an entity that has reported after it."""
        for incident in self._open_of(occurrence.entity):
            episodes = [
                _ended(one, Ended.RECOVERED, occurrence.time_ms)
                if one.entity == occurrence.entity
                and one.kind is EpisodeKind.STOPPED
                and one.start < occurrence.time_ms
                else one
                for one in incident.episodes
            ]
            yield from self._update(place, incident, episodes)

    def _end_all(self, place: Place, occurrence: Occurrence) -> Iterator[Changed]:
        """Close what is about an entity that is no longer remembered."""
        for incident in self._open_of(occurrence.entity):
            episodes = [
                _ended(one, Ended.RESTARTED, occurrence.time_ms)
                if one.entity == occurrence.entity and one.start <= occurrence.time_ms
                else one
                for one in incident.episodes
            ]
            yield from self._update(place, incident, episodes)

    def _take(self, place: Place, occurrence: Occurrence, news: Episode) -> Iterator[Changed]:
        known = self._episodes.get(news.episode_id)
        if known is not None:
            incident = self.incidents[known]
            episodes = [
                merged(one, news, is_opening=occurrence.is_opening)
                if one.episode_id == news.episode_id
                else one
                for one in incident.episodes
            ]
            yield from self._update(place, incident, episodes)
            return
        if news.kind is EpisodeKind.STOPPED:
            yield from self._end_earlier_silence(place, news)
        joined = self._moments(news) if occurrence.effect is Effect.MOMENT else self._joined(news)
        if joined is not None:
            yield from self._update(place, joined, [*joined.episodes, news])
            return
        opened = Incident(
            incident_id=news.episode_id,
            revision=1,
            change=Change.OPENED,
            opened_offset=place.offset,
            offset=place.offset,
            recorded_ms=place.recorded_ms,
            window_start=news.start,
            episodes=(news,),
        )
        self._keep(opened)
        yield Changed(opened.incident_id, opened)

    def _end_earlier_silence(self, place: Place, news: Episode) -> Iterator[Changed]:
        """Close an earlier silence: before it stopped again, the entity had reported."""
        alive = Occurrence(Effect.SIGN_OF_LIFE, news.entity, news.start, is_alive=True)
        yield from self._end_silence(place, alive)

    def _joined(self, news: Episode) -> Incident | None:
        """Return the oldest open incident that a new episode joins."""
        if not news.is_open:
            return None  # its opening was lost: there is nothing left to act on
        candidates = (self.incidents[one] for one in self._open)
        return next((one for one in candidates if self.rules.joins(one, news)), None)

    def _moments(self, news: Episode) -> Incident | None:
        """Return the incident of the entity's earlier alarms of version 1, shortly before."""
        for incident in self._of(news.entity):
            is_near = abs(news.start - incident.episodes[-1].start) <= self.rules.within_ms
            has_room = len(incident.episodes) < self.rules.max_episodes
            if incident.closed_because is Ended.NO_END and is_near and has_room:
                return incident
        return None

    # -- state -------------------------------------------------------------------------------------

    def _of(self, entity: str) -> list[Incident]:
        """Return the incidents of an entity, the oldest first: the same after a restart."""
        found = [self.incidents[one] for one in self._of_entity.get(entity, ())]
        return sorted(found, key=_age)

    def _open_of(self, entity: str) -> list[Incident]:
        return [incident for incident in self._of(entity) if incident.is_open]

    def _update(
        self, place: Place, incident: Incident, episodes: Sequence[Episode]
    ) -> Iterator[Changed]:
        if tuple(episodes) != incident.episodes:
            yield self._change(place, incident, episodes)

    def _change(self, place: Place, incident: Incident, episodes: Sequence[Episode]) -> Changed:
        changed = replace(
            incident,
            revision=incident.revision + 1,
            change=Change.UPDATED,
            offset=place.offset,
            recorded_ms=place.recorded_ms,
            episodes=tuple(episodes),
        )
        changed = replace(changed, change=_change_between(incident, changed))
        self._keep(changed)
        return Changed(changed.incident_id, changed)

    def _keep(self, incident: Incident) -> None:
        incident_id = incident.incident_id
        self.incidents[incident_id] = incident
        if incident.is_open:
            self._open[incident_id] = None
        else:
            self._open.pop(incident_id, None)
        for episode in incident.episodes:
            self._episodes[episode.episode_id] = incident_id
            self._of_entity.setdefault(episode.entity, {})[incident_id] = None
        heapq.heappush(self._deadlines, (self._deadline_ms(incident), incident_id))
        if len(self._deadlines) > max(_LEAST, _SPARSE * len(self.incidents)):
            self._deadlines = [(self._deadline_ms(one), key) for key, one in self.incidents.items()]
            heapq.heapify(self._deadlines)

    def _delete(self, incident: Incident) -> Changed:
        incident_id = incident.incident_id
        del self.incidents[incident_id]
        for episode in incident.episodes:
            self._episodes.pop(episode.episode_id, None)
            of_entity = self._of_entity.get(episode.entity, {})
            of_entity.pop(incident_id, None)
            if not of_entity:
                self._of_entity.pop(episode.entity, None)
        return Changed(incident_id, None)


def _age(incident: Incident) -> tuple[int, str]:
    return incident.opened_offset, incident.incident_id


def _ended(episode: Episode, because: Ended, time_ms: int) -> Episode:
    """Return an episode that has ended; one that had ended before stays as it is."""
    if not episode.is_open:
        return episode
    return replace(episode, end=max(episode.start, time_ms), closed_because=because)


def _change_between(before: Incident, after: Incident) -> Change:
    if before.is_open and not after.is_open:
        return Change.CLOSED
    if _class_rank(after) > _class_rank(before):
        return Change.WORSE
    return Change.UPDATED


def _class_rank(incident: Incident) -> int:
    return _CLASSES.index(severity_class(incident.severity))
