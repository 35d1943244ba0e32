"""Lapwing's services as processes on a real Kafka, and the invariants of their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas
from consumer_prediction.outgoing import Encoder
from consumer_prediction.service import result_schemas
from lapwing.topics import ensure
from shared.artifacts import load as load_model
from shared.batch import Blob, Outgoing
from shared.decode.formats import open_decoder
from shared.encode.results import decode_result
from shared.kafka import Admin, Publisher, Reader, input_limit_bytes
from shared.registry import Registry
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import RegistrySettings, Settings, load_settings
from tests.support.services.fixtures import settings_for

HOSTS, DAYS = 12, 4
EVENTS = HOSTS * DAYS * 288


class Stack:
    """Services of one dataset as processes, configured by the environment as a user would."""

    def __init__(self, settings: Settings, folder, **environ: str) -> None:
        self.environ = {
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap,
            "SCHEMA_REGISTRY_URL": settings.registry.url,
            "LAPWING_TOPICS__DATASET": settings.topics.dataset,
            "LAPWING_TOPICS__PARTITIONS": "6",
            "LAPWING_PREDICT__GROUP": settings.predict.group,
            "LAPWING_MODELS_DIR": str(folder / "models"),
            "LAPWING_STATE_DIR": str(folder / "state"),
            "LAPWING_TELEMETRY__LOG_FORMAT": "json",
            "LAPWING_ENGINE": settings.engine,
        } | environ
        self.settings = load_settings(environ=self.environ)
        self.folder = folder
        self.running: list[subprocess.Popen] = []

    def start(self, module: str, *arguments: str, **environ: str) -> subprocess.Popen:
        log = (self.folder / f"{module}-{len(self.running)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        process.log = log.name
        self.running.append(process)
        return process

    def run(self, module: str, *arguments: str, timeout_s: float = 120) -> str:
        process = self.start(module, *arguments)
        out, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, log_of(process)
        return out

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()

    def wait_until_scored(self, timeout_s: float = 120) -> None:
        """Wait until the group has committed the whole input."""
        admin, topic = Admin(self.settings), self.settings.topics.input
        end = admin.end_offsets(topic)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for process in self.running:
                assert process.poll() in (None, 0, -signal.SIGKILL), log_of(process)
            committed = admin.committed(self.settings.predict.group, topic)
            if all(
                committed.get(p) and committed[p].offset >= offset
                for p, offset in end.items()
                if offset
            ):
                return
            time.sleep(0.2)
        raise AssertionError(
            f"committed {committed}, end {end}; {[log_of(process) for process in self.running]}"
        )

    def records(self, topic: str) -> list[tuple[int, int, bytes, bytes, tuple]]:
        admin, reader = Admin(self.settings), Reader(self.settings)
        return [
            (
                batch.partition,
                int(batch.offsets[row]),
                batch.keys[row],
                batch.values[row],
                tuple(batch.headers.get(row, ())),
            )
            for batch in reader.read(topic, admin.start_offsets(topic), admin.end_offsets(topic))
            for row in range(len(batch))
        ]

    def results(self) -> dict[str, list[tuple[bytes, bytes, tuple]]]:
        topics = self.settings.topics
        return {
            name: sorted((key, value, headers) for _, _, key, value, headers in self.records(topic))
            for name, topic in (
                ("scores", topics.scores),
                ("anomalies", topics.anomalies),
                ("dead", topics.dead_letters),
            )
        }


def log_of(process: subprocess.Popen) -> str:
    message = Path(process.log).read_text("utf-8", "replace")
    return f"{process.args} ended with {process.poll()}:\n{message[-4000:]}"


@pytest.fixture(scope="module")
def replayed(
    tmp_path_factory: pytest.TempPathFactory, kafka: str, registry_url: str
) -> Iterator[Stack]:
    """A fleet in the input topic, some poison among it, and a model trained on it."""
    folder = tmp_path_factory.mktemp("pipeline")
    base = settings_for(kafka, f"p{uuid.uuid4().hex[:10]}", folder)
    stack = Stack(base.model_copy(update={"registry": RegistrySettings(url=registry_url)}), folder)
    ensure(stack.settings).checked()
    summary = json.loads(
        stack.run(
            "producer", "--fleet", str(HOSTS), "--days", str(DAYS), "--speed", "max", "--json"
        ).splitlines()[-1]
    )
    assert summary["produced"] == summary["acknowledged"] == EVENTS
    poison(stack.settings)
    stack.run("consumer_training", "--once")
    yield stack
    stack.close()


def poison(settings: Settings) -> None:
    """Send unreadable records among good ones."""
    values = [
        b"",
        b"\x00\x00",
        b"not avro at all",
        b"\x00\xff\xff\xff\xf0nonsense",
        b"\x00" * 70_000,
    ]
    publisher = Publisher(settings)
    publisher.send(
        Outgoing(
            settings.topics.input,
            Blob.join(values),
            Blob.join([b"p%d" % k for k in range(len(values))]),
        )
    )
    assert publisher.flush(10) == 0


def conserved(stack: Stack) -> None:
    """Every input record of every partition has exactly one result that points to it."""
    topics = stack.settings.topics
    text = schemas.text(schemas.SCORE_EVENT)
    values = [value for _, _, _, value, _ in stack.records(topics.scores)]
    scored = [
        (r["source_partition"], r["source_offset"])
        for r in (decode_result(value, lambda _: text) for value in values)
    ]
    dead = [
        (int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"]))
        for *_, pairs in stack.records(topics.dead_letters)
        if (headers := dict(pairs))
    ]
    read = [(partition, offset) for partition, offset, *_ in stack.records(topics.input)]
    assert sorted(scored + dead) == sorted(read), (
        set(scored + dead) ^ set(read),
        len(scored),
        len(dead),
        len(read),
    )
    assert len(dead) == 5


def oracle(stack: Stack) -> dict[str, list[tuple[bytes, bytes, tuple]]]:
    """Recompute all results in this process, one plain pass per partition."""
    settings, topics = stack.settings, stack.settings.topics
    registry, admin = Registry(settings.registry), Admin(settings)
    encoder = Encoder(
        topics, result_schemas(settings), settings.predict.group, input_limit_bytes(settings)
    )
    text = schemas.text(schemas.MODEL_ACTIVATION)
    switches = {}
    for _, _, _, value, _ in stack.records(topics.activations):
        record = decode_result(value, lambda _: text)
        switches[record["source_partition"], record["source_offset"]] = record
    rules = Rules(Configuration.from_settings(settings))
    decoder = open_decoder(settings.input, registry, time.monotonic)
    scorers: dict[int, Scorer] = {}
    out = {topics.scores: [], topics.anomalies: [], topics.dead_letters: []}
    for batch in Reader(settings).read(
        topics.input, admin.start_offsets(topics.input), admin.end_offsets(topics.input)
    ):
        scorer = scorers.setdefault(batch.partition, Scorer(PartitionState(0), rules))
        for row in range(len(batch)):
            one = batch.rows(row, row + 1)
            if record := switches.get((batch.partition, int(one.offsets[0]))):
                model = (
                    load_model(settings.models_dir, record["model_sha256"])
                    if record["model_sha256"]
                    else None
                )
                scorer.use(model, Configuration.from_text(record["settings"]))
            decoder.prepare(one)
            for sent in encoder.outcome(scorer.process(one, decoder), scorer.state):
                out[sent.topic] += [
                    (sent.keys[i], sent.values[i], tuple(sent.headers.get(i, ())))
                    for i in range(len(sent))
                ]
    return {
        "scores": sorted(out[topics.scores]),
        "anomalies": sorted(out[topics.anomalies]),
        "dead": sorted(out[topics.dead_letters]),
    }
