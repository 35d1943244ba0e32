"""The trainer as a process on a real Kafka.

It waits for data, skips bad records, ends on SIGTERM and names a broker that does not answer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lapwing.topics import ensure
from shared import artifacts
from shared.batch import Blob, Outgoing
from shared.kafka import Admin, Publisher
from shared.settings import RegistrySettings, Settings
from tests.support.services.fixtures import settings_for

pytestmark = pytest.mark.integration

HOSTS, DAYS = 6, 3
WARMUP_DAYS = 2


class Place:
    """One dataset with its processes."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap,
            "SCHEMA_REGISTRY_URL": self.settings.registry.url,
            "LAPWING_TOPICS__DATASET": self.settings.topics.dataset,
            "LAPWING_TOPICS__PARTITIONS": str(self.settings.topics.partitions),
            "LAPWING_MODELS_DIR": str(self.folder / "models"),
            "LAPWING_TELEMETRY__LOG_FORMAT": "json",
        }
        log = self.folder / f"{len(self.running)}-{module}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **given, **environ},
                stdout=out,
                stderr=out,
            )
        process.log = log  # type: ignore[attr-defined]
        self.running.append(process)
        return process

    def events(self, process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
        lines = process.log.read_text("utf-8").splitlines()  # type: ignore[attr-defined]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(
        self,
        process: subprocess.Popen[bytes],
        found: Callable[[dict[str, Any]], bool],
        timeout_s: float = 60,
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while not any(found(event) for event in self.events(process)):
            assert process.poll() is None, process.log.read_text()  # type: ignore[attr-defined]
            assert time.monotonic() < deadline, process.log.read_text()  # type: ignore[attr-defined]
            time.sleep(0.1)

    def finish(self, process: subprocess.Popen[bytes], timeout_s: float = 60) -> str:
        assert process.wait(timeout_s) is not None
        return process.log.read_text("utf-8")  # type: ignore[attr-defined,no-any-return]

    def fill(self) -> None:
        process = self.start(
            "producer", "--fleet", str(HOSTS), "--days", str(DAYS), "--speed", "max"
        )
        output = self.finish(process)
        assert process.returncode == 0, output


@pytest.fixture
def place(tmp_path: Path, kafka: str, registry_url: str, dataset: str) -> Iterator[Place]:
    settings = settings_for(kafka, dataset, tmp_path)
    settings = settings.model_copy(update={"registry": RegistrySettings(url=registry_url)})
    ensure(settings).checked()
    made = Place(settings, tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_waits_trains_and_ends_on_sigterm(place: Place) -> None:
    trainer = place.start("consumer_training", "--every", "24h")
    place.wait_for(trainer, lambda event: event["event"] == "waiting for data")
    place.fill()
    place.wait_for(trainer, lambda event: event["event"] == "next training")
    trainer.send_signal(signal.SIGTERM)
    output = place.finish(trainer, 10)
    assert trainer.returncode == 0, output
    sha256 = artifacts.current(place.folder / "models")
    assert artifacts.load(place.folder / "models", sha256 or "").metrics
    manifest = artifacts.manifest(place.folder / "models", sha256 or "")
    assert (
        sum(part["accepted"] for part in manifest["input"]["partitions"].values())
        == HOSTS * DAYS * 288
    )
    assert manifest["training"]["entities"] == HOSTS
    warm = int((DAYS - WARMUP_DAYS) * 288 * 0.6)
    training = manifest["training"]
    known = training["rows"] + training["test_rows"] + training["alarmed_rows"]
    assert known >= HOSTS * int((DAYS - WARMUP_DAYS) * 288)
    # Rows in open episodes do not train. The fleet puts three anomalies of each host into the only
    # day that is judged, a fifth of its time, and an episode ends three hours after its evidence.
    assert 0.65 * HOSTS * warm < training["rows"] <= HOSTS * (warm + 1)
    assert (place.folder / "models" / str(sha256) / "report" / "report.json").is_file()


def test_killed_trainer_continues_from_its_checkpoint(place: Place) -> None:
    place.fill()
    waiting = place.start(
        "consumer_training", "--once", LAPWING_TRAIN__CHECKPOINT_S="0.001",
        LAPWING_TRAIN__MIN_ROWS="1000000",
    )  # fmt: skip
    place.wait_for(waiting, lambda event: event["event"] == "waiting for data")
    waiting.kill()
    place.finish(waiting)
    assert (place.folder / "models" / "training.checkpoint").is_file()
    resumed = place.start("consumer_training", "--once")
    output = place.finish(resumed)
    assert resumed.returncode == 0, output
    (read,) = [event for event in place.events(resumed) if event["event"] == "input read"]
    assert (read["records"], read["events_read"]) == (0, HOSTS * DAYS * 288)
    other = str(place.folder / "other")
    whole = place.start("consumer_training", "--once", LAPWING_MODELS_DIR=other)
    output = place.finish(whole)
    assert whole.returncode == 0, output
    published = artifacts.current(place.folder / "models")
    assert published == artifacts.current(Path(other)) is not None
    assert not (place.folder / "models" / "training.checkpoint").exists()


def test_poison_in_the_input_is_counted_and_passed_over(place: Place) -> None:
    place.fill()
    publisher = Publisher(place.settings)
    bad = [b"", b"nonsense", b"\0\xff\xff\xff\xf0..", b"\0" * 70_000]
    publisher.send(
        Outgoing(
            place.settings.topics.input,
            Blob.join(bad),
            Blob.join([b"%d" % k for k in range(len(bad))]),
        )
    )
    assert publisher.flush(10) == 0
    ends = Admin(place.settings).end_offsets(place.settings.topics.input)
    for detector in ("isolation_forest", "one_class_svm"):
        trainer = place.start("consumer_training", "--once", "--detector", detector)
        output = place.finish(trainer)
        assert trainer.returncode == 0, output
        manifest = artifacts.manifest(
            place.folder / "models", artifacts.current(place.folder / "models") or ""
        )
        assert manifest["detector"] == detector
        partitions = manifest["input"]["partitions"]
        assert {int(p): part["next_offset"] for p, part in partitions.items()} == {
            p: end for p, end in ends.items() if end
        }
        rejected: dict[str, int] = {}
        for part in partitions.values():
            for reason, count in part["rejected"].items():
                rejected[reason] = rejected.get(reason, 0) + count
        assert rejected == {"empty": 1, "not_avro": 1, "unknown_schema": 1, "too_large": 1}


def test_too_little_data_ends_with_exit_code_one(place: Place) -> None:
    trainer = place.start("consumer_training", "--once", "--wait-s", "3")
    output = place.finish(trainer)
    assert trainer.returncode == 1
    assert f"{place.settings.topics.input} has 0 training rows" in output
    assert "500 are missing" in output


def test_unreachable_broker_is_named(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        trainer = place.start("consumer_training", "--once", KAFKA_BOOTSTRAP_SERVERS=address)
        place.wait_for(
            trainer,
            lambda event: event["event"] == "no answer" and address in event["because"],
        )
    trainer.send_signal(signal.SIGTERM)
    place.finish(trainer, 15)
    assert trainer.returncode == 0
