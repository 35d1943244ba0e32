"""Logs of anomaly events for tests of incidents: in any order, repeated, of several versions."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from shared.incidents.fold import Changed, IncidentFold, Place
from shared.incidents.grouping import Rules
from shared.incidents.incident import Incident
from shared.incidents.occurrence import Occurrence, occurrence_of
from shared.settings import IncidentSettings

HOUR_MS = 3_600_000
BEGIN_MS = 1_400_000_000_000
ENTITIES = ("web-1", "web-2", "db")
METRICS = ("cpu", "disk.read")


class Row(NamedTuple):
    """One record of the anomalies topic; record None = it cannot be read."""

    time_ms: int
    record: dict[str, Any] | None


def alarm(
    episode: int,
    phase: str | None,
    *,
    minute: int = 0,
    start: int | None = None,
    severity: float | None = 0.6,
    because: str = "recovered",
    **more: Any,
) -> dict[str, Any]:
    """Return an anomaly event; minutes count from BEGIN_MS, phase None = of version 1.

    more : further fields, or other values of them
    """
    time_ms = BEGIN_MS + 60_000 * minute
    entity, metric = more.get("entity", "web-1"), more.get("metric", "cpu")
    record = {
        "event_id": f"e{episode}{phase or ''}",
        "kind": "episode_closed" if phase == "closed" else "anomaly",
        "entity": entity,
        "metric": metric,
        "event_time": time_ms,
        "value": 1.0 + episode,
        "direction": "up",
        "severity": None if phase == "closed" else severity,
        "reason": f"reason {episode} {phase}",
        "attributions": {} if metric is None else {f"{metric}.jump": 1.0},
        "top_feature": None if metric is None else f"{metric}.jump",
    }
    if phase is not None:
        begin = minute if start is None else start
        record |= {
            "episode_id": f"e{episode}open",
            "phase": phase,
            "episode_start": BEGIN_MS + 60_000 * begin,
            "peak_time": time_ms,
            "peak_value": 2.0 + episode,
            "peak_severity": severity,
            "closed_because": because if phase == "closed" else None,
        }
    return record | more


def verdict(kind: str, entity: str = "web-1", *, minute: int = 0, since: int | None = None) -> dict:
    """Return a data-quality verdict."""
    return {
        "event_id": f"{kind}-{entity}-{minute}" + ("" if since is None else f"-{since}"),
        "kind": kind,
        "entity": entity,
        "metric": None,
        "event_time": BEGIN_MS + 60_000 * minute,
        "since": None if since is None else BEGIN_MS + 60_000 * since,
        "reason": f"{entity} {kind}",
    }


def rules(**given: Any) -> Rules:
    import re

    usual = {
        "within_ms": 5 * 60_000,
        "prefix": "",
        "shared_metrics": True,
        "max_episodes": 200,
        "keep_ms": 30 * 24 * HOUR_MS,
        "stale_ms": 14 * 24 * HOUR_MS,
    } | given
    labels = IncidentSettings(labels=usual.pop("labels", "")).labels_of
    return Rules(**(usual | {"prefix": re.compile(usual["prefix"]), "labels": labels}))


def apply(fold: IncidentFold, offset: int, row: Row) -> list[Changed]:
    found = None if row.record is None else occurrence_of(row.record)
    return fold.apply(Place(offset, row.time_ms), found if isinstance(found, Occurrence) else None)


def kept(changes: list[Changed]) -> list[Incident]:
    """Return what compaction leaves of changes, through their records."""
    newest = {change.incident_id: change.incident for change in changes}
    return [Incident.from_record(one.record()) for one in newest.values() if one is not None]


@st.composite
def logs(draw: st.DrawFn) -> list[Row]:
    """Draw episodes with their records in any order, repeated, among other verdicts."""
    minutes = st.integers(0, 40)
    events: list[dict[str, Any] | None] = [None, {"kind": "from_the_future"}, {}]
    for number in range(draw(st.integers(1, 6))):
        of = {
            "entity": draw(st.sampled_from(ENTITIES)),
            "metric": draw(st.sampled_from((*METRICS, None))),
        }
        start = draw(minutes)
        end = start + draw(minutes)
        severity = draw(st.sampled_from((0.5, 0.6, 0.75, 0.9, 1.0, float("nan"))))
        because = draw(st.sampled_from(("recovered", "accepted", "silent", "restarted", "?")))
        events += [
            alarm(number, "open", minute=start, **of),
            alarm(number, "worse", minute=(start + end) // 2, start=start, severity=severity, **of),
            alarm(number, "closed", minute=end, start=start - 3, because=because, **of),
        ]
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(("stopped", "stopped", "gap", "missing", "evicted")))
        minute = draw(minutes)
        entity = draw(st.sampled_from(ENTITIES))
        events.append(verdict(kind, entity, minute=minute, since=minute - draw(minutes)))
    for number in range(draw(st.integers(0, 2))):
        events.append(alarm(90 + number, None, minute=draw(minutes)))
    order = draw(st.permutations(range(len(events))))
    if draw(st.booleans()):
        order.sort(key=lambda index: (events[index] or {}).get("event_time", 0))
    order += draw(st.lists(st.sampled_from(order), max_size=6))
    steps = st.sampled_from((0, 1000, 60_000, -5_000, HOUR_MS, 20 * HOUR_MS))
    time_ms, rows = BEGIN_MS, []
    for index in order:
        time_ms += draw(steps)
        rows.append(Row(time_ms, events[index]))
    return rows
