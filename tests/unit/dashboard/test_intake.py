"""The service on the embedded broker: live, after a restart, and after its history is lost."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request

import pytest

from dashboard.history.queries import History
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.hub import Hub
from dashboard.intake import Intake
from dashboard.server import history_file, run
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from shared.batch import Blob, Outgoing
from shared.errors import ConfigError
from shared.kafka import topic_specs
from shared.settings import Settings, load_settings
from tests.support.page_records import activation, anomaly, arrived, closed, incident, score
from tests.support.page_site import DEADLINE_S, Site, free_port


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    topics = {spec.name: spec.partitions for spec in topic_specs(Settings())}
    with EmbeddedBroker(topics) as broker, serve("127.0.0.1", 0) as registry:
        yield Site(broker, registry, tmp_path_factory.mktemp("state"))


def records_read(entities):
    return sum(row["records"] for row in entities["entities"])


def test_the_page_is_live_resumes_exactly_and_is_rebuilt(site):
    entities = [f"web-{number}" for number in range(20)]
    site.write(1, [score(row, entity=name) for row in range(30) for name in entities])
    opened = anomaly(20, entity="web-3")
    with site.dashboard():
        site.wait("/v1/entities", lambda answer: records_read(answer) == 600)
        stream = urllib.request.urlopen(
            f"http://127.0.0.1:{site.settings.dashboard.port}/v1/stream?view=fleet",
            timeout=DEADLINE_S,
        )
        assert b"event: hello" in b"".join(stream.readline() for _ in range(4))
        site.write(2, [opened])
        lines = iter(stream.readline, b"")
        assert b"event: anomaly\n" in lines
        assert json.loads(next(lines).removeprefix(b"data: "))["entity"] == "web-3"
        stream.close()
        found = site.wait("/v1/anomalies?open=1", lambda answer: answer["anomalies"])
        assert found["anomalies"][0]["event_id"] == opened["event_id"]

    site.write(1, [score(row, entity="web-3") for row in range(30, 40)])
    site.write(2, [closed(opened, 39)])
    with site.dashboard():
        found = site.wait("/v1/entities", lambda answer: records_read(answer) >= 610)
        assert records_read(found) == 610  # nothing twice
        site.wait("/v1/entities?anomalous=1", lambda answer: answer["total"] == 0)
        before = site.get("/v1/series?entity=web-3")
        assert len(before["metrics"][0]["value"]) == 40

    history_file(site.settings).unlink()
    with site.dashboard():
        site.wait("/v1/entities", lambda answer: records_read(answer) == 610)
        site.wait("/v1/series?entity=web-3", lambda answer: answer == before)
        site.wait("/v1/pipeline", lambda answer: not answer["topics"][0]["problem"])


def test_incidents_come_live_and_leave_with_their_deletion(site):
    opened = anomaly(25, entity="web-7")
    path = f"/v1/incidents/{opened['event_id']}"
    with site.dashboard():
        site.write(4, [activation(0, 12)])
        site.write(3, [incident([opened])])
        site.wait(path, lambda answer: answer["state"] == "open")
        site.write(3, [incident([opened], 2, end_row=30)])
        site.wait(path, lambda answer: answer["closed_because"] == "recovered")
        site.wait("/v1/models", lambda answer: answer["partitions"])
        key = Blob.join([opened["event_id"].encode()])
        site.publisher.send(Outgoing(site.topics[3], Blob.join([b""]), key))
        site.publisher.flush(10.0)
        site.wait("/v1/incidents", lambda answer: answer["total"] == 0)


def test_a_port_that_is_taken_is_named(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wanted = site.settings.dashboard.model_copy(update={"port": port})
        settings = site.settings.model_copy(update={"dashboard": wanted})
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*dashboard\.port"):
            run(settings, lambda: True)


def test_metrics_and_probes_have_a_port_of_their_own(site):
    port = free_port()
    wanted = site.settings.dashboard.model_copy(update={"port": free_port()})
    telemetry = site.settings.telemetry.model_copy(update={"port": port})
    folder = site.settings.state_dir / "another"
    update = {"dashboard": wanted, "telemetry": telemetry, "state_dir": folder}
    settings = site.settings.model_copy(update=update)
    stopping = threading.Event()
    page = threading.Thread(target=run, args=(settings, stopping.is_set))
    page.start()
    try:
        text = ""
        for path in ("/health/live", "/health/ready", "/metrics"):
            text = _until_answered(f"http://127.0.0.1:{port}{path}")
        assert "lapwing_build_info{" in text
    finally:
        stopping.set()
        page.join(20)
    assert not page.is_alive()


def _until_answered(url):
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return answer.read().decode()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_missing_topic_is_waited_for_and_named(tmp_path):
    with EmbeddedBroker({"another": 1}) as broker, serve("127.0.0.1", 0) as registry:
        flags = {
            "kafka": {"security.protocol": "PLAINTEXT", **broker.client_settings},
            "registry": {"url": registry.url},
            "state_dir": tmp_path,
            "dashboard": {"port": free_port()},
        }
        site = object.__new__(Site)
        site.settings = load_settings(flags, environ={})
        with site.dashboard():
            named = "there is no topic metrics.cloudwatch.scores"
            answer = site.wait(
                "/v1/pipeline", lambda answer: named in answer["topics"][0]["problem"]
            )
            assert answer["fleet"]["entities"] == 0


def test_a_full_disk_is_said_and_the_page_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr("dashboard.intake.RETRY_S", 0.05)
    settings = load_settings({"state_dir": tmp_path}, environ={})
    store = Store(history_file(settings), Retention(30, 10**9))
    intake = Intake(settings, store, Hub(1))
    store.apply([arrived("scores", [score(0)])])
    limit_pages(store, store._db.execute("PRAGMA page_count").fetchone()[0])
    later = arrived("anomalies", [anomaly(row) for row in range(200)])
    writer = threading.Thread(target=intake._apply, args=([later],), daemon=True)
    writer.start()
    until_s = time.monotonic() + DEADLINE_S
    while not intake.problem and time.monotonic() < until_s:
        time.sleep(0.01)
    assert intake.readiness().startswith("no space left for")
    history = History(store.path, store)
    assert history.counts() == {"points": 1, "anomalies": 0, "series": 1, "entities": 1}
    limit_pages(store, 1_000_000)
    writer.join(DEADLINE_S)
    assert intake.problem == ""
    assert history.counts()["anomalies"] == 200
    intake.close()


def limit_pages(store, pages):
    """Let the file grow no further, as on a full disk."""
    store._db.execute(f"PRAGMA max_page_count = {pages}")
