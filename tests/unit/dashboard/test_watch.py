"""What the page measures: latency, and partitions that are added while it reads."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from dashboard import intake as intake_module
from dashboard import watch as watch_module
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.intake import Intake
from dashboard.server import history_file
from dashboard.watch import SAMPLED, Latency, Watch
from shared.batch import Batch, Blob
from shared.errors import TransportError
from shared.settings import load_settings
from tests.support.page_records import arrived, score

INPUT = "metrics.cloudwatch.raw"


class Cluster:
    """Stands in for Admin and Reader: topics with partitions, and the input's timestamps."""

    def __init__(self, partitions=1):
        self.count = partitions
        self.starts = []
        self.failure = None
        self.low, self.high = {0: 0}, {0: 1_000}

    def __call__(self, *_, **__):
        return self

    def partitions(self, topic):
        return self.count

    def topic_id(self, topic):
        return "id"

    def bounds(self, topic):
        if topic == INPUT:
            return self.low, self.high
        low = dict.fromkeys(range(self.count), 0)
        return low, low

    def lag(self, group, topic):
        return dict.fromkeys(range(self.count), 7)

    def follow(self, topic, start, *, stopping):
        self.starts.append((topic, dict(start)))
        while not stopping():
            time.sleep(0.005)
        yield from ()

    def read(self, topic, start, end):
        """Input records that were sent at 1000 times their offset."""
        if self.failure:
            raise self.failure
        for partition, first in start.items():
            offsets = np.arange(first, end[partition], dtype=np.int64)
            nothing = Blob.join([b""] * len(offsets))
            yield Batch(topic, partition, nothing, nothing, offsets, offsets * 1000)

    def close(self):
        pass


@pytest.fixture
def settings(tmp_path):
    return load_settings({"state_dir": tmp_path}, environ={})


def test_partitions_that_are_added_are_read_without_a_restart(settings, monkeypatch):
    cluster = Cluster()
    for module in (intake_module, watch_module):
        monkeypatch.setattr(module, "Admin", cluster)
        monkeypatch.setattr(module, "Reader", cluster)
    monkeypatch.setattr(watch_module, "LAG_EVERY_S", 0.01)
    intake = Intake(settings, Store(history_file(settings), Retention(30, 10**9)), Hub(5))
    intake.start()
    try:
        until_s = time.monotonic() + 20
        while len(cluster.starts) < len(intake.followers) and time.monotonic() < until_s:
            time.sleep(0.01)
        cluster.count = 3
        while len(cluster.starts) < 2 * len(intake.followers) and time.monotonic() < until_s:
            time.sleep(0.01)
        time.sleep(0.1)
        again = cluster.starts[len(intake.followers) :]
        assert {topic for topic, _ in again} == {one.topic for one in intake.followers}
        assert all(start == {0: 0, 1: 0, 2: 0} for _, start in again)
        assert len(again) == len(intake.followers), "each begins again once"
        assert intake.watch.lag["partitions"] == {"0": 7, "1": 7, "2": 7}
    finally:
        intake.close()


def scores_written(rows, after_ms):
    """Scores of the input records at some offsets, written so long after they were sent."""
    batch = arrived("scores", [score(row) for row in rows])
    written = [row * 1000 + late_ms for row, late_ms in zip(rows, after_ms, strict=True)]
    return SimpleNamespace(scores=batch.scores, written_ms=written, undecodable=())


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(watch_module, "Reader", cluster)
    return cluster


def test_latency_is_from_the_inputs_timestamp_to_the_scores(settings, cluster):
    latency = Latency()
    assert latency.status() == {"problem": "no result has been read yet", "records": 0}
    rows = range(100, 200)
    latency.add(scores_written(rows, [row - 100 for row in rows]))
    latency.measure(settings, cluster)
    found = latency.status()
    assert found["records"] == SAMPLED
    assert found["p50_ms"] == pytest.approx(67.5)
    assert found["p99_ms"] == pytest.approx(99, abs=1)
    latency.measure(settings, cluster)
    assert latency.status() == found, "nothing new: the last measurement stays"


def test_latency_of_records_that_retention_removed_is_not_claimed(settings, cluster):
    cluster.low = {0: 500}
    latency = Latency()
    latency.add(scores_written([10, 11], [5, 5]))
    latency.measure(settings, cluster)
    assert latency.status()["records"] == 0


def test_an_input_that_cannot_be_read_is_named_and_the_last_figures_stay(settings, cluster):
    watch = Watch(settings, [], threading.Event())
    watch.latency.add(scores_written([10], [40]))
    watch.measure_latency(cluster)
    cluster.failure = TransportError("no answer")
    watch.latency.add(scores_written([11], [50]))
    watch.measure_latency(cluster)
    assert watch.latency.status() | {"p95_ms": 0, "p99_ms": 0} == {
        "problem": "no answer",
        "records": 1,
        "p50_ms": 40,
        "p95_ms": 0,
        "p99_ms": 0,
    }
