"""The demo's plan, reader and screen, each on its own."""

from __future__ import annotations

import io
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import schemas
from lapwing.demo import command as demo
from lapwing.demo import reader as demo_reader
from lapwing.demo.children import Children
from lapwing.demo.ledger import Ledger
from lapwing.demo.plan import SAFE_SHARE, DemoOptions, arguments, make_plan
from lapwing.demo.reader import ResultReader
from lapwing.demo.screen import LINES_OF_ANOMALIES, Screen
from lapwing.demo.view import AnomalyLine, Frame, Phase, Summary
from lapwing.embedded.broker import RETENTION_BYTES
from producer.files.columns import ColumnChoice
from producer.replay import Stream
from producer.sources import Source, SourceOptions
from shared.batch import Batch, Blob, Position
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.dead_letters import dead_letters
from shared.encode.records import encode_records
from shared.errors import ConfigError, HistoryGone, LapwingError
from shared.events import Reason, SeverityClass
from shared.settings import Settings

# -- plan ------------------------------------------------------------------------------------------


def source(hosts, events_per_host, name="host-{:03d}", metrics=("cpu", "network_in", "disk_write")):
    entity = np.tile(np.arange(hosts, dtype=np.int32), events_per_host)
    time_ms = np.repeat(np.arange(events_per_host) * 300_000, hosts)
    values = np.zeros((len(entity), len(metrics)))
    return Source(
        Stream(tuple(name.format(k) for k in range(hosts)), metrics, entity, time_ms, values),
        "test",
        (),
        {},
    )


def test_a_small_fleet_keeps_the_partitions_that_were_asked_for():
    plan = make_plan(source(20, 1000), 0.6, 6)
    assert (plan.partitions, plan.backfill, plan.events) == (6, 12_000, 20_000)
    assert 500 < plan.pace_records < RETENTION_BYTES / 500


def test_the_pace_heeds_the_busiest_partition():
    metrics = tuple(f"metric_{k}" for k in range(20))
    one, many = (make_plan(source(hosts, 100, metrics=metrics), 0.6, 6) for hosts in (1, 200))
    assert one.pace_records * 1200 < RETENTION_BYTES, "all scores go to one partition"
    assert many.pace_records > one.pace_records


def test_partitions_are_doubled_until_the_backfill_fits():
    small, large = make_plan(source(200, 400), 0.6, 6), make_plan(source(200, 8000), 0.6, 6)
    assert small.partitions == 6
    assert large.partitions in (24, 48, 96)


def test_one_host_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="do not fit into the embedded broker"):
        make_plan(source(1, 200_000), 0.6, 6)


def test_sizes_are_not_underestimated():
    """The encoded records of the planned backfill, batch headers aside, stay below the estimate."""
    from lapwing.demo.plan import _by_partition
    from shared.encode.avro_columns import encode_metric_events

    stream = source(3, 50, name="a-host-with-a-rather-long-name-{:03d}").stream
    stream = Stream(
        stream.entities,
        stream.metrics,
        stream.entity,
        stream.time_ms + 1_700_000_000_000,
        stream.values,
    )
    blob = encode_metric_events(
        7, [stream.entities[k] for k in stream.entity], stream.time_ms, stream.values
    )
    keys = sum(len(stream.entities[k]) for k in stream.entity)
    assert (
        len(blob.data) + keys
        <= _by_partition(stream, len(stream), 1)[1].sum()
        <= SAFE_SHARE * RETENTION_BYTES
    )


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (SourceOptions(), []),
        (SourceOptions(fleet=3), ["--fleet", "3"]),
        (SourceOptions(data=Path("d")), ["--data", "d"]),
        (
            SourceOptions(data=Path("d"), columns=ColumnChoice(("a", "b"), ("t",), "ms", ",")),
            [
                "--data",
                "d",
                "--entity",
                "a,b",
                "--time",
                "t",
                "--time-format",
                "ms",
                "--decimal",
                "comma",
            ],
        ),
    ],
)
def test_arguments_of_the_replay(options, wanted):
    assert arguments(options) == wanted


