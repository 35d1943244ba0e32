"""Metrics of all services on a real Kafka, scraped as by Prometheus: each exists and is correct."""

from __future__ import annotations

import json
import math
import platform
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lapwing.topics import ensure
from shared import artifacts
from shared.batch import Blob, Outgoing
from shared.events import STATE_VERSION
from shared.kafka import Admin, Publisher
from shared.operations.counters import CATALOGUE, INCIDENT_RECORDS_SKIPPED, ROUTED_ROWS
from tests.support.receivers import Inbox, receiver
from tests.support.services.service import free_port
from tests.support.services.stack import Stack, log_of

pytestmark = pytest.mark.integration

HOSTS = 6
Samples = dict[str, dict[tuple[str, ...], float]]


class Scraped:
    """A running service with its metrics."""

    def __init__(self, stack: Stack, module: str, *arguments: str, **environ: str) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.process = stack.start(module, *arguments, LAPWING_TELEMETRY__PORT=str(port), **environ)

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def why(self) -> str:
        """What /health/ready says; an empty text when it is ready."""
        status, body = self.get("/health/ready")
        health = json.loads(body)
        assert (status == 200) == health["ready"]
        return str(health.get("why", ""))

    def samples(self) -> Samples:
        """{metric's name: {labels in the catalogue's order: value}}; histograms: count and sum."""
        text = self.get("/metrics")[1].decode()
        order = {metric.name: metric.labels for metric in CATALOGUE}
        found: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removesuffix("_count").removesuffix("_sum")
                labels = order.get(sample.name, order.get(name, ()))
                found.setdefault(sample.name, {})[
                    tuple(sample.labels[label] for label in labels)
                ] = sample.value
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, log_of(self.process)


def until(
    true: Callable[[], object], within_s: float = 60.0, shown: object = "it did not happen in time"
) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if true():
                return
        except urllib.error.URLError:
            pass
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)


@pytest.fixture
def stack(registry_settings, tmp_path):
    stack = Stack(registry_settings, tmp_path, LAPWING_OUTAGE_DEADLINE_S="60")
    ensure(stack.settings)
    yield stack
    stack.close()


@pytest.fixture
def inbox():
    with receiver() as inbox:
        yield inbox


def appears(samples: Samples) -> set[str]:
    """Which of the catalogue's metrics have a value in a scrape."""
    return {
        metric.name
        for metric in CATALOGUE
        if metric.name in samples or f"{metric.name}_count" in samples
    }


