"""Telegraf's topic -> route -> predictor -> scores, as processes on the embedded broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import schemas
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import EmbeddedRegistry
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import decode_records
from shared.kafka import Publisher, Reader, topic_specs
from shared.settings import Settings, load_settings

SOURCE, HOSTS, TICKS = "telegraf.raw", 3, 20
WAIT_S = 120.0


def batch(tick: int) -> bytes:
    """Two rows of each host, and one without a host."""
    metrics = [
        {
            "name": name,
            "tags": {"host": f"web-{host}"},
            "fields": {field: 40 + host + tick % 3},
            "timestamp": 1_700_000_000 + 300 * tick,
        }
        for host in range(HOSTS)
        for name, field in (("cpu", "usage"), ("mem", "used"))
    ]
    broken = {"name": "cpu", "tags": {}, "fields": {"usage": 1}, "timestamp": 1_700_000_000}
    return json.dumps({"metrics": [*metrics, broken]}).encode()


def test_rows_of_telegraf_get_their_scores(tmp_path):
    topics = Settings.model_validate({"route": {"source": SOURCE}, "topics": {"partitions": 2}})
    names = {spec.name: spec.partitions for spec in topic_specs(topics)}
    with (
        EmbeddedBroker(names | {SOURCE: 1}) as broker,
        EmbeddedRegistry("127.0.0.1", 0) as registry,
    ):
        kafka = {
            f"LAPWING_KAFKA__{name.upper().replace('.', '_')}": value
            for name, value in broker.client_settings.items()
        }
        environ = kafka | {
            "SCHEMA_REGISTRY_URL": registry.url,
            "LAPWING_ROUTE__SOURCE": SOURCE,
            "LAPWING_TOPICS__PARTITIONS": "2",
            "LAPWING_PREDICT__DELIVERY": "at-least-once",
            "LAPWING_STATE_DIR": str(tmp_path / "state"),
            "LAPWING_MODELS_DIR": str(tmp_path / "models"),
        }
        settings = load_settings(environ=environ)
        ensure(settings).checked()
        publisher = Publisher(settings)
        publisher.send(Outgoing(SOURCE, Blob.join([batch(t) for t in range(TICKS)]), keys(TICKS)))
        assert publisher.flush(10) == 0
        publisher.close()
        log = (tmp_path / "log").open("w+")
        services = [
            subprocess.Popen(
                [sys.executable, "-m", module], env=os.environ | environ, stdout=log, stderr=log
            )
            for module in ("lapwing.route", "consumer_prediction")
        ]
        try:
            scores = awaited(settings, settings.topics.scores, 2 * HOSTS * TICKS)
            letters = awaited(settings, settings.route.dead_letters, TICKS)
            anomalies = awaited(settings, settings.topics.anomalies, 0)
        except AssertionError as error:
            raise AssertionError((tmp_path / "log").read_text()[-4_000:]) from error
        finally:
            for service in services:
                service.terminate()
            codes = [service.wait(30) for service in services]
            log.close()
    assert codes == [0, 0]
    found = decode_records(scores, [schemas.text(schemas.SCORE_EVENT)] * len(scores))
    of_one = [
        (metric["name"], metric["value"])
        for event in found
        if event["entity"] == "web-1"
        for metric in event["metrics"]
        if metric["value"] is not None
    ]
    assert of_one == [
        (name, 41.0 + tick % 3) for tick in range(TICKS) for name in ("cpu_usage", "mem_used")
    ]
    assert anomalies == []
    assert letters == [batch(tick) for tick in range(TICKS)]


def keys(count: int) -> Blob:
    return Blob.join([b"telegraf"] * count)


def awaited(settings: Settings, topic: str, count: int) -> list[bytes]:
    deadline = time.monotonic() + WAIT_S
    values: list[bytes] = []
    while time.monotonic() < deadline:
        values = [
            one.values[row] for one in Reader(settings).read(topic) for row in range(len(one))
        ]
        if len(values) >= count:
            break
        time.sleep(0.3)
    assert len(values) == count, f"{topic} has {len(values)} records"
    return values
