"""Which incidents a list of anomalies makes."""

from shared.events import Anomaly, ClosedBecause, Kind, Phase, State
from shared.incidents.grouping import Rules
from shared.incidents.of_anomalies import incidents_of
from shared.settings import IncidentSettings

START_MS, STEP_MS = 1_700_000_100_000, 300_000
YEAR_ROWS = 365 * 288
RULES = Rules.of(IncidentSettings())


def anomaly(entity, row, event_id, episode_id=None, kind=Kind.ANOMALY, **more):
    fields = {
        "event_id": event_id, "detector_id": "ensemble", "kind": kind, "entity": entity,
        "metric": "cpu", "event_time": START_MS + row * STEP_MS, "state": State.READY,
        "reason": "why", "source_topic": "in", "source_partition": 0, "source_offset": row,
        "severity": 0.6, "episode_id": episode_id,
        "phase": Phase.OPEN if kind is Kind.ANOMALY else None,
    }  # fmt: skip
    return Anomaly(**(fields | more))


def end(entity, row, episode_id):
    return anomaly(
        entity, row, f"end of {episode_id}", episode_id, Kind.EPISODE_CLOSED, is_anomaly=False,
        phase=Phase.CLOSED, closed_because=ClosedBecause.RECOVERED,
    )  # fmt: skip


def test_episodes_of_an_entity_that_overlap_are_one_incident_and_none_is_forgotten():
    anomalies = [
        end("web-1", 50, "second"),
        anomaly("web-1", YEAR_ROWS, "late", "late"),
        anomaly("web-1", 30, "second", "second", metric="net"),
        anomaly("web-1", 20, "first", "first"),
        anomaly("mail", 25, "other", "other"),
        end("web-1", 40, "first"),
        anomaly("queue", 7, "silence", kind=Kind.STOPPED, is_anomaly=False, phase=None),
    ]
    found = incidents_of(anomalies, RULES)
    assert [[one.episode_id for one in incident.episodes] for incident in found] == [
        ["first", "second"],
        ["other"],
        ["late"],
    ]
    assert [incident.is_open for incident in found] == [False, False, True]


def test_no_anomaly_is_no_incident():
    assert incidents_of([], RULES) == []
