"""Lapwing on a topic whose subject holds the owner's schema, in both orders, on a real registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from lapwing.topics import result_subjects
from shared.kafka import Admin
from shared.settings import Settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
FLINK = (ROOT / "tests" / "writer_schemas" / "flink_sql_bigint.avsc").read_text("utf-8")
"""device, ts (a plain long), proc, value."""

READ_AS = (
    "entity=device, time=ts (long, ms by input.time_unit), metrics=value, left out=proc (text)"
)
ROWS, DEVICES, T0 = 120, 4, 1_700_000_000_000


class Owner:
    """Owner of the topic, with its own schema and producer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topic = f"{settings.topics.dataset}.plant"
        self.subject = f"{self.topic}-value"
        self.registry = SchemaRegistryClient({"url": settings.registry.url})

    def make_topic(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.settings.bootstrap})
        (future,) = admin.create_topics([NewTopic(self.topic, 3, 1)]).values()
        future.result(20)

    def register(self, level: str | None) -> None:
        self.registry.register_schema(self.subject, Schema(FLINK, "AVRO"))
        if level:
            self.registry.set_compatibility(self.subject, level)

    def send(self) -> None:
        """Register where that has not been done, and send."""
        serializer = AvroSerializer(self.registry, FLINK)
        producer = Producer(
            {"bootstrap.servers": self.settings.bootstrap, "partitioner": "murmur2_random"}
        )
        for i in range(ROWS):
            record = {
                "device": f"d{i % DEVICES}",
                "ts": T0 + 60_000 * (i // DEVICES),
                "proc": None,
                "value": float(i % 7),
            }
            value = serializer(record, SerializationContext(self.topic, MessageField.VALUE))
            producer.produce(self.topic, value, key=record["device"])
        assert producer.flush(20) == 0

    def state(self) -> tuple[list[int], str]:
        return self.registry.get_versions(self.subject), self.registry.get_compatibility(
            self.subject
        )


class Shell:
    """The command line, configured for the owner's topic as a user would."""

    def __init__(self, owner: Owner, folder: Path) -> None:
        settings = owner.settings
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("LAPWING_")
        } | {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
            "SCHEMA_REGISTRY_URL": settings.registry.url,
            "LAPWING_TOPICS__DATASET": settings.topics.dataset,
            "LAPWING_TOPICS__INPUT": owner.topic,
            "LAPWING_TOPICS__PARTITIONS": "3",
            "LAPWING_PREDICT__GROUP": settings.predict.group,
            "LAPWING_INPUT__ENTITY_FIELDS": "device",
            "LAPWING_INPUT__TIME_UNIT": "ms",
            "LAPWING_MODELS_DIR": str(folder / "models"),
            "LAPWING_STATE_DIR": str(folder / "state"),
        }
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lapwing", *words],
            cwd=self.folder, env=self.environ | environ, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip

    def start(self, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / "predict.log"
        process = subprocess.Popen(
            [sys.executable, "-m", "lapwing", *words], cwd=self.folder, env=self.environ,
            stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.running.append(process)
        return process, log

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def owner(registry_settings: Settings) -> Owner:
    return Owner(registry_settings)


@pytest.fixture
def shell(owner: Owner, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(owner, tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize("level", ["NONE", "FULL_TRANSITIVE"])
def test_the_owner_first(owner: Owner, shell: Shell, level: str) -> None:
    owner.make_topic()
    owner.register(level)
    owner.send()
    before = owner.state()
    assert before == ([1], level)

    ensured = shell.run("topics", "ensure")
    assert ensured.returncode == 0, ensured.stdout + ensured.stderr
    assert (
        f"left      {owner.subject}: it belongs to the producer of the input; it has 1 version at"
        f" level {level}" in ensured.stdout
    )
    assert f"exists    {owner.topic}" in ensured.stdout
    mine = owner.settings.model_copy(
        update={"topics": owner.settings.topics.model_copy(update={"input": owner.topic})}
    )
    for subject, _, ours in result_subjects(mine):
        assert owner.registry.get_compatibility(subject) == ours
    assert shell.run("topics", "ensure").stdout.count(" has id ") == 5
    described = shell.run("topics", "describe")
    assert f"org.apache.flink.avro.generated.record, version 1, {level}" in described.stdout, (
        described.stderr
    )

    seen = shell.run("inspect")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert (
        "entity    device\n  time      ts (long, ms by input.time_unit)\n  metrics   value\n"
        in seen.stdout
    )
    judged_by_predictors(owner, shell)
    examined = shell.run("doctor", "--json")
    findings = {one["check"]: one for one in json.loads(examined.stdout)["findings"]}
    assert examined.returncode == 0, examined.stdout
    assert READ_AS in findings["input"]["message"]
    assert owner.state() == before


def judged_by_predictors(owner: Owner, shell: Shell) -> None:
    """Every record gets its score; the log says which fields are read."""
    predictor, log = shell.start("predict")
    admin, deadline = Admin(owner.settings), time.monotonic() + 90
    end = {p: offset for p, offset in admin.end_offsets(owner.topic).items() if offset}
    assert sum(end.values()) == ROWS
    while time.monotonic() < deadline:
        assert predictor.poll() is None, log.read_text()
        committed = admin.committed(owner.settings.predict.group, owner.topic)
        if {p: committed[p].offset for p in end if p in committed} == end:
            break
        time.sleep(0.2)
    predictor.send_signal(signal.SIGTERM)
    assert predictor.wait(30) == 0, log.read_text()
    scores = shell.run(
        "tail", "scores", "--from-beginning", "--timeout", "3", "--json"
    ).stdout.splitlines()
    assert len(scores) == ROWS, log.read_text()
    assert {json.loads(line)["entity"] for line in scores} == {f"d{i}" for i in range(DEVICES)}
    (message,) = [line for line in log.read_text().splitlines() if "writer schema" in line]
    assert json.loads(message)["read_as"] == READ_AS


def test_another_number_of_partitions_is_no_dead_end(owner: Owner, shell: Shell) -> None:
    owner.make_topic()
    owner.register(None)
    unset = {"LAPWING_TOPICS__PARTITIONS": "6"}
    refused = shell.run("topics", "ensure", **unset)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"lapwing: {owner.topic} has 3 partitions, topics.partitions says 6: set topics.partitions"
        " (LAPWING_TOPICS__PARTITIONS) to 3\n"
    )
    assert "created" not in refused.stdout.replace("not created", "")
    ours = [one for one in owner.registry.get_subjects() if owner.settings.topics.dataset in one]
    assert ours == [owner.subject]
    (line,) = (
        one
        for one in shell.run("doctor", **unset).stdout.splitlines()
        if one[2:].startswith("topics")
    )
    assert f"{owner.topic} has 3 partitions, topics.partitions says 6; missing: " in line
    assert shell.run("topics", "ensure").returncode == 0

    admin = AdminClient({"bootstrap.servers": owner.settings.bootstrap})
    dead = f"{owner.topic}.dlq"
    (future,) = admin.create_partitions([NewPartitions(dead, 5)]).values()
    future.result(20)
    again = shell.run("topics", "ensure")
    assert (again.returncode, again.stderr) == (0, "")
    assert (
        f"left      {dead}: it has 5 partitions, a new topic would have 3; both work"
        in again.stdout
    )
    owner.send()
    judged_by_predictors(owner, shell)
    assert f"{dead} has 5, which works" in shell.run("doctor").stdout


def test_lapwing_first(owner: Owner, shell: Shell) -> None:
    """``ensure`` creates the topic too; the owner's serializer registers its schema later."""
    ensured = shell.run("topics", "ensure")
    assert ensured.returncode == 0, ensured.stdout + ensured.stderr
    assert f"created   {owner.topic}" in ensured.stdout
    assert (
        f"left      {owner.subject}: it belongs to the producer of the input; it has no schema yet"
        in ensured.stdout
    )
    assert owner.subject not in owner.registry.get_subjects()
    owner.send()
    assert owner.registry.get_versions(owner.subject) == [1]
    judged_by_predictors(owner, shell)
    assert shell.run("doctor").returncode == 0


def test_the_bundled_producer_does_not_touch_the_owners_subject(owner: Owner, shell: Shell) -> None:
    owner.make_topic()
    owner.register("FULL")
    before = owner.state()
    defaults = {"LAPWING_INPUT__ENTITY_FIELDS": "host", "LAPWING_INPUT__TIME_UNIT": ""}
    refused = shell.run("produce", "--fleet", "2", "--days", "1", "--speed", "max", **defaults)
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    (message,) = [line for line in lines if line.startswith("lapwing produce: ")]
    assert all(
        part in message
        for part in (
            owner.subject,
            "compatibility level FULL",
            "topics.input",
            "topics.dataset",
            "NONE",
        )
    )
    assert owner.state() == before
    assert sum(Admin(owner.settings).end_offsets(owner.topic).values()) == 0


def test_the_bundled_producer_registers_its_own_schema(owner: Owner, shell: Shell) -> None:
    dataset = owner.settings.topics.dataset
    defaults = {
        "LAPWING_INPUT__ENTITY_FIELDS": "host",
        "LAPWING_INPUT__TIME_UNIT": "",
        "LAPWING_TOPICS__INPUT": "",
    }
    assert shell.run("topics", "ensure", **defaults).returncode == 0
    made = shell.run("produce", "--fleet", "2", "--days", "1", "--speed", "max", **defaults)
    assert made.returncode == 0, made.stderr
    subject = f"metrics.{dataset}.raw-value"
    assert (owner.registry.get_versions(subject), owner.registry.get_compatibility(subject)) == (
        [1],
        "BACKWARD",
    )
    owner.registry.set_compatibility(subject, "FULL")
    assert (
        shell.run("produce", "--fleet", "1", "--days", "1", "--speed", "max", **defaults).returncode
        == 0
    )
    assert owner.registry.get_compatibility(subject) == "FULL"
