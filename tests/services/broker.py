"""One Apache Kafka node in KRaft mode with its controller beside it, from Maven's jars or from the official image.

Law: ``kill`` kills the broker and leaves the controller alone. A node that is both, killed between a commit's answer and its
markers, comes back without ever writing them: up to Kafka 4.3.1 a coordinator that finds its own node still fenced takes the
partitions for deleted ("Couldn't find leader endpoint ... likely deleted already"), and the last stable offset stands still for
ever. With the controller alive the broker is fenced before it comes back, and the markers are written.
"""

from __future__ import annotations

import logging
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.services import maven
from tests.services.container import ContainerService
from tests.services.service import ProcessService, Service, ServiceFailed, free_port, port_answers

IMAGE = "apache/kafka"
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
SESSION_S = 2.0
"""How long the controller waits before it fences a silent broker."""

SILENT = logging.getLogger("lapwing.tests.broker")
SILENT.setLevel(logging.CRITICAL + 1)


def controller_settings(port: int) -> dict[str, str]:
    """Return what a controller of either kind is set to."""
    return {
        "process.roles": "controller",
        "node.id": "2",
        "controller.quorum.voters": f"2@127.0.0.1:{port}",
        "listeners": f"CONTROLLER://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "broker.session.timeout.ms": str(round(SESSION_S * 1000)),
        "broker.heartbeat.interval.ms": "400",
    }


def broker_settings(port: int, controller_port: int, proxied: tuple[int, int] | None = None) -> dict[str, str]:
    """Return what a broker of either kind is set to.

    proxied : (port of a second listener, the proxy's port that it tells clients to connect to)
    """
    second = {}
    if proxied:
        behind, before = proxied
        second = {
            "listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{before}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
        }
    return (
        controller_settings(controller_port)
        | {
            "process.roles": "broker",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "8",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }
        | second
    )


def broker_answers(bootstrap: str) -> bool:
    """Tell whether a broker gives its metadata."""
    client = AdminClient({"bootstrap.servers": bootstrap, "logger": SILENT, "reconnect.backoff.max.ms": 200})
    try:
        return bool(client.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return False


class Kafka(Service):
    """A broker to be broken, and a controller that is only started and closed."""

    name = "kafka"

    def __init__(self, controller: Service, broker: Service) -> None:
        self._controller = controller
        self._broker = broker
        self._killed_s = -SESSION_S
        self.address = broker.address

    def prepare(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda node: node.prepare(), (self._controller, self._broker)))

    def launch(self) -> None:
        time.sleep(max(0.0, self._killed_s + 1.5 * SESSION_S - time.monotonic()))
        self._controller.launch()
        self._broker.launch()

    def wait_ready(self) -> None:
        self._controller.wait_ready()
        self._broker.wait_ready()

    def alive(self) -> bool:
        return self._controller.alive() and self._broker.alive()

    def stop(self) -> None:
        self._broker.stop()

    def kill(self) -> None:
        self._broker.kill()
        self._killed_s = time.monotonic()

    def freeze(self) -> None:
        self._broker.freeze()

    def thaw(self) -> None:
        self._broker.thaw()

    def close(self) -> None:
        self._broker.close()
        self._controller.close()

    def log(self, lines: int = 60) -> str:
        return f"{self._broker.log(lines)}\n--- controller:\n{self._controller.log(lines // 3)}"

    def answers(self) -> bool:
        return self._broker.answers()


class JavaNode(ProcessService):
    """A broker or a controller as a Java process."""

    def __init__(self, name: str, settings: dict[str, str], port: int) -> None:
        super().__init__(name, port)
        self._settings = settings | {"log.dirs": str(self.folder / "data")}
        self._file = self.folder / "server.properties"

    def command(self) -> list[str]:
        return java("-Xms128m", "-Xmx512m", "kafka.Kafka", str(self._file))

    def prepare(self) -> None:
        if not self._file.exists():
            self._format()

    def answers(self) -> bool:
        return port_answers(self.port) and ("advertised.listeners" not in self._settings or broker_answers(self.address))

    def _format(self) -> None:
        scratch = Path(f"{self._file}.new")
        scratch.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()), "utf-8")
        command = java("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(scratch))
        ran = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        if ran.returncode:
            raise ServiceFailed(f"formatting Kafka's storage failed:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        scratch.rename(self._file)


class ContainerNode(ContainerService):
    """A broker or a controller as a container of the official image."""

    def __init__(self, name: str, settings: dict[str, str], port: int) -> None:
        environment = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()}
        self._is_broker = "advertised.listeners" in settings
        super().__init__(name, image(), f"127.0.0.1:{port}", environment | {"CLUSTER_ID": CLUSTER})

    def answers(self) -> bool:
        return port_answers(int(self.address.rpartition(":")[2])) and (not self._is_broker or broker_answers(self.address))


def image() -> str:
    """Return the official image of the version that pom.xml names."""
    return f"{IMAGE}:{maven.version('kafka')}"


def new_kafka(kind: str, proxied: tuple[int, int] | None = None) -> Kafka:
    """Return a node that is not started yet; kind is "container" or "maven", proxied as for ``broker_settings``."""
    node = ContainerNode if kind == "container" else JavaNode
    port, controller_port = free_port(), free_port()
    return Kafka(
        node("kafka-controller", controller_settings(controller_port), controller_port),
        node("kafka-broker", broker_settings(port, controller_port, proxied), port),
    )


def java(*arguments: str) -> list[str]:
    """Return the command line of one of Kafka's programs."""
    options = ["-Dorg.apache.logging.log4j.level=WARN", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *options, "-cp", f"{maven.fetch('kafka')}/*", *arguments]
