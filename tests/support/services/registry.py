"""One schema registry: Apicurio from Maven, or the reference image, with the same REST API."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request

from tests.support.services import maven
from tests.support.services.container import ContainerService
from tests.support.services.service import ProcessService, free_port

IMAGE = "confluentinc/cp-schema-registry:8.0.0"


def registry_answers(url: str) -> bool:
    """Return whether a registry lists its subjects."""
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(f"{url}/subjects", timeout=1) as answer,
    ):
        return bool(answer.status == 200)
    return False


class MavenRegistry(ProcessService):
    """Apicurio as a Java process, its schemas in a file of its folder."""

    def __init__(self) -> None:
        super().__init__("registry", free_port())
        self.url = f"http://{self.address}/apis/ccompat/v7"

    def command(self) -> list[str]:
        (jar,) = maven.fetch("registry").glob("**/apicurio-registry-app-*-runner.jar")
        # One worker thread: two clients that register the same schema at the same time both get its
        # id.
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "quarkus.banner.enabled": "false",
            "quarkus.thread-pool.core-threads": "1",
            "quarkus.thread-pool.max-threads": "1",
        }
        given = [f"-D{name}={value}" for name, value in options.items()]
        return [
            "java",
            "-Xmx400m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *given,
            "-jar",
            str(jar),
        ]

    def environment(self) -> dict[str, str]:
        return {
            "ENABLE_CCOMPAT_CANONICAL_HASH_MODE": "true",
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{self.folder}/db;WRITE_DELAY=0",
        }

    def answers(self) -> bool:
        return registry_answers(self.url)


class ContainerRegistry(ContainerService):
    """The reference registry as a container in the host network; it stores schemas in Kafka."""

    def __init__(self, bootstrap: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "SCHEMA_REGISTRY_HOST_NAME": "127.0.0.1",
            "SCHEMA_REGISTRY_LISTENERS": f"http://0.0.0.0:{port}",
            "SCHEMA_REGISTRY_KAFKASTORE_BOOTSTRAP_SERVERS": f"PLAINTEXT://{bootstrap}",
            "SCHEMA_REGISTRY_KAFKASTORE_TOPIC_REPLICATION_FACTOR": "1",
        }
        super().__init__("registry", IMAGE, f"127.0.0.1:{port}", environment)

    def answers(self) -> bool:
        return registry_answers(self.url)
