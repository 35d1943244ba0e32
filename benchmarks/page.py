"""Load of the page: ``python -m benchmarks.page [--json FILE]``.

A history of ``--entities`` entities is written, ``lapwing dashboard`` is started on it as a process
of its own with an embedded broker, and ``--rate`` score events a second are published while
``--subscribers`` pages follow live and ask for what a fleet view asks. Reports the seconds until a
page is usable (measured in Chromium where there is one, else by the requests that it needs), the
server's memory, the quantiles of the API, the delay from a published anomaly to its event in the
stream, and the processor time that the server took.

Each request's own time is measured by one prober that asks five times a second, as one more page;
the other pages only make load. Load of the machine by others is in the figures, so the load average
is reported beside them.

``--max-mb`` bounds the history as dashboard.max_mb does: with ``--rows 1000``, ten million points
are written into it, and the largest size that the file had meanwhile is reported. ``--history DIR``
keeps the history that was written, and uses a copy of it the next time, so that two builds can be
measured in turn on the same one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import psutil

from dashboard.history.queries import History
from dashboard.history.results import Arrived
from dashboard.history.retention import Retention
from dashboard.history.store import Store
from dashboard.server import history_file
from lapwing.embedded.broker import EmbeddedBroker
from lapwing.embedded.registry import serve
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.records import encode_records
from shared.kafka import Publisher, topic_specs
from shared.settings import Settings, load_settings
from tests.support.page_records import (
    SCHEMAS,
    START_MS,
    STEP_MS,
    anomaly,
    arrived,
    event_id,
    score,
)

MIB = 1 << 20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATHS = {
    "entities": "/v1/entities?limit=40&spark_hours=24",
    "entities_page_100": "/v1/entities?limit=40&offset=4000&spark_hours=24",
    "entities_search": "/v1/entities?q=host-0{digit}&limit=40&spark_hours=24",
    "incidents": "/v1/incidents?state=open&order=severity&limit=12",
    "anomalies": "/v1/anomalies?open=true&limit=100",
    "series": "/v1/series?entity=host-0000{digit}&width=1200",
    "pipeline": "/v1/pipeline",
}
"""{digit} differs from request to request, so that no answer is shared."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=100, help="of each entity in the history")
    parser.add_argument("--rate", type=int, default=5_000, help="score events a second; 0 = none")
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--max-mb", type=int, default=10_000, help="dashboard.max_mb")
    parser.add_argument("--history", type=Path, help="folder of a history to keep, or to use")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        topics = {spec.name: spec.partitions for spec in topic_specs(Settings())}
        broker = stack.enter_context(closing(EmbeddedBroker(topics)))
        registry = stack.enter_context(closing(serve("127.0.0.1", 0)))
        settings = load_settings(
            {
                "kafka": {"security.protocol": "PLAINTEXT", **broker.client_settings},
                "registry": {"url": registry.url},
                "state_dir": folder,
                "dashboard": {
                    "port": free_port(),
                    "max_clients": options.subscribers + 10,
                    "max_mb": options.max_mb,
                },
            },
            environ={},
        )
        ids = ensure(settings, schemas_only=True).checked().schemas
        written = history(settings, options)
        server = stack.enter_context(running(settings, registry.url, broker.client_settings))
        figures = measure(settings, ids, options, server)
        used = sum(file.stat().st_size for file in history_file(settings).parent.iterdir())
    figures |= {
        "history": {
            **(written._asdict() if written else {"used": str(options.history)}),
            "max_mb": options.max_mb,
            "mb_at_the_end": used / 1e6,
        },
        "load_average": os.getloadavg()[0],
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Written(NamedTuple):
    """A history that was written.

    points      : that were written; the bound of the size may keep fewer
    most_mb     : largest size of the file and its log, looked at after each row of the fleet
    most_rss_mb : largest resident memory of the process that wrote
    """

    points: int
    kept: int
    seconds: float
    most_mb: float
    most_rss_mb: float


def history(settings: Settings, options: argparse.Namespace) -> Written | None:
    """Write the history, or copy the one that was kept; None = it was kept."""
    folder = history_file(settings).parent
    if options.history and options.history.exists():
        shutil.copytree(options.history, folder)
        return None
    written = fill(settings, options.entities, options.rows)
    if options.history:
        shutil.copytree(folder, options.history)
    return written


def fill(settings: Settings, entities: int, rows: int) -> Written:
    """Write the history of the fleet; every fiftieth entity has an open episode."""
    began_s = time.monotonic()
    path, writer = history_file(settings), psutil.Process()
    store = Store(path, Retention(30, settings.dashboard.max_mb * 1_000_000))
    draws = random.Random(0)
    most_mb = most_rss_mb = 0.0
    with closing(store):
        template = arrived("scores", [score(0)]).scores[0]
        metric = template["metrics"][0]
        for row in range(rows):
            events = [
                {
                    **template,
                    "entity": f"host-{number:05d}",
                    "event_time": START_MS + row * STEP_MS,
                    "source_offset": row,
                    "metrics": [{**metric, "value": 10.0 + 4.0 * draws.random()}],
                }
                for number in range(entities)
            ]
            written = [1_700_000_000_000] * entities
            store.apply([Arrived("history", 0, row + 1, written, scores=events)])
            size = sum(file.stat().st_size for file in path.parent.iterdir())
            most_mb = max(most_mb, size / 1e6)
            most_rss_mb = max(most_rss_mb, writer.memory_info().rss / 1e6)
        opened = [
            anomaly(
                rows - 5,
                f"host-{number:05d}",
                event_id=event_id(number),
                episode_id=event_id(number),
            )
            for number in range(0, entities, 50)
        ]
        store.apply([arrived("anomalies", opened)])
        store.seal()
        kept = History(path, store).counts()["points"]
    return Written(entities * rows, kept, time.monotonic() - began_s, most_mb, most_rss_mb)


class running:  # noqa: N801 - a context manager that reads as a verb
    """``lapwing dashboard`` as a process; ready when it answers."""

    def __init__(self, settings: Settings, registry_url: str, client: dict[str, str]) -> None:
        self.settings = settings
        kafka = {
            f"LAPWING_KAFKA__{name.upper().replace('.', '_')}": value
            for name, value in client.items()
        }
        self.environ = {**os.environ, **kafka} | {
            "LAPWING_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
            "LAPWING_REGISTRY__URL": registry_url,
            "LAPWING_STATE_DIR": str(settings.state_dir),
            "LAPWING_DASHBOARD__MAX_CLIENTS": str(settings.dashboard.max_clients),
            "LAPWING_DASHBOARD__MAX_MB": str(settings.dashboard.max_mb),
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }

    def __enter__(self) -> psutil.Process:
        port = str(self.settings.dashboard.port)
        command = [sys.executable, "-m", "dashboard", "--port", port]
        self.process = subprocess.Popen(command, env=self.environ)
        began_s = time.monotonic()
        while time.monotonic() - began_s < 60:
            try:
                ask(self.settings, "/health/live")
            except OSError:
                time.sleep(0.05)
                continue
            return psutil.Process(self.process.pid)
        raise SystemExit("the dashboard does not answer")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


def ask(settings: Settings, path: str) -> bytes:
    url = f"http://127.0.0.1:{settings.dashboard.port}{path}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def measure(
    settings: Settings, ids: Mapping[str, int], options: argparse.Namespace, server: psutil.Process
) -> dict[str, object]:
    stopping = threading.Event()
    load = Load(settings, ids, options, stopping)
    pages = Pages(settings, options.subscribers)
    threads = [threading.Thread(target=work, daemon=True) for work in (load.publish, pages.run)]
    for thread in threads:
        thread.start()
    pages.ready.wait(60)
    time.sleep(3)
    cpu_s, began_s = sum(server.cpu_times()[:2]), time.monotonic()
    published = load.published
    latencies: dict[str, list[float]] = {name: [] for name in PATHS}
    memory: list[int] = []
    number = 0
    while time.monotonic() - began_s < options.seconds:
        for name, path in PATHS.items():
            number += 1
            asked_s = time.perf_counter()
            ask(settings, path.format(digit=number % 10))
            latencies[name].append((time.perf_counter() - asked_s) * 1000)
            memory.append(server.memory_info().rss)
            time.sleep(0.2)
    took_s = time.monotonic() - began_s
    cpu_s = sum(server.cpu_times()[:2]) - cpu_s
    rate = (load.published - published) / took_s
    usable = usable_s(settings)
    stopping.set()
    pages.stop()
    for thread in threads:
        thread.join(20)
    status = json.loads(ask(settings, "/v1/pipeline"))
    together = [value for values in latencies.values() for value in values]
    return {
        "entities": options.entities,
        "subscribers": options.subscribers,
        "points": status["history"]["points"],
        "published_per_s": round(rate),
        "api_ms": {name: quantiles(values) for name, values in latencies.items()},
        "api_p95_ms": quantiles(together)["p95"],
        "event_to_page_ms": quantiles(pages.delays_ms(load.sent_s)),
        "usable_s": usable,
        "rss_mib": {"median": statistics.median(memory) / MIB, "most": max(memory) / MIB},
        "server_cores": cpu_s / took_s,
        "stream_events": pages.events,
        "dropped_clients": status["dropped_clients"],
    }


def quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 1),
        "p95": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
        "most": round(ordered[-1], 1),
    }


class Load:
    """Publishes score events at a steady rate, and an anomaly every second."""

    def __init__(
        self,
        settings: Settings,
        ids: Mapping[str, int],
        options: argparse.Namespace,
        stopping: threading.Event,
    ) -> None:
        self.settings, self.options, self.stopping = settings, options, stopping
        self.ids = ids
        self.published = 0
        self.sent_s: dict[str, float] = {}

    def publish(self) -> None:
        topics = self.settings.topics
        per_tick = self.options.rate // 10
        names = [f"host-{number:05d}" for number in range(self.options.entities)]
        rows = [score(self.options.rows, entity=name) for name in names]
        # Encoded once; a score that comes again is a record like another for the page.
        blocks = []
        for start in range(0, len(rows) if per_tick else 0, per_tick or 1):
            part = rows[start : start + per_tick]
            values = encode_records(SCHEMAS[1], self.ids[f"{topics.scores}-value"], part)
            keys = Blob.join([row["entity"].encode() for row in part])
            blocks.append(Outgoing(topics.scores, values, keys))
        publisher = Publisher(self.settings)
        began_s = time.monotonic()
        tick = 0
        while not self.stopping.is_set():
            if blocks:
                block = blocks[tick % len(blocks)]
                publisher.send(block)
                self.published += len(block)
            if tick % 10 == 0:
                self._send_anomaly(publisher, tick)
            tick += 1
            self.stopping.wait(max(0.0, began_s + tick / 10 - time.monotonic()))
        publisher.flush(10.0)

    def _send_anomaly(self, publisher: Publisher, tick: int) -> None:
        topic = self.settings.topics.anomalies
        identity = event_id(10_000_000 + tick)
        record = anomaly(self.options.rows, "host-00007", event_id=identity, episode_id=identity)
        values = encode_records(SCHEMAS[2], self.ids[f"{topic}-value"], [record])
        self.sent_s[identity] = time.monotonic()
        publisher.send(Outgoing(topic, values, Blob.join([b"host-00007"])))


