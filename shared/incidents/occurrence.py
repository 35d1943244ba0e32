"""What one record of the anomalies topic means for incidents, whatever schema version wrote it.

Invariant: a record becomes one occurrence or one named reason why it is skipped; nothing raises.
Version 1 of the schema has no episodes: its alarms have no end. Fields that a later version adds
are ignored; a kind, a phase or an end that this version does not know is skipped by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from shared.events import Kind, Phase
from shared.incidents.embedding import embedding_of
from shared.incidents.incident import MAX_METRICS, Ended, Episode, EpisodeKind

STOPPED_SEVERITY = 0.7
"""Severity of an entity that stopped reporting: major."""

MAX_REASON = 300
"""Characters of a reason that are kept: a record holds hundreds of them, and has a largest size."""

LISTED_SHARE = 0.1
"""Share of the score from which a metric of an alarm is listed."""


class Effect(StrEnum):
    """What an occurrence does."""

    EPISODE = "episode"
    """Opens an episode, or brings news about it, or its end."""

    MOMENT = "moment"
    """An alarm of version 1: an episode that has already ended."""

    SIGN_OF_LIFE = "sign_of_life"
    """Only shows that the entity reports."""

    DROPPED = "dropped"
    """The entity is no longer remembered: none of its episodes will be continued."""


class Occurrence(NamedTuple):
    """What a record says.

    entity     : whom it is about
    time_ms    : event time, ms since 1970 UTC
    is_alive   : it shows that the entity reported at time_ms
    episode    : with effect EPISODE or MOMENT: the episode as this record describes it
    is_opening : the record is the one that opened the episode
    """

    effect: Effect
    entity: str
    time_ms: int
    is_alive: bool
    episode: Episode | None = None
    is_opening: bool = False


class Skipped(NamedTuple):
    """A record that is skipped.

    code : unreadable, unknown_kind, unknown_phase or unknown_end
    text : which field or value, for the log
    """

    code: str
    text: str


_KINDS = frozenset(kind.value for kind in Kind)
_PHASES = frozenset(phase.value for phase in Phase)
_ENDS = frozenset(ended.value for ended in Ended)
_NOT_ITS_OWN = frozenset({Kind.STOPPED, Kind.EVICTED})
"""Verdicts that another entity's record triggers."""


def occurrence_of(record: Mapping[str, Any]) -> Occurrence | Skipped:
    """Return what a decoded anomaly event means.

    record : by its writer's schema; times as integers
    """
    required: tuple[tuple[str, type], ...] = (
        ("event_id", str),
        ("kind", str),
        ("entity", str),
        ("event_time", int),
    )
    for name, expected in required:
        if not isinstance(record.get(name), expected):
            return Skipped("unreadable", f"{name} is {record.get(name)!r}")
    if record["kind"] not in _KINDS:
        return Skipped("unknown_kind", str(record["kind"]))
    kind = Kind(record["kind"])
    entity, time_ms = record["entity"], record["event_time"]
    if kind is Kind.EVICTED:
        return Occurrence(Effect.DROPPED, entity, time_ms, is_alive=False)
    if kind is Kind.STOPPED:
        return Occurrence(Effect.EPISODE, entity, time_ms, False, _stopped(record), True)
    if kind is Kind.EPISODE_CLOSED or kind is Kind.ANOMALY:
        return _alarm(record)
    return Occurrence(Effect.SIGN_OF_LIFE, entity, time_ms, is_alive=True)


def _alarm(record: Mapping[str, Any]) -> Occurrence | Skipped:
    entity, time_ms = record["entity"], record["event_time"]
    episode_id = record.get("episode_id")
    if episode_id is None:
        if record["kind"] != Kind.ANOMALY:
            return Skipped("unreadable", "an end without episode_id")
        episode = _episode(record, record["event_id"], time_ms, time_ms, Ended.NO_END)
        return Occurrence(Effect.MOMENT, entity, time_ms, True, episode, True)
    phase = record.get("phase")
    if phase not in _PHASES:
        return Skipped("unknown_phase", str(phase))
    start = record.get("episode_start")
    start = time_ms if start is None else start
    if phase != Phase.CLOSED:
        is_opening = record["event_id"] == episode_id
        episode = _episode(record, episode_id, start, None, None)
        return Occurrence(Effect.EPISODE, entity, time_ms, True, episode, is_opening)
    because = record.get("closed_because")
    if because not in _ENDS:
        return Skipped("unknown_end", str(because))
    ended = Ended(because)
    # The detector closes these two without a row of the entity itself.
    is_alive = ended not in (Ended.SILENT, Ended.RESTARTED)
    episode = _episode(record, episode_id, start, max(start, time_ms), ended)
    return Occurrence(Effect.EPISODE, entity, time_ms, is_alive, episode)


def _episode(
    record: Mapping[str, Any], episode_id: str, start: int, end: int | None, ended: Ended | None
) -> Episode:
    peak_severity, peak_time = record.get("peak_severity"), record.get("peak_time")
    if peak_severity is None or peak_time is None:
        severity, peak_time = record.get("severity"), record["event_time"]
        peak_value = record.get("value")
    else:
        severity, peak_value = peak_severity, record.get("peak_value")
    return Episode(
        episode_id=episode_id,
        kind=EpisodeKind.ANOMALY,
        entity=record["entity"],
        metric=record.get("metric"),
        metrics=_metrics(record),
        direction=record.get("direction"),
        reason=str(record.get("reason", ""))[:MAX_REASON],
        start=start,
        end=end,
        closed_because=ended,
        severity=min(1.0, max(0.0, _finite(severity) or 0.0)),
        peak_time=peak_time,
        peak_value=_finite(peak_value),
        embedding=embedding_of(record),
    )


def _stopped(record: Mapping[str, Any]) -> Episode:
    since = record.get("since")
    start = record["event_time"] if since is None else since
    return Episode(
        episode_id=record["event_id"],
        kind=EpisodeKind.STOPPED,
        entity=record["entity"],
        metric=None,
        metrics=(),
        direction=None,
        reason=str(record.get("reason", ""))[:MAX_REASON],
        start=start,
        end=None,
        closed_because=None,
        severity=STOPPED_SEVERITY,
        peak_time=start,
        peak_value=None,
    )


def _finite(number: float | None) -> float | None:
    """Return the number; None for NaN, which does not equal itself, and for infinity."""
    return None if number is None or not math.isfinite(number) else float(number)


def _metrics(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that an alarm names: its own, and those with a share of the score."""
    shares: Mapping[str, float] = record.get("attributions") or {}
    # Keys are metric.view, but the metrics' own names where a trained model raised the alarm.
    has_views = record.get("top_feature") in shares
    names = set()
    for key, share in shares.items():
        name = key.rpartition(".")[0] if has_views else key
        if share >= LISTED_SHARE and name and (has_views or name != "time_of_day"):
            names.add(name)
    if record.get("metric"):
        names.add(record["metric"])
    return tuple(sorted(names)[:MAX_METRICS])
