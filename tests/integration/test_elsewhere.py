"""Metrics, rules, dashboards and topics read by other programs: Prometheus, kcat, any Avro reader.

Prometheus and kcat are Debian's packages of these names; what is missing is skipped with a message.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from lapwing.topics import ensure
from shared.operations.counters import CATALOGUE
from tests.support.anomaly_logs import alarm
from tests.support.incident_oracle import publish
from tests.support.receivers import receiver
from tests.support.services.service import ProcessService, free_port
from tests.support.services.stack import Stack, log_of
from tests.unit.house.test_observability import PROMETHEUS as RULES
from tests.unit.house.test_observability import exported, expressions, loaded

pytestmark = pytest.mark.integration

PROMETHEUS, KCAT = shutil.which("prometheus"), shutil.which("kcat")
STARTS_S = 400.0
"""All services start at once, on whatever else the machine does."""


class Prometheus(ProcessService):
    """Debian's Prometheus with deploy/'s configuration; the targets are given, not looked up.

    ports : telemetry port by service
    """

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__("prometheus", free_port())
        self.ports = ports

    def command(self) -> list[str]:
        config = loaded(RULES / "prometheus.yml")
        [job] = config["scrape_configs"]
        del job["dns_sd_configs"], job["relabel_configs"]
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"service": service}}
            for service, port in self.ports.items()
        ]
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES / "alerts.yml")]
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), "utf-8")
        return [
            str(PROMETHEUS),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=error",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def get(self, path: str, **query: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]


@pytest.fixture
def stack(registry_settings, tmp_path) -> Iterator[Stack]:
    stack = Stack(registry_settings, tmp_path, LAPWING_OUTAGE_DEADLINE_S="120")
    ensure(stack.settings).checked()
    yield stack
    stack.close()


def wait(done, what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def until_none(missing, what: str, timeout_s: float) -> None:
    """Wait until a function returns nothing that is missing; else say what is."""
    deadline = time.monotonic() + timeout_s
    while found := missing():
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(0.5)


@pytest.mark.timeout(1500)
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian has it)")
def test_prometheus_scrapes_every_service(stack: Stack) -> None:
    """Every target is up, every rule is healthy, every expression of the dashboards is answered."""
    with receiver() as inbox:
        ports = all_services(stack, inbox.url)
        prometheus = Prometheus(ports)
        try:
            prometheus.start()
            check_targets(prometheus, stack)
            check_rules(prometheus)
            check_boards(prometheus)
        finally:
            prometheus.close()


def all_services(stack: Stack, url: str) -> dict[str, int]:
    """Start the services that the compose file's Prometheus scrapes; return their ports."""
    dataset = stack.settings.topics.dataset
    source = f"telegraf.{dataset}"
    admin = AdminClient({"bootstrap.servers": stack.settings.bootstrap})
    topics = [NewTopic(name, 1, 1) for name in (source, f"{source}.dlq")]
    for future in admin.create_topics(topics).values():
        future.result(15)
    targets = json.dumps({"ops": {"kind": "webhook", "url": url}})
    fleet = ("--fleet", "6", "--days", "9", "--backfill", ".95", "--speed", "2000", "--loop")
    more: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "producer": (fleet, {}),
        "consumer_training": (("--every", "1h"), {}),
        "consumer_prediction": ((), {}),
        "incidents": ((), {"LAPWING_INCIDENTS__GROUP": f"{dataset}-incidents"}),
        "notify": (
            (),
            {"LAPWING_NOTIFY__GROUP": f"{dataset}-notify", "LAPWING_NOTIFY__TARGETS": targets},
        ),
        "route": (
            (),
            {"LAPWING_ROUTE__SOURCE": source, "LAPWING_ROUTE__GROUP": f"{dataset}-route"},
        ),
        "dashboard": (("--port", str(free_port())), {}),
    }
    [job] = loaded(RULES / "prometheus.yml")["scrape_configs"]
    assert set(job["dns_sd_configs"][0]["names"]) == set(more)
    ports = {}
    for service, (arguments, environ) in more.items():
        module = f"lapwing.{service}" if service in ("incidents", "notify", "route") else service
        ports[service] = free_port()
        environ["LAPWING_TELEMETRY__PORT"] = str(ports[service])
        stack.start(module, *arguments, **environ)
    return ports


def check_targets(prometheus: Prometheus, stack: Stack) -> None:
    def down() -> list[str]:
        for process in stack.running:
            assert process.poll() is None, log_of(process)
        targets = prometheus.get("targets")["activeTargets"]
        up = {one["labels"]["service"] for one in targets if one["health"] == "up"}
        return sorted(prometheus.ports.keys() - up)

    until_none(down, "services that are not scraped", STARTS_S)
    answer = prometheus.get("query", query="count by (service) (lapwing_build_info)")["result"]
    assert {one["metric"]["service"] for one in answer} == set(prometheus.ports)


