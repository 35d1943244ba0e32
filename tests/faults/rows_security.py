"""Rows about TLS, SASL and ACLs: rights, certificates, passwords and tokens.

Invariant: every refusal is named within LIMIT_S, nothing is lost by it, and no log of any service
           or broker holds a secret.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

import schemas
from lapwing.acls import Right, rights_of
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import decode_records
from shared.kafka import Admin, Publisher, Reader
from shared.settings import Settings
from tests.faults.predictor import INSTALLED, environ_of
from tests.faults.run import RowFailed
from tests.faults.table import Tally, row
from tests.faults.testbed import Testbed
from tests.support.anomaly_logs import alarm
from tests.support.incident_oracle import publish
from tests.support.services import maven
from tests.support.services.registry_gate import RegistryGate
from tests.support.services.secured import Security
from tests.support.services.service import free_port

LIMIT_S = 10.0
"""A refusal is named within this time of a service's start."""

WAIT_S = 90.0
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
    "producer": ("producer", "--fleet", "6", "--days", "1", "--speed", "max", "--json"),
    "training": ("consumer_training", "--once"),
    "predictor": ("consumer_prediction",),
    "dashboard": ("dashboard",),
    "incidents": ("lapwing.incidents",),
    "notify": ("lapwing.notify",),
    "route": ("lapwing.route",),
    "dlq": ("lapwing", "dlq", "replay", "--force", "--yes", "--json"),
    "feedback": ("lapwing", "feedback", "add", "INCIDENT", "--was", "real"),
}
SERVING = ("predictor", "dashboard", "incidents", "notify", "route")
"""Services that run until SIGTERM; the others end by themselves."""

STAYS = "dashboard"
"""Names what it may not read, shows the rest, and does not end."""

DENIED = "AUTHORIZATION_FAILED"
EVENTS = 6 * 288
BRIEF = (
    ("predictor", "scores"),
    ("predictor", "transactional-id"),
    ("producer", "raw"),
)
"""What is taken away in CI: service, and part of a resource or of its name."""


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
        self._password_file = self._file("registry.password", self.password)
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

    def start(self, client: str, environ: Mapping[str, str] | None = None) -> _Attempt:
        """Start a service under its principal; environ = other variables of the connection."""
        words = [self.incident if word == "INCIDENT" else word for word in MODULES[client]]
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
        return _Attempt(client, process, log, time.monotonic())

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
        metric = {"name": "cpu", "tags": {"host": "host-0"}, "fields": {"idle": 1.5}}
        value = json.dumps({"metrics": [metric | {"timestamp": 1_700_000_000}]}).encode()
        send(self.settings, self.settings.route.source, [value, b"{"])

    def refused(self, attempt: _Attempt, texts: Iterable[str], what: str) -> None:
        """Require that an attempt names its refusal in time, and that its process ends."""
        deadline = attempt.began_s + max(LIMIT_S, 30.0)
        texts = tuple(texts)
        while not any(text in attempt.text() for text in texts):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        took_s = time.monotonic() - attempt.began_s
        self.slowest_s = max(self.slowest_s, took_s)
        self.tally.require(
            took_s <= LIMIT_S, f"{what}: not named within {LIMIT_S:g} s\n{attempt.text()[-1500:]}"
        )
        self.tally.recoveries.append(took_s)
        if attempt.client == STAYS:
            attempt.stop()
            return
        code = attempt.wait(LIMIT_S)
        self.tally.require(code in (1, 2), f"{what}: ended with {code}\n{attempt.text()[-1500:]}")
        lines = [line for line in attempt.text().splitlines() if line.startswith("lapwing")]
        self.tally.require(
            any(text in line for line in lines for text in texts),
            f"{what}: the last line does not name it: {lines}",
        )

    def no_secret_is_logged(self) -> None:
        """Look for every password, token and key in every log."""
        security = self.security
        secrets = [*security.passwords.values(), self.password.partition(":")[2]]
        secrets += [*security.tokens.issued, "PRIVATE KEY"]
        logs = sorted(self.folder.glob("*.log"))
        texts = {str(log): log.read_text("utf-8", "replace") for log in logs}
        texts["broker"] = security.kafka.log(100_000)
        self.tally.require(len(logs) == self.attempts, "some logs are missing")
        for name, text in texts.items():
            found = [number for number, secret in enumerate(secrets) if secret in text]
            self.tally.require(not found, f"{name} holds secrets {found}")
        self.tally.more["logs_searched"] = self.tally.more.get("logs_searched", 0) + len(texts)

    def _file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text + "\n", "utf-8")
        return str(path)


