"""Check of the notices about incidents: whether they are sent, and which could not be."""

from __future__ import annotations

from collections.abc import Iterator

from lapwing.dlq.letters import format_time
from lapwing.doctor.cluster import Cluster
from lapwing.doctor.findings import Finding, count
from lapwing.doctor.flow import Topics
from shared.errors import LapwingError
from shared.settings import Settings

PREFIX = "lapwing.notice."


def check_notices(settings: Settings, cluster: Cluster, topics: Topics) -> Iterator[Finding]:
    """Report notices that could not be sent, or that nobody sends; nothing where none are meant."""
    try:
        first, end = cluster.bounds(settings.topics.unsent)
        unsent = sum(end.values()) - sum(first.values())
        if unsent:
            yield _unsent(settings, topics, unsent, max(end.values()))
        elif settings.notify.targets:
            yield _progress(settings, cluster)
    except LapwingError as error:
        yield Finding("notices", "warning", str(error), "run this again when the broker answers")


def _unsent(settings: Settings, topics: Topics, unsent: int, end: int) -> Finding:
    topic = settings.topics.unsent
    newest = ""
    for batch in topics.read(topic, {0: end - 1}, {0: end}):
        headers = {name: value.decode("utf-8", "replace") for name, value in batch.headers[0]}
        target, why = (headers.get(PREFIX + name, "?") for name in ("target", "reason"))
        newest = f"; the newest, of {format_time(int(batch.broker_ms[0]))}, to {target}: {why}"
    message = f"{count(unsent, 'notice')} could not be sent{newest}"
    remedy = f"correct the target in notify.targets; {topic} has the notices"
    return Finding("notices", "warning", message, remedy)


def _progress(settings: Settings, cluster: Cluster) -> Finding:
    group, topic = settings.notify.group, settings.topics.incidents
    behind = sum(cluster.lag(group, topic).values())
    members = cluster.members(group)
    message = f"{group}: {count(members, 'instance')}, {behind:,} records behind, none unsent"
    if members == 0:
        return Finding("notices", "warning", message, "lapwing notify")
    return Finding("notices", "ok", message)
