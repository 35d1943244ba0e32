"""Parts of the backtest: what is counted and matched, ranges of a topic, models, names of files."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.backtest.command import in_several_partitions, parse_changes, progress
from lapwing.backtest.feeds import (
    Feed,
    InputOptions,
    Joined,
    TopicRange,
    open_feed,
    parse_range,
    within,
)
from lapwing.backtest.figures import compare, count, figures, observed_days
from lapwing.backtest.files import alarms_csv, result_files
from lapwing.backtest.run import BacktestResult, Series, Variant, run
from lapwing.backtest.text import to_text
from producer.records import event_schema
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_flat
from shared.errors import ConfigError, HistoryGone
from shared.events import Anomaly, ClosedBecause, Kind, Phase, State
from shared.incidents.grouping import Rules
from shared.kernels.units import DAY_MS
from shared.labels import Window
from shared.scoring.configuration import Configuration
from shared.settings import load_settings
from shared.wording import iso

START_MS, STEP_MS = 1_700_000_100_000, 300_000
SETTINGS = load_settings({}, environ={})
RULES = Rules.of(SETTINGS.incidents)


def alarm(entity="a", row=0, **more):
    fields = dict.fromkeys(Anomaly.__dataclass_fields__) | {
        "entity": entity, "kind": Kind.ANOMALY, "metric": "cpu", "event_id": f"{entity}{row}",
        "event_time": START_MS + row * STEP_MS, "severity": 0.6, "score": 2.0,
        "detector_id": "ensemble", "attributions": {"cpu.value": 1.0}, "reason": "why",
        "state": State.READY, "imputed": False, "source_partition": 0, "source_offset": row,
        "is_anomaly": True, "cold_start": False,
        "episode_id": f"{entity}{row}", "phase": Phase.OPEN,
    }  # fmt: skip
    return Anomaly(**(fields | more))


def series(entity="a", n=100, alarms=(), ready_from=0, step_ms=STEP_MS, **more):
    marked = np.zeros(n, bool)
    marked[list(alarms)] = True
    cells = np.arange(n, dtype=float)[:, None]
    fields = {
        "entity": entity, "partition": 0, "metrics": ("cpu",),
        "time_ms": START_MS + np.arange(n) * step_ms, "severity": np.where(marked, 0.6, 0.1),
        "is_anomaly": marked, "cold_start": np.zeros(n, bool),
        "state": np.where(np.arange(n) < ready_from, State.WARMING, State.READY).astype(np.uint8),
        "counted": np.ones(n, bool), "in_episode": np.zeros(n, bool), "values": cells,
        "expected": cells, "lower": cells - 1, "upper": cells + 1,
    }  # fmt: skip
    return Series(**(fields | more))


def result_of(*of, alarms=(), closed=(), quality=(), **settings):
    configuration = Configuration.from_settings(load_settings(settings, environ={}))
    return BacktestResult(
        Variant("first", configuration), of, tuple(alarms), tuple(closed), tuple(quality), {}, 0, 0
    )


# -- figures ---------------------------------------------------------------------------------------


def test_days_are_the_time_between_records_and_a_silence_is_one_day_at_most():
    one = series(n=5)
    everything = np.ones(5, bool)
    assert observed_days(one, everything) == pytest.approx(4 * STEP_MS / DAY_MS)
    gap = one.time_ms.copy()
    gap[3:] += 40 * DAY_MS
    assert observed_days(replace(one, time_ms=gap), everything) == pytest.approx(
        (3 * STEP_MS + DAY_MS) / DAY_MS
    )
    assert observed_days(one, np.arange(5) >= 3) == pytest.approx(2 * STEP_MS / DAY_MS)
    assert observed_days(series(n=1), np.ones(1, bool)) == 0.0


def test_late_and_duplicate_records_take_no_time():
    one = series(n=5)
    times = one.time_ms.copy()
    times[2] -= 10 * STEP_MS
    kept = replace(one, time_ms=times, counted=np.array([1, 1, 0, 1, 1], bool))
    assert observed_days(kept, np.ones(5, bool)) == pytest.approx(4 * STEP_MS / DAY_MS)


def test_figures_of_a_variant():
    alarms = [
        alarm("a", 20, severity=0.9, attributions={"cpu.value": 0.75, "net.jump": 0.25}),
        alarm(
            "a", 21, severity=0.75, attributions={"cpu": 1.0}, phase=Phase.WORSE, episode_id="a20"
        ),
        alarm("b", 5, severity=0.5, cold_start=True, attributions={}),
    ]
    quality = [alarm("b", 7, kind=Kind.GAP, is_anomaly=False, severity=None, score=None)]
    result = result_of(
        series("a", 577, [20, 21]), series("b", 289, [5], ready_from=10), alarms=alarms,
        quality=quality,
        detection={"alarms_per_day": 2},
    )  # fmt: skip
    entities = count(result, None, {})
    shown = figures(result, entities, RULES)
    assert [one["entity"] for one in shown["per_entity"]] == ["a", "b"]
    assert shown["alarms"]["count"] == 3
    assert shown["alarms"]["episodes"] == 2
    assert shown["alarms"]["incidents"] == 2
    assert shown["alarms"]["by_severity"] == {"critical": 1, "major": 1, "minor": 1, "info": 0}
    assert shown["alarms"]["by_metric"] == {"cpu": 2.75, "net": 0.25}
    assert shown["alarms"]["by_view"] == {
        "cold_start": 1.0,
        "trained": 1.0,
        "value": 0.75,
        "jump": 0.25,
    }
    assert shown["alarms"]["false_by_fortnight"] == [1.0]
    assert shown["alarms"]["per_entity_and_day"] == pytest.approx(3 / 3)
    achieved = 1 / (2 + 279 * STEP_MS / DAY_MS)
    assert shown["budget"] == {
        "asked": 2,
        "achieved": round(achieved, 4),
        "ratio": pytest.approx(achieved / 2, abs=1e-4),
    }
    assert shown["data_quality"] == {"gap": 1}
    assert shown["labels"] is None
    assert [one["severity"] for one in shown["top_alarms"]] == [0.9, 0.75, 0.5]


def test_a_trained_models_shares_are_by_metric():
    of = [alarm(detector_id="isolation_forest", attributions={"cpu": 0.7, "time_of_day": 0.3})]
    result = result_of(series(), alarms=of)
    shown = figures(result, count(result, None, {}), RULES)["alarms"]
    assert shown["by_metric"] == {"cpu": 0.7, "time_of_day": 0.3}
    assert shown["by_view"] == {"trained": 1.0}


def test_a_table_says_where_an_episode_stands_and_how_it_ended():
    opened, worse = alarm("a", 3), alarm("a", 5, phase=Phase.WORSE, episode_id="a3")
    end = alarm(
        "a", 9, kind=Kind.EPISODE_CLOSED, is_anomaly=False, severity=None, score=None,
        phase=Phase.CLOSED, episode_id="a3", peak_value=44.0,
        closed_because=ClosedBecause.RECOVERED,
    )  # fmt: skip
    open_still = alarm("a", 50, peak_value=7.0)
    text = alarms_csv(result_of(alarms=[opened, worse, open_still], closed=[end]), None, None)
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["phase"] for row in rows] == ["open", "worse", "open"]
    assert {row["kind"] for row in rows} == {"anomaly"}
    ended = iso(end.event_time)
    assert [row["end"] for row in rows] == [ended, ended, ""]
    assert [row["peak"] for row in rows] == ["44.0", "44.0", "7.0"]
    assert [row["closed_because"] for row in rows] == ["recovered", "recovered", ""]
    assert [row["episode_id"] for row in rows] == ["a3", "a3", "a50"]


def test_labels_and_kinds():
    windows = {
        "a": [
            Window(START_MS + 18 * STEP_MS, START_MS + 22 * STEP_MS, "a 1", "spike"),
            Window(0, 1, "a 2", "drop"),
        ]
    }
    windows["a"].append(Window(START_MS + 50 * STEP_MS, START_MS + 60 * STEP_MS, "a 3", "drop"))
    result = result_of(
        series("a", 100, [20, 21, 70]), alarms=[alarm("a", 20), alarm("a", 21), alarm("a", 70)]
    )
    labels = figures(result, count(result, windows, {}), RULES)["labels"]
    assert (labels["hits"], labels["missed"], labels["without_data"], labels["false_alarms"]) == (
        1,
        1,
        1,
        1,
    )
    assert labels["by_kind"] == {
        "drop": {"hits": 0, "missed": 1},
        "spike": {"hits": 1, "missed": 0},
    }
    assert (labels["precision"], labels["recall"], labels["f1"]) == (0.5, 0.5, 0.5)
    assert labels["median_delay_min"] == 10.0


def test_what_a_model_was_trained_on_is_not_counted():
    result = result_of(series("a", 100, [20, 70]), alarms=[alarm("a", 20), alarm("a", 70)])
    (one,) = count(result, {}, {("a", 0): START_MS + 60 * STEP_MS})
    assert [found.event_time for found in one.alarms] == [START_MS + 70 * STEP_MS]
    assert one.days == pytest.approx(40 * STEP_MS / DAY_MS)
    assert one.evaluation.false_alarms == 1


def entities(*alarms, of="a"):
    result = result_of(series("a", 100), series("b", 100), alarms=alarms)
    return count(result, None, {})


def test_alarms_are_matched_once_each_within_the_tolerance():
    first = entities(alarm("a", 10), alarm("a", 12), alarm("a", 40), alarm("b", 60))
    second = entities(alarm("a", 11), alarm("a", 47), alarm("b", 60), alarm("b", 61))
    change = compare(first, second)
    rows = lambda of: [(one.entity, one.source_offset) for one in of]  # noqa: E731
    assert [(a.source_offset, b.source_offset) for a, b in change.kept] == [(10, 11), (60, 60)]
    assert rows(change.removed) == [("a", 12), ("a", 40)]
    assert rows(change.added) == [("a", 47), ("b", 61)]
    wide = compare(first, second, 7 * STEP_MS)
    assert [(a.source_offset, b.source_offset) for a, b in wide.kept] == [
        (10, 11),
        (40, 47),
        (60, 60),
    ]
    assert rows([one for one, _ in compare(first, second, 0.0).kept]) == [("b", 60)]


@given(
    st.lists(st.integers(0, 99), max_size=12),
    st.lists(st.integers(0, 99), max_size=12),
    st.integers(0, 20),
)
def test_no_alarm_is_lost_or_counted_twice(left, right, tolerance):
    first, second = (entities(*(alarm("a", row) for row in rows)) for rows in (left, right))
    change = compare(first, second, tolerance * STEP_MS)
    assert sorted(
        [a.source_offset for a, _ in change.kept] + [a.source_offset for a in change.removed]
    ) == sorted(left)
    assert sorted(
        [b.source_offset for _, b in change.kept] + [b.source_offset for b in change.added]
    ) == sorted(right)
    assert all(abs(a.event_time - b.event_time) <= tolerance * STEP_MS for a, b in change.kept)


def test_an_entity_in_several_partitions_is_told_apart():
    result = result_of(series("a", 30), series("a", 30, partition=2), series("b", 30))
    (note,) = in_several_partitions(result)
    assert note.startswith("1 of 2 entities lie in several partitions, e.g. 'a' in 2 of them: ")
    entities = count(result, None, {})
    shown = figures(result, entities, RULES)
    text = to_text({"source": "t", "notes": [note], "first": shown, "compare": None})
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["a"], ["entity"])]
    assert [row[:2] for row in rows] == [["entity", "partition"], ["a", "0"], ["a", "2"]]
    alone = result_of(series("a", 30), series("b", 30))
    assert in_several_partitions(alone) == []
    shown = figures(alone, count(alone, None, {}), RULES)
    assert "partition" not in to_text({"source": "t", "notes": [], "first": shown, "compare": None})


def test_text_of_nothing_but_rejects():
    result = replace(result_of(), rejected={"not_avro": 3})
    shown = figures(result, [], RULES)
    text = to_text({"source": "t", "notes": [], "first": shown, "compare": None})
    assert "unreadable      3 not avro" in text


# -- what is run -----------------------------------------------------------------------------------


DECODER = AvroDecoder.of_schemas(
    {1: event_schema(("cpu",)), 2: event_schema(("net",))}, SETTINGS.input
)


def records(metrics, rows, partition=0, first=0, schema_id=1):
    """A batch of (entity, minute, values...) records."""
    names = sorted({row[0] for row in rows})
    values = np.array([row[2:] for row in rows], float).reshape(len(rows), len(metrics))
    index = np.array([names.index(row[0]) for row in rows])
    times = np.array([START_MS + row[1] * 60_000 for row in rows])
    data = encode_flat(schema_id, names, index, times, values)
    offsets = np.arange(first, first + len(rows))
    keys = Blob.join([row[0].encode() for row in rows])
    return Batch("in", partition, data, keys, offsets, np.zeros(len(rows), np.int64))


def test_metrics_that_come_later_and_several_partitions():
    batches = [
        records(("cpu",), [("a", 0, 1), ("b", 0, 2)]),
        records(("cpu",), [("a", 0, 7)], partition=1),
        records(("net",), [("b", 5, 9), ("a", 5, np.nan)], first=2, schema_id=2),
    ]
    feed = Feed("f", 5, DECODER, lambda: iter(batches))
    progress_calls = []
    (found,) = run(feed, [result_of().variant], lambda *shown: progress_calls.append(shown))
    assert [one.key for one in found.series] == [("a", 0), ("a", 1), ("b", 0)]
    assert [one.metrics for one in found.series] == [("cpu",), ("cpu",), ("cpu", "net")]
    np.testing.assert_array_equal(found.series[2].values, [[2, np.nan], [np.nan, 9]])
    assert [rows for rows, _ in progress_calls] == [2, 3, 5]


def test_what_cannot_be_read_is_counted():
    batch = records(("cpu",), [("a", 0, 1)])
    broken = Batch(
        "in",
        0,
        Blob.join([b"nothing", *[batch.values[0]]]),
        Blob.join([b"", b"a"]),
        np.arange(2),
        np.zeros(2, np.int64),
    )
    (found,) = run(Feed("f", 2, DECODER, lambda: iter([broken])), [result_of().variant])
    assert found.rejected == {"not_avro": 1}
    assert found.rows == 1


def test_labels_of_a_joined_file_move_to_the_hosts_times():
    rows = np.arange(4)
    part = Joined("host", "net", "file", rows * 10, 1000 + rows * 7)
    feed = Feed("f", 4, DECODER, lambda: iter(()), joined=(part,))
    found = feed.windows(
        {"cat/file.csv": [Window(10, 25, "w 1")], "host": [Window(1, 2)], "x": [Window(0, 1)]},
        ["host", "other"],
    )
    assert found == {"host": [Window(1, 2), Window(1007, 1014, "w 1", metric="net")], "other": []}


def test_a_host_joined_by_the_catalogue(tmp_path):
    for name, hour in (("p", 0), ("q", 2)):
        lines = [
            f"2024-01-01 {hour + row // 4:02d}:{row % 4 * 15:02d}:00,{row}" for row in range(8)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["timestamp,value", *lines]))
    catalogue = tmp_path / "c.toml"
    catalogue.write_text(
        '[[host]]\nname = "h"\njoin = "position"\n[host.metrics]\ncpu = "p"\nnet = "q"\n'
    )
    feed = open_feed(SETTINGS, InputOptions(data=tmp_path, catalogue=catalogue))
    (found,) = feed.windows(
        {"q.csv": [Window(1_704_074_400_000 + 15 * 60_000, 1_704_074_400_000 + 30 * 60_000)]}, ["h"]
    ).values()
    assert [(one.start_ms, one.end_ms, one.metric) for one in found] == [
        (1_704_067_200_000 + 900_000, 1_704_067_200_000 + 1_800_000, "net")
    ]


# -- a range of the topic --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5..20", TopicRange(False, 5, 20)),
        ("..", TopicRange(False, None, None)),
        ("7..", TopicRange(False, 7, None)),
        ("..2024-01-02", TopicRange(True, None, 1_704_153_600_000)),
        (
            "2024-01-01T00:00+01:00..2024-01-01T00:00",
            TopicRange(True, 1_704_063_600_000, 1_704_067_200_000),
        ),
    ],
)
def test_ranges(text, wanted):
    assert parse_range(text) == wanted


@pytest.mark.parametrize(
    "text", ["5", "5..2024-01-01", "9..9", "2024-01-02..2024-01-01", "yesterday..", "-3..4"]
)
def test_what_is_no_range_is_refused_with_what_is_allowed(text):
    with pytest.raises(
        ConfigError,
        match=re.escape(f"--topic-range {text}: ") + r".*offsets \(0\.\.50000\), or event times",
    ):
        parse_range(text)


def test_records_are_chosen_by_event_time():
    batch = records(("cpu",), [("a", 0, 1), ("b", 5, 2), ("a", 3, 3), ("a", 9, 4)], first=10)
    batch = replace(batch, headers={1: [("h", b"x")]})
    wanted = TopicRange(True, START_MS + 3 * 60_000, START_MS + 9 * 60_000)
    kept = within(batch, DECODER, wanted)
    assert kept.offsets.tolist() == [11, 12]
    assert [kept.keys[0], kept.keys[1]] == [b"b", b"a"]
    assert kept.headers == {0: [("h", b"x")]}
    assert kept.values[1] == batch.values[2]
    assert within(batch, DECODER, TopicRange(True, None, None)) is batch


class FakeReader:
    """Admin, reader and registry of one topic with two partitions."""

    def __init__(self, monkeypatch, low, high):
        self.asked = []
        self.batch = records(("cpu",), [("a", 0, 1), ("a", 5, 2)])
        monkeypatch.setattr("shared.kafka.topic_bounds", lambda settings, topic: (low, high))
        monkeypatch.setattr("shared.kafka.Reader", lambda settings, max_records: self)
        monkeypatch.setattr(
            "consumer_training.reading.topic.input_decoder", lambda settings: DECODER
        )

    def read(self, topic, start, stop):
        self.asked.append((topic, start, stop))
        yield self.batch


def test_a_range_of_offsets_is_read_from_every_partition(monkeypatch):
    reader = FakeReader(monkeypatch, {0: 10, 1: 0}, {0: 100, 1: 30})
    feed = open_feed(SETTINGS, InputOptions(topic_range="5..50"))
    assert list(feed.batches()) == [reader.batch]
    assert reader.asked == [("metrics.cloudwatch.raw", {0: 10, 1: 5}, {0: 50, 1: 30})]
    assert feed.rows == 65
    assert feed.notes == (
        "metrics.cloudwatch.raw[0] begins at offset 10; retention has deleted earlier records",
    )
    feed = open_feed(SETTINGS, InputOptions(topic_range="40.."))
    list(feed.batches())
    assert reader.asked[-1][1:] == ({0: 40, 1: 30}, {0: 100, 1: 30})


def test_a_range_of_times_reads_all_and_keeps_what_lies_in_it(monkeypatch):
    reader = FakeReader(monkeypatch, {0: 0, 1: 0}, {0: 2, 1: 0})
    feed = open_feed(SETTINGS, InputOptions(topic_range="2023-11-14T22:17..2023-11-15"))
    assert [batch.offsets.tolist() for batch in feed.batches()] == [[1]]
    assert reader.asked == [("metrics.cloudwatch.raw", {0: 0, 1: 0}, {0: 2, 1: 0})]


def test_a_range_that_retention_has_removed(monkeypatch):
    FakeReader(monkeypatch, {0: 100, 1: 80}, {0: 200, 1: 90})
    with pytest.raises(
        HistoryGone, match="begins at offset 80; retention has deleted earlier records"
    ):
        open_feed(SETTINGS, InputOptions(topic_range="0..50"))


# -- result files ----------------------------------------------------------------------------------


def test_names_of_result_files_are_safe_and_differ():
    two = np.ones((3, 2))
    many = [
        series("a", 3), series("A", 3), series("cat/b", 3), series("../x y", 3), series("...", 3),
        series("m", 3, metrics=("cpu", "net"), values=two, expected=two, lower=two, upper=two),
    ]  # fmt: skip
    names = [name for name, _ in result_files(many, {})]
    assert len({name.lower() for name in names}) == len(names) == 7
    assert all(
        re.fullmatch(r"[A-Za-z0-9_-]+/lapwing_[A-Za-z0-9._-]+\.csv", name) and ".." not in name
        for name in names
    )
    assert names[0] == "series/lapwing_a.csv"
    assert names[2] == "cat/lapwing_b.csv"
    assert names[-2:] == ["series/lapwing_m.cpu.csv", "series/lapwing_m.net.csv"]


# -- a second configuration, and how far it is -----------------------------------------------------


def test_changes_are_read_as_settings():
    changes = parse_changes(
        'threshold=1.5, metrics={"cpu": {"direction": "up", "min_absolute":'
        " 2}},quality.flat_hours=3,model=CURRENT"
    )
    assert changes.model == "CURRENT"
    assert changes.flags["detection"] == {
        "threshold": 1.5,
        "metrics": {"cpu": {"direction": "up", "min_absolute": 2}},
    }
    assert changes.flags["quality"] == {"flat_hours": 3}
    assert parse_changes("alarms_per_day=none,direction=up").flags["detection"] == {
        "alarms_per_day": None,
        "direction": "up",
    }
    assert parse_changes("detector=jump,window=24").flags == {
        "detector": "jump",
        "features": {"window": 24},
    }


def test_long_runs_say_how_far_they_are(capsys, monkeypatch):
    now = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr("lapwing.backtest.command.time.monotonic", lambda: next(now))
    with progress(400) as report:
        for rows in (100, 200, 300, 400):
            report(rows, rows // 10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "records=200" in lines[0]
    assert "percent=50" in lines[0]
    assert "alarms=40" in lines[1]
