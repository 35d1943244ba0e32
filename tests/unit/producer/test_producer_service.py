"""The replay from options to summary, with a fake sender, clock and registry."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import fastavro
import numpy as np
import pytest

import schemas
from producer import __main__ as entry
from producer.files.series import Series
from producer.progress import Bar
from producer.records import JsonRecordMaker, RecordMaker, event_schema
from producer.replay import merge
from producer.service import ReplayOptions, run
from producer.sources import SourceOptions, check_times, open_source
from shared.errors import ConfigError, DataError, SchemaRefused, TopicMismatch, TransportError
from shared.kernels.units import DAY_MS
from shared.operations.counters import Counters
from shared.settings import InputSettings
from tests.support.replaying import FakeSender, Log, settings

INF = float("inf")


def test_the_bar_shows_what_is_acknowledged(capsys):
    bar = Bar(Log(), 100, 0.0)
    bar.show(60, 40, None, 2.0)
    task = bar.rich.tasks[0]
    assert (task.completed, task.fields["rate"], task.total) == (40, 20.0, 100)


def test_the_schema_of_the_default_metrics_is_the_file_itself():
    assert event_schema(("cpu", "network_in", "disk_write")) == schemas.text(schemas.METRIC_EVENT)


def test_further_metrics_become_further_nullable_doubles():
    fields = json.loads(event_schema(("cpu", "network_in", "disk_write", "request_count")))[
        "fields"
    ]
    assert fields[:5] == json.loads(schemas.text(schemas.METRIC_EVENT))["fields"]
    assert fields[5]["name"] == "request_count"
    assert fields[5]["type"] == ["null", "double"]
    assert fields[5]["default"] is None
    assert [field["name"] for field in json.loads(event_schema(("temperature",)))["fields"]] == [
        "host", "timestamp", "temperature",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="cannot be called 'host'"):
        event_schema(("host",))


def test_records_are_read_back_by_fastavro():
    values = np.array([[1.5, np.nan, -0.0], [np.nan, np.nan, np.nan], [1e300, 5e-324, 3.0]])
    names = ("büro/1", "b")
    one = Series(
        "s",
        names,
        ("cpu", "alpha", "zeta"),
        np.array([1, 0, 1], np.int32),
        np.array([7, 8, 9]),
        values,
    )
    stream = merge([one])
    out = RecordMaker("in", 77, stream.entities)(stream)
    schema = fastavro.parse_schema(json.loads(event_schema(stream.metrics)))
    for row in range(3):
        assert out.values[row][:5] == b"\x00\x00\x00\x00\x4d"
        read = fastavro.schemaless_reader(io.BytesIO(out.values[row][5:]), schema, schema)
        assert read["host"] == names[one.entity[row]]
        assert out.keys[row].decode() == read["host"]
        assert int(read["timestamp"].timestamp() * 1000) == one.time_ms[row]
        expected = dict(zip(one.metrics, values[row], strict=True)) | {
            "network_in": np.nan,
            "disk_write": np.nan,
        }
        assert {m: v for m, v in read.items() if m in stream.metrics and v is not None} == {
            m: v for m, v in expected.items() if not np.isnan(v)
        }


def test_sources(tmp_path):
    for name, start in (("a", "2014-04-10 00:00:00"), ("b", "2014-02-13 00:00:00")):
        (tmp_path / f"{name}.csv").write_text(f"timestamp,value\n{start},1\n")
    moved = open_source(SourceOptions(data=tmp_path))
    assert moved.stream.time_ms.tolist() == [1_397_088_000_000] * 2
    assert "1 of 2 series were shifted by whole weeks (8 to 8)" in moved.notes[0]
    kept = open_source(SourceOptions(data=tmp_path, original_times=True))
    assert np.diff(kept.stream.time_ms).tolist() == [8 * 7 * DAY_MS]
    assert kept.notes == ()
    now = open_source(SourceOptions(data=tmp_path, last_ms=1_700_000_000_123))
    assert now.stream.time_ms[-1] == 1_700_000_000_123
    assert "hour and weekday change" in now.notes[1]


def test_the_sample_can_be_replayed():
    sample = open_source(SourceOptions(data=Path(__file__).parents[3] / "data" / "sample"))
    assert sample.stream.entities == tuple(f"host-{number:03d}" for number in range(1, 6))
    assert sample.stream.metrics == ("cpu", "network_in", "disk_write")
    assert len(sample.stream) == 5 * 7 * 72


def test_without_a_name_nab_is_used_if_it_was_fetched_else_a_fleet(tmp_path, monkeypatch):
    fleet = open_source(SourceOptions(days=3), fetched=tmp_path)
    assert fleet.name == "fleet"
    assert "a fleet of 20 hosts is generated instead" in fleet.notes[0]
    assert len(fleet.stream.entities) == 20
    monkeypatch.setattr("producer.sources.is_complete", lambda folder: True)
    (tmp_path / "x.csv").write_text("timestamp,value\n2014-04-10 00:00:00,1\n")
    assert open_source(SourceOptions(), fetched=tmp_path).stream.entities == ("x",)
    with pytest.raises(ConfigError, match="exclude each other"):
        open_source(SourceOptions(data=tmp_path, fleet=3))


def test_labels_are_at_the_times_of_the_replay():
    plain = open_source(SourceOptions(fleet=2, days=5))
    moved = open_source(
        SourceOptions(fleet=2, days=5, last_ms=int(plain.stream.time_ms[-1]) + 2 * DAY_MS)
    )
    first, later = (source.labels["anomalies"][0]["start"] for source in (plain, moved))
    assert int(later[8:10]) == int(first[8:10]) + 2
    assert later[10:] == first[10:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": -0.1}, "--from -0.1"),
        ({"backfill": 60.0}, "--backfill 60: a share of the events from 0 to 1"),
        ({"start": 0.6, "stop": 0.5}, "--from 0.6 is greater than --to 0.5"),
        ({"loop": True, "stop": 0.5}, "--loop and --to exclude"),
        ({"speed": 0.0}, "--speed 0"),
        ({"speed": float("nan")}, "--speed nan"),
        ({"pace_records": 0}, "--pace-records 0"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(ConfigError) as raised:
        ReplayOptions(**options).check()
    assert says in str(raised.value)


class FakeAdmin:
    count = 6
    received = (1000, 500, 92)
    trouble: ClassVar = []

    def __init__(self, configured):
        pass

    def partitions(self, topic):
        if self.trouble:
            raise self.trouble.pop(0)
        return self.count

    def lag(self, group, topic):
        return {0: 0}

    def end_offsets(self, topic):
        return dict(enumerate(self.received))

    def close(self):
        pass


class FakeRegistry:
    known: ClassVar = {}
    calls: ClassVar = []
    refusal: ClassVar = None

    def __init__(self, configured):
        pass

    def lookup(self, subject, text):
        if text not in self.known:
            raise ConfigError(f"{subject}: `lapwing topics ensure`")
        return self.known[text]

    def register(self, subject, text, compatibility):
        if self.refusal:
            raise self.refusal
        self.calls.append((subject, compatibility))
        self.known[text] = 8
        return 8


@pytest.fixture
def outside(monkeypatch):
    """No broker and no registry; what would have been sent is in ``sender``."""
    import shared.kafka

    made = SimpleNamespace(sender=None)

    def publisher(configured, *, stopping):
        made.sender = FakeSender(configured, stopping=stopping)
        return made.sender

    monkeypatch.setattr(FakeRegistry, "known", {schemas.text(schemas.METRIC_EVENT): 7})
    monkeypatch.setattr(FakeRegistry, "calls", [])
    monkeypatch.setattr(FakeAdmin, "trouble", [])
    monkeypatch.setattr(shared.kafka, "Admin", FakeAdmin)
    monkeypatch.setattr(shared.kafka, "Publisher", publisher)
    monkeypatch.setitem(sys.modules, "shared.registry", SimpleNamespace(Registry=FakeRegistry))
    return made


FLEET = ReplayOptions(SourceOptions(fleet=3, days=3), speed=INF)


def test_run_says_what_it_did(outside):
    summary = run(settings(), FLEET, Counters(), lambda: False)
    assert summary.produced == summary.acknowledged == 3 * 3 * 288
    assert summary.entities == 3
    assert summary.metrics == ("cpu", "network_in", "disk_write")
    assert (summary.first_event_time, summary.last_event_time) == (
        "2024-01-01 00:00:00",
        "2024-01-03 23:55:00",
    )
    assert json.loads(summary.to_json())["source"] == "fleet"
    assert outside.sender.closed
    assert outside.sender.sent[0].values[0][:5] == b"\x00\x00\x00\x00\x07"
    assert outside.sender.settings.kafka["message.timeout.ms"] == "360000"
    assert FakeRegistry.calls == []


def test_a_replay_in_json_needs_no_registry(outside):
    given = {"format": "json", "time_field": "timestamp", "time_unit": "ms"}
    configured = settings().model_copy(update={"input": InputSettings(**given)})
    summary = run(configured, FLEET, Counters(), lambda: False)
    assert summary.acknowledged == 3 * 3 * 288
    assert FakeRegistry.calls == []
    (sent, *_) = outside.sender.sent
    record = json.loads(sent.values[0])
    assert list(record) == ["host", "timestamp", "cpu", "network_in", "disk_write"]
    assert sent.keys[0].decode() == record["host"]
    assert record["timestamp"] == 1_704_067_200_000
    other = configured.model_copy(update={"input": InputSettings(**given | {"time_unit": "s"})})
    with pytest.raises(ConfigError, match=r"the replay needs input\.time_unit=ms"):
        run(other, FLEET, Counters(), lambda: False)


def test_records_in_json_have_the_exact_values():
    names = ('a "b"', "büro")
    values = np.array([[1.5, np.nan], [1e300, -0.0]])
    entity = np.array([1, 0], np.int32)
    series = Series("s", names, ("cpu", "x"), entity, np.array([7, 8]), values)
    stream = merge([series])
    out = JsonRecordMaker("in", stream.metrics, stream.entities)(stream)
    first, second = (json.loads(out.values[row]) for row in range(2))
    assert (first["host"], first["timestamp"], first["cpu"], first["x"]) == ("büro", 7, 1.5, None)
    assert (second["host"], second["cpu"], str(second["x"])) == ('a "b"', 1e300, "-0.0")
    assert [out.keys[row].decode() for row in range(2)] == ["büro", 'a "b"']


def test_a_replay_that_resumes_leaves_out_what_the_topic_has_received(outside, monkeypatch):
    resumed = ReplayOptions(FLEET.source, speed=INF, resume=True)
    assert run(settings(), resumed, Counters(), lambda: False).produced == 3 * 3 * 288 - 1592
    part = ReplayOptions(FLEET.source, stop=0.5, speed=INF, resume=True)
    summary = run(settings(), part, Counters(), lambda: False)
    assert (summary.produced, summary.first_event_time) == (0, None)
    later = ReplayOptions(FLEET.source, start=0.75, speed=INF, resume=True)
    assert run(settings(), later, Counters(), lambda: False).produced == 3 * 3 * 288 // 4


def test_a_schema_that_the_subject_lacks_is_registered(outside, tmp_path):
    (tmp_path / "room.csv").write_text("timestamp,temperature,cpu\n2014-04-10 00:00:00,21,3\n")
    summary = run(
        settings(), ReplayOptions(SourceOptions(tmp_path), speed=INF), Counters(), lambda: False
    )
    assert FakeRegistry.calls == [("metrics.cloudwatch.raw-value", "BACKWARD")]
    assert outside.sender.sent[0].values[0][:5] == b"\x00\x00\x00\x00\x08"
    assert summary.metrics == ("cpu", "network_in", "disk_write", "temperature")


def test_a_subject_of_another_producer_is_named_with_what_to_do(outside, monkeypatch):
    monkeypatch.setattr(FakeRegistry, "known", {})
    refused = SchemaRefused(
        "s: http://r refuses schemas/metric_event.avsc, ... level FULL: why", "s", "FULL"
    )
    monkeypatch.setattr(FakeRegistry, "refusal", refused)
    with pytest.raises(SchemaRefused) as raised:
        run(settings(), FLEET, Counters(), lambda: False)
    message = str(raised.value)
    assert message.startswith(str(refused))
    assert "schemas of another producer" in message
    assert all(
        name in message
        for name in ("topics.input", "topics.dataset", "metrics.cloudwatch.raw", "level to NONE")
    )
    assert (raised.value.exit_code, outside.sender) == (2, None)


def test_a_wrong_partition_count_and_a_missing_topic_are_named(outside, monkeypatch):
    monkeypatch.setattr(FakeAdmin, "count", 3)
    with pytest.raises(TopicMismatch, match=r"has 3 partitions, topics\.partitions says 6"):
        run(settings(), FLEET, Counters(), lambda: False)
    monkeypatch.setattr(FakeAdmin, "trouble", [TopicMismatch("`lapwing topics ensure` makes it")])
    with pytest.raises(TopicMismatch, match="topics ensure"):
        run(settings(), FLEET, Counters(), lambda: False)


def test_a_broker_that_comes_late_is_waited_for(outside, monkeypatch):
    monkeypatch.setattr(
        FakeAdmin, "trouble", [TransportError("not there"), TransportError("not there")]
    )
    assert run(settings(), FLEET, Counters(), lambda: False).acknowledged == 2592


def test_a_stop_before_the_first_record_sends_nothing(outside):
    summary = run(settings(), FLEET, Counters(), lambda: True)
    assert (summary.produced, summary.acknowledged, summary.first_event_time) == (0, 0, None)
    assert summary.stopped


def test_records_without_acknowledgement_are_an_error(outside, monkeypatch):
    monkeypatch.setattr(FakeSender, "acknowledged", property(lambda self: self.queued - 1))
    with pytest.raises(TransportError, match="acknowledged 2591 of 2592 records"):
        run(settings(), FLEET, Counters(), lambda: False)


def test_wrong_options_and_files_are_found_before_any_connection(monkeypatch, tmp_path):
    (tmp_path / "a.csv").write_text("timestamp,value\n2014-04-10 00:00:00,1\n")
    with pytest.raises(ConfigError, match="only a generated fleet has labels"):
        run(
            settings(),
            ReplayOptions(SourceOptions(tmp_path), labels=tmp_path / "l.json"),
            Counters(),
            lambda: False,
        )
    (tmp_path / "a.csv").write_text("timestamp,value\n2014-04-10 00:00:00,x\n")
    with pytest.raises(DataError, match=r"a\.csv, line 2: value is 'x'"):
        run(settings(), ReplayOptions(SourceOptions(tmp_path)), Counters(), lambda: False)
    with pytest.raises(ConfigError, match="the field 'host'"):
        run(settings(input={"entity_fields": ["device"]}), FLEET, Counters(), lambda: False)


def test_labels_that_cannot_be_written_are_named(outside, tmp_path):
    (tmp_path / "l").mkdir()
    with pytest.raises(ConfigError, match=r"--labels .*: Is a directory"):
        run(
            settings(),
            ReplayOptions(SourceOptions(fleet=2, days=3), labels=tmp_path / "l"),
            Counters(),
            lambda: False,
        )


def test_skipped_rows_and_absurd_times_are_reported(outside, tmp_path, monkeypatch):
    log = Log()
    monkeypatch.setattr("producer.service.logger", lambda: log)
    (tmp_path / "a.csv").write_text(
        "timestamp,cpu\n1999-12-31 00:00:00,1\nsoon,1\n2014-04-10 00:00:00,x\n2014-04-10"
        " 00:00:00,3\n"
    )
    options = ReplayOptions(SourceOptions(tmp_path, skip_bad=True), speed=INF)
    summary = run(settings(), options, Counters(), lambda: False)
    assert (summary.produced, summary.skipped_bad) == (2, 2)
    assert ("bad rows skipped", {"file": "a", "rows": 2}) in log.lines
    assert (
        next(fields["events"] for event, fields in log.lines if event == "event times out of range")
        == 1
    )


def test_a_replay_of_times_that_no_predictor_accepts_is_refused_before_any_connection(tmp_path):
    (tmp_path / "a.csv").write_text("timestamp,value\n100000000,1\n100000300,2\n")
    options = ReplayOptions(SourceOptions(tmp_path), speed=INF)
    with pytest.raises(
        DataError,
        match=(
            r"all 2 event times, 1973-03-03 09:46:40 to 1973-03-03 09:51:40, are outside input\.min"
        ),
    ):
        run(settings(), options, Counters(), lambda: False)
    earlier = settings(input={"min_time": "1970-01-01"})
    assert check_times(open_source(options.source), earlier.input) == 0


def test_what_columns_were_read_as_is_logged(outside, tmp_path, monkeypatch):
    log = Log()
    monkeypatch.setattr("producer.service.logger", lambda: log)
    rows = [f"20240304{hour:02},{node},{hour}\n" for hour in range(24) for node in (1, 2)]
    (tmp_path / "a.csv").write_text("timestamp,node,cpu\n" + "".join(rows))
    summary = run(
        settings(), ReplayOptions(SourceOptions(tmp_path), speed=INF), Counters(), lambda: False
    )
    assert (summary.entities, summary.first_event_time) == (2, "2024-03-04 00:00:00")
    assert [fields["note"] for event, fields in log.lines if event == "series"] == [
        "a.csv: the times of column timestamp are read as YYYYMMDDHH, UTC",
        (
            "a.csv: column node (2 distinct whole numbers) is taken as the entity; --entity names"
            " another"
        ),
    ]


def test_a_users_own_message_timeout_stays(outside):
    run(settings(kafka={"message_timeout_ms": "5000"}), FLEET, Counters(), lambda: False)
    assert outside.sender.settings.kafka["message.timeout.ms"] == "5000"


def test_readers_are_asked_through_the_broker(outside, monkeypatch):
    asked = []
    monkeypatch.setattr(FakeAdmin, "lag", lambda self, *pair: asked.append(pair) or {0: 1, 1: 2})
    options = ReplayOptions(
        SourceOptions(fleet=3, days=3), speed=INF, pace_groups=("g", "h@scores"), pace_records=3_000
    )
    assert run(settings(), options, Counters(), lambda: False).acknowledged == 2592
    assert asked == [("g", "metrics.cloudwatch.raw"), ("h", "scores")]


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_command(outside, signals, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("LAPWING_CONFIG", raising=False)
    labels = tmp_path / "out" / "labels.json"
    arguments = [
        "--fleet",
        "3",
        "--days",
        "3",
        "--speed",
        "max",
        "--to",
        ".5",
        "--json",
        "--labels",
        str(labels),
    ]
    assert entry.main(arguments) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["produced"] == summary["acknowledged"] == 1296
    assert set(json.loads(labels.read_text())["windows"]) == {"host-001", "host-002", "host-003"}


def test_the_command_and_what_is_wrong(outside, signals, capsys, tmp_path):
    assert entry.main(["--data", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("timestamp,node,cpu\n2024-03-04 00:00:00,1,2\n")
    columns = ["--time", "timestamp", "--time-format", "iso", "--decimal", "point"]
    assert entry.main(["--data", str(tmp_path), "--entity", "nope", *columns]) == 2
    assert (
        "--entity nope: there is no such column; it has timestamp, node, cpu"
        in capsys.readouterr().err
    )
    assert entry.main(["--fleet", "3", "--entity", "node"]) == 2
    assert "so it needs --data" in capsys.readouterr().err
    assert entry.main(["--speed", "fast"]) == 2
    assert "fast: event seconds per second, e.g. 300, or max" in capsys.readouterr().err


def test_a_signal_stops_and_the_command_ends_well(outside, signals, monkeypatch):
    started = []

    def publisher(configured, *, stopping):
        started.append(FakeSender())
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    monkeypatch.setattr("shared.kafka.Publisher", publisher)
    assert entry.main(["--fleet", "2", "--days", "3"]) == 0
    assert started[0].sent == []