class Pages:
    """Open pages: each follows the stream, and asks again two seconds after a tick."""

    def __init__(self, settings: Settings, count: int) -> None:
        self.port, self.count = settings.dashboard.port, count
        self.ready = threading.Event()
        self.events = 0
        self._opened = 0
        self._came_s: dict[str, list[float]] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tasks = [self._loop.create_task(self._page()) for _ in range(self.count)]
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))

    def stop(self) -> None:
        for task in self._tasks:
            self._loop.call_soon_threadsafe(task.cancel)

    def delays_ms(self, sent_s: dict[str, float]) -> list[float]:
        """Return the delay of each anomaly to each page."""
        return [
            (came_s - sent_s[identity]) * 1000
            for identity, times in self._came_s.items()
            if identity in sent_s
            for came_s in times
        ]

    async def _page(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        writer.write(b"GET /v1/stream?view=fleet HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        asking = asyncio.create_task(self._ask())
        self._opened += 1
        if self._opened == self.count:
            self.ready.set()
        try:
            while line := await reader.readline():
                if not line.startswith(b"data: {"):
                    continue
                self.events += 1
                data = json.loads(line.removeprefix(b"data: "))
                if "event_id" in data:
                    self._came_s.setdefault(data["event_id"], []).append(time.monotonic())
        finally:
            asking.cancel()
            writer.close()

    async def _ask(self) -> None:
        """Ask what a fleet view asks every two seconds."""
        await asyncio.sleep(2 * self._opened / self.count)
        while True:
            for name in ("entities", "incidents", "anomalies"):
                await self._get(PATHS[name])
            await asyncio.sleep(2)

    async def _get(self, path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await reader.read(-1)
        writer.close()


def usable_s(settings: Settings) -> dict[str, object]:
    """Return the seconds from opening the page until its small charts are drawn."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        began_s = time.monotonic()
        for path in ("/", "/static/main.js", PATHS["entities"], PATHS["incidents"]):
            ask(settings, path)
        return {"seconds": [time.monotonic() - began_s], "measured": "requests"}
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        for _ in range(5):
            page = browser.new_page()
            began_s = time.monotonic()
            page.goto(f"http://127.0.0.1:{settings.dashboard.port}/", wait_until="commit")
            page.wait_for_selector(".card canvas")
            page.wait_for_selector(".strip a")
            seconds.append(round(time.monotonic() - began_s, 2))
            page.close()
        browser.close()
    return {"seconds": seconds, "measured": "browser"}


if __name__ == "__main__":
    sys.exit(main())
