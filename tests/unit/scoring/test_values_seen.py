"""Rows as a model of values sees them: before the fold, by name, and in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.histories import Prepared
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.events import Detector
from shared.models.peers import Peers
from shared.models.reconstruction import Reconstruction
from shared.models.value_rows import list_entities
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Outcome, Rules, Scorer
from shared.scoring.state import PartitionState
from shared.scoring.values_seen import ValuesSeen
from shared.settings import Settings
from tests.support.episodes import needs_speed
from tests.support.models import START_MS, STEP_MS, series, trained

METRICS = ("network", "cpu")
DAY = 24


def peers_alone() -> Scorer:
    settings = Settings(detector="peer_groups")
    scorer = Scorer(PartitionState(0), Rules(Configuration.from_settings(settings)))
    scorer.use(replace(trained(Detector.PEER_GROUPS).model, sha256="ab" * 32))
    return scorer


def outcome_of(
    scorer: Scorer, names: list[str], owner: np.ndarray, time_ms: np.ndarray, values: np.ndarray
) -> Outcome:
    count = len(time_ms)
    columns = Columns(
        np.arange(count), owner.astype(np.int32), time_ms, np.ascontiguousarray(values),
        np.empty(0, np.int64), np.empty(0, np.uint8)
    )  # fmt: skip
    blank = Blob.join([b""] * count)
    batch = Batch("in", 0, blank, blank, np.arange(count), np.zeros(count, np.int64))
    return scorer.process(batch, Prepared(columns, names, METRICS))


def days_of(host: int, days: int, factor: float = 1.0) -> np.ndarray:
    """Hourly values of a host as in training, with the columns the other way round."""
    values = series(days * DAY, 2, seed=100 + host)
    values[:, 0] *= factor
    return values[:, ::-1]


@needs_speed
def test_a_new_host_that_differs_from_its_peers_alarms_and_says_so() -> None:
    rows = 4 * DAY
    time_ms = np.repeat(START_MS + np.arange(rows) * STEP_MS, 2)
    values = np.stack([days_of(0, 4), days_of(1, 4, factor=3.0)], axis=1).reshape(-1, 2)
    owner = np.tile([0, 1], rows)
    outcome = outcome_of(peers_alone(), ["host-0", "new"], owner, time_ms, values)
    alarms = [alarm for alarm in outcome.anomalies if alarm.is_anomaly]
    assert {alarm.entity for alarm in alarms} == {"new"}
    first = alarms[0]
    assert first.metric == "cpu"
    assert first.top_feature == "cpu.peers"
    assert first.reason.startswith("cpu is ")
    assert "but among its 3 peers it is usually about" in first.reason
    assert first.lower < first.expected < first.upper < first.value
    assert first.attributions["cpu"] > 0.9
    assert sum(first.attributions.values()) == pytest.approx(1.0)
    assert first.model_id == "ab" * 8


@needs_speed
def test_rows_that_are_late_or_duplicate_are_not_known() -> None:
    rows = 3 * DAY
    time_ms = START_MS + np.arange(rows) * STEP_MS
    time_ms[50] = time_ms[20]
    values = days_of(0, 3)
    time_ms[60], values[60] = time_ms[59], values[59]
    outcome = outcome_of(peers_alone(), ["host-0"], np.zeros(rows), time_ms, values)
    assert np.flatnonzero(~outcome.trained.known).tolist() == [50, 60]
    assert np.isnan(outcome.verdicts.score[[50, 60]]).all()
    assert np.isfinite(np.delete(outcome.verdicts.score, [50, 60])).all()


def test_without_peers_no_verdict() -> None:
    model = trained(Detector.PEER_GROUPS).model
    peers = model.member
    assert isinstance(peers, Peers)
    lonely = replace(model, member=replace(peers, group=np.full_like(peers.group, -1)))
    X = np.array([[0.0, 0.0, 9.0, 9.0]])
    assert not lonely.knows(X).any()
    seen = ValuesSeen(X, np.full(1, np.nan), lonely.knows(X))
    assert seen.explain(lonely, np.array([0])) == {}
    assert seen.explain(None, np.array([0])) == {}


def test_a_reason_names_the_metric_that_is_furthest_from_its_peers() -> None:
    base = trained(Detector.PEER_GROUPS).model
    member = Peers(
        list_entities(["a", "b", "c"]),
        np.zeros(3, np.int32),
        np.array([[[40.0, 7.0]]]),
        np.array([[[5.0, 1.0]]]),
    )
    model = replace(base, member=member)
    X = np.array([[0.0, 13.0, 124.0, 8.0], [-1.0, 13.0, np.nan, 17.0]])
    seen = ValuesSeen(X, np.zeros(2), np.ones(2, np.bool_))
    found = seen.explain(model, np.array([1, 0, 0]))
    assert found[0].reason == (
        "cpu is 124, but among its 3 peers it is usually about 40 (25 to 55) at this hour"
    )
    assert found[0].values == {"value": 124.0, "expected": 40.0, "lower": 25.0, "upper": 55.0}
    assert found[1].metric == "network"
    assert found[1].shares == {"network": 1.0}


def test_a_reason_names_the_metric_that_is_reproduced_worst() -> None:
    base = trained(Detector.RECONSTRUCTION).model
    member = Reconstruction(
        list_entities(["a"]),
        np.array([[40.0, 7.0]]),
        np.array([[5.0, 1.0]]),
        np.array([2, 1, 2], np.int32),
        np.array([0.0, 1.0, 1.0, 1.0]),
        np.zeros(3),
        1,
        np.array([[0.5, 0.5]]),
    )
    model = replace(base, member=member)
    X = np.array([[0.0, 13.0, 65.0, 8.0], [-1.0, 13.0, 65.0, 8.0]])
    known = model.knows(X)
    assert known.tolist() == [True, False]
    found = ValuesSeen(X, np.zeros(2), known).explain(model, np.array([0, 1]))
    assert list(found) == [0]
    assert found[0].reason == (
        "cpu is 65, but with the other metrics as they are it is usually about 45 (37.5 to 52.5)"
    )
    assert found[0].top_feature == "cpu.reconstruction"
    assert found[0].shares == {"cpu": 1.0}
