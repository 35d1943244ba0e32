"""The service on the embedded broker: live, after a restart, and after its history is lost."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest

from dashboard.server import history_file, run
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.errors import ConfigError
from shared.kafka import Publisher, topic_specs
from shared.settings import Settings, load_settings
from tests.support.page_records import SCHEMAS, activation, anomaly, closed, incident, score

DEADLINE_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """A broker, a registry, and what is written to the topics."""

    def __init__(self, broker, registry, folder):
        kafka = {"security.protocol": "PLAINTEXT", **broker.client_settings}
        flags = {
            "kafka": kafka,
            "registry": {"url": registry.url},
            "state_dir": folder,
            "dashboard": {"port": free_port()},
        }
        self.settings: Settings = load_settings(flags, environ={})
        ids = ensure(self.settings, schemas_only=True).checked().schemas
        topics = self.settings.topics
        self.publisher = Publisher(self.settings)
        self.topics = {
            1: topics.scores,
            2: topics.anomalies,
            3: topics.incidents,
            4: topics.activations,
        }
        self.ids = {number: ids[f"{topic}-value"] for number, topic in self.topics.items()}

    def write(self, schema, records):
        values = encode_records(SCHEMAS[schema], self.ids[schema], records)
        name = {3: "incident_id", 4: "group"}.get(schema, "entity")
        keys = Blob.join([record[name].encode() for record in records])
        self.publisher.send(Outgoing(self.topics[schema], values, keys))
        self.publisher.flush(10.0)

    def get(self, path):
        url = f"http://127.0.0.1:{self.settings.dashboard.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def wait(self, path, done):
        """Return the first answer that fulfils the condition."""
        until_s = time.monotonic() + DEADLINE_S
        seen = None
        while time.monotonic() < until_s:
            try:
                seen = self.get(path)
            except OSError:
                seen = None
            if seen is not None and done(seen):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{path}: {seen}")

    @contextmanager
    def dashboard(self):
        stop = threading.Event()
        failures = []

        def work():
            try:
                run(self.settings, stop.is_set)
            except BaseException as error:  # noqa: BLE001 - the test reports it
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(DEADLINE_S)
        assert failures == []
        assert not thread.is_alive()


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