class _Attempt:
    """One process of a service."""

    def __init__(
        self, client: str, process: subprocess.Popen[bytes], log: Path, began_s: float
    ) -> None:
        self.client, self.process, self.log, self.began_s = client, process, log, began_s

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

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


@row("security: each right is needed, and those suffice", ci=1)
def rights(testbed: Testbed, tally: Tally) -> None:
    """Each service under its own principal; first with one right less, then with all."""
    site = Site(testbed, tally)
    try:
        site.prepare()
        if not tally.brief:
            site.fill()
        taken_away = 0
        for client, right, operation in _each_right(site):
            text = f"{right.resource} {right.name}"
            if tally.brief and not any(c == client and part in text for c, part in BRIEF):
                continue
            taken_away += 1
            site.security.grant(client, _without(site.rights[client], right, operation))
            what = f"{client} without {operation} of {text}"
            site.refused(site.start(client), _signs(client, right), what)
        for client in CLIENTS:
            site.security.grant(client, site.rights[client])
        _all_work(site, tally)
        site.no_secret_is_logged()
        tally.more |= {"rights_taken_away": taken_away, "slowest_s": round(site.slowest_s, 1)}
        tally.runs += 1
    finally:
        site.close()


@row("security: wrong certificates, passwords and tokens", ci=1)
def credentials(testbed: Testbed, tally: Tally) -> None:
    """Refused at the start, then in mid-stream; each is named, and the stream goes on after."""
    site = Site(testbed, tally)
    security, client = site.security, "predictor"
    try:
        site.prepare()
        security.grant(client, site.rights[client])
        cases = list(_wrong(site, client))
        for number, (what, environ, signs) in enumerate(cases):
            if tally.brief and number % 4:
                continue
            with environ() as variables:
                site.refused(site.start(client, variables), signs, what)
        running = site.start(client)
        _await(lambda: "partition taken over" in running.text(), "the start", running)
        security.grant(client, _without(site.rights[client], site.rights[client][1], "Write"))
        running.began_s = time.monotonic()
        more = site.start("producer")
        site.refused(running, [DENIED], "a right taken away in mid-stream")
        more.ends(tally, 0)
        security.grant(client, site.rights[client])
        site.start(client).until(tally, lambda: _lag(site.settings) == 0)
        _count(site, tally, 2 * EVENTS)
        site.no_secret_is_logged()
        tally.more["slowest_s"] = round(site.slowest_s, 1)
        tally.runs += 1
    finally:
        site.close()


def _each_right(site: Site) -> Iterable[tuple[str, Right, str]]:
    for client in CLIENTS:
        if client != "setup":
            for right in site.rights[client]:
                for operation in right.operations:
                    yield client, right, operation


def _without(granted: Iterable[Right], less: Right, operation: str) -> list[Right]:
    """Return rights without one operation of one of them."""
    left = []
    for right in granted:
        if right == less:
            operations = tuple(one for one in right.operations if one != operation)
            right = replace(right, operations=operations)
        if right.operations:
            left.append(right)
    return left


def _signs(client: str, right: Right) -> list[str]:
    return [DENIED] if client != STAYS else [DENIED, "authorization failed"]


def _all_work(site: Site, tally: Tally) -> None:
    """Run the services with all of their rights, and check what they have done."""
    settings = site.settings
    if not tally.brief:
        site.start("training").ends(tally, 0)
        site.start("route").until(
            tally, lambda: _lag(settings, settings.route.group, settings.route.source) == 0
        )
    site.start("predictor").until(tally, lambda: _lag(settings) == 0)
    _count(site, tally, EVENTS + (0 if tally.brief else 1))
    if tally.brief:
        return
    topics = settings.topics
    site.start("incidents").until(
        tally, lambda: _lag(settings, settings.incidents.group, topics.anomalies) == 0
    )
    site.start("notify").until(
        tally, lambda: _lag(settings, settings.notify.group, topics.incidents) == 0
    )
    site.start("feedback").ends(tally, 0)
    site.start("dlq").ends(tally, 0)
    admin = Admin(settings)
    for topic in (topics.incidents, topics.unsent, topics.feedback, settings.route.dead_letters):
        ends = sum(admin.end_offsets(topic).values())
        tally.require(ends > 0, f"{site.name}: nothing was written to {topic}")
    admin.close()
    page = site.start("dashboard")
    _await(lambda: _pipeline_is_clean(site), "a page without a problem", page)
    tally.require(page.stop() == 0, f"the page did not end\n{page.text()[-1500:]}")


