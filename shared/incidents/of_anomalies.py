"""The incidents that a finished list of anomalies makes.

Invariant: they are those of the fold that ``lapwing incidents`` runs, over the same records in the
           order in which a pipeline without delay would have written them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from shared.events import Anomaly
from shared.incidents.fold import IncidentFold, Place
from shared.incidents.grouping import Rules
from shared.incidents.incident import EpisodeKind, Incident
from shared.incidents.occurrence import Occurrence, occurrence_of

_FOREVER_MS = 1 << 62


def incidents_of(anomalies: Iterable[Anomaly], rules: Rules) -> list[Incident]:
    """Return the incidents with an alarm, in the order in which they opened.

    anomalies : alarms, ends of episodes and data-quality verdicts, in any order
    rules     : but for ``keep_ms``: no incident is deleted
    """
    ordered = sorted(
        anomalies, key=lambda one: (one.event_time, one.source_partition, one.source_offset)
    )
    fold = IncidentFold(replace(rules, keep_ms=_FOREVER_MS))
    for offset, anomaly in enumerate(ordered):
        found = occurrence_of(asdict(anomaly))
        known = found if isinstance(found, Occurrence) else None
        fold.apply(Place(offset, anomaly.event_time), known)
    return [
        incident
        for incident in fold.incidents.values()
        if any(episode.kind is EpisodeKind.ANOMALY for episode in incident.episodes)
    ]
