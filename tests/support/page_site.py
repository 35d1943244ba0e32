"""A broker, a registry and the page as one process, for tests of what it reads from topics."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

from dashboard.server import run
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.kafka import Publisher
from shared.settings import Settings, load_settings
from tests.support.page_records import SCHEMAS

DEADLINE_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """A broker, a registry, and what is written to the topics."""

    def __init__(self, broker, registry, folder):
        kafka = {"security.protocol": "PLAINTEXT", **broker.client_settings}
        flags = {
            "kafka": kafka,
            "registry": {"url": registry.url},
            "state_dir": folder,
            "dashboard": {"port": free_port()},
        }
        self.settings: Settings = load_settings(flags, environ={})
        ids = ensure(self.settings, schemas_only=True).checked().schemas
        topics = self.settings.topics
        self.publisher = Publisher(self.settings)
        self.topics = {
            1: topics.scores,
            2: topics.anomalies,
            3: topics.incidents,
            4: topics.activations,
        }
        self.ids = {number: ids[f"{topic}-value"] for number, topic in self.topics.items()}

    def write(self, schema, records):
        values = encode_records(SCHEMAS[schema], self.ids[schema], records)
        name = {3: "incident_id", 4: "group"}.get(schema, "entity")
        keys = Blob.join([record[name].encode() for record in records])
        self.publisher.send(Outgoing(self.topics[schema], values, keys))
        self.publisher.flush(10.0)

    def get(self, path):
        url = f"http://127.0.0.1:{self.settings.dashboard.port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def post(self, path, document):
        url = f"http://127.0.0.1:{self.settings.dashboard.port}{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(document).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def wait(self, path, done):
        """Return the first answer that fulfils the condition."""
        until_s = time.monotonic() + DEADLINE_S
        seen = None
        while time.monotonic() < until_s:
            try:
                seen = self.get(path)
            except OSError:
                seen = None
            if seen is not None and done(seen):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{path}: {seen}")

    @contextmanager
    def dashboard(self):
        stop = threading.Event()
        failures = []

        def work():
            try:
                run(self.settings, stop.is_set)
            except BaseException as error:  # noqa: BLE001 - the test reports it
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(DEADLINE_S)
        assert failures == []
        assert not thread.is_alive()