def test_the_environment_of_the_children_is_ours_where_it_must_be(tmp_path):
    users = {
        "LAPWING_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "LAPWING_KAFKA__SASL_MECHANISM": "PLAIN",
        "KAFKA_BOOTSTRAP_SERVERS": "prod:9092",
        "SCHEMA_REGISTRY_URL": "http://prod",
        "LAPWING_TRAIN__TREES": "7",
        "LAPWING_PREDICT__DELIVERY": "exactly-once",
        "LAPWING_TELEMETRY__PORT": "9100",
        "PATH": "/bin",
    }
    plan = make_plan(source(2, 10), 0.5, 3)
    given = demo._environment(
        users,
        plan,
        {"bootstrap.servers": "127.0.0.1:1", "group.protocol": "consumer"},
        "http://ours",
        tmp_path,
    )
    from shared.settings import load_settings

    settings = load_settings(environ=given)
    assert settings.kafka == {
        "bootstrap.servers": "127.0.0.1:1",
        "group.protocol": "consumer",
        "security.protocol": "PLAINTEXT",
    }
    assert settings.registry.url == "http://ours"
    assert (settings.train.trees, settings.predict.delivery, settings.telemetry.port) == (
        7,
        "at-least-once",
        0,
    )
    assert settings.models_dir == tmp_path / "models"
    assert given["PATH"] == "/bin"


def test_children_have_ports_for_their_metrics(tmp_path):
    with closing(Children({}, tmp_path, 9100)) as children:
        ports = [children._metrics_of(name) for name in ("a", "b", "a")]
    assert [port["LAPWING_TELEMETRY__PORT"] for port in ports] == ["9100", "9101", "9100"]
    with closing(Children({}, tmp_path)) as children:
        assert children._metrics_of("a") == {}


def test_keep_wants_an_empty_folder(tmp_path):
    (tmp_path / "CURRENT").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        DemoOptions(keep=tmp_path).check()
    DemoOptions(keep=tmp_path / "new").check()


# -- reader ----------------------------------------------------------------------------------------

SETTINGS = Settings(topics={"partitions": 2})
TOPICS = SETTINGS.topics


class FakeSource:
    """One poll's worth of input batches; remembers commits."""

    def __init__(self, settings, group, topic):
        self.batches, self.committed = [], []

    def subscribe(self, listener):
        self.listener = listener

    def poll(self, max_records, timeout_s):
        batches, self.batches = self.batches, []
        return batches

    def commit(self, positions):
        self.committed.append({p: position.offset for p, position in positions.items()})

    def close(self):
        pass


class FakeReader:
    """Follows nothing; results are given to the queue by the test, or fail."""

    error = None

    def __init__(self, settings, max_records):
        pass

    def follow(self, topic, start, *, stopping):
        if self.error and topic == TOPICS.scores:
            raise self.error
        while not stopping():
            time.sleep(0.01)
        yield from ()


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.setattr(demo_reader, "GroupSource", FakeSource)
    monkeypatch.setattr(demo_reader, "Reader", FakeReader)
    ticks = iter(range(1, 1000))
    reader = ResultReader(SETTINGS, Ledger(2), [7], lambda: float(next(ticks)))
    yield reader
    reader.close()


def inputs(partition, offsets, broker_ms=1000):
    values = Blob.join([b"x"] * len(offsets))
    return Batch(
        TOPICS.input, partition, values, values, np.array(offsets), np.full(len(offsets), broker_ms)
    )


def scores(partition, offsets, score, broker_ms=1010):
    records = [
        {
            "event_id": f"{partition}-{offset}", "detector_id": "ensemble", "entity": "web-1",
            "event_time": 1_700_000_000_000 + row,
            "score": score, "state": "READY", "source_topic": TOPICS.input,
            "source_partition": partition, "source_offset": offset,
            "metrics": [{"name": "cpu", "value": 1.0}],
        }
        for row, offset in enumerate(offsets)
    ]  # fmt: skip
    n = len(offsets)
    values = encode_records(schemas.text(schemas.SCORE_EVENT), 7, records)
    return Batch(
        TOPICS.scores,
        partition,
        values,
        Blob.join([b"web-1"] * n),
        np.arange(n),
        np.full(n, broker_ms),
    )


