"""A secured broker with all services as processes, each under its own principal.

Invariant: a refusal is looked for in a service's own last words, and every log is kept.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from confluent_kafka.admin import AdminClient, NewTopic

from lapwing.acls import rights_of
from lapwing.topics import ensure
from shared.batch import Batch, Blob, Outgoing
from shared.encode.dead_letters import letter_headers
from shared.kafka import Publisher
from shared.settings import Settings
from tests.faults.predictor import INSTALLED, environ_of
from tests.faults.run import RowFailed
from tests.faults.table import Tally
from tests.faults.testbed import Testbed
from tests.support.anomaly_logs import alarm
from tests.support.incident_oracle import publish
from tests.support.services import maven
from tests.support.services.registry_gate import RegistryGate
from tests.support.services.secured import Security
from tests.support.services.service import free_port

LIMIT_S = 10.0
"""Time from the start of a service to the name of its refusal; waits for a core do not count."""

PATIENCE_S = 60.0

WAIT_S = 90.0
DAYS = 5
"""Of the fleet: training needs more than the two days in which entities warm up."""

CLIENTS = (
    "setup",
    "producer",
    "training",
    "predictor",
    "dashboard",
    "incidents",
    "notify",
    "route",
    "dlq",
    "feedback",
)
MODULES = {
    "setup": ("lapwing", "topics", "ensure"),
    "producer": ("producer", "--fleet", "6", "--days", str(DAYS), "--speed", "max", "--json"),
    "training": ("consumer_training", "--once"),
    "predictor": ("consumer_prediction",),
    "dashboard": ("dashboard",),
    "incidents": ("lapwing.incidents",),
    "notify": ("lapwing.notify",),
    "route": ("lapwing.route",),
    "dlq": ("lapwing", "dlq", "replay", "--since", "1d", "--force", "--yes", "--json"),
    "feedback": ("lapwing", "feedback", "add", "INCIDENT", "--was", "real"),
}
STAYS = "dashboard"
"""Names what it may not read, shows the rest, and does not end."""

WARNS = ("training", "activations")
"""Keeps all old models where it cannot know which are in use, and says so: service, topic."""


class Site:
    """A secured broker, a registry behind TLS and a password, and topics of one dataset."""

    def __init__(self, testbed: Testbed, tally: Tally) -> None:
        if lacking := maven.lacking():
            raise RowFailed(f"a secured broker comes from Maven's jars only: {lacking}")
        self.testbed, self.tally, self.name = testbed, tally, testbed.new_name()
        self.folder = testbed.folder / self.name
        self.folder.mkdir()
        self.security = _security(testbed)
        self.password = "registry:" + self.security.passwords["setup"][::-1]
        certificate, key, _ = self.security.authority.issue("registry")
        self.gate = RegistryGate(testbed.registry.url, certificate, key, self.password)
        self._password_file = self.file("registry.password", self.password)
        self.environ = testbed.environ(
            SCHEMA_REGISTRY_URL=self.gate.url,
            LAPWING_REGISTRY__CA_FILE=str(self.security.authority.ca),
            LAPWING_REGISTRY__BASIC_AUTH_FILE=self._password_file,
            LAPWING_TOPICS__DATASET=f"secured-{self.name}",
            LAPWING_TOPICS__PARTITIONS="2",
            LAPWING_PREDICT__GROUP=f"predict-{self.name}",
            LAPWING_INCIDENTS__GROUP=f"incidents-{self.name}",
            LAPWING_NOTIFY__GROUP=f"notify-{self.name}",
            LAPWING_ROUTE__GROUP=f"route-{self.name}",
            LAPWING_ROUTE__SOURCE=f"telegraf.{self.name}",
            LAPWING_MODELS_DIR=str(self.folder / "models"),
            LAPWING_STATE_DIR=str(self.folder / "state"),
            LAPWING_TELEMETRY__LOG_LEVEL="debug",
            LAPWING_DETECTOR="ensemble",
            LAPWING_TRAIN__TREES="10",
            LAPWING_TRAIN__SAMPLES="64",
            LAPWING_TRAIN__MIN_ROWS="100",
            LAPWING_DASHBOARD__PORT=str(free_port()),
            LAPWING_NOTIFY__GIVE_UP_AFTER_S="1",
            LAPWING_NOTIFY__TARGETS=json.dumps(
                {"hook": {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"}}
            ),
        )
        plain = self.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": self.security.kafka.address,
            "SCHEMA_REGISTRY_URL": testbed.registry.url,
        }
        del plain["LAPWING_REGISTRY__BASIC_AUTH_FILE"]
        self.settings: Settings = testbed.settings(**plain)
        self.rights = rights_of(self.settings)
        self.incident = ""
        self.slowest_s = 0.0
        self.attempts = 0
        self.processes: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.gate.close()
        for client in CLIENTS:
            self.security.grant(client, ())

    def entered(self, client: str) -> dict[str, str]:
        """Return how a client enters: by password, token or certificate, in turn."""
        security = self.security
        ways = (security.scram, security.oauth, security.mutual)
        return ways[CLIENTS.index(client) % 3](client)

    def start(
        self,
        client: str,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Attempt:
        """Start a service under its principal.

        environ : other variables of the connection
        command : another one of the same service
        """
        given_words = MODULES[client] if command is None else command
        words = [self.incident if word == "INCIDENT" else word for word in given_words]
        self.attempts += 1
        log = self.folder / f"{self.attempts:03d}-{client}.log"
        given = self.environ | (self.entered(client) if environ is None else environ)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.testbed.tree,
                env=_clean(INSTALLED) | environ_of(self.testbed.tree) | given,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return Attempt(client, process, log, time.monotonic())

    def prepare(self) -> None:
        """Make the topics under the principal that may; then their contents as a superuser."""
        client = AdminClient({"bootstrap.servers": self.settings.bootstrap})
        for made in client.create_topics([NewTopic(self.settings.route.source, 2, 1)]).values():
            made.result(20)
        self.security.grant("setup", self.rights["setup"])
        self.start("setup").ends(self.tally, 0)
        self.tally.require(
            not ensure(self.settings).missing, f"{self.name}: setup has made no topics"
        )
        self.security.grant("producer", self.rights["producer"])
        self.start("producer").ends(self.tally, 0)
        send(self.settings, self.settings.topics.input, [b"\x00\x00", b"no avro"])

    def fill(self) -> None:
        """Write what the services besides the predictors read, as a superuser."""
        from tests.faults.rows_notify import publish as publish_incidents

        publish(self.settings, [alarm(1, "open", entity="web-1"), alarm(2, "open", minute=900)])
        self.incident = "1f" * 16
        publish_incidents(self.settings, [_incident(self.tally, self.incident)])
        words = ["feedback", "add", self.incident, "--was", "real"]
        self.security.grant("feedback", self.rights["feedback"])
        self.start("feedback", command=["lapwing", *words]).ends(self.tally, 0)
        metric = {"name": "cpu", "tags": {"host": "host-0"}, "fields": {"idle": 1.5}}
        value = json.dumps({"metrics": [metric | {"timestamp": 1_700_000_000}]}).encode()
        send(self.settings, self.settings.route.source, [value, b"{"])
        publisher = Publisher(self.settings)
        publisher.send(_dead_letter(self.settings))
        self.tally.require(publisher.flush(20) == 0, "the dead letter was not sent")
        publisher.close()

    def refused(
        self, attempt: Attempt, texts: Iterable[str], what: str, *, goes_on: bool = False
    ) -> None:
        """Require that an attempt names its refusal in time, and that its process ends.

        goes_on : it only warns, and does its work
        """
        deadline = attempt.began_s + PATIENCE_S
        texts = tuple(texts)
        while not attempt.names(texts):
            if attempt.client == STAYS and self._page_says(texts):
                break
            if time.monotonic() > deadline or attempt.process.poll() is not None:
                break
            attempt.took_s()
            time.sleep(0.05)
        took_s = attempt.took_s()
        self.slowest_s = max(self.slowest_s, took_s)
        self.tally.require(
            took_s <= LIMIT_S, f"{what}: not named within {LIMIT_S:g} s\n{attempt.text()[-1500:]}"
        )
        self.tally.recoveries.append(took_s)
        if attempt.client == STAYS:
            attempt.stop()
            return
        code = attempt.wait(PATIENCE_S)
        if goes_on:
            self.tally.require(code == 0, f"{what}: ended with {code}\n{attempt.text()[-1500:]}")
            return
        self.tally.require(code in (1, 2), f"{what}: ended with {code}\n{attempt.text()[-1500:]}")
        self.tally.require(
            attempt.names(texts), f"{what}: it is not named\n{attempt.text()[-800:]}"
        )

    def _page_says(self, texts: Iterable[str]) -> bool:
        """Return whether the page names a refusal to who looks at it, or sends feedback."""
        page = f"http://127.0.0.1:{self.environ['LAPWING_DASHBOARD__PORT']}/v1"
        body = json.dumps({"incident_id": self.incident, "was": "real"}).encode()
        sent = urllib.request.Request(
            f"{page}/feedback", body, {"Content-Type": "application/json"}
        )
        for asked in (f"{page}/pipeline", sent):
            try:
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    said = answer.read().decode()
            except urllib.error.HTTPError as error:
                said = error.read().decode()
            except OSError:
                return False
            if any(text in said for text in texts):
                return True
        return False

    def no_secret_is_logged(self) -> None:
        """Look for every password, token and key in every log.

        Not for tokens in the broker's: Kafka itself writes one there when it refuses it.
        """
        security = self.security
        known = [*security.passwords.values(), self.password.partition(":")[2], "PRIVATE KEY"]
        logs = sorted(self.folder.glob("*.log"))
        texts = {str(log): log.read_text("utf-8", "replace") for log in logs}
        texts["broker"] = security.kafka.log(100_000)
        self.tally.require(len(logs) == self.attempts, "some logs are missing")
        for name, text in texts.items():
            secrets = known if name == "broker" else [*known, *security.tokens.issued]
            found = [number for number, secret in enumerate(secrets) if secret in text]
            self.tally.require(not found, f"{name} holds secrets {found}")
        self.tally.more["logs_searched"] = self.tally.more.get("logs_searched", 0) + len(texts)

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text + "\n", "utf-8")
        return str(path)


class Attempt:
    """One process of a service."""

    def __init__(
        self, client: str, process: subprocess.Popen[bytes], log: Path, began_s: float
    ) -> None:
        self.client, self.process, self.log, self.began_s = client, process, log, began_s
        self._queued_ns = 0

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def names(self, texts: Iterable[str]) -> bool:
        """Return whether its last words, or the page's log, have one of the texts."""
        lines = self.text().splitlines()
        if self.client not in (STAYS, WARNS[0]):
            lines = [line for line in lines if line.startswith("lapwing ") or "lapwing:" in line]
        return any(text in line for line in lines for text in texts)

    def took_s(self) -> float:
        """Return the time since its start in which it did not wait for a processor."""
        return time.monotonic() - self.began_s - self._queued_s

    @property
    def _queued_s(self) -> float:
        # Linux: time on a processor, time in the queue for one (ns), number of turns.
        with contextlib.suppress(OSError, IndexError):
            text = Path(f"/proc/{self.process.pid}/schedstat").read_text()
            self._queued_ns = max(self._queued_ns, int(text.split()[1]))
        return self._queued_ns / 1e9

    def wait(self, timeout_s: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout_s)
        return None

    def stop(self) -> int | None:
        self.process.send_signal(signal.SIGTERM)
        return self.wait(20)

    def ends(self, tally: Tally, code: int) -> None:
        """Wait until it ends by itself."""
        found = self.wait(WAIT_S)
        tally.require(
            found == code, f"{self.client} ended with {found}, not {code}\n{self.text()[-1500:]}"
        )

    def until(self, tally: Tally, done: Callable[[], bool]) -> None:
        """Let it run until something is done, then shut it down."""
        deadline = time.monotonic() + WAIT_S
        while not done() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        is_done = done()
        code = self.stop()
        tally.require(is_done and code == 0, f"{self.client}: {code}\n{self.text()[-2000:]}")