def _pipeline_is_clean(site: Site) -> bool:
    port = site.environ["LAPWING_DASHBOARD__PORT"]
    with contextlib.suppress(OSError, ValueError):
        url = f"http://127.0.0.1:{port}/v1/pipeline"
        with urllib.request.urlopen(url, timeout=2) as answer:
            found = json.loads(answer.read())
        return DENIED not in json.dumps(found) and not found["lag"]["problem"]
    return False


def _wrong(
    site: Site, client: str
) -> Iterable[
    tuple[str, Callable[[], contextlib.AbstractContextManager[dict[str, str]]], list[str]]
]:
    """Yield (what is wrong, its environment, texts one of which must name it)."""
    security, tokens = site.security, site.security.tokens

    def given(
        environ: dict[str, str], **more: str
    ) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        return lambda: contextlib.nullcontext(environ | more)

    def with_tokens(
        name: str, value: object
    ) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        @contextlib.contextmanager
        def changed() -> Iterable[dict[str, str]]:
            usual = getattr(tokens, name)
            setattr(tokens, name, value)
            try:
                yield security.oauth(client)
            finally:
                setattr(tokens, name, usual)

        return changed

    scram, stranger = security.scram(client), str(security.stranger.ca)
    other = site._file("other.password", "registry:not-the-password")
    yield "wrong password", given(security.scram(client, "not-the-password")), ["AUTHENTICATION"]
    yield (
        "a broker of another authority",
        given(scram, LAPWING_KAFKA__SSL_CA_LOCATION=stranger),
        ["certificate verify failed"],
    )
    yield (
        "a certificate of another authority",
        given(security.mutual(client, security.stranger)),
        ["SSL alert number"],
    )
    yield "an expired certificate", given(security.mutual(client, days=-1)), ["SSL alert number"]
    yield "an expired token", with_tokens("life_s", -60.0), ["unexpired token"]
    yield "a token of another issuer", with_tokens("is_foreign", True), ["invalid_token"]
    yield "a wrong client secret", with_tokens("secrets", {}), ["invalid_client"]
    yield (
        "a wrong password of the registry",
        given(scram, LAPWING_REGISTRY__BASIC_AUTH_FILE=other),
        ["registry.basic_auth is not accepted"],
    )
    yield (
        "a registry of another authority",
        given(scram, LAPWING_REGISTRY__CA_FILE=stranger),
        ["CERTIFICATE_VERIFY_FAILED"],
    )


def _count(site: Site, tally: Tally, good: int) -> None:
    """Count results: one score or dead letter for each record of the input."""
    settings, topics = site.settings, site.settings.topics
    text = schemas.text(schemas.SCORE_EVENT)
    places: Counter[tuple[int, int]] = Counter()
    for batch in Reader(settings).read(topics.scores):
        for record in decode_records(batch.values, [text] * len(batch)):
            places[record["source_partition"], record["source_offset"]] += 1
    scores = places.total()
    for batch in Reader(settings).read(topics.dead_letters):
        for row_number in range(len(batch)):
            headers = dict(batch.headers[row_number])
            partition, offset = (
                int(headers[f"__connect.errors.{name}"]) for name in ("partition", "offset")
            )
            places[partition, offset] += 1
    records = {
        (batch.partition, int(offset))
        for batch in Reader(settings).read(topics.input)
        for offset in batch.offsets
    }
    tally.counts.lost += len(records - places.keys())
    tally.counts.wrong += len(places.keys() - records)
    tally.counts.duplicates += sum(times - 1 for times in places.values())
    tally.require(scores == good, f"{site.name}: {scores} scores of {good} records")
    tally.events += len(records)


def _lag(settings: Settings, group: str = "", topic: str = "") -> int:
    admin = Admin(settings)
    try:
        lag = admin.lag(group or settings.predict.group, topic or settings.topics.input)
        return sum(lag.values())
    finally:
        admin.close()


def _await(done: Callable[[], bool], what: str, attempt: _Attempt) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > deadline or attempt.process.poll() is not None:
            raise RowFailed(f"{what} did not happen\n{attempt.text()[-2500:]}")
        time.sleep(0.1)


def send(settings: Settings, topic: str, values: list[bytes]) -> None:
    """Send records without a meaning, as a superuser."""
    publisher = Publisher(settings)
    keys = Blob.join([b"k%d" % number for number in range(len(values))])
    publisher.send(Outgoing(topic, Blob.join(values), keys))
    left = publisher.flush(20) + publisher.failed
    publisher.close()
    if left:
        raise RowFailed(f"{left} records were not sent to {topic}")


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
