"""Results in OpenSearch by ``lapwing export opensearch``, with kills of both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

import schemas
from lapwing.export.opensearch_client import OpenSearchClient
from lapwing.export.opensearch_documents import action_of
from lapwing.export.opensearch_export import DocumentWriter, Written
from shared.batch import Batch, Blob
from shared.encode.results import encode_results
from shared.kafka import Admin, topic_specs
from shared.registry import Registry
from shared.settings import Settings
from tests.sinks.test_postgresql import ODD_TEXT, T0, event
from tests.support.services import maven
from tests.support.services.opensearch import OpenSearch

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROUND, ROUNDS = 300, 6
WAIT_S = 240.0
ANOMALIES, INCIDENTS = "lapwing-anomalies", "lapwing-incidents"


@pytest.fixture(scope="module")
def opensearch() -> Iterator[OpenSearch]:
    """Provide an empty OpenSearch; skip loudly, or fail with REQUIRE_SINKS=1, without one."""
    why = maven.lacking()
    if why and os.environ.get("REQUIRE_SINKS") != "1":
        pytest.skip(f"the export to OpenSearch is NOT TESTED: {why}")
    assert not why, why
    server = OpenSearch()
    try:
        server.start()
        yield server
    finally:
        server.close()


class Exporter:
    """``lapwing export opensearch --follow`` as a process."""

    def __init__(self, settings: Settings, server: OpenSearch, folder: Path, form: str) -> None:
        dataset = settings.topics.dataset
        self.environ = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
            "SCHEMA_REGISTRY_URL": settings.registry.url,
            "LAPWING_TOPICS__DATASET": dataset,
            "LAPWING_OPENSEARCH__URL": server.url,
            "LAPWING_OPENSEARCH__GROUP": f"{dataset}-opensearch",
            "LAPWING_OUTPUT__FORMAT": form,
        }
        self.log = folder / "exporter.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "lapwing", "export", "opensearch", "--follow"]
            self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log)

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-3000:]


class Topic:
    """A topic of results, written in transactions as the services write it."""

    def __init__(self, settings: Settings, topic: str, name: str) -> None:
        self.topic, self._text, self._schema_id = topic, schemas.text(name), None
        if not settings.output.is_json:
            registry = Registry(settings.registry)
            self._schema_id = registry.register(f"{topic}-value", self._text, "FULL")
        given = {"bootstrap.servers": settings.bootstrap, "transactional.id": f"t-{topic}"}
        self._producer = Producer(given)
        self._producer.init_transactions(30)

    def send(self, records: dict[str, dict | None] | list[dict], *, commit: bool = True) -> None:
        """Send records by key in one transaction; None = a tombstone."""
        listed = (
            records.items() if isinstance(records, dict) else [(r["entity"], r) for r in records]
        )
        self._producer.begin_transaction()
        for key, record in listed:
            value = record and encode_results(self._text, self._schema_id, [record])[0]
            self._producer.produce(self.topic, value, key)
        assert self._producer.flush(30) == 0
        (self._producer.commit_transaction if commit else self._producer.abort_transaction)(30)


def wait_for(server: OpenSearch, exporter: Exporter, count: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while (found := stored(server)) < count:
        assert time.monotonic() < deadline, (found, count, exporter.tail(), server.log(20))
        time.sleep(0.3)


def stored(server: OpenSearch) -> int:
    try:
        server.ask("POST", f"/{ANOMALIES}/_refresh")
        return int(server.ask("GET", f"/{ANOMALIES}/_count")["count"])
    except OSError:
        return 0


@pytest.mark.parametrize("form", ["avro", "json"])
def test_every_event_is_there_once_whatever_is_killed(
    form: str, registry_settings: Settings, opensearch: OpenSearch, tmp_path: Path
) -> None:
    output = registry_settings.output.model_copy(update={"format": form})
    settings = registry_settings.model_copy(update={"output": output})
    Admin(settings).ensure_topics(topic_specs(settings))
    topic = Topic(settings, settings.topics.anomalies, schemas.ANOMALY_EVENT)
    exporter = Exporter(settings, opensearch, tmp_path, form)
    try:
        topic.send([event(number) for number in range(ROUND)])
        exporter.start()
        for number in range(1, ROUNDS):
            first = number * ROUND
            topic.send([event(10**6 + first + k) for k in range(20)], commit=False)
            topic.send([event(first + k) for k in range(ROUND)])
            wait_for(opensearch, exporter, first - ROUND + 1)
            if number % 2:
                assert exporter.end(signal.SIGKILL) == -signal.SIGKILL
                exporter.start()
            else:
                opensearch.kill()
                time.sleep(1.0)
                opensearch.start()
        topic.send([event(number, reason="sent again") for number in range(20)])
        topic.send([event(ROUNDS * ROUND)])
        count = ROUNDS * ROUND + 1
        wait_for(opensearch, exporter, count)
        assert opensearch.ids(ANOMALIES) == [f"{number:032x}" for number in range(count)]
        assert exporter.end(signal.SIGTERM) == 0, exporter.tail()
        check_what_is_stored(opensearch, count)
        again = subprocess.run(
            [sys.executable, "-m", "lapwing", "export", "opensearch", "--to", opensearch.url],
            env=exporter.environ, capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        assert f"{count + 20:,} anomalies: {ANOMALIES}" in again.stdout
        assert len(opensearch.ids(ANOMALIES)) == count
    finally:
        if exporter.process is not None and exporter.process.poll() is None:
            exporter.process.kill()
        opensearch.ask("DELETE", f"/{ANOMALIES}")


def batch_of(results: str, records: list[tuple[str, dict | None]]) -> Batch:
    """Return records in JSON as a batch of a topic."""
    name = schemas.INCIDENT if results == "incidents" else schemas.ANOMALY_EVENT
    text = schemas.text(name)
    values = [b"" if one is None else encode_results(text, None, [one])[0] for _, one in records]
    offsets = np.arange(len(records))
    keys = Blob.join([key.encode() for key, _ in records])
    return Batch(results, 0, Blob.join(values), keys, offsets, offsets)


def test_the_server_takes_templates_documents_versions_and_deletions(
    opensearch: OpenSearch,
) -> None:
    """Without Kafka: what the export sends is what OpenSearch understands."""
    settings = Settings.model_validate({"opensearch": {"url": opensearch.url, "index": "direct"}})
    client, count = OpenSearchClient(settings.opensearch), Written()
    anomalies = DocumentWriter(settings, "anomalies", client, count)
    incidents = DocumentWriter(settings, "incidents", client, count)
    for writer in (anomalies, incidents, anomalies):
        writer.prepare("direct")
    found = opensearch.ask("GET", "/_index_template/direct-anomalies")
    assert len(found["index_templates"]) == 1
    events = [("web", event(number)) for number in range(50)]
    anomalies.write(batch_of("anomalies", events))
    anomalies.write(batch_of("anomalies", events[:10]))
    assert opensearch.ids("direct-anomalies") == [f"{number:032x}" for number in range(50)]
    incidents.write(
        batch_of(
            "incidents",
            [
                ("a", incident("a", 1, "open")),
                ("b", incident("b", 1, "open")),
                ("a", incident("a", 2, "closed")),
                ("a", incident("a", 1, "open")),
                ("b", None),
                ("never", None),
            ],
        )
    )
    assert opensearch.ids("direct-incidents") == ["a"]
    kept = opensearch.ask("GET", "/direct-incidents/_doc/a")["_source"]
    assert (kept["state"], kept["revision"]) == ("closed", 2)
    assert count.refused == 0
    opensearch.ask("PUT", "/direct-anomalies/_mapping", {"properties": {"n": {"type": "long"}}})
    odd = action_of("direct-anomalies", "anomalies", b"k", event(99) | {"n": "many"}, "t[0]@9")
    (refused,) = client.bulk([odd])
    assert (refused.status, refused.action.coordinates) == (400, "t[0]@9")
    assert "failed to parse field [n]" in refused.why
    client.close()


def check_what_is_stored(server: OpenSearch, count: int) -> None:
    """Fields are found by their types: times as dates, sentences by words, shares as text."""
    (odd,) = hits(server, {"term": {"source_offset": 31}})
    assert odd["_source"]["reason"] == ODD_TEXT
    assert odd["_source"]["attributions_json"] == '{"cpu.jump":0.25,"cpu.value":0.75}'
    assert odd["_id"] == odd["_source"]["event_id"]
    assert len(hits(server, {"match_phrase": {"reason": "sent again"}})) == 20
    assert (
        len(hits(server, {"bool": {"must_not": {"exists": {"field": "value"}}}})) == count // 10 + 1
    )
    newest = {"range": {"event_time": {"gte": T0 + count - 3}}}
    assert {one["_source"]["source_offset"] for one in hits(server, newest)} == {
        count - 3, count - 2, count - 1,
    }  # fmt: skip


def hits(server: OpenSearch, query: dict) -> list[dict]:
    found = server.ask("POST", f"/{ANOMALIES}/_search", {"size": 500, "query": query})
    listed: list[dict] = found["hits"]["hits"]
    return listed


def test_the_newest_state_of_an_incident_counts_and_a_tombstone_deletes(
    registry_settings: Settings, opensearch: OpenSearch, tmp_path: Path
) -> None:
    settings = registry_settings
    Admin(settings).ensure_topics(topic_specs(settings))
    topic = Topic(settings, settings.topics.incidents, schemas.INCIDENT)
    exporter = Exporter(settings, opensearch, tmp_path, "avro")
    topic.send({"a": incident("a", 1, "open"), "b": incident("b", 1, "open")})
    topic.send({"a": incident("a", 2, "closed"), "c": incident("c", 1, "open")})
    topic.send({"b": None})
    command = [sys.executable, "-m", "lapwing", "export", "opensearch"]
    for _ in range(2):  # again: what is older than a document does not replace it
        subprocess.run(command, env=exporter.environ, check=True, timeout=240)
    assert opensearch.ids(INCIDENTS) == ["a", "c"]
    states = {
        one: opensearch.ask("GET", f"/{INCIDENTS}/_doc/{one}")["_source"]["state"]
        for one in ("a", "c")
    }
    assert states == {"a": "closed", "c": "open"}


def incident(incident_id: str, revision: int, state: str) -> dict:
    return {
        "incident_id": incident_id, "revision": revision, "change": "updated", "state": state,
        "title": "cpu", "reason": "r", "severity": 0.7, "severity_class": "major", "start": T0,
        "entity": "web-1", "entity_count": 1, "metric_count": 1, "episode_count": 1,
        "open_count": 1, "peak_entity": "web-1", "peak_time": T0, "entities": ["web-1"],
        "metrics": ["cpu"], "opened_offset": 0, "anomalies_offset": 0, "recorded_at": T0,
        "window_start": T0, "episodes": [],
    }  # fmt: skip
