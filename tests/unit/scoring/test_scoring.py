"""Scoring over a restored state, and what a change of settings does to episodes."""

from __future__ import annotations

import numpy as np
import pytest

from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import flat_schema
from shared.encode.records import encode_records
from shared.events import ClosedBecause, Detector, Kind, Phase
from shared.identity import event_id
from shared.kernels.units import DAY_MS
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings

STEP_MS = 300_000
START_MS = 1_736_121_600_000
SCHEMA = flat_schema("lapwing.Metric", "host", ("cpu",))
DECODER = AvroDecoder.of_schemas({1: SCHEMA}, InputSettings())


def rules(detector=Detector.ENSEMBLE, **detection):
    return Rules(Configuration(detector, 5, DetectionSettings(**detection), QualitySettings()))


def batch_of(rows, first=0):
    """Rows of (host, time, cpu)."""
    values = [
        encode_records(SCHEMA, 1, [{"host": host, "timestamp": int(t), "cpu": cpu}])[0]
        for host, t, cpu in rows
    ]
    keys = [host.encode() for host, *_ in rows]
    offsets = np.arange(first, first + len(rows), dtype=np.int64)
    return Batch(
        "in", 0, Blob.join(values), Blob.join(keys), offsets, np.zeros(len(rows), np.int64)
    )


def quiet(days, host="a", start=START_MS, seed=0):
    rng = np.random.default_rng(seed)
    times = start + np.arange(0, int(days * DAY_MS), STEP_MS)
    return [
        (host, t, float(50 + 20 * np.sin(t * 2 * np.pi / DAY_MS) + rng.normal())) for t in times
    ]


def judged(rows, scorer=None) -> tuple[Outcome, Scorer]:
    scorer = scorer or Scorer(PartitionState(0), rules())
    return scorer.process(batch_of(rows, scorer.state.next_offset), DECODER), scorer


def outage(rows, length=12):
    return [*rows[:-length], *((host, t, cpu + 300.0) for host, t, cpu in rows[-length:])]


def test_a_state_from_a_snapshot_is_kept_until_the_log_says_who_judges():
    state = PartitionState(0)
    state.ensemble.reserve(2, 3)
    state.ensemble.metrics["seen"] = 7
    scorer = Scorer(state, rules(Detector.ISOLATION_FOREST))
    scorer.use(None, rules(Detector.ENSEMBLE).configuration)
    scorer.use(None, rules(Detector.ONE_CLASS_SVM).configuration)
    assert (state.ensemble.metrics["seen"] == 7).all()


def test_an_episode_opens_once_and_is_closed_once():
    rows = outage(quiet(6)) + quiet(1, start=START_MS + 6 * DAY_MS, seed=1)
    outcome, _ = judged(rows)
    first, *more = [a for a in outcome.anomalies if a.is_anomaly]
    assert (first.kind, first.phase, first.metric) == (Kind.ANOMALY, Phase.OPEN, "cpu")
    assert first.direction == "up"
    assert all(a.phase is Phase.WORSE for a in more)
    assert first.event_time == rows[first.source_offset][1]
    assert first.value == rows[first.source_offset][2]
    assert first.episode_id == first.event_id
    assert first.event_id == event_id(
        "in", 0, first.source_offset, "ensemble", "anomaly", "a", "cpu|up|value|open"
    )
    closed = [a for a in outcome.anomalies if a.kind is Kind.EPISODE_CLOSED]
    assert [a.episode_id for a in closed].count(first.episode_id) == 1
    (end,) = [a for a in closed if a.episode_id == first.episode_id]
    assert (end.is_anomaly, end.severity, end.phase) == (False, None, Phase.CLOSED)
    assert end.closed_because is ClosedBecause.RECOVERED
    assert end.episode_start == first.event_time
    assert end.peak_value in {cpu for _, _, cpu in rows if cpu > 300.0}
    assert end.peak_severity >= first.severity
    inside = outcome.verdicts.episode_id == first.episode_id
    assert inside[first.source_offset]
    assert not inside[: first.source_offset].any()
    assert outcome.verdicts.is_anomaly.sum() == 1 + len(more)


def test_other_settings_close_the_episodes_that_are_open_and_a_model_alone_does_not():
    outcome, scorer = judged(outage(quiet(6)))
    opened = {a.episode_id for a in outcome.anomalies if a.phase is Phase.OPEN}
    assert opened
    scorer.use(None)
    again, _ = judged(quiet(0.01, start=START_MS + 6 * DAY_MS), scorer)
    assert not [a for a in again.anomalies if a.kind is Kind.EPISODE_CLOSED]
    scorer.use(None, rules(threshold=1.5).configuration)
    other, _ = judged(quiet(0.02, start=START_MS + 6 * DAY_MS + 15 * 60_000), scorer)
    ends = [a for a in other.anomalies if a.kind is Kind.EPISODE_CLOSED]
    assert {a.episode_id for a in ends} <= opened
    assert ends
    assert {a.closed_because for a in ends} == {ClosedBecause.RESTARTED}
    assert {a.source_offset for a in ends} == {int(other.batch.offsets[0])}


def test_who_stops_reporting_ends_its_episodes():
    rows = outage(quiet(6))
    others = [row for host in "bc" for row in quiet(7, host, seed=ord(host))]
    log = sorted([*rows, *others], key=lambda row: row[1])
    outcome, _ = judged(log)
    ends = [a for a in outcome.anomalies if a.kind is Kind.EPISODE_CLOSED and a.entity == "a"]
    (stopped,) = [a for a in outcome.anomalies if a.kind is Kind.STOPPED]
    assert {a.closed_because for a in ends} == {ClosedBecause.SILENT}
    assert {a.source_offset for a in ends} == {stopped.source_offset}
    assert stopped.entity == "a"


def test_a_row_ahead_of_its_clock_is_marked_and_freezes_nobody():
    rows = [row for host in "abc" for row in quiet(4, host, seed=ord(host))]
    log = sorted(rows, key=lambda row: row[1])
    log.insert(2000, ("a", log[2000][1] + 400 * DAY_MS, 50.0))
    outcome, _ = judged(log)
    ahead = outcome.folded.ahead
    assert np.flatnonzero(ahead).tolist() == [2000]
    assert np.isnan(outcome.verdicts.score[2000])
    assert not (outcome.folded.late_by_ms > 0).any()
    assert not [a for a in outcome.anomalies if a.kind is Kind.STOPPED]


def test_a_direction_that_nobody_asked_for_is_no_alarm():
    for direction, found in (("up", True), ("down", False)):
        scorer = Scorer(PartitionState(0), rules(direction=direction))
        outcome, _ = judged(outage(quiet(6)), scorer)
        last = {a.event_time for a in outcome.anomalies if a.is_anomaly}
        assert any(t >= START_MS + 5.9 * DAY_MS for t in last) is found


@pytest.mark.parametrize("least", [{"min_absolute": 500.0}, {"min_relative": 50.0}])
def test_a_deviation_that_is_too_small_for_the_user_is_no_alarm(least):
    outcome, _ = judged(outage(quiet(6)), Scorer(PartitionState(0), rules(**least)))
    assert not [a for a in outcome.anomalies if a.is_anomaly and not a.cold_start]
