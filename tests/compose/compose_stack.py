"""The compose stack under its own project name and ports, and a reader of its topics."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

ROOT = Path(__file__).parents[2]
IMAGE = "lapwing:compose-test"
BUILD_TIMEOUT_S = 2_400
"""The kernels are compiled for it, which takes minutes of both cores of a busy machine."""

GROUP = "lapwing-prediction"
INPUT, SCORES, ANOMALIES = (
    "metrics.cloudwatch.raw",
    "metrics.cloudwatch.scores",
    "anomalies.cloudwatch.events",
)
DEAD_LETTERS = f"{INPUT}.dlq"


def lacking() -> str:
    """Say what this machine lacks for a compose stack; empty = nothing."""
    if not shutil.which("docker"):
        return "there is no docker command"
    ran = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        return f"no Docker engine answers: {ran.stderr.strip()}"
    return "" if compose_command() else "there is neither docker-compose nor `docker compose`"


def compose_command() -> list[str]:
    """The newer of the two is asked first."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "version"], capture_output=True, check=False
            ).returncode
        ):
            return command
    return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """docker-compose with the repository's file, the tests' override and the tests' env file."""

    project: str = field(default_factory=lambda: f"lapwing-test-{uuid.uuid4().hex[:8]}")
    kafka_port: int = field(default_factory=free_port)
    registry_port: int = field(default_factory=free_port)
    page_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        files = ("docker-compose.yml", "tests/compose/override.yml")
        self.base = [
            *compose_command(),
            "--project-name",
            self.project,
            "--env-file",
            "tests/compose/stack.env",
        ]
        self.base += [part for name in files for part in ("--file", name)]
        mine = {
            "KAFKA_PORT": str(self.kafka_port),
            "REGISTRY_PORT": str(self.registry_port),
            "DASHBOARD_PORT": str(self.page_port),
            "LAPWING_IMAGE": IMAGE,
        }
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAPWING_", "REPLAY_", "COMPOSE_"))
        }
        self.environment = plain | mine
        self.admin = self.new_admin()

    def new_admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": f"localhost:{self.kafka_port}", "log_level": 2})

    def __call__(self, *words: str, timeout_s: float = 900) -> str:
        ran = subprocess.run(
            [*self.base, *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert ran.returncode == 0, f"{' '.join(words)}: {ran.stdout[-4000:]}{ran.stderr[-4000:]}"
        return ran.stdout

    def up(self, predictors: int) -> None:
        self("up", "--detach", "--scale", f"consumer_prediction={predictors}")
        self.admin = self.new_admin()

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says about each container of a service."""
        ids = self("ps", "--quiet", service).split()
        return json.loads(docker("inspect", *ids)) if ids else []

    def logs(self) -> str:
        return self("logs", "--no-color", "--tail", "40")

    def crash(self, container: dict[str, Any]) -> None:
        """Kill a container's first process from outside.

        After `docker kill` the container would stay down: for the engine that is a deliberate stop.
        """
        pid = str(container["State"]["Pid"])
        docker(
            "run",
            "--rm",
            "--pid",
            "host",
            "--user",
            "0",
            "--entrypoint",
            "/bin/sh",
            IMAGE,
            "-c",
            f"kill -9 {pid}",
        )

    def spread(self) -> list[int]:
        """Return the partitions per group member, ascending; empty during a rebalance."""
        group = self.admin.describe_consumer_groups([GROUP], request_timeout=10)[GROUP].result()
        if group.state.name != "STABLE":
            return []
        return sorted(len(member.assignment.topic_partitions) for member in group.members)

    def committed(self) -> dict[int, int]:
        """Return partition -> committed offset of the prediction group, where there is one."""
        asked = ConsumerGroupTopicPartitions(GROUP)
        found = (
            self.admin.list_consumer_group_offsets([asked], request_timeout=10)[GROUP]
            .result()
            .topic_partitions
        )
        return {
            one.partition: one.offset
            for one in found or ()
            if one.topic == INPUT and one.offset >= 0
        }

    def ends(self, topic: str) -> dict[int, int]:
        """Return partition -> end offset.

        In a topic that only the replay writes, this is also the number of its records.
        """
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
        return {
            one.partition: future.result().offset
            for one, future in self.admin.list_offsets(asked, request_timeout=10).items()
        }

    def read(self, topic: str) -> Iterator[Message]:
        """Every committed record of a topic, from its beginning to its present end."""
        consumer = Consumer(
            {
                "bootstrap.servers": f"localhost:{self.kafka_port}",
                "group.id": "compose-test",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        try:
            open_ones = set(self.ends(topic))
            consumer.assign(
                [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in open_ones]
            )
            while open_ones:
                message = consumer.poll(30)
                assert message is not None, (
                    f"{topic}: nothing for 30 s before the end of partitions {sorted(open_ones)}"
                )
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_ones.discard(message.partition())
                else:
                    raise AssertionError(f"{topic}: {error}")
        finally:
            consumer.close()


def docker(*words: str) -> str:
    ran = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, f"docker {' '.join(words)}: {ran.stderr}"
    return ran.stdout


class Stopwatch:
    """Seconds of each part, in order; printed whatever happens."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began_s = time.monotonic()
        print(f"... {part}", flush=True)
        try:
            yield
        finally:
            self.seconds[part] = time.monotonic() - began_s

    def table(self) -> str:
        return "\n".join(f"{part:<58} {seconds:6.1f} s" for part, seconds in self.seconds.items())


def wait_until(what: str, holds: Callable[[], Any], timeout_s: float) -> None:
    """Ask twice a second until it holds; a broker that does not answer yet counts as no."""
    deadline_s = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline_s:
        try:
            last = holds()
        except Exception as error:  # noqa: BLE001 - the broker, the group or the container may not be there yet
            last = error
        if last and not isinstance(last, Exception):
            return
        time.sleep(0.5)
    raise AssertionError(f"not within {timeout_s:g} s: {what}; the last answer was {last!r}")


def repeated(counts: Counter[tuple[int, int]]) -> list[tuple[int, int]]:
    return [place for place, count in counts.items() if count > 1]