def check_rules(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        [group] = prometheus.get("rules")["groups"]
        return list(group["rules"])

    wait(lambda: all(one["health"] != "unknown" for one in rules()), "the rules are evaluated")
    assert {one["name"]: one["health"] for one in rules()} == {
        rule["alert"]: "ok" for rule in loaded(RULES / "alerts.yml")["groups"][0]["rules"]
    }


def check_boards(prometheus: Prometheus) -> None:
    """Ask what the panels ask; wait for the panels of gauges, which have data without an event."""
    later = {"lapwing_fit_seconds", "lapwing_model_age_seconds", "lapwing_model_info"}
    gauges = {metric.name for metric in CATALOGUE if metric.kind == "gauge"} - later
    panels = {where: text for where, text in expressions().items() if "," in where}

    def empty() -> list[str]:
        found = []
        for where, text in panels.items():
            asked = text.replace("$__rate_interval", "10s")
            answer = prometheus.get("query", query=asked)["result"]
            names = {m.name for name in words(text) if (m := exported(name)) is not None}
            if not answer and names and names <= gauges:
                found.append(where)
        return found

    def absent() -> set[str]:
        names = prometheus.get("label/__name__/values")
        unknown = {name for name in names if name.startswith("lapwing_") and not exported(name)}
        assert not {name for name in unknown if not name.endswith("_created")}
        return gauges - {metric.name for name in names if (metric := exported(name)) is not None}

    until_none(absent, "gauges that nobody exports", STARTS_S)
    until_none(empty, "panels without data", STARTS_S)


def words(expression: str) -> set[str]:
    return {word for word in expression.replace("(", " ").replace("{", " ").split() if "_" in word}


# -- topics ----------------------------------------------------------------------------------------


@pytest.fixture
def incidents(stack: Stack) -> Stack:
    """Two alarms, and the incidents that follow."""
    stack.environ["LAPWING_INCIDENTS__GROUP"] = f"{stack.settings.topics.dataset}-incidents"
    service = stack.start("lapwing.incidents")
    publish(stack.settings, [alarm(k, "open", entity=f"web-{k}", minute=99 * k) for k in range(2)])
    wait(lambda: len(stack.records(stack.settings.topics.incidents)) == 2, "two incidents", 120)
    service.terminate()
    assert service.wait(60) == 0, log_of(service)
    return stack


@pytest.mark.skipif(KCAT is None, reason="kcat is not installed (Debian has it)")
def test_kcat_reads_keys_and_sizes(incidents: Stack) -> None:
    settings = incidents.settings
    common = ["-b", settings.bootstrap, "-X", "isolation.level=read_committed", "-C", "-e", "-q"]

    def read(topic: str, form: str) -> list[list[str]]:
        done = subprocess.run(
            [str(KCAT), *common, "-t", topic, "-f", form],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return [line.split("|") for line in done.stdout.splitlines()]

    keys = [record[2].decode() for record in incidents.records(settings.topics.incidents)]
    rows = read(settings.topics.incidents, "%p|%o|%k|%S\\n")
    assert [row[2] for row in rows] == keys
    assert all(int(row[3]) > 5 for row in rows)
    shown = read(settings.topics.anomalies, "%k|%S\\n")
    assert [row[0] for row in shown] == ["web-0", "web-1"]


def test_any_avro_reader_of_the_wire_format_reads_them(incidents: Stack) -> None:
    """The reader that kcat's builds with Avro, Kafka Connect and Confluent's clients have."""
    settings = incidents.settings
    registry = SchemaRegistryClient({"url": settings.registry.url})
    decode = AvroDeserializer(registry)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": f"{settings.topics.dataset}-elsewhere",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    topics = (settings.topics.anomalies, settings.topics.incidents)
    consumer.subscribe(list(topics))
    found: dict[str, list[dict[str, Any]]] = {topic: [] for topic in topics}
    deadline = time.monotonic() + 60
    while sum(map(len, found.values())) < 4 and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            context = SerializationContext(message.topic(), MessageField.VALUE)
            record = decode(message.value(), context)
            found[message.topic()].append(dict(record))
    consumer.close()
    assert [one["entity"] for one in found[topics[0]]] == ["web-0", "web-1"]
    assert [(one["entity"], one["state"]) for one in found[topics[1]]] == [
        ("web-0", "open"),
        ("web-1", "open"),
    ]
