"""The whole pipeline in JSON on a real Kafka, without any registry."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lapwing.explain.explain_command import Explanation
from lapwing.explain.explain_target import ExplainTarget
from lapwing.topics import ensure
from shared.kafka import Admin
from shared.settings import RegistrySettings
from tests.support.services.fixtures import settings_for
from tests.support.services.stack import EVENTS, HOSTS, Stack, conserved, log_of, oracle, poison

pytestmark = [pytest.mark.integration, pytest.mark.timeout(500)]

NO_REGISTRY = "http://127.0.0.1:9"
IN_JSON = {
    "LAPWING_INPUT__FORMAT": "json",
    "LAPWING_INPUT__TIME_FIELD": "timestamp",
    "LAPWING_INPUT__TIME_UNIT": "ms",
    "LAPWING_OUTPUT__FORMAT": "json",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Stack]:
    """A fleet in JSON in the input topic, with poison among it."""
    folder = tmp_path_factory.mktemp("json")
    base = settings_for(kafka, f"j{uuid.uuid4().hex[:10]}", folder)
    base = base.model_copy(update={"registry": RegistrySettings(url=NO_REGISTRY)})
    group = f"{base.topics.dataset}-incidents"
    stack = Stack(base, folder, LAPWING_INCIDENTS__GROUP=group, **IN_JSON)
    ensure(stack.settings).checked()
    fleet = ("--fleet", str(HOSTS), "--days", "4", "--speed", "max", "--json")
    summary = json.loads(stack.run("producer", *fleet).splitlines()[-1])
    assert summary["produced"] == summary["acknowledged"] == EVENTS
    poison(stack.settings)
    yield stack
    stack.close()


def position(stack: Stack) -> tuple[int, int]:
    """Return what the incidents service has committed, and the end of the anomalies."""
    admin, topic = Admin(stack.settings), stack.settings.topics.anomalies
    found = admin.committed(stack.settings.incidents.group, topic)
    return (found[0].offset if found else 0), admin.end_offsets(topic)[0]


def test_each_record_has_one_result_across_a_kill(stack: Stack) -> None:
    predictor = stack.start("consumer_prediction", LAPWING_PREDICT__MAX_BATCH_RECORDS="200")
    deadline = time.monotonic() + 90
    while "partition taken over" not in Path(predictor.log).read_text("utf-8"):
        assert time.monotonic() < deadline, log_of(predictor)
        time.sleep(0.05)
    time.sleep(0.3)
    predictor.kill()
    predictor.wait()
    predictor = stack.start("consumer_prediction")
    stack.wait_until_scored()
    predictor.send_signal(signal.SIGTERM)
    assert predictor.wait(30) == 0, log_of(predictor)
    conserved(stack)
    results = stack.results()
    assert results == oracle(stack)
    events = [json.loads(value) for _, value, _ in results["anomalies"]]
    assert any(event["is_anomaly"] for event in events)
    assert all(dict(headers)["content-type"] == b"application/json"
               for _, _, headers in results["anomalies"])  # fmt: skip


def test_the_native_client_writes_the_same_json(stack: Stack) -> None:
    topics = stack.settings.topics
    own = ("scores", "anomalies", "dead_letters", "activations")
    native = Stack(
        stack.settings,
        stack.folder,
        LAPWING_ENGINE="native",
        LAPWING_TOPICS__INPUT=topics.input,
        LAPWING_PREDICT__GROUP=f"{stack.settings.predict.group}-native",
        **{f"LAPWING_TOPICS__{name.upper()}": f"{getattr(topics, name)}.native" for name in own},
        **IN_JSON,
    )
    ensure(native.settings).checked()
    predictor = native.start("consumer_prediction")
    try:
        native.wait_until_scored()
        predictor.send_signal(signal.SIGTERM)
        assert predictor.wait(30) == 0, log_of(predictor)
        written, expected = native.results(), stack.results()
    finally:
        native.close()
    assert len(expected["scores"]) == EVENTS
    for name in ("scores", "anomalies"):
        assert written[name] == expected[name]


def test_everything_reads_it_without_a_registry(stack: Stack, tmp_path: Path) -> None:
    service = stack.start("lapwing.incidents")
    deadline = time.monotonic() + 90
    while (at := position(stack))[0] < at[1] - 1:  # the last offset is a marker
        assert time.monotonic() < deadline, (at, log_of(service))
        time.sleep(0.2)
    service.send_signal(signal.SIGTERM)
    assert service.wait(30) == 0, log_of(service)
    listed = stack.run("lapwing", "incidents", "list", "--state", "all", "--json").splitlines()
    incidents = [json.loads(line) for line in listed]
    assert incidents
    first = incidents[0]["incident_id"]
    assert "reason" in incidents[0]
    stack.run("lapwing", "feedback", "add", first, "--was", "real", "--note", "disk full")
    (given,) = stack.run("lapwing", "feedback", "list", "--json").splitlines()
    assert json.loads(given)["note"] == "disk full"

    tail = ("lapwing", "tail", "anomalies", "--from-beginning", "--json", "--timeout", "3")
    shown = [json.loads(line) for line in stack.run(*tail).splitlines()]
    assert len(shown) == len(stack.results()["anomalies"])
    assert not any("undecodable" in one for one in shown)

    file = tmp_path / "anomalies.csv"
    assert "could not" not in stack.run("lapwing", "export", "anomalies", "--to", str(file))
    assert len(file.read_text("utf-8").splitlines()) > len(shown)

    alarm = next(one for one in shown if one["is_anomaly"])
    target = ExplainTarget(partition=alarm["source_partition"], offset=alarm["source_offset"])
    facts, _ = Explanation(stack.settings, sys.stderr).of(target)
    assert facts["verdict"] == "identical", facts["results"]

    described = json.loads(stack.run("lapwing", "topics", "describe", "--json"))
    assert all(topic["subject"] is None for topic in described)
    doctor = stack.start("lapwing", "doctor", "--json")
    out, _ = doctor.communicate(timeout=120)
    findings = {one["check"]: one for one in json.loads(out)["findings"]}
    assert findings["registry"]["result"] == findings["schemas"]["result"] == "ok"
