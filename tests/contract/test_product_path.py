"""Invariants of the whole path, from bytes to verdicts, for every detector.

Cuts into batches, restarts and other entities in the batch change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import snapshots
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_records, flat_schema
from shared.events import Detector, Kind, Phase, State
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings
from tests.support.models import START_MS, STEP_MS, trained
from tests.support.pods import ENCODER, encoded

pytestmark = pytest.mark.parametrize("detector", tuple(Detector))

INPUT = InputSettings()
METRICS = ("cpu", "network")
HOSTS = ("host-0", "host-1", "host-2")
TURNED = ("network", "cpu")
DECODER = AvroDecoder.of_schemas(
    {
        1: flat_schema("lapwing.Metric", "host", METRICS),
        2: flat_schema("lapwing.Turned", "host", TURNED),
    },
    INPUT,
)
ROWS = 420
WARMUP_DAYS = 0.2


def configuration(detector: Detector) -> Configuration:
    detection = DetectionSettings(
        warmup_days=WARMUP_DAYS, alarms_per_day=2.0, metrics={"cpu": {"direction": "up"}}
    )
    return Configuration(
        detector, 5, detection, QualitySettings(forget_days=0.5, repeat_hours=1, flat_hours=0.5)
    )


def log_of(seed: int, rows: int = ROWS) -> Batch:
    """Three hosts with season and spikes, and all that quality has verdicts for, and poison."""
    random = np.random.default_rng(seed)
    records, keys = [], []
    clock = dict.fromkeys(HOSTS, START_MS)
    newest: dict[str, dict[str, object]] = {}
    for row in range(rows):
        host = str(random.choice(HOSTS))
        clock[host] += STEP_MS if random.random() > 0.004 else 200 * STEP_MS
        load = 1.5 + np.sin(clock[host] / 86_400_000 * 2 * np.pi)
        values = {
            "cpu": load * (30 if random.random() < 0.01 else 1) + random.normal(0, 0.05),
            "network": 10 * load,
        }
        values = {
            name: None if random.random() < 0.03 else float(value) for name, value in values.items()
        }
        if rows // 2 <= row < 2 * rows // 3:
            values["network"] = None
        record = {"host": host, "timestamp": clock[host], **values}
        kind = random.random()
        if kind < 0.02 and host in newest:
            record = newest[host]
        elif kind < 0.05:
            record = {**record, "timestamp": clock[host] - 30 * STEP_MS}
        else:
            newest[host] = record
        names, schema_id = (METRICS, 1) if host != "host-1" else (TURNED, 2)
        text = flat_schema("lapwing.Metric" if schema_id == 1 else "lapwing.Turned", "host", names)
        records.append(
            b"poison" if random.random() < 0.01 else encode_records(text, schema_id, [record])[0]
        )
        keys.append(host.encode())
    offsets = np.cumsum(random.integers(1, 3, rows)).astype(np.int64)
    return Batch("in", 0, Blob.join(records), Blob.join(keys), offsets, np.zeros(rows, np.int64))


def scorer_for(detector: Detector, state: PartitionState | None = None) -> Scorer:
    scorer = Scorer(state or PartitionState(0), Rules(configuration(detector)))
    if detector.is_trained or detector is Detector.ENSEMBLE:
        fitted = detector if detector.is_trained else Detector.ISOLATION_FOREST
        scorer.use(replace(trained(fitted).model, sha256="ab" * 32))
    return scorer


class Run(NamedTuple):
    """Outcomes, the state behind them, and the score events as bytes."""

    outcomes: list[Outcome]
    state: PartitionState
    scores: list[bytes]


def run(
    detector: Detector, batch: Batch, cuts: Sequence[int] = (), *, restarts: bool = False
) -> Run:
    scorer, outcomes, scores = scorer_for(detector), [], []
    for start, stop in pairwise([0, *cuts, len(batch)]):
        outcomes.append(scorer.process(batch.rows(start, stop), DECODER))
        scores += encoded(outcomes[-1], scorer.state, ENCODER.topics.scores)
        if restarts:
            scorer = scorer_for(detector, snapshots.decode(snapshots.encode(scorer.state)))
    return Run(outcomes, scorer.state, scores)


def assert_same(one: Run, other: Run) -> None:
    assert one.scores == other.scores
    assert [a for o in one.outcomes for a in o.anomalies] == [
        a for o in other.outcomes for a in o.anomalies
    ]
    assert snapshots.encode(one.state) == snapshots.encode(other.state)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, ROWS - 1), max_size=5, unique=True),
    restarts=st.booleans(),
)
def test_cuts_and_restarts_change_nothing(
    detector: Detector, seed: int, cuts: list[int], restarts: bool
) -> None:
    batch = log_of(seed)
    assert_same(run(detector, batch), run(detector, batch, sorted(cuts), restarts=restarts))


def test_row_by_row_is_the_whole_log(detector: Detector) -> None:
    batch = log_of(1)
    assert_same(run(detector, batch), run(detector, batch, range(1, ROWS)))


@pytest.mark.parametrize("seed", [2, 3])
def test_neighbours_change_no_bit(detector: Detector, seed: int) -> None:
    """An entity's verdicts do not depend on the other entities of its partition.

    This holds as well if their schema has the metrics in another order. Only the verdict that an
    entity has stopped depends on the partition.
    """
    batch = log_of(seed)
    [whole], _, _ = run(detector, batch)
    for host in HOSTS:
        mine = [row for row in range(len(batch)) if batch.keys[row] == host.encode()]
        values, keys = (
            Blob.join([batch.values[row] for row in mine]),
            Blob.join([batch.keys[row] for row in mine]),
        )
        [alone], state, _ = run(
            detector, Batch("in", 0, values, keys, batch.offsets[mine], batch.broker_ms[mine])
        )
        rows = np.isin(whole.columns.accepted, mine)
        for name in (
            "score",
            "severity",
            "threshold",
            "is_anomaly",
            "cold_start",
            "warmup_percent",
            "warmup_minutes_left",
            "episode_id",
        ):
            assert (
                getattr(whole.verdicts, name)[rows].tobytes()
                == getattr(alone.verdicts, name).tobytes()
            ), name
        order = [METRICS.index(name) for name in state.metrics]
        for name in ("expected", "lower", "upper", "metric_severity"):
            here = getattr(whole.verdicts, name)[rows][:, order]
            assert here.tobytes() == getattr(alone.verdicts, name).tobytes(), name
        reported = [a for a in whole.anomalies if a.entity == host and a.kind is not Kind.STOPPED]
        assert [(a.kind, a.reason, a.metric, a.source_offset) for a in reported] == [
            (a.kind, a.reason, a.metric, a.source_offset) for a in alone.anomalies
        ]


def test_verdicts_are_finite_and_alarms_are_said(detector: Detector) -> None:
    [outcome], _, _ = run(detector, log_of(5, 3 * ROWS))
    verdicts = outcome.verdicts
    judged = verdicts.state != State.WARMING
    assert np.isfinite(verdicts.score[judged & ~np.isnan(verdicts.score)]).all()
    assert judged.any()
    severity = verdicts.severity[~np.isnan(verdicts.severity)]
    assert ((severity >= 0) & (severity <= 1)).all()
    alarms = [a for a in outcome.anomalies if a.is_anomaly]
    rows = {a.source_offset for a in alarms}
    assert rows == set(outcome.batch.offsets[outcome.columns.accepted[verdicts.is_anomaly]])
    opened = {a.episode_id for a in alarms if a.phase is Phase.OPEN}
    assert {a.event_id for a in alarms if a.phase is Phase.OPEN} == opened
    ends = [a for a in outcome.anomalies if a.kind is Kind.EPISODE_CLOSED]
    assert {a.episode_id for a in (*alarms, *ends)} <= opened
    assert len({a.event_id for a in outcome.anomalies}) == len(outcome.anomalies)
    for alarm in alarms:
        assert alarm.detector_id == detector.value
        assert alarm.severity is not None
        assert alarm.severity >= 0.5
        assert alarm.cold_start or abs(sum(alarm.attributions.values()) - 1.0) < 1e-9
        assert len(alarm.reason) > 10
    reported = {a.kind for a in outcome.anomalies if not a.is_anomaly}
    assert {Kind.LATE, Kind.DUPLICATE, Kind.MISSING} <= reported
