"""PostgreSQL from Debian's packages and a worker of Kafka Connect from Maven's jars.

Invariant: both keep their port and data over a restart. What the worker runs is in deploy/connect.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.services import maven
from tests.support.services.service import ProcessService, free_port, port_answers

RECIPES = Path(__file__).parents[3] / "deploy" / "connect"
USER = "lapwing"
UNPRIVILEGED = "postgres"
"""The user of PostgreSQL's server, which refuses to run as root."""


def lacking() -> str:
    """Return why PostgreSQL and Connect cannot run here, "" if they can."""
    absent = [
        tool for tool in ("initdb", "postgres", "psql", "javac") if shutil.which(tool) is None
    ]
    if absent:
        return f"{' and '.join(absent)} not on the PATH (Debian's postgresql-15, a JDK)"
    return maven.lacking()


class PostgreSql(ProcessService):
    """One PostgreSQL server with its own data folder."""

    def __init__(self) -> None:
        super().__init__("postgresql", free_port())
        self._data = self.folder / "data"

    @property
    def url(self) -> str:
        """The URL for JDBC."""
        return f"jdbc:postgresql://{self.address}/postgres"

    def prepare(self) -> None:
        if self._data.exists():
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            return
        self.folder.chmod(0o755)
        self._data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self._data, UNPRIVILEGED)
        command = ["initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run(self._as_user(command), check=True, capture_output=True, timeout=60, cwd="/")

    def command(self) -> list[str]:
        given = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        return self._as_user(["postgres", *given])

    def answers(self) -> bool:
        return port_answers(self.port) and not self._query_failed()

    def query(self, sql: str) -> list[list[str]]:
        """Return the rows of a query as text; raises subprocess.CalledProcessError."""
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        command += ["-d", "postgres", "-At", "-F", "\t", "-c", sql]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        return [line.split("\t") for line in ran.stdout.splitlines()]

    def _query_failed(self) -> bool:
        try:
            self.query("select 1")
        except subprocess.CalledProcessError:
            return True
        return False

    def _as_user(self, command: list[str]) -> list[str]:
        found = [shutil.which(command[0]) or command[0], *command[1:]]
        if os.geteuid() != 0:
            return found
        return [
            "setpriv",
            f"--reuid={UNPRIVILEGED}",
            f"--regid={UNPRIVILEGED}",
            "--clear-groups",
            *found,
        ]


class Connect(ProcessService):
    """A worker of Kafka Connect with one connector of deploy/connect.

    connector   : name of its file, without the suffix
    environment : what the files take from the environment
    """

    def __init__(self, connector: str, environment: Mapping[str, str]) -> None:
        super().__init__("connect", free_port())
        self._connector = connector
        self._environment = {
            "CONNECT_LISTENERS": f"http://{self.address}",
            "CONNECT_OFFSETS": str(self.folder / "offsets"),
            **environment,
        }

    def command(self) -> list[str]:
        libs = maven.fetch_pom(RECIPES / "pom.xml", "connect")
        flags = ["-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        classes = self._compiled(libs)
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        files = [RECIPES / "worker.properties", RECIPES / f"{self._connector}.properties"]
        return ["java", *flags, "-cp", f"{classes}:{libs}/*", main, *map(str, files)]

    def environment(self) -> dict[str, str]:
        return self._environment

    def _compiled(self, libs: Path) -> Path:
        """Return the folder of the classes of deploy/connect."""
        classes = self.folder / "classes"
        if not classes.exists():
            sources = [str(one) for one in RECIPES.glob("*.java")]
            command = ["javac", "-cp", f"{libs}/*", "-d", str(classes), *sources]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        return classes

    def answers(self) -> bool:
        return self.task_state() == "RUNNING"

    def restart_failed(self) -> None:
        """Restart the connector's task if it has failed, as an operator or Strimzi does."""
        if self.task_state() != "FAILED":
            return
        (name,) = self._ask("/connectors") or [""]
        path = f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true"
        request = urllib.request.Request(f"http://{self.address}{path}", method="POST")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
            pass

    def task_state(self) -> str:
        """Return the state of the connector's task; empty if it does not answer."""
        name = next(iter(self._ask("/connectors") or []), None)
        status = self._ask(f"/connectors/{name}/status") if name else None
        tasks = status["tasks"] if status else []
        return str(tasks[0]["state"]) if tasks else ""

    def _ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None