def anomaly(entity, partition, offset, time_ms=1_700_000_000_000):
    record = {
        "event_id": f"{partition}-{offset}", "detector_id": "ensemble", "kind": "anomaly",
        "entity": entity,
        "event_time": time_ms,
        "score": 0.7, "severity": 0.9, "severity_class": "critical", "is_anomaly": True,
        "state": "READY",
        "reason": f"because of {offset}",
        "source_topic": TOPICS.input, "source_partition": partition, "source_offset": offset,
    }  # fmt: skip
    values = encode_records(schemas.text(schemas.ANOMALY_EVENT), 8, [record])
    return Batch(TOPICS.anomalies, 0, values, Blob.join([b"k"]), np.zeros(1, int), np.zeros(1, int))


def arrive(reader, *batches):
    for batch in batches:
        reader._arrived.put(batch)
    reader.poll(0)


def test_scores_are_entered_by_their_source_coordinates(reader):
    reader._source.batches = [inputs(0, [0, 1, 2]), inputs(1, [0])]
    arrive(reader, scores(0, [0, 1], 0.4), scores(1, [0], None), scores(0, [1], 0.4))
    books = reader.ledger.partitions
    assert (reader.ledger.sent, reader.ledger.scored, reader.ledger.repeats) == (4, 3, 1)
    assert reader.totals.unscored == 1, "null = still warming up"
    assert reader.ledger.latency_ms().tolist() == [10, 10, 10]
    assert (books[0].frontier, books[1].frontier) == (2, 1)
    assert reader._source.committed[-1] == {0: 2, 1: 1}
    assert reader.totals.event_ms == 1_700_000_000_001


def test_nothing_is_committed_twice(reader):
    reader._source.batches = [inputs(0, [0])]
    arrive(reader, scores(0, [0], 0.4))
    reader.poll(0)
    assert reader._source.committed == [{0: 1}]


def test_dead_letters_count_as_results(reader):
    bad = Batch(
        TOPICS.input, 1, Blob.join([b"??"]), Blob.join([b"k"]), np.array([5]), np.zeros(1, int)
    )
    sent = dead_letters(
        TOPICS.dead_letters,
        bad,
        np.zeros(1, np.int64),
        np.array([Reason.NOT_AVRO], np.uint8),
        AvroDecoder.of_schemas({}, Settings().input),
        "g",
        100,
    )
    arrive(
        reader,
        Batch(sent.topic, 0, sent.values, sent.keys, np.zeros(1, int), np.array([7]), sent.headers),
    )
    assert (reader.ledger.dead, reader.ledger.scored) == (1, 0)
    assert reader.ledger.partitions[1].kind[5]


def test_anomalies_are_counted_once_and_the_newest_of_each_host_is_kept(reader):
    arrive(reader, anomaly("a", 0, 1), anomaly("b", 1, 1), anomaly("a", 0, 2), anomaly("b", 1, 1))
    assert reader.totals.anomalies == 3
    assert [(one.entity, one.reason) for one in reader.newest.values()] == [
        ("b", "because of 1"),
        ("a", "because of 2"),
    ]
    first = reader.totals.first_at_s
    arrive(reader, anomaly("c", 0, 9))
    assert reader.totals.first_at_s == first
    for k in range(50):
        arrive(reader, anomaly(f"host-{k}", 0, 100 + k))
    assert len(reader.newest) == demo_reader.KEPT_ANOMALIES
    assert next(reversed(reader.newest)) == "host-49"


def test_what_is_not_a_score_event_ends_it(reader):
    wrong = Batch(
        TOPICS.scores,
        1,
        Blob.join([b"\0\0\0\0\x07junk"]),
        Blob.join([b"k"]),
        np.array([3]),
        np.zeros(1, int),
    )
    with pytest.raises(
        LapwingError, match=r"metrics\.cloudwatch\.scores\[1\]@3 is not a score event"
    ):
        arrive(reader, wrong)


