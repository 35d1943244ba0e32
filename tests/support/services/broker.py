"""Apache Kafka in KRaft mode with one or several brokers, from Maven's jars or the image.

Invariant: ``kill`` kills brokers, never the controller.

A node that is both, killed between the response to a commit and its markers, restarts without ever
writing them: up to Kafka 4.3.1 a coordinator that finds its own node still fenced considers the
partitions deleted ("Couldn't find leader endpoint ... likely deleted already"), and the last stable
offset never advances. With the controller alive the broker is fenced before it restarts, and the
markers are written.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.services import maven
from tests.support.services.container import ContainerService
from tests.support.services.service import (
    ProcessService,
    Service,
    ServiceFailed,
    free_port,
    port_answers,
)

if TYPE_CHECKING:
    from tests.support.services.secured import Security

IMAGE = "apache/kafka"
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
CONTROLLER_ID = 2
SESSION_S = 2.0
"""How long the controller waits before it fences a silent broker."""

SILENT = logging.getLogger("lapwing.tests.broker")
SILENT.setLevel(logging.CRITICAL + 1)


def broker_ids(brokers: int) -> tuple[int, ...]:
    """Return the ids of this number of brokers; the controller has another id."""
    return (1, *range(CONTROLLER_ID + 1, CONTROLLER_ID + brokers))


def controller_settings(port: int, brokers: int = 1) -> dict[str, str]:
    """Return a controller's settings; of several brokers, all but one must be in sync."""
    return {
        "process.roles": "controller",
        "node.id": str(CONTROLLER_ID),
        "controller.quorum.voters": f"{CONTROLLER_ID}@127.0.0.1:{port}",
        "listeners": f"CONTROLLER://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "broker.session.timeout.ms": str(round(SESSION_S * 1000)),
        "broker.heartbeat.interval.ms": "400",
        "min.insync.replicas": str(max(1, brokers - 1)),
    }


def broker_settings(
    port: int,
    controller_port: int,
    proxied: tuple[int, int] | None = None,
    *,
    node: int = 1,
    brokers: int = 1,
) -> dict[str, str]:
    """Return what a broker of either kind is set to.

    node    : its number, one of ``broker_ids``
    proxied : (port of a second listener, the proxy's port that it tells clients to connect to)
    """
    second = {}
    if proxied:
        behind, before = proxied
        second = {
            "listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{before}",
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"
            ),
        }
    replicas, in_sync = str(brokers), str(max(1, brokers - 1))
    return (
        controller_settings(controller_port, brokers)
        | {
            "process.roles": "broker",
            "node.id": str(node),
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": "8",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": "0",
            # As long as the sessions of predictors in the classic protocol, for equal recoveries.
            "group.consumer.min.session.timeout.ms": "6000",
            "group.consumer.session.timeout.ms": "6000",
            "group.consumer.min.heartbeat.interval.ms": "1000",
            "group.consumer.heartbeat.interval.ms": "1000",
        }
        | second
    )


