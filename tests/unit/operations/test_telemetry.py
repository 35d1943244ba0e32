"""Logs, counters and the three HTTP paths, without any service."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.errors import ConfigError
from shared.operations import counters as c
from shared.operations import telemetry
from shared.settings import TelemetrySettings


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


@pytest.fixture(autouse=True)
def _restore_logging():
    import structlog

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def samples(counted):
    text = telemetry.prometheus_text(counted).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(text)
        for s in f.samples
    }, text


def test_prometheus_reads_what_was_counted():
    counted = c.Counters()
    counted.add(c.EVENTS_CONSUMED, 5, "metrics.cloudwatch.raw", 3)
    counted.add(c.EVENTS_CONSUMED, 2, "metrics.cloudwatch.raw", 3)
    counted.set(c.CONSUMER_LAG, 9, "metrics.cloudwatch.raw", 3)
    counted.set(c.CONSUMER_LAG, 4, "metrics.cloudwatch.raw", 3)
    read, text = samples(counted)
    labels = (("partition", "3"), ("topic", "metrics.cloudwatch.raw"))
    assert read[("lapwing_events_consumed_total", labels)] == 7
    assert read[("lapwing_consumer_lag_records", labels)] == 4
    assert "# TYPE lapwing_events_consumed_total counter" in text
    assert "# HELP lapwing_consumer_lag_records " in text


def test_histogram_is_cumulative_and_an_edge_belongs_below():
    counted = c.Counters()
    edges = np.array(c.BATCH_SECONDS.buckets)
    counted.observe(c.BATCH_SECONDS, edges)
    counted.observe(c.BATCH_SECONDS, 1e6)
    read, _ = samples(counted)
    for rank, edge in enumerate(edges, 1):
        assert read[("lapwing_batch_seconds_bucket", (("le", f"{edge:g}"),))] == rank
    assert read[("lapwing_batch_seconds_bucket", (("le", "+Inf"),))] == len(edges) + 1
    assert read[("lapwing_batch_seconds_count", ())] == len(edges) + 1
    assert read[("lapwing_batch_seconds_sum", ())] == pytest.approx(edges.sum() + 1e6)


def test_histogram_of_many_equals_one_by_one():
    values = np.random.default_rng(1).lognormal(-3, 2, 1000)
    many, single = c.Counters(), c.Counters()
    many.observe(c.END_TO_END_SECONDS, values)
    for value in values:
        single.observe(c.END_TO_END_SECONDS, float(value))
    (_, ((_, a),)), (_, ((_, b),)) = (
        next((m, r) for m, r in x.histograms() if m is c.END_TO_END_SECONDS) for x in (many, single)
    )
    assert a.counts.tolist() == b.counts.tolist()
    assert a.total == pytest.approx(b.total)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.add(c.EVENTS_CONSUMED, -1, "t", 0),
        lambda x: x.add(c.EVENTS_CONSUMED, 1, "t"),
        lambda x: x.set(c.EVENTS_CONSUMED, 1, "t", 0),
        lambda x: x.add(c.MODEL_AGE_SECONDS, 1, "x"),
    ],
)
def test_misuse_of_a_counter_is_named(wrong):
    with pytest.raises(ValueError, match="lapwing_"):
        wrong(c.Counters())


def test_a_gauge_can_be_forgotten():
    counted = c.Counters()
    counted.set(c.MODEL_INFO, 1, "v1", "abc", "isolation_forest")
    counted.forget(c.MODEL_INFO)
    counted.set(c.MODEL_INFO, 1, "v2", "def", "isolation_forest")
    read, _ = samples(counted)
    assert [labels for name, labels in read if name == "lapwing_model_info"] == [
        (("detector", "isolation_forest"), ("model_id", "def"), ("version", "v2"))
    ]


def test_names_of_the_contract_are_all_there():
    names = {m.name for m in c.CATALOGUE}
    assert names >= {
        "lapwing_events_consumed_total", "lapwing_events_scored_total", "lapwing_anomalies_total",
        "lapwing_batch_seconds", "lapwing_end_to_end_seconds", "lapwing_consumer_lag_records",
        "lapwing_dead_letters_total", "lapwing_model_info", "lapwing_model_age_seconds",
        "lapwing_model_reloads_total", "lapwing_fit_seconds",
        "lapwing_entities", "lapwing_build_info",
    }  # fmt: skip
    assert len(names) == len(c.CATALOGUE)
    for metric in c.CATALOGUE:
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_health_and_metrics_over_http():
    port, why = free_port(), ["no partitions yet"]
    counted = c.Counters()
    counted.add(c.DEAD_LETTERS, 1, "truncated")
    with telemetry.TelemetryServer(
        TelemetrySettings(port=port, host="127.0.0.1"), counted, lambda: why[0]
    ):
        base = f"http://127.0.0.1:{port}"
        assert get(f"{base}/health/live")[0] == 200
        status, _, body = get(f"{base}/health/ready")
        assert (status, json.loads(body)) == (503, {"ready": False, "why": "no partitions yet"})
        why[0] = ""
        assert get(f"{base}/health/ready")[0] == 200
        status, kind, body = get(f"{base}/metrics")
        assert status == 200
        assert kind.startswith("text/plain; version=0.0.4")
        assert b'lapwing_dead_letters_total{reason="truncated"} 1.0' in body
        assert get(f"{base}/nothing")[0] == 404
    with pytest.raises(urllib.error.URLError):
        get(f"{base}/health/live")


def test_port_in_use_names_the_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = TelemetrySettings(port=taken.getsockname()[1], host="127.0.0.1")
        with pytest.raises(ConfigError, match=r"telemetry\.port .*LAPWING_TELEMETRY__PORT"):
            telemetry.TelemetryServer(settings, c.Counters(), str)


def test_port_0_listens_nowhere():
    with telemetry.TelemetryServer(TelemetrySettings(port=0), c.Counters(), str) as server:
        server.close()


def lines(settings, say):
    out = io.StringIO()
    telemetry.configure(settings, out)
    say()
    return out.getvalue().splitlines()


def test_json_lines_begin_with_the_event():
    (text,) = lines(
        TelemetrySettings(),
        lambda: telemetry.logger(slot="1").info("model.activated", partition=3, share=float("nan")),
    )
    assert text.startswith('{"event": "model.activated", "time": "')
    fields = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert fields["time"].endswith("Z")
    assert (fields["level"], fields["slot"], fields["partition"], fields["share"]) == (
        "info",
        "1",
        3,
        "nan",
    )


def test_an_anomaly_reads_as_a_sentence():
    fields = {
        "at": "2014-04-16 03:35",
        "host": "web-1",
        "score": 0.71234,
        "because": "cpu is 98, 3x its usual 31",
    }
    wanted = (
        "anomaly at 2014-04-16 03:35 host=web-1 score=0.7123 because cpu is 98, 3x its usual 31"
    )
    assert telemetry.line("anomaly", fields) == wanted
    (text,) = lines(
        TelemetrySettings(log_format="human"), lambda: telemetry.logger().info("anomaly", **fields)
    )
    assert text.partition("Z ")[2] == wanted
    (text,) = lines(
        TelemetrySettings(log_format="json"), lambda: telemetry.logger().info("anomaly", **fields)
    )
    assert json.loads(text)["because"] == fields["because"]


def test_level_decides_and_the_standard_library_takes_the_same_way():
    def say():
        telemetry.logger().info("hidden")
        telemetry.logger().warning("shown")
        logging.getLogger("library").warning("said %s", "so")
        logging.getLogger("library").info("hidden too")

    read = [json.loads(text) for text in lines(TelemetrySettings(log_level="warning"), say)]
    assert [(r["event"], r["level"]) for r in read] == [
        ("shown", "warning"),
        ("said so", "warning"),
    ]


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_a_traceback_is_kept(log_format):
    def say():
        try:
            raise RuntimeError("broken wing")
        except RuntimeError:
            telemetry.logger().error("bug", exc_info=True)

    text = "\n".join(lines(TelemetrySettings(log_format=log_format), say))
    assert "broken wing" in text
    assert "Traceback" in text


def test_who_does_not_wait_for_an_answer_leaves_no_traceback(capsys):
    port = free_port()
    settings = TelemetrySettings(port=port, host="127.0.0.1")
    asked, gone, answered = threading.Event(), threading.Event(), threading.Event()

    def why():
        asked.set()
        gone.wait(10)
        answered.set()
        return "not yet"

    with telemetry.TelemetryServer(settings, c.Counters(), why):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            probe.sendall(b"GET /health/ready HTTP/1.0\r\n\r\n")
            assert asked.wait(10)
        gone.set()
        assert answered.wait(10)
        assert get(f"http://127.0.0.1:{port}/health/ready")[0] == 503
    assert "Traceback" not in capsys.readouterr().err
