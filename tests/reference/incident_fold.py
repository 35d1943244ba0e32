"""Incidents by plain recomputation: every record is kept, and everything is computed from them.

Invariant: no index, no merging, no state but the list of records. An episode is the summary of all
records with its id; an incident is a list of episode ids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tests.reference.similarity import features_of

CLASSES = ((0.85, "critical"), (0.7, "major"), (0.5, "minor"), (0.0, "info"))
RANKS = ["recovered", "accepted", "no_end", "restarted", "silent", "expired"]
KINDS = [
    "anomaly",
    "episode_closed",
    "stopped",
    "evicted",
    "missing",
    "gap",
    "late",
    "out_of_order",
]
KINDS += ["duplicate", "repeated_time", "flat_line", "too_many_metrics"]


def finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def classed(severity: float) -> str:
    return next(name for least, name in CLASSES if severity >= least)


def names_of(record: dict[str, Any]) -> set[str]:
    shares = record.get("attributions") or {}
    with_views = record.get("top_feature") in shares
    names = {record["metric"]} if record.get("metric") else set()
    for key, share in shares.items():
        if share < 0.1:
            continue
        if with_views:
            names.add(".".join(key.split(".")[:-1]))
        elif key != "time_of_day":
            names.add(key)
    return set(sorted(names - {""})[:12])


class Known:
    """An episode: its records, and the ends that did not come from one of them."""

    def __init__(self, episode_id: str, kind: str, entity: str) -> None:
        self.episode_id, self.kind, self.entity = episode_id, kind, entity
        self.records: list[dict[str, Any]] = []
        self.other_end: tuple[int, str] | None = None

    def summary(self) -> dict[str, Any]:
        opening = next(
            (one for one in self.records if one["event_id"] == self.episode_id), self.records[0]
        )
        starts, peaks, metrics = [], [], set()
        end = self.other_end
        for one in self.records:
            if self.kind == "stopped":
                start = one["event_time"] if one.get("since") is None else one["since"]
                starts.append(start)
                peaks.append((0.7, -start, None))
                continue
            start = one.get("episode_start") if one.get("episode_id") else one["event_time"]
            start = one["event_time"] if start is None else start
            starts.append(start)
            if one.get("peak_severity") is None or one.get("peak_time") is None:
                severity, time_ms, value = one.get("severity"), one["event_time"], one.get("value")
            else:
                severity, time_ms = one["peak_severity"], one["peak_time"]
                value = one.get("peak_value")
            severity = min(1.0, max(0.0, finite(severity) or 0.0))
            peaks.append((severity, -time_ms, finite(value)))
            metrics |= names_of(one)
            if end is None and one.get("phase") == "closed":
                end = (max(start, one["event_time"]), one["closed_because"])
            if one.get("episode_id") is None:
                end = (one["event_time"], "no_end")
        best = max((severity, time_ms) for severity, time_ms, _ in peaks)
        peak = next(one for one in peaks if one[:2] == best)
        return {
            "episode_id": self.episode_id,
            "kind": self.kind,
            "entity": self.entity,
            "metric": None if self.kind == "stopped" else opening.get("metric"),
            "metrics": sorted(metrics)[:12],
            "direction": None if self.kind == "stopped" else opening.get("direction"),
            "reason": opening.get("reason", "")[:300],
            "start": min(starts),
            "end": end[0] if end else None,
            "closed_because": end[1] if end else None,
            "severity": peak[0],
            "peak_time": -peak[1],
            "peak_value": peak[2],
            "embedding": [] if self.kind == "stopped" else features_of(opening),
        }


class Group:
    """An incident: its episodes, and what its last written record said."""

    def __init__(self, offset: int, first: Known) -> None:
        self.opened, self.known = offset, [first]
        self.window_start = first.summary()["start"]
        self.written: list[dict[str, Any]] = []
        self.revision, self.offset, self.time_ms = 0, offset, 0
        self.before: dict[str, Any] | None = None

    def is_open(self) -> bool:
        return any(one.summary()["end"] is None for one in self.known)

    def because(self) -> str | None:
        if self.is_open():
            return None
        reasons = [one.summary()["closed_because"] for one in self.known]
        return max(reasons, key=RANKS.index)


class Recomputation:
    """All incidents of a list of records, one after another."""

    def __init__(
        self,
        within_ms: int,
        prefix: str,
        shared_metrics: bool,
        max_episodes: int,
        keep_ms: int,
        stale_ms: int,
        labels: str = "",
        same_labels: Sequence[str] = (),
    ) -> None:
        self.labels, self.same_labels = re.compile(labels or "(?!)"), same_labels
        self.within_ms, self.prefix = within_ms, re.compile(prefix)
        self.shared_metrics, self.most = shared_metrics, max_episodes
        self.keep_ms, self.stale_ms = keep_ms, stale_ms
        self.groups: list[Group] = []
        self.out: list[tuple[str, dict[str, Any] | None]] = []

    def add(self, offset: int, time_ms: int, record: dict[str, Any] | None) -> None:
        self.offset, self.time_ms = offset, time_ms
        self.pass_time()
        if record is None or record.get("kind") not in KINDS:
            return
        kind, entity = record["kind"], record["entity"]
        if kind == "evicted":
            self.end(entity, record["event_time"], "restarted", stopped_only=False)
        elif kind == "stopped":
            self.news(record, record["event_id"], "stopped")
        elif kind in ("anomaly", "episode_closed"):
            phase = record.get("phase")
            if record.get("episode_id") is not None and phase not in ("open", "worse", "closed"):
                return
            if phase == "closed" and record.get("closed_because") not in RANKS:
                return
            if record.get("closed_because") not in ("silent", "restarted"):
                self.end(entity, record["event_time"], "recovered", stopped_only=True)
            self.news(record, record.get("episode_id") or record["event_id"], "anomaly")
        else:
            self.end(entity, record["event_time"], "recovered", stopped_only=True)

    def pass_time(self) -> None:
        due = []
        for group in self.groups:
            limit = group.time_ms + (self.stale_ms if group.is_open() else self.keep_ms)
            if limit < self.time_ms:
                due.append((limit, group.known[0].episode_id, group))
        for _, incident_id, group in sorted(due, key=lambda one: one[:2]):
            if not group.is_open():
                self.groups.remove(group)
                self.out.append((incident_id, None))
                continue
            for one in group.known:
                summary = one.summary()
                if summary["end"] is None:
                    one.other_end = max(summary["start"], summary["peak_time"]), "expired"
            self.write(group)

    def end(self, entity: str, time_ms: int, because: str, *, stopped_only: bool) -> None:
        for group in self.groups:
            for one in group.known:
                summary = one.summary()
                if one.entity != entity or summary["end"] is not None:
                    continue
                if stopped_only and (one.kind != "stopped" or summary["start"] >= time_ms):
                    continue
                if summary["start"] <= time_ms:
                    one.other_end = max(summary["start"], time_ms), because
            self.write(group)

    def news(self, record: dict[str, Any], episode_id: str, kind: str) -> None:
        for group in self.groups:
            for one in group.known:
                if one.episode_id == episode_id:
                    one.records.append(record)
                    self.write(group)
                    return
        new = Known(episode_id, kind, record["entity"])
        new.records.append(record)
        if kind == "stopped":
            self.end(record["entity"], new.summary()["start"], "recovered", stopped_only=True)
        group = self.chosen(new)
        if group is None:
            group = Group(self.offset, new)
            self.groups.append(group)
        else:
            group.known.append(new)
        self.write(group)

    def chosen(self, new: Known) -> Group | None:
        summary = new.summary()
        for group in self.groups:
            if len(group.known) >= self.most:
                continue
            if summary["closed_because"] == "no_end":
                near = abs(summary["start"] - group.known[-1].summary()["start"]) <= self.within_ms
                mine = any(one.entity == new.entity for one in group.known)
                if group.because() == "no_end" and near and mine:
                    return group
            elif summary["end"] is None and group.is_open() and self.fits(group, new, summary):
                return group
        return None

    def fits(self, group: Group, new: Known, summary: dict[str, Any]) -> bool:
        for one in group.known:
            if one.entity == new.entity and one.summary()["end"] is None:
                return True
        if self.within_ms == 0 or abs(summary["start"] - group.window_start) > self.within_ms:
            return False
        texts = [self.prefix.match(name) for name in (new.entity, group.known[0].entity)]
        if None in texts or texts[0].group() != texts[1].group():
            return False
        labels = [self.labels.fullmatch(name) for name in (new.entity, group.known[0].entity)]
        for name in self.same_labels:
            if None in labels or labels[0][name] is None or labels[0][name] != labels[1][name]:
                return False
        if not self.shared_metrics:
            return True
        if new.kind == "stopped":
            return any(one.kind == "stopped" for one in group.known)
        return any(set(summary["metrics"]) & set(one.summary()["metrics"]) for one in group.known)

    def write(self, group: Group) -> None:
        episodes = [one.summary() for one in group.known]
        now = {"episodes": episodes}
        if group.before == now:
            return
        top = max(episodes, key=lambda one: (one["severity"], -one["peak_time"]))
        is_open = any(one["end"] is None for one in episodes)
        before = group.before["episodes"] if group.before else []
        change = "updated"
        if not before:
            change = "opened"
        elif not is_open and any(one["end"] is None for one in before):
            change = "closed"
        elif classed(top["severity"]) != classed(max(one["severity"] for one in before)):
            change = "worse"
        group.before, group.revision = now, group.revision + 1
        group.offset, group.time_ms = self.offset, self.time_ms
        self.out.append((group.known[0].episode_id, self.record(group, episodes, top, change)))

    def record(
        self, group: Group, episodes: list[dict[str, Any]], top: dict[str, Any], change: str
    ) -> dict[str, Any]:
        first = episodes[0]
        start, ends = min(one["start"] for one in episodes), [one["end"] for one in episodes]
        end = None if None in ends else max(ends)
        entities = sorted({one["entity"] for one in episodes})
        metrics = sorted({name for one in episodes for name in one["metrics"]})
        return {
            "incident_id": first["episode_id"],
            "revision": group.revision,
            "change": change,
            "state": "open" if end is None else "closed",
            "title": title(first["entity"], entities, metrics, episodes),
            "reason": first["reason"],
            "severity": top["severity"],
            "severity_class": classed(top["severity"]),
            "start": start,
            "end": end,
            "duration_ms": None if end is None else end - start,
            "closed_because": group.because(),
            "entity": first["entity"],
            "metric": first["metric"],
            "entity_count": len(entities),
            "metric_count": len(metrics),
            "episode_count": len(episodes),
            "open_count": ends.count(None),
            "peak_entity": top["entity"],
            "peak_metric": top["metric"],
            "peak_time": top["peak_time"],
            "peak_value": top["peak_value"],
            "entities": entities,
            "metrics": metrics,
            "opened_offset": group.opened,
            "anomalies_offset": group.offset,
            "recorded_at": group.time_ms,
            "window_start": group.window_start,
            "episodes": episodes,
        }


def title(
    entity: str, entities: list[str], metrics: list[str], episodes: list[dict[str, Any]]
) -> str:
    text = entity if len(entities) == 1 else f"{entity} and {len(entities) - 1} more"
    if {one["kind"] for one in episodes} == {"stopped"}:
        return text + " stopped reporting"
    listed = ", ".join(metrics[:3]) or "values"
    if len(metrics) > 3:
        listed += f" and {len(metrics) - 3} more"
    ways = {one["direction"] for one in episodes}
    way = {"{'up'}": "unusually high", "{'down'}": "unusually low"}.get(str(ways), "unusual")
    return f"{text}: {listed} {way}"
