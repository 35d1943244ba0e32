"""The history: exact resumption, repeats, blocks, bounds, damage, and what it answers."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from dashboard.history import points as forms
from dashboard.history import store as sealing
from dashboard.history.queries import AnomalyFilter, EntityFilter, History, Range
from dashboard.history.results import decode
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from shared.kernels.units import DAY_MS
from tests.support.page_records import (
    SCHEMAS,
    START_MS,
    STEP_MS,
    anomaly,
    arrived,
    batch,
    closed,
    event_id,
    score,
)

KEEP = Retention(keep_days=30, max_bytes=100_000_000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dashboard" / "history.sqlite3"


def chart_of(history, rows, entity="web-1", width=1000):
    asked = Range(START_MS, START_MS + rows * STEP_MS, width)
    (chart,) = history.series(entity, ["cpu"], asked)
    return {name: plain(value) for name, value in chart.items()}


def plain(value):
    """An array as a list, with None for NaN."""
    if not isinstance(value, np.ndarray):
        return value
    return [None if one != one else one for one in value.tolist()]


def test_packed_points_come_back_bit_for_bit():
    points = np.zeros(100, forms.POINT)
    points["time_ms"] = START_MS + np.arange(100) ** 2
    points["value"] = np.random.default_rng(0).normal(size=100)
    points["value"][7] = np.nan
    points["flags"] = np.arange(100)
    assert forms.unpack(forms.pack(points)).tobytes() == points.tobytes()
    assert len(forms.unpack(forms.pack(points[:0]))) == 0
    with pytest.raises(ValueError, match="cannot be read"):
        forms.unpack(b"no zlib")


@pytest.mark.parametrize("seal_at", [1, 70, 10**6])
def test_points_are_the_same_in_tail_and_blocks_and_after_a_restart(path, seal_at):
    store = Store(path, KEEP, seal_at=seal_at)
    for first in range(0, 600, 50):
        records = [score(row) for row in range(first, first + 50)]
        store.apply([arrived("scores", records, first)])
    expected = [10.0 + row % 5 for row in range(600)]
    assert chart_of(History(path, store), 600)["value"] == expected
    assert store.offsets("scores.topic") == {0: 600}
    store.close()
    store = Store(path, KEEP)
    assert store.rebuilt == ""
    assert store.offsets("scores.topic") == {0: 600}
    assert chart_of(History(path, store), 600)["value"] == expected


def test_sealing_goes_on_in_slices_and_survives_a_restart(path, monkeypatch):
    monkeypatch.setattr(sealing, "SEAL_S", 0.0)
    store = Store(path, KEEP, seal_at=400)
    names = [f"web-{number}" for number in range(20)]
    expected = [10.0 + row % 5 for row in range(60)]

    def write(store, first):
        records = [score(row, entity=name) for row in range(first, first + 20) for name in names]
        store.apply([arrived("scores", records, 20 * first)])

    write(store, 0)  # one series is sealed
    write(store, 20)
    (count,) = History(path, store).db.execute("SELECT count(*) FROM blocks").fetchone()
    assert count == 2
    store.close()
    store = Store(path, KEEP, seal_at=400)
    write(store, 40)
    for _ in range(3):
        history = History(path, store)
        assert [chart_of(history, 60, name)["value"] for name in names] == [expected] * 20
        store.seal()
    assert store._db.execute("SELECT count(*) FROM tail").fetchone()[0] == 0


def test_a_failed_slice_is_sealed_again(path, monkeypatch):
    store = Store(path, KEEP)
    store.apply([arrived("scores", [score(row, entity=name) for row in (0, 1) for name in "ab"])])
    append = store._append
    monkeypatch.setattr(store, "_append", lambda series, new: series == 2 and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.seal()
    monkeypatch.setattr(store, "_append", append)
    store.seal()
    assert [chart_of(History(path, store), 9, name)["value"] for name in "ab"] == [[10.0, 11.0]] * 2


def test_a_failed_transaction_leaves_rows_and_offsets_as_they_were(path):
    store = Store(path, KEEP)
    store.apply([arrived("scores", [score(0)])])
    broken = score(2, entity="new")
    good = arrived("scores", [score(1)], 1)
    bad = arrived("scores", [broken], 2)
    bad.scores[0].pop("state")
    with pytest.raises(KeyError):
        store.apply([good, bad])
    assert store.offsets("scores.topic") == {0: 1}
    assert chart_of(History(path, store), 9)["value"] == [10.0]
    store.apply([good, arrived("scores", [broken], 2)])
    assert store.offsets("scores.topic") == {0: 3}
    history = History(path, store)
    assert chart_of(history, 9)["value"] == [10.0, 11.0]
    assert chart_of(history, 9, "new")["value"] == [12.0]


def test_repeated_and_late_records_change_nothing_twice(path):
    store = Store(path, KEEP, seal_at=1)
    opened = anomaly(2)
    for offset in (0, 3):
        store.apply([arrived("scores", [score(2), score(1, late=True), score(3)], offset)])
        store.apply([arrived("anomalies", [opened], offset)])
    history = History(path, store)
    assert chart_of(history, 9)["value"] == [11.0, 12.0, 13.0]
    assert len(history.anomalies(AnomalyFilter(), 10)) == 1
    assert history.totals()["open_episodes"] == 1


def test_a_record_too_far_ahead_moves_no_clock(path):
    store = Store(path, KEEP)
    store.apply([arrived("scores", [score(0), score(10**6, ahead=True, metrics=[])])])
    assert store.clock_ms == START_MS
    assert History(path, store).entity("web-1")["last_ms"] == START_MS


def test_missing_values_are_holes(path):
    store = Store(path, KEEP)
    records = [score(row, value=None if row == 2 else 1.0) for row in range(5)]
    store.apply([arrived("scores", records)])
    chart = chart_of(History(path, store), 5)
    assert chart["value"] == [1.0, 1.0, None, 1.0, 1.0]
    assert chart["expected"] == [12.0] * 5


def test_episodes_open_get_worse_and_end(path):
    store = Store(path, KEEP)
    history = History(path, store)
    opened = anomaly(5)
    store.apply([arrived("scores", [score(5), score(5, entity="calm")])])
    store.apply([arrived("anomalies", [opened])])
    assert history.entities(EntityFilter(is_anomalous=True), 9, 0)[1][0]["open_severity"] == 0.9
    worse = anomaly(6) | {
        "event_id": event_id(9),
        "phase": "worse",
        "episode_id": opened["episode_id"],
        "episode_start": opened["episode_start"],
        "peak_severity": 0.95,
    }
    store.apply([arrived("anomalies", [worse], 1)])
    (_, first), *_ = [history.entities(EntityFilter(), 9, 0)]
    assert [row["name"] for row in first] == ["web-1", "calm"]
    assert first[0]["open_severity"] == 0.95
    assert len(history.anomalies(AnomalyFilter(is_open=True), 9)) == 2
    store.apply([arrived("anomalies", [closed(worse, 9)], 2)])
    assert history.totals()["anomalous"] == 0
    assert history.anomalies(AnomalyFilter(is_open=True), 9) == []
    found = history.anomaly(opened["event_id"])
    assert found["episode"]["end_ms"] == START_MS + 9 * STEP_MS
    assert found["episode"]["closed_because"] == "recovered"
    assert [record["phase"] for record in found["records"]] == ["open", "worse", "closed"]
    spans = history.spans("web-1", Range(START_MS, START_MS + 20 * STEP_MS, 100))
    assert [span["peak_severity"] for span in spans["episodes"]] == [0.95]


def test_the_order_in_which_topics_are_read_changes_nothing(tmp_path):
    found = []
    scores, anomalies = arrived("scores", [score(0), score(5)]), arrived("anomalies", [anomaly(5)])
    for number, order in enumerate(([scores, anomalies], [anomalies, scores])):
        store = Store(tmp_path / str(number) / "history.sqlite3", KEEP)
        for batch_of_one in order:
            store.apply([batch_of_one])
        found.append(History(store.path, store).entity("web-1"))
    assert found[0] == found[1]
    assert found[0]["first_ms"] == START_MS


def test_models_that_change_are_marked(path):
    store = Store(path, KEEP)
    records = [score(row, model_id=None if row < 3 else "a" * 16) for row in range(6)]
    store.apply([arrived("scores", records)])
    spans = History(path, store).spans("web-1", Range(START_MS, START_MS + 9 * STEP_MS, 100))
    assert spans["models"] == [{"time_ms": START_MS + 3 * STEP_MS, "model_id": "a" * 16}]


def test_text_of_a_search_is_no_pattern(path):
    store = Store(path, KEEP)
    store.apply([arrived("scores", [score(0, entity=name) for name in ("a%b", "aXb", "A_C")])])
    history = History(path, store)
    names = [row["name"] for row in history.entities(EntityFilter(text="a%"), 9, 0)[1]]
    assert names == ["a%b"]
    assert history.entities(EntityFilter(text="_c"), 9, 0)[0] == 1


def test_age_is_by_each_entitys_own_clock(path):
    store = Store(path, Retention(keep_days=1, max_bytes=10**9), seal_at=1)
    day = DAY_MS // STEP_MS
    store.apply([arrived("scores", [score(0), score(0, entity="ended")])])
    store.apply([arrived("anomalies", [anomaly(0), anomaly(1, entity="ended")])])
    for row in range(1, 4):
        records = [score(row * day + number) for number in range(600)]
        store.apply([arrived("scores", records, row)])
    history = History(path, store)
    assert len(chart_of(history, 9, "ended")["value"]) == 1
    assert chart_of(history, day - 1)["value"] == []
    assert [row["entity"] for row in history.anomalies(AnomalyFilter(), 9)] == ["ended"]


def test_the_size_stays_within_its_bound(path):
    store = Store(path, Retention(keep_days=3650, max_bytes=800_000), seal_at=5_000)
    generator = np.random.default_rng(1)
    for first in range(0, 40_000, 5_000):
        values = generator.normal(size=5_000)
        records = [score(first + n, value=float(value)) for n, value in enumerate(values)]
        store.apply([arrived("scores", records, first)])
        assert store.size_bytes() <= 800_000
        assert path.stat().st_size <= 800_000
    chart = chart_of(History(path, store), 40_000, width=4000)
    assert chart["time_ms"][-1] == START_MS + 39_999 * STEP_MS
    assert 5_000 < chart["points"] < 40_000


def test_what_is_forgotten_is_returned_to_the_disk(path):
    store = Store(path, Retention(keep_days=1, max_bytes=10**9), seal_at=1)
    values = np.random.default_rng(1).normal(size=20_000)
    store.apply(
        [arrived("scores", [score(n, value=float(value)) for n, value in enumerate(values)])]
    )
    store.apply([arrived("scores", [score(40_000)], 20_000)])
    (free,) = History(path, store).db.execute("PRAGMA freelist_count").fetchone()
    assert store.size_bytes() < 300_000
    assert free == 0


@pytest.mark.parametrize("damage", ["rubbish", "version", "cut"])
def test_an_unusable_file_is_set_aside_and_begun_again(path, damage):
    store = Store(path, KEEP, seal_at=1)
    for first in range(0, 3000, 1000):
        store.apply([arrived("scores", [score(row) for row in range(first, first + 1000)], first)])
    store.close()
    if damage == "rubbish":
        path.write_bytes(b"no database" * 1000)
    elif damage == "version":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    store = Store(path, KEEP)
    assert {"version": "version 99"}.get(damage, "damaged") in store.rebuilt
    assert store.offsets("scores.topic") == {}
    assert path.with_name(path.name + ".unusable").exists()
    store.apply([arrived("scores", [score(0)])])
    assert chart_of(History(path, store), 9)["value"] == [10.0]


def test_readers_follow_to_the_new_file_after_a_rebuild(path):
    store = Store(path, KEEP)
    store.apply([arrived("scores", [score(0)])])
    history = History(path, store)
    assert history.totals()["entities"] == 1
    store.rebuild("it is damaged (a test)")
    assert history.totals()["entities"] == 0
    assert store.offsets("scores.topic") == {}


def test_records_that_cannot_be_decoded_are_counted_and_skipped():
    good = batch("scores", [score(0), score(1)])
    cut = good.values.data[:-3]
    bounds = good.values.bounds.copy()
    bounds[-1] -= 3
    damaged = type(good)(
        good.topic, 0, type(good.values)(cut, bounds), good.keys, good.offsets, good.broker_ms
    )
    found = decode(damaged, "scores", SCHEMAS.get)
    assert [event["event_time"] for event in found.scores] == [START_MS]
    assert found.undecodable[0].startswith("scores.topic[0]@1: ")
    assert found.next_offset == 2
    assert len(decode(good, "scores", {}.get).undecodable) == 2
    assert len(decode(batch("anomalies", [anomaly(0)]), "scores", SCHEMAS.get).undecodable) == 1
