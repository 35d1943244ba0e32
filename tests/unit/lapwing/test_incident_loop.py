"""The incidents service's loop on a log in memory: failures, crashes and a second instance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from lapwing.incidents.incident_loop import Dependencies, IncidentLoop, Topics
from lapwing.incidents.incident_records import AnomalyRecords
from shared.batch import Position
from shared.encode.records import encode_records
from shared.errors import GuardError, NewerVersion, ProducerFenced, TopicRecreated, TransportError
from shared.incidents.incident_topic import newest_records, restored
from shared.operations.counters import COMMITS, INCIDENT_RECORDS_SKIPPED, Counters
from shared.operations.retry import Outage
from tests.reference.incident_fold import Recomputation
from tests.support.anomaly_logs import HOUR_MS, alarm, logs, rules, verdict
from tests.support.fakes import MemoryLog, MemorySink, MemorySource
from tests.support.incident_oracle import ANOMALY, DEFAULTS, INCIDENT

GROUP, ANOMALIES, INCIDENTS = "g", "anomalies", "incidents"
SCHEMAS = {1: ANOMALY, 2: INCIDENT}
RULES = {"keep_ms": 30 * HOUR_MS, "stale_ms": 90 * HOUR_MS}


class World:
    """One cluster, and instances of the service that come and go."""

    def __init__(self, **ids: str) -> None:
        self.log = MemoryLog({ANOMALIES: 1, INCIDENTS: 1})
        self.ids = {"anomalies_id": "a", "incidents_id": "i"} | ids
        self.counters = Counters()
        self.sinks: list[MemorySink] = []
        self.registry_down = False

    def append(self, record: dict[str, Any] | None) -> None:
        value = b"no record"
        if record and "event_id" in record:
            value = encode_records(ANOMALY, 1, [DEFAULTS | record])[0]
        self.log.append(ANOMALIES, 0, value)

    def open_sink(self) -> MemorySink:
        self.sinks.append(MemorySink(self.log, GROUP, GROUP, ANOMALIES))
        return self.sinks[-1]

    def schema(self, schema_id: int) -> str | None:
        if self.registry_down:
            raise TransportError("the registry does not answer")
        return SCHEMAS.get(schema_id)

    def read_state(self):
        batch, _ = self.log.read(INCIDENTS, 0, 0, 10_000)
        return restored(newest_records([batch], SCHEMAS.get), INCIDENTS)

    def service(self) -> IncidentLoop:
        source = MemorySource(self.log, GROUP, ANOMALIES)
        source.give(0)
        loop = IncidentLoop(
            Dependencies(
                source,
                self.open_sink,
                self.read_state,
                AnomalyRecords(self.schema, self.counters),
                lambda _: None,
            ),
            Topics(ANOMALIES, INCIDENTS, group=GROUP, **self.ids),
            rules(**RULES),
            2,
            self.counters,
            Outage(1000.0, self.counters),
        )
        source.subscribe(loop)
        return loop

    def finish(self, loop: IncidentLoop) -> None:
        for _ in range(20):
            loop.step()

    def written(self) -> list[tuple[bytes, bytes]]:
        return [(record.key, record.value) for *_, record in self.log.visible(INCIDENTS)]

    def expected(self, records: list[dict[str, Any] | None]) -> list[tuple[bytes, bytes]]:
        plain = Recomputation(5 * 60_000, "", True, 200, RULES["keep_ms"], RULES["stale_ms"])
        for offset, record in enumerate(records):
            plain.add(offset, 0, record)
        return [
            (key.encode(), encode_records(INCIDENT, 2, [one])[0] if one else b"")
            for key, one in plain.out
        ]


ALARMS = [alarm(k, "open", entity=f"web-{k}", minute=k) for k in range(3)]
ALARMS += [alarm(k, "closed", entity=f"web-{k}", minute=30, start=k) for k in range(3)]

FAILURES = [
    f"{call}: {how}"
    for call in ("send", "commit")
    for how in ("abort", "undecided, kept", "undecided, lost", "outage")
]
actions = st.sampled_from(["step", "step", "append", "append", "crash", "second", *FAILURES])


@settings(max_examples=60)
@given(rows=logs(), course=st.lists(actions, max_size=30))
def test_whatever_happens_the_topic_is_that_of_a_plain_recomputation(rows, course):
    world = World()
    records = [row.record for row in rows]
    left = list(records)
    loop = world.service()
    for action in course:
        call, _, how = action.partition(": ")
        if action == "append" and left:
            world.append(left.pop(0))
        elif action == "crash":
            loop = world.service()
        elif action == "second":
            zombie, loop = loop, world.service()
            loop.step()
            if zombie.fold is not None:
                world.append(None)
                records.insert(len(records) - len(left), None)
                with pytest.raises(ProducerFenced):
                    zombie.step()
        elif how and world.sinks:
            world.sinks[-1].fail[call] = how
        else:
            loop.step()
    for record in left:
        world.append(record)
    for sink in world.sinks:
        sink.fail.clear()
    world.finish(loop)
    assert world.written() == world.expected(records)


def test_what_is_not_understood_is_skipped_and_counted():
    world = World()
    for record in (None, *ALARMS, alarm(9, "open") | {"kind": "forecast"}):
        world.append(record)
    world.finish(world.service())
    assert world.written() == world.expected([None, *ALARMS])
    assert world.counters.value(INCIDENT_RECORDS_SKIPPED, "unreadable") == 1
    assert world.counters.value(INCIDENT_RECORDS_SKIPPED, "unknown_kind") == 1


def test_records_wait_while_the_registry_is_down():
    world = World()
    loop = world.service()
    loop.step()
    for record in ALARMS:
        world.append(record)
    world.registry_down = True
    for _ in range(5):
        loop.step()
    assert world.written() == []
    assert "outage" in loop.reason()
    world.registry_down = False
    world.finish(loop)
    assert world.written() == world.expected(ALARMS)


def test_without_a_position_the_state_says_how_far_it_goes():
    world = World()
    for record in ALARMS[:4]:
        world.append(record)
    world.finish(world.service())
    world.log.committed.clear()
    for record in (ALARMS[0], *ALARMS[4:]):
        world.append(record)
    loop = world.service()
    world.finish(loop)
    assert world.written()[-1] == world.expected([*ALARMS[:4], ALARMS[0], *ALARMS[4:]])[-1]
    assert len(world.written()) == 6


def test_deleted_anomalies_are_skipped_with_a_warning():
    world = World()
    for record in ALARMS[:3]:
        world.append(record)
    world.finish(world.service())
    for record in ALARMS[3:]:
        world.append(record)
    world.log.starts[ANOMALIES, 0] = 5
    loop = world.service()
    world.finish(loop)
    assert loop.fold.open_count == 1, "two ends were deleted"


@pytest.mark.parametrize("which", ["anomalies_id", "incidents_id"])
def test_a_recreated_topic_is_named(which):
    world = World()
    world.append(ALARMS[0])
    world.finish(world.service())
    world.ids[which] = "another"
    name = INCIDENTS if which == "incidents_id" else ANOMALIES
    with pytest.raises(TopicRecreated, match=f"^{name} was deleted"):
        world.service().step()


def test_a_position_of_somebody_else_is_refused():
    world = World()
    world.log.committed[GROUP, ANOMALIES, 0] = Position(0, "hello")
    with pytest.raises(GuardError, match=r"name another incidents\.group"):
        world.service().step()


def test_an_incident_of_a_newer_version_stops_the_service():
    world = World()
    world.append(verdict("stopped", minute=3, since=1))
    world.finish(world.service())
    record = world.log.topics[INCIDENTS][0][0]
    record.value = record.value.replace(b"opened", b"merged")
    with pytest.raises(NewerVersion, match="was written by another version"):
        world.service().step()


def test_each_commit_carries_the_ids_of_both_topics():
    world = World()
    world.append(ALARMS[0])
    world.finish(world.service())
    position = world.log.committed[GROUP, ANOMALIES, 0]
    assert position.offset == 1
    assert json.loads(position.metadata) == {"v": 1, "anomalies": "a", "incidents": "i"}
    assert world.counters.value(COMMITS, "committed") == 1
    assert schemas.text(schemas.INCIDENT) == INCIDENT
