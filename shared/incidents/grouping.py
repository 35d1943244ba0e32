"""Which episodes become one incident: the rules, and an episode's news merged into it.

Invariant: merging is idempotent, ``merged(merged(e, n), n) == merged(e, n)``, also after other news
of the episode in between. So a record that is read twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from shared.incidents.incident import MAX_METRICS, Episode, EpisodeKind, Incident
from shared.kernels.units import DAY_MS
from shared.settings import IncidentSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of the fold.

    within_ms      : episodes of other entities join if they start at most so long before or after
                     the incident's opening episode; 0 = never
    prefix         : regular expression; entities are grouped if it matches the same text at their
                     beginning
    shared_metrics : episodes of other entities must have a metric in common with the incident
    max_episodes   : most episodes of one incident
    labels         : labels of an entity
    same_labels    : entities are grouped only if these labels are the same
    keep_ms        : a closed incident is deleted after this time without a change
    stale_ms       : an open incident is closed after this time without a change
    """

    within_ms: int
    prefix: re.Pattern[str]
    shared_metrics: bool
    max_episodes: int
    keep_ms: int
    stale_ms: int
    labels: Callable[[str], Mapping[str, str]] = lambda _: {}
    same_labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: IncidentSettings) -> Rules:
        """Return the settings in the fold's units."""
        return cls(
            within_ms=round(settings.group_within_s * 1000),
            prefix=re.compile(settings.entity_prefix),
            shared_metrics=settings.shared_metrics,
            max_episodes=settings.max_episodes,
            keep_ms=round(settings.keep_days * DAY_MS),
            stale_ms=round(settings.stale_days * DAY_MS),
            labels=settings.labels_of,
            same_labels=settings.same_labels,
        )

    def group_of(self, entity: str) -> tuple[str, ...] | None:
        """Return what grouped entities share: prefix and labels; None = it is never grouped."""
        found = self.prefix.match(entity)
        labels = self.labels(entity)
        if found is None or not labels.keys() >= set(self.same_labels):
            return None
        return found.group(0), *(labels[name] for name in self.same_labels)

    def joins(self, incident: Incident, episode: Episode) -> bool:
        """Return whether a new episode belongs to an open incident."""
        if len(incident.episodes) >= self.max_episodes:
            return False
        if any(mine.is_open and mine.entity == episode.entity for mine in incident.episodes):
            return True
        if not self.within_ms or abs(episode.start - incident.window_start) > self.within_ms:
            return False
        group = self.group_of(episode.entity)
        if group is None or group != self.group_of(incident.episodes[0].entity):
            return False
        return not self.shared_metrics or _have_common(incident, episode)


def _have_common(incident: Incident, episode: Episode) -> bool:
    """Return whether a metric is common; entities that stopped reporting belong together."""
    if episode.kind is EpisodeKind.STOPPED:
        return any(mine.kind is EpisodeKind.STOPPED for mine in incident.episodes)
    names = set(episode.metrics)
    return any(not names.isdisjoint(mine.metrics) for mine in incident.episodes)


def merged(episode: Episode, news: Episode, *, is_opening: bool) -> Episode:
    """Return an episode with what a further record says about it.

    news       : the episode as the record describes it
    is_opening : the record opened it, whenever it arrives
    """
    is_new_peak = (news.severity, -news.peak_time) > (episode.severity, -episode.peak_time)
    peak = news if is_new_peak else episode
    is_ending = episode.is_open and not news.is_open
    ended = news if is_ending else episode
    opening = news if is_opening else episode
    return replace(
        episode,
        metric=opening.metric,
        metrics=tuple(sorted({*episode.metrics, *news.metrics})[:MAX_METRICS]),
        direction=opening.direction,
        reason=opening.reason,
        start=min(episode.start, news.start),
        end=ended.end,
        closed_because=ended.closed_because,
        severity=peak.severity,
        peak_time=peak.peak_time,
        peak_value=peak.peak_value,
        embedding=opening.embedding,
    )