def send(settings: Settings, topic: str, values: list[bytes]) -> None:
    """Send records without a meaning, as a superuser."""
    publisher = Publisher(settings)
    keys = Blob.join([b"k%d" % number for number in range(len(values))])
    publisher.send(Outgoing(topic, Blob.join(values), keys))
    left = publisher.flush(20) + publisher.failed
    publisher.close()
    if left:
        raise RowFailed(f"{left} records were not sent to {topic}")


def _dead_letter(settings: Settings) -> Outgoing:
    """Return the dead letter of the input's first record that is no Avro."""
    zeros, topic = np.zeros(1, np.int64), settings.topics.input
    batch = Batch(topic, 0, Blob.join([b"no avro"]), Blob.join([b"k1"]), zeros, zeros)
    headers = letter_headers(batch, 0, "not_avro", "no magic byte", "earlier", 1_000)
    return Outgoing(settings.topics.dead_letters, batch.values, batch.keys, headers={0: headers})


def _incident(tally: Tally, incident_id: str) -> dict[str, object]:
    from tests.faults.rows_notify import incidents

    return incidents(tally, 1)[0] | {"incident_id": incident_id}


def _security(testbed: Testbed) -> Security:
    """Return the testbed's secured broker, started on first use."""
    if testbed.secured is None:
        testbed.secured = Security(testbed.folder / "security", CLIENTS)
        testbed.secured.start()
    return testbed.secured


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without settings of whoever runs this."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("LAPWING_", "KAFKA_"))
    }