def test_a_record_that_was_dropped_before_it_was_read_ends_it(monkeypatch):
    listener = demo_reader._FromFirstOffset()
    assert listener.assigned({0: None, 1: Position(4)}, {0: 0, 1: 2}) == {0: 0, 1: 4}
    with pytest.raises(HistoryGone, match="dropped 3 records of partition 1"):
        listener.assigned({0: None, 1: None}, {0: 0, 1: 3})
    monkeypatch.setattr(demo_reader, "GroupSource", FakeSource)
    monkeypatch.setattr(demo_reader, "Reader", FakeReader)
    monkeypatch.setattr(FakeReader, "error", HistoryGone("scores[0] begins at offset 10"))
    reader = ResultReader(SETTINGS, Ledger(2), [7], time.monotonic)
    reader._threads[0].join(10)
    with pytest.raises(HistoryGone, match="begins at offset 10"):
        reader.poll(0)
    reader.close()


# -- screen ----------------------------------------------------------------------------------------


def frame(share=0.5, newest=(), **more):
    return Frame(
        "fleet", 2, 1.0, (Phase("live", "running", "now", share),), newest=tuple(newest), **more
    )


@pytest.fixture
def screen():
    screen = Screen(as_json=False)
    screen.console = Console(file=io.StringIO(), width=120)
    screen.live = None
    return screen


def message(screen):
    return screen.console.file.getvalue()


def test_without_a_terminal_lines_are_plain(screen):
    screen.begin("fleet, 3 hosts", ("times were shifted",))
    screen.print_step("train: reads")
    screen.show(frame(sent=3))
    screen.show(frame(sent=4))
    text = message(screen)
    assert text.startswith(
        "note: times were shifted\nlapwing demo: fleet, 3 hosts\nembedded broker: data in memory"
        " only"
    )
    assert "train: reads\n" in text
    assert text.count("live 50%") == 1, "one line in two seconds"
    assert "\x1b" not in text


def test_anomalies_are_said_once_and_not_all(screen):
    lines = [
        AnomalyLine(k * 60_000, f"host-{k}", 0.7, SeverityClass.MINOR, "cpu [bold] is 98")
        for k in range(40)
    ]
    for k in range(1, 41):
        screen.show(frame(newest=list(reversed(lines[max(0, k - 5) : k]))))
    text = message(screen)
    assert text.count("anomaly at 1970-01-01") == LINES_OF_ANOMALIES
    assert "because cpu [bold] is 98" in text
    assert text.count("counted only") == 1


def test_an_anomaly_is_not_said_again_when_its_episode_ends(screen):
    first = AnomalyLine(0, "host-1", 0.7, SeverityClass.MINOR, "cpu is 98", "1")
    screen.show(frame(newest=[first]))
    screen.show(frame(newest=[replace(first, ended_ms=60_000)]))
    assert message(screen).count("anomaly at") == 1


def test_an_anomaly_of_a_cold_start_has_no_number_for_a_score(screen):
    first = AnomalyLine(0, "host-1", None, SeverityClass.MINOR, "cpu is 98")
    screen.show(frame(newest=[first]))
    assert "host=host-1 score=cold because cpu is 98" in message(screen)


def test_the_picture_is_a_moment_of_the_live_part(screen, tmp_path):
    with pytest.raises(ConfigError, match="no live part"):
        screen.save(tmp_path / "a.svg")
    for share, sent in ((0.1, 111), (0.55, 555), (0.9, 999)):
        screen.show(frame(share, sent=sent))
    screen.finish(frame(1.0, sent=1000), Summary(1, 1, 0, 0, 0, None, 0.0, None, None, 0, 0, 0, ""))
    screen.save(tmp_path / "sub" / "a.svg")
    text = (tmp_path / "sub" / "a.svg").read_text()
    assert ">555&#160;in" in text
    assert ">999&#160;in" not in text
    with pytest.raises(ConfigError, match="--svg"):
        screen.save(tmp_path / "sub" / "a.svg" / "b.svg")


def test_with_json_all_else_goes_to_standard_error(capsys):
    with Screen(as_json=True) as screen:
        screen.begin("fleet", ())
        screen.print_step("train: reads")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "train: reads" in shown.err