def test_every_declared_metric_appears_and_is_right(stack: Stack, inbox: Inbox) -> None:
    began_s = time.time()
    replay = Scraped(
        stack,
        "producer",
        "--fleet",
        str(HOSTS),
        "--days",
        "9",
        "--backfill",
        ".95",
        "--speed",
        "20000",
        "--loop",
    )
    until(lambda: replay.why() == "")
    until(
        lambda: (
            sum(Admin(stack.settings).end_offsets(stack.settings.topics.input).values())
            > HOSTS * 8 * 288
        )
    )
    trainer = Scraped(stack, "consumer_training", "--every", "1h")
    until(lambda: artifacts.current(stack.settings.models_dir) is not None)
    predictor = Scraped(stack, "consumer_prediction")
    dataset = stack.settings.topics.dataset
    incidents = Scraped(stack, "lapwing.incidents", LAPWING_INCIDENTS__GROUP=f"{dataset}-incidents")
    notify = Scraped(
        stack,
        "lapwing.notify",
        LAPWING_NOTIFY__GROUP=f"{dataset}-notify",
        LAPWING_NOTIFY__TARGETS=json.dumps({"ops": {"kind": "webhook", "url": inbox.url}}),
    )
    publisher = Publisher(stack.settings)
    publisher.send(
        Outgoing(stack.settings.topics.input, Blob.join([b"not avro"]), Blob.join([b"host-001"]))
    )
    assert publisher.flush(10) == 0
    until(lambda: predictor.why() == "")
    until(lambda: trainer.why() == "")

    seen = {
        service: scraped.samples() for service, scraped in (("produce", replay), ("train", trainer))
    }
    declared = {metric.name for metric in CATALOGUE}
    others = appears(seen["produce"]) | appears(seen["train"])
    others |= {INCIDENT_RECORDS_SKIPPED.name}  # every record is understood here
    others |= {ROUTED_ROWS.name}  # the tests of route look at it
    missing = set(declared)
    until(
        lambda: (
            missing.intersection_update(
                declared
                - others
                - appears(predictor.samples())
                - appears(incidents.samples())
                - appears(notify.samples())
            )
            or not missing
        ),
        30,
        missing,
    )
    incidents.stop()
    notify.stop()
    replay.stop()
    stack.wait_until_scored()
    until(lambda: sum(predictor.samples()["lapwing_consumer_lag_records"].values()) == 0, 30)
    time.sleep(2)  # so that all gauges are of now
    it = predictor.samples()

    topic, ends = (
        stack.settings.topics.input,
        Admin(stack.settings).end_offsets(stack.settings.topics.input),
    )
    partitions = {(topic, str(partition)) for partition in range(6)}
    assert set(it["lapwing_consumer_lag_records"]) == partitions
    assert {k: v for k, v in it["lapwing_events_consumed_total"].items() if v} == {
        (topic, str(p)): end for p, end in ends.items() if end
    }
    assert sum(it["lapwing_events_scored_total"].values()) == sum(ends.values()) - 1
    assert it["lapwing_dead_letters_total"] == {("not_avro",): 1}
    assert set(it["lapwing_entities"]) == {("WARMING",), ("READY",), ("STALE",)}
    until(lambda: predictor.samples()["lapwing_entities"][("READY",)] == HOSTS, 30)
    assert sum(predictor.samples()["lapwing_entities"].values()) == HOSTS
    assert it["lapwing_entities_dropped_total"] == {
        ("evicted",): 0, ("expired",): 0, ("forgotten",): 0
    }  # fmt: skip
    assert it["lapwing_metric_values_ignored_total"] == {(): 0}
    sha256 = artifacts.current(stack.settings.models_dir)
    ((version_, model_id, detector),) = it["lapwing_model_info"]
    assert (model_id, detector) == (str(sha256)[:16], "one_class_svm")
    assert version_.startswith("20")
    assert 0 <= it["lapwing_model_age_seconds"][()] <= time.time() - began_s
    assert sum(it["lapwing_model_reloads_total"].values()) >= 1
    assert it["lapwing_batch_seconds_count"][()] > 0
    assert 0 < it["lapwing_batch_seconds_sum"][()] < time.time() - began_s
    assert it["lapwing_end_to_end_seconds_count"][()] == sum(ends.values())
    assert it["lapwing_commits_total"][("committed",)] > 0
    assert it["lapwing_rebalances_total"][("assigned",)] == 6
    assert it["lapwing_snapshots_total"][("written",)] > 0
    assert sum(it["lapwing_anomalies_total"].values()) > 0
    assert sum(it["lapwing_data_quality_total"].values()) > 0
    assert sum(it["lapwing_episodes_closed_total"].values()) > 0
    assert it["lapwing_alarms_per_entity_day"][("achieved",)] > 0
    assert math.isnan(it["lapwing_alarms_per_entity_day"][("asked",)])
    for samples in (it, *seen.values()):
        assert samples["lapwing_build_info"] == {
            (version("lapwing"), str(STATE_VERSION), platform.python_version()): 1
        }
        assert samples["lapwing_outage_seconds"] == {(): 0}
    assert 0 < seen["produce"]["lapwing_events_produced_total"][(topic,)] <= sum(ends.values())
    assert seen["train"]["lapwing_fit_seconds_count"][()] == 1

    second = Scraped(stack, "consumer_prediction", LAPWING_SLOT="second")
    until(lambda: second.why() == "", 60)
    until(
        lambda: _lag(predictor) | _lag(second) == partitions and not _lag(predictor) & _lag(second),
        30,
    )
    assert _lag(predictor)
    assert _lag(second)
    for service in (second, predictor, trainer):
        service.stop()


def _lag(scraped: Scraped) -> set[tuple[str, ...]]:
    return set(scraped.samples().get("lapwing_consumer_lag_records", ()))


def test_a_predictor_that_waits_says_for_whom(stack: Stack) -> None:
    nobody = free_port()
    alone = Scraped(
        stack, "consumer_prediction", LAPWING_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{nobody}"
    )
    until(lambda: f"waiting for the broker at 127.0.0.1:{nobody}" in alone.why(), 30)
    no_registry = Scraped(
        stack, "consumer_prediction", SCHEMA_REGISTRY_URL=f"http://127.0.0.1:{nobody}"
    )
    until(lambda: f"waiting for the registry at http://127.0.0.1:{nobody}" in no_registry.why(), 30)
    trainer = Scraped(stack, "consumer_training", "--every", "1h")
    until(
        lambda: (
            "waiting for data: 500 of the 500 training rows needed are missing" in trainer.why()
        ),
        30,
    )
    predictor = Scraped(stack, "consumer_prediction", LAPWING_DETECTOR="isolation_forest")
    until(
        lambda: predictor.why().startswith("no model, and detector isolation_forest needs one"), 60
    )
    for service in (alone, no_registry):
        assert service.get("/health/live")[0] == 200
        assert b"lapwing_build_info" in service.get("/metrics")[1]
        service.stop()
