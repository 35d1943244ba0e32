"""The fold of anomalies into incidents: its rules one by one, and compared with its slow twin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from shared.encode.records import decode_records, encode_records
from shared.incidents.fold import Changed, IncidentFold
from shared.incidents.incident import Incident
from shared.incidents.occurrence import Effect, Occurrence, Skipped, occurrence_of
from tests.reference.incident_fold import Recomputation
from tests.support.anomaly_logs import (
    BEGIN_MS,
    HOUR_MS,
    Row,
    alarm,
    apply,
    kept,
    logs,
    rules,
    verdict,
)

SCHEMA = schemas.text(schemas.INCIDENT)


def encoded(incident_id: str, record: dict[str, Any] | None) -> tuple[str, bytes]:
    if record is None:
        return incident_id, b""
    return incident_id, encode_records(SCHEMA, 7, [record])[0]


def folded(rows: list[Row], fold: IncidentFold | None = None) -> list[Changed]:
    fold = fold or IncidentFold(rules())
    return [change for offset, row in enumerate(rows) for change in apply(fold, offset, row)]


def said(records: list[dict[str, Any] | None]) -> list[Incident | None]:
    return [change.incident for change in folded([Row(BEGIN_MS, one) for one in records])]


@settings(max_examples=60)
@given(
    rows=logs(),
    within=st.sampled_from((0, 5 * 60_000, HOUR_MS)),
    prefix=st.sampled_from(("", "[^-]+-", "x")),
    shared=st.booleans(),
    most=st.sampled_from((1, 2, 200)),
    same=st.sampled_from(((), ("kind",), ("number", "kind"))),
    restarts=st.sets(st.integers(0, 30), max_size=4),
    back=st.integers(0, 3),
)
def test_equals_plain_recomputation_byte_for_byte(
    rows, within, prefix, shared, most, same, restarts, back
):
    """Restarts continue from the records that compaction leaves."""
    chosen = {
        "within_ms": within,
        "prefix": prefix,
        "shared_metrics": shared,
        "max_episodes": most,
        "keep_ms": 30 * HOUR_MS,
        "stale_ms": 90 * HOUR_MS,
        "labels": "(?P<kind>[a-z]+)-(?P<number>[0-9])",
        "same_labels": same,
    }
    plain = Recomputation(**chosen)
    fold = IncidentFold(rules(**chosen))
    found: list[Changed] = []
    for offset, row in enumerate(rows):
        plain.add(offset, row.time_ms, row.record)
        if offset in restarts:
            fold = IncidentFold(rules(**chosen), kept(found))
        found += apply(fold, offset, row)
    expected = [encoded(*one) for one in plain.out]
    assert [
        encoded(one.incident_id, one.incident.record() if one.incident else None) for one in found
    ] == expected


@settings(max_examples=25)
@given(rows=logs(), again=st.lists(st.integers(0, 29), max_size=10))
def test_a_record_that_was_folded_before_changes_nothing(rows, again):
    """But for what contradicts a later silence, which the log of a partition cannot hold."""
    rows = [Row(BEGIN_MS, row.record) for row in rows]
    fold = IncidentFold(rules())
    folded(rows, fold)
    repeated = [rows[k] for k in again if k < len(rows) and not contradicts(rows, k)]
    assert folded(repeated, fold) == []


def contradicts(rows: list[Row], index: int) -> bool:
    """Return whether a record shows life after the beginning of a silence reported later."""
    record = rows[index].record or {}
    later = [row.record or {} for row in rows[index:]]
    return (
        any(
            one.get("kind") == "stopped"
            and one["entity"] == record.get("entity")
            and one["since"] < record["event_time"]
            and record["kind"] != "stopped"
            for one in later
        )
        or record.get("kind") == "evicted"
    )


@settings(max_examples=25)
@given(rows=logs())
def test_a_restart_may_read_its_last_record_again(rows):
    fold = IncidentFold(rules())
    found = folded(rows, fold)
    again = IncidentFold(rules(), kept(found))
    assert again.last_offset <= fold.last_offset
    if fold.last_offset >= 0 and all(change.incident for change in found):
        assert apply(again, again.last_offset, rows[again.last_offset]) == []


@settings(max_examples=25)
@given(rows=logs())
def test_records_survive_avro(rows):
    for change in folded(rows):
        if change.incident is not None:
            value = encode_records(SCHEMA, 7, [change.incident.record()])[0]
            [record] = decode_records([value], [SCHEMA])
            assert Incident.from_record(record) == change.incident


def test_an_episode_is_one_incident_from_its_opening_to_its_end():
    opened, worse, closed = said(
        [
            alarm(1, "open", minute=10),
            alarm(1, "worse", minute=20, start=10, severity=0.9),
            alarm(1, "closed", minute=40, start=8, severity=0.9),
        ]
    )
    assert opened.incident_id == "e1open"
    assert opened.record()["title"] == "web-1: cpu unusually high"
    assert (opened.change, worse.change, closed.change) == ("opened", "worse", "closed")
    record = closed.record()
    assert record["state"] == "closed"
    assert record["closed_because"] == "recovered"
    assert record["start"] == BEGIN_MS + 8 * 60_000, "the end corrects the start"
    assert record["duration_ms"] == 32 * 60_000
    assert record["severity_class"] == "critical"
    assert record["peak_time"] == BEGIN_MS + 20 * 60_000


def test_episodes_that_start_together_are_one_incident():
    rows = [alarm(k, "open", entity=f"web-{k}", minute=k) for k in range(4)]
    rows += [alarm(k, "closed", entity=f"web-{k}", minute=30, start=k) for k in range(4)]
    found = said(rows)
    assert {one.incident_id for one in found} == {"e0open"}
    assert found[3].record()["title"] == "web-0 and 3 more: cpu unusually high"
    assert [one.change for one in found[4:]] == ["updated", "updated", "updated", "closed"]


@pytest.mark.parametrize(
    ("second", "given"),
    [
        ({"minute": 6}, {}),
        ({"minute": 1}, {"within_ms": 0}),
        ({"minute": 1, "metric": "disk"}, {}),
        ({"minute": 1}, {"prefix": "[a-z]+-1"}),
        ({"minute": 1}, {"max_episodes": 1}),
        ({"minute": 1}, {"labels": r"web-(?P<number>\d)", "same_labels": ("number",)}),
        ({"minute": 1}, {"labels": "(?P<kind>db)-1", "same_labels": ("kind",)}),
    ],
)
def test_what_keeps_entities_apart(second, given):
    rows = [alarm(1, "open", minute=0), alarm(2, "open", entity="web-2", **second)]
    fold = IncidentFold(rules(**given))
    assert len({c.incident_id for c in folded([Row(0, one) for one in rows], fold)}) == 2


def test_episodes_of_one_entity_join_while_one_is_open():
    found = said(
        [
            alarm(1, "open", minute=0),
            alarm(2, "open", minute=300, metric="disk"),
            alarm(1, "closed", minute=310, start=0),
            alarm(2, "closed", minute=320, start=300, because="accepted", metric="disk"),
            alarm(3, "open", minute=330),
        ]
    )
    assert [one.incident_id for one in found] == ["e1open"] * 4 + ["e3open"]
    assert found[3].closed_because == "accepted", "not all of them have recovered"


def test_an_entity_that_stopped_reporting_is_an_incident_until_it_reports_again():
    stopped = verdict("stopped", minute=30, since=10)
    opened, closed = said(
        [stopped, alarm(5, "closed", minute=8, start=1), verdict("gap", minute=50, since=10)]
    )[::2]
    assert opened.record()["title"] == "web-1 stopped reporting"
    assert (opened.start, opened.record()["severity_class"]) == (BEGIN_MS + 600_000, "major")
    assert (closed.change, closed.closed_because) == ("closed", "recovered")
    assert closed.end == BEGIN_MS + 50 * 60_000


def test_entities_that_stopped_together_are_one_incident():
    rows = [verdict("stopped", f"web-{k}", minute=30, since=10 + k) for k in range(3)]
    rows.append(alarm(1, "open", entity="web-9", minute=11))
    assert [one.incident_id for one in said(rows)] == ["stopped-web-0-30-10"] * 3 + ["e1open"]


def test_an_end_before_its_opening_stays_closed():
    closed, late = said([alarm(1, "closed", minute=9, start=3), alarm(1, "open", minute=3)])
    assert not closed.is_open
    assert (late.change, late.revision, late.is_open) == ("updated", 2, False)
    assert late.record()["reason"] == "reason 1 open"


def test_alarms_of_version_1_are_closed_incidents_without_an_end():
    found = said([alarm(k, None, minute=minute) for k, minute in enumerate((0, 4, 8, 20))])
    assert [one.incident_id for one in found] == ["e0"] * 3 + ["e3"]
    assert {one.closed_because for one in found} == {"no_end"}
    assert found[2].record()["duration_ms"] == 8 * 60_000


def test_months_of_history_are_bounded():
    fold = IncidentFold(rules(keep_ms=30 * HOUR_MS, stale_ms=90 * HOUR_MS))
    most = 0
    for hour in range(2_000):
        row = Row(hour * HOUR_MS, alarm(hour, "open", entity=f"web-{hour}", minute=60 * hour))
        apply(fold, 2 * hour, row)
        if hour % 3:
            end = alarm(hour, "closed", entity=f"web-{hour}", minute=60 * hour + 9, start=60 * hour)
            apply(fold, 2 * hour + 1, Row(hour * HOUR_MS, end))
        most = max(most, len(fold.incidents))
    assert most < 90
    assert len(fold._episodes) == len(fold._of_entity) == len(fold.incidents)


def test_memory_does_not_grow_with_the_changes_of_one_incident():
    fold = IncidentFold(rules())
    for minute in range(2_000):
        news = alarm(1, "open", minute=5_000 - minute)
        assert apply(fold, minute, Row(minute, news))
    assert len(fold._deadlines) <= 256
    assert apply(fold, 2_000, Row(15 * 24 * HOUR_MS, None))[0].incident.closed_because == "expired"


def test_an_open_incident_without_news_is_closed_and_deleted():
    fold = IncidentFold(rules())
    found = folded(
        [
            Row(0, alarm(1, "open")),
            Row(15 * 24 * HOUR_MS, verdict("late", "other")),
            Row(50 * 24 * HOUR_MS, None),
        ],
        fold,
    )
    assert [one.incident and one.incident.closed_because for one in found] == [
        None,
        "expired",
        None,
    ]
    assert found[-1].incident is None
    assert fold.last_offset == -1


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({}, "unreadable"),
        ({"event_id": "a", "kind": "anomaly", "entity": None, "event_time": 1}, "unreadable"),
        (alarm(1, "open") | {"kind": "forecast"}, "unknown_kind"),
        (alarm(1, "open") | {"phase": "better"}, "unknown_phase"),
        (alarm(1, "closed", because="merged"), "unknown_end"),
        (alarm(1, None) | {"kind": "episode_closed"}, "unreadable"),
    ],
)
def test_what_this_version_does_not_know_is_skipped_by_name(record, code):
    found = occurrence_of(record)
    assert isinstance(found, Skipped)
    assert found.code == code
    assert found.text


def test_a_reason_is_cut_so_that_records_stay_small():
    [opened] = said([alarm(1, "open") | {"reason": "x" * 5_000}])
    assert len(opened.record()["reason"]) == 300


def test_metrics_of_an_alarm():
    def metrics(**more):
        found = occurrence_of(alarm(1, "open", **more))
        assert isinstance(found, Occurrence)
        assert found.effect is Effect.EPISODE
        return found.episode.metrics

    many = {f"m{k:02}.jump": 1 / 9 for k in range(20)}
    assert metrics(attributions={"a.b.jump": 0.9, "c.value": 0.05}, top_feature="a.b.jump") == (
        "a.b",
        "cpu",
    )
    assert metrics(attributions={"a.b": 0.6, "time_of_day": 0.4}, top_feature="a.b.mean") == (
        "a.b",
        "cpu",
    )
    assert len(metrics(attributions=many, top_feature="m00.jump")) == 12