def broker_answers(bootstrap: str) -> bool:
    """Return whether a broker gives its metadata."""
    client = AdminClient(
        {"bootstrap.servers": bootstrap, "logger": SILENT, "reconnect.backoff.max.ms": 200}
    )
    try:
        return bool(client.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False


class Kafka(Service):
    """Brokers to be broken, and a controller that is only started and closed.

    brokers : by their numbers; the verbs are about all of them, and ``start`` brings back whichever
              is gone
    """

    name = "kafka"

    def __init__(self, controller: Service, brokers: Mapping[int, Service]) -> None:
        self._controller = controller
        self.brokers = dict(brokers)
        self._killed_s = -SESSION_S
        self.address = ",".join(broker.address for broker in brokers.values())

    def prepare(self) -> None:
        with ThreadPoolExecutor(1 + len(self.brokers)) as pool:
            list(pool.map(lambda node: node.prepare(), self._nodes()))

    def launch(self) -> None:
        time.sleep(max(0.0, self._killed_s + 1.5 * SESSION_S - time.monotonic()))
        for node in self._nodes():
            node.launch()

    def wait_ready(self) -> None:
        for node in self._nodes():
            node.wait_ready()

    def alive(self) -> bool:
        return all(node.alive() for node in self._nodes())

    def stop(self) -> None:
        for broker in self.brokers.values():
            broker.stop()

    def kill(self) -> None:
        for node in self.brokers:
            self.kill_broker(node)

    def kill_broker(self, node: int) -> None:
        """Kill one of several."""
        self.brokers[node].kill()
        self._killed_s = time.monotonic()

    def freeze(self) -> None:
        for broker in self.brokers.values():
            broker.freeze()

    def thaw(self) -> None:
        for broker in self.brokers.values():
            broker.thaw()

    def close(self) -> None:
        for node in reversed(self._nodes()):
            node.close()

    def log(self, lines: int = 60) -> str:
        logs = "\n".join(broker.log(lines) for broker in self.brokers.values())
        return f"{logs}\n--- controller:\n{self._controller.log(lines // 3)}"

    def answers(self) -> bool:
        return all(broker.answers() for broker in self.brokers.values())

    def _nodes(self) -> list[Service]:
        return [self._controller, *self.brokers.values()]


class JavaNode(ProcessService):
    """A broker or a controller as a Java process."""

    def __init__(
        self, name: str, settings: dict[str, str], port: int, options: Sequence[str] = ()
    ) -> None:
        super().__init__(name, port)
        self._options = options
        self._settings = settings | {"log.dirs": str(self.folder / "data")}
        self._file = self.folder / "server.properties"

    def command(self) -> list[str]:
        return java("-Xms128m", "-Xmx512m", *self._options, "kafka.Kafka", str(self._file))

    def prepare(self) -> None:
        if not self._file.exists():
            self._format()

    def answers(self) -> bool:
        return port_answers(self.port) and (
            "advertised.listeners" not in self._settings or broker_answers(self.address)
        )

    def _format(self) -> None:
        scratch = Path(f"{self._file}.new")
        scratch.write_text(
            "".join(f"{name}={value}\n" for name, value in self._settings.items()), "utf-8"
        )
        command = java("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(scratch))
        ran = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        if ran.returncode:
            raise ServiceFailed(
                f"formatting Kafka's storage failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            )
        scratch.rename(self._file)


class ContainerNode(ContainerService):
    """A broker or a controller as a container of the official image."""

    def __init__(self, name: str, settings: dict[str, str], port: int) -> None:
        environment = {
            f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()
        }
        self._is_broker = "advertised.listeners" in settings
        super().__init__(name, image(), f"127.0.0.1:{port}", environment | {"CLUSTER_ID": CLUSTER})

    def answers(self) -> bool:
        return port_answers(int(self.address.rpartition(":")[2])) and (
            not self._is_broker or broker_answers(self.address)
        )


def image() -> str:
    """Return the official image of the version that pom.xml names."""
    return f"{IMAGE}:{maven.version('kafka')}"


def new_kafka(
    kind: str,
    proxied: tuple[int, int] | None = None,
    *,
    brokers: int = 1,
    security: Security | None = None,
) -> Kafka:
    """Return brokers that are not started yet; kind is "container" or "maven".

    security : further listeners and an authorizer; one broker from Maven's jars only
    """
    if proxied and brokers > 1:
        raise ValueError("a proxy can stand before one broker only")
    if security is not None:
        return _secured(security)
    made = ContainerNode if kind == "container" else JavaNode
    controller_port = free_port()
    nodes: dict[int, Service] = {}
    for node in broker_ids(brokers):
        port = free_port()
        settings = broker_settings(port, controller_port, proxied, node=node, brokers=brokers)
        nodes[node] = made(f"kafka-broker-{node}", settings, port)
    return Kafka(
        made("kafka-controller", controller_settings(controller_port, brokers), controller_port),
        nodes,
    )


def _secured(security: Security) -> Kafka:
    port, controller_port = free_port(), free_port()
    settings = broker_settings(port, controller_port) | security.broker_settings(port)
    node = JavaNode("kafka-broker-1", settings, port, security.java_options())
    controller = controller_settings(controller_port) | security.controller_settings()
    return Kafka(JavaNode("kafka-controller", controller, controller_port), {1: node})


def java(*arguments: str) -> list[str]:
    """Return the command line of one of Kafka's programs."""
    options = [
        "-Dorg.apache.logging.log4j.level=WARN",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
    ]
    return ["java", *options, "-cp", f"{maven.fetch('kafka')}/*", *arguments]
