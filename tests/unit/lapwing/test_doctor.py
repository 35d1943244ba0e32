"""``lapwing doctor`` without services: each problem is found and has a remedy."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import lapwing.doctor as doctor
from lapwing.doctor import command, files
from lapwing.doctor.findings import Finding, summary
from lapwing.doctor.registry import registry_time_s
from lapwing.inspect.reading import DeadLetters, Inspection, Reading
from shared.batch import Position
from shared.errors import ConfigError, TopicMismatch, TransportError
from shared.kafka import topic_specs
from shared.settings import Settings


class FakeCluster:
    def __init__(self, settings):
        self.counts = {spec.name: spec.partitions for spec in topic_specs(settings)}
        self.down = False
        self.member_count = 2
        self.unread = {0: 3, 1: 4}
        self.unsent = settings.topics.unsent
        self.unsent_count = 0

    def cluster_id(self):
        if self.down:
            raise TransportError("asking for the topics at nowhere:1: no answer")
        return "abc"

    def partitions(self, topic):
        if topic not in self.counts:
            raise TopicMismatch(f"there is no topic {topic}")
        return self.counts[topic]

    def lag(self, group, topic):
        return self.unread

    def members(self, group):
        return self.member_count

    def bounds(self, topic):
        if topic == self.unsent:
            return {0: 5}, {0: 5 + self.unsent_count}
        return {0: 0, 1: 0}, self.end_offsets(topic)

    def end_offsets(self, topic):
        return {0: 10, 1: 10}

    def committed(self, group, topic):
        return {0: Position(10), 1: Position(10)}


class NoLetters:
    def read(self, topic, start, end):
        yield from ()


class FakeRegistry:
    error = unreachable = None
    address = "http://registry:8081"

    def subjects(self):
        if self.unreachable:
            raise self.unreachable
        return []

    def lookup(self, subject, schema_text):
        if self.error:
            raise self.error
        return 7


READ = Reading(
    "schema 1, R", 10, 10, ("host",), "ts", "timestamp-millis", ("cpu",), (("note", "text"),)
)
SEEN = Inspection("t: the newest 10", "record", 10, (READ,))


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "models").mkdir()
    return Settings(models_dir=tmp_path / "models", state_dir=tmp_path / "state")


@pytest.fixture
def run(settings):
    cluster, registry = FakeCluster(settings), FakeRegistry()

    def found(theirs=1000.0, ours=1001.0, look=lambda: SEEN):
        dependencies = command.Dependencies(
            lambda: cluster,
            NoLetters,
            lambda: registry,
            look,
            lambda _: theirs,
            lambda: ours,
            lambda: 0.0,
            lambda _: None,
        )
        listed = list(command.findings(settings, dependencies))
        for finding in listed:
            assert finding.result in ("ok", "skipped") or finding.remedy, finding
        return {finding.check: finding for finding in listed}

    found.cluster, found.registry = cluster, registry
    return found


def test_a_healthy_stack(run):
    found = run()
    assert list(found) == [
        "broker", "topics", "group", "registry", "schemas", "input", "clock", "model", "models_dir",
        "state_dir",
        "dead_letters", "results",
    ]  # fmt: skip
    assert {f.result for f in found.values()} == {"ok"}
    assert "7 records behind" in found["group"].message
    assert "cluster abc" in found["broker"].message


def test_no_broker_skips_what_needs_it(run):
    run.cluster.down = True
    found = run()
    assert found["broker"].result == "failed"
    assert "KAFKA_BOOTSTRAP_SERVERS" in found["broker"].remedy
    assert {found[check].result for check in ("topics", "group", "dead_letters", "results")} == {
        "skipped"
    }
    assert found["schemas"].result == "ok"


def test_a_missing_topic_is_named(run, settings):
    del run.cluster.counts[settings.topics.dead_letters]
    found = run()
    assert found["topics"].result == "failed"
    assert settings.topics.dead_letters in found["topics"].message
    assert found["topics"].remedy == "lapwing topics ensure"
    assert {found[check].result for check in ("group", "dead_letters", "results")} == {"skipped"}


def test_another_partition_count_is_named_beside_what_is_missing(run, settings):
    run.cluster.counts[settings.topics.input] = 4
    finding = run()["topics"]
    assert finding.result == "failed"
    assert finding.message == "metrics.cloudwatch.raw has 4 partitions, topics.partitions says 6"
    assert finding.remedy == "set topics.partitions (LAPWING_TOPICS__PARTITIONS) to 4"
    del run.cluster.counts[settings.topics.dead_letters]
    finding = run()["topics"]
    assert finding.message.endswith("says 6; missing: metrics.cloudwatch.raw.dlq")
    assert finding.remedy.endswith("to 4; then lapwing topics ensure")


def test_scores_and_dead_letters_may_have_any_number_of_partitions(run, settings):
    run.cluster.counts[settings.topics.dead_letters] = 3
    run.cluster.counts[settings.topics.scores] = 12
    finding = run()["topics"]
    assert finding.result == "ok"
    assert "metrics.cloudwatch.scores has 12, which works" in finding.message
    run.cluster.counts[settings.topics.anomalies] = 2
    finding = run()["topics"]
    assert finding.message == "anomalies.cloudwatch.events has 2 partitions and must have 1"
    assert "LAPWING_TOPICS__ANOMALIES" in finding.remedy


@pytest.mark.parametrize(
    ("members", "result", "word"),
    [
        (7, "warning", "1 of them idle"),
        (0, "warning", "0 predictors"),
        (6, "ok", "6 predictors"),
        (None, "ok", "unknown number"),
    ],
)
def test_members_of_the_group(run, members, result, word):
    run.cluster.member_count = members
    finding = run()["group"]
    assert finding.result == result
    assert word in finding.message


def test_a_session_timeout_without_effect(settings, run):
    assert "session_timeout_ms" not in run()["group"].message
    settings.kafka["group.protocol"] = "consumer"
    finding = run()["group"]
    assert finding.result == "ok"
    assert "predict.session_timeout_ms=6000 has no effect" in finding.message


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("error", TransportError("no answer")),
        ("unreachable", TransportError("HTTP 404, no schema registry answers here")),
        ("unreachable", ConfigError("registry.url: 'localhost:8081' is not a URL")),
    ],
)
def test_no_registry(run, asked, error):
    setattr(run.registry, asked, error)
    found = run()
    assert (found["registry"].result, found["schemas"].result) == ("failed", "skipped")
    assert found["registry"].message == str(error)
    assert "SCHEMA_REGISTRY_URL" in found["registry"].remedy


def test_a_schema_that_is_not_registered(run):
    run.registry.error = ConfigError("metrics.cloudwatch.raw-value: not registered")
    found = run()
    assert (found["registry"].result, found["schemas"].result) == ("ok", "failed")
    assert found["schemas"].remedy == "lapwing topics ensure"


def test_how_the_input_is_read_in_one_line(run):
    finding = run()["input"]
    line = "schema 1, R: entity=host, time=ts (timestamp-millis), metrics=cpu, left out=note (text)"
    assert (finding.result, finding.message) == ("ok", line)


@pytest.mark.parametrize(
    ("seen", "result", "says"),
    [
        (
            replace(SEEN, rows=12, dead=(DeadLetters("not_avro", 2, "why"),)),
            "warning",
            "2 of the newest 12 records.*not_avro 2",
        ),
        (
            replace(SEEN, readings=(replace(READ, read=0),), dead=(DeadLetters("empty", 10, ""),)),
            "failed",
            "10 of the newest 10",
        ),
        (replace(SEEN, readings=(replace(READ, warnings=("odd",)),)), "warning", "; odd"),
        (replace(SEEN, warnings=("spread",)), "warning", "; spread"),
        (
            replace(SEEN, warnings=tuple("abcde")),
            "warning",
            "; a; b; c; and 2 further warnings$",
        ),
        (
            replace(
                SEEN,
                readings=(replace(READ, read=0, warnings=("in another unit",)),),
                dead=(DeadLetters("time_out_of_range", 10, ""),),
            ),
            "failed",
            "time_out_of_range 10; in another unit$",
        ),
        (replace(SEEN, readings=(READ, READ)), "ok", "; 1 other schema$"),
        (
            replace(SEEN, readings=(), dead=(DeadLetters("empty", 10, ""),)),
            "failed",
            "none of the newest",
        ),
        (Inspection("t", "record", 0, (replace(READ, rows=0, read=0),)), "ok", "entity=host"),
        (
            Inspection("t", "record", 0, (Reading("schema", 0, 0, unfit="which time?"),)),
            "failed",
            "which time",
        ),
        (Inspection("t", "record", 0, ()), "skipped", "no records, and its subject no schema"),
    ],
)
def test_what_is_wrong_with_the_input(run, seen, result, says):
    finding = run(look=lambda: seen)["input"]
    assert finding.result == result
    assert re.search(says, finding.message)


def test_an_input_that_cannot_be_looked_at(run):
    def failing(error):
        def look():
            raise error

        return look

    assert run(look=failing(TopicMismatch("there is no topic")))["input"].result == "skipped"
    assert run(look=failing(TransportError("no answer")))["input"].result == "warning"
    run.registry.error = TransportError("no answer")
    assert run()["input"].result == "skipped"


def test_a_clock_that_is_wrong(run):
    assert run(theirs=1000.0, ours=1090.0)["clock"].message == "90 s apart from the registry's"
    assert run(theirs=None)["clock"].result == "skipped"


def test_a_damaged_current(run, settings):
    (settings.models_dir / "CURRENT").write_text("../../etc/passwd")
    finding = run()["model"]
    assert finding.result == "failed"
    assert "64 hex digits" in finding.message


def test_a_model_that_is_gone(run, settings):
    (settings.models_dir / "CURRENT").write_text("ab" * 32)
    assert run()["model"].result == "failed"


def test_folders_without_rights(run, settings, monkeypatch):
    def refuse(dir, prefix):  # noqa: A002
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", refuse)
    found = run()
    assert (found["models_dir"].result, found["state_dir"].result) == ("warning", "failed")
    assert "Permission denied" in found["state_dir"].message


def test_a_folder_that_is_a_file(run, settings):
    settings.state_dir.write_text("in the way")
    finding = run()["state_dir"]
    assert finding.result == "failed"
    assert "LAPWING_STATE_DIR" in finding.remedy


def test_nothing_is_left_in_the_folders(run, settings, tmp_path):
    run()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["models"]


def test_what_is_printed(settings, monkeypatch, capsys):
    cluster = FakeCluster(settings)
    monkeypatch.setattr(command, "Admin", lambda _: cluster)
    monkeypatch.setattr(command, "Reader", lambda _: NoLetters())
    monkeypatch.setattr(command, "Registry", lambda _: FakeRegistry())
    monkeypatch.setattr(command, "registry_time_s", lambda _: None)
    monkeypatch.setattr(command, "inspect_topic", lambda settings, limit: SEEN)
    monkeypatch.setattr(command.time, "sleep", lambda _: None)
    assert doctor.examine(settings, as_json=False) == 0
    out = capsys.readouterr().out
    assert "✓ broker" in out
    assert out.endswith("no check failed, 1 skipped\n")
    cluster.counts.clear()
    assert doctor.examine(settings, as_json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["failed"], document["warnings"]) == (False, 1, 0)
    assert {"check": "topics", "result": "failed"}.items() <= document["findings"][1].items()
    assert doctor.examine(settings, as_json=False) == 1
    assert "→ lapwing topics ensure" in capsys.readouterr().out


def test_the_registry_clock_is_its_date_header():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(404)
            self.send_header("Date", "Wed, 16 Apr 2014 03:35:00 GMT")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        settings = Settings(
            registry={"url": f"http://127.0.0.1:{server.server_port}", "timeout_s": 2}
        )
        assert registry_time_s(settings) == 1_397_619_300
    finally:
        server.shutdown()
        server.server_close()
    assert registry_time_s(settings) is None


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ("ok ok ok", "all 3 checks passed"),
        ("ok warning warning", "all 3 checks passed, 2 warnings"),
        ("ok skipped ok", "no check failed, 1 skipped"),
        ("failed warning skipped failed", "2 of 4 checks failed, 1 warning, 1 skipped"),
    ],
)
def test_the_last_line_says_what_there_was(results, text):
    assert summary([Finding("x", result, "y") for result in results.split()]) == text
