"""What a predictor takes up: idle processor time and memory, on a real Kafka.

Run ``python -m benchmarks.footprint [--rows 'rss.*'] [--json FILE]``. ``idle`` is the share of a
core at 100 events a second; the clients are measured in turn. ``rss`` is the largest resident
memory of a predictor that has scored a fleet: entities x metrics, four days of ten-minute records.
``rss.empty`` is one that is ready and has seen no record. A row is correct if each record has
exactly one result. Kafka and registry are as in ``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psutil

from benchmarks.documents import PACKAGES, report
from benchmarks.latency import Row, Subject
from benchmarks.paced import Sender
from benchmarks.services import run, services, start, wait_until_ready, watched
from shared.kafka import Admin, Reader
from shared.settings import load_settings
from tests.support.services.service import free_port

RATE = 100
IDLE_LIMIT, RSS_LIMIT_GB = 0.02, 1.6
ENTITIES, METRICS, DAYS, STEP_S = 10_000, 3, 4, 600
LONGEST_S = 900.0
IDS = ("idle.python", "idle.native", f"rss.{ENTITIES}x{METRICS}")


def idle(environ: dict[str, str], folder: Path, engines: list[str], options: Any) -> list[Any]:
    """Measure the share of a core that predictors use at RATE."""
    kind = Row(RATE, interval_ms=100)
    with ExitStack() as stack:
        sender = Sender(hosts=100, days=3)
        stack.callback(sender.close)
        subjects: dict[str, Subject] = {}
        for engine in engines:
            subjects[engine] = Subject(kind, environ, folder, engine)
            stack.callback(subjects[engine].close)
            subjects[engine].measure(sender, 3.0)
        found: dict[str, list[tuple[float, bool]]] = {engine: [] for engine in engines}
        for _ in range(options.repeats):
            for engine, subject in subjects.items():
                process = psutil.Process(subject.process.pid)
                before_s, began_s = _cpu_s(process), time.monotonic()
                correct = subject.measure(sender, options.seconds).correct
                share = (_cpu_s(process) - before_s) / (time.monotonic() - began_s)
                found[engine].append((share, correct))
    return [
        {
            "id": f"footprint.idle.{engine}",
            "value": statistics.median(share for share, _ in shares),
            "unit": "cores",
            "limit": IDLE_LIMIT,
            "correct": all(correct for _, correct in shares),
        }
        for engine, shares in found.items()
    ]


def memory(environ: dict[str, str], folder: Path, entities: int) -> list[Any]:
    """Measure the largest resident memory of a predictor that scores a fleet."""
    environ = environ | {
        "LAPWING_TOPICS__DATASET": f"rss{uuid.uuid4().hex[:8]}",
        "LAPWING_STATE_DIR": str(folder / "rss"),
        "LAPWING_ENGINE": "native",
    }
    run(environ, "lapwing", "topics", "ensure")
    empty_gb = _empty_gb(environ)
    fleet = ("--fleet", str(entities), "--days", str(DAYS), "--step", str(STEP_S))
    watched(start(environ, "producer", *fleet, "--speed", "max", "--json"))
    settings = load_settings(environ=environ)
    admin, topics = Admin(settings), settings.topics
    total = sum(admin.end_offsets(topics.input).values())
    process = start(environ, "consumer_prediction")
    seen, largest, done = psutil.Process(process.pid), 0, 0
    deadline_s = time.monotonic() + LONGEST_S
    try:
        while done < total:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the predictor ended with {process.returncode}")
            largest = max(largest, seen.memory_info().rss)
            committed = admin.committed(settings.predict.group, topics.input).values()
            done = sum(position.offset for position in committed)
            time.sleep(0.2)
        largest = max(largest, seen.memory_info().rss)
    finally:
        process.terminate()
        process.wait(60)
    results, sizes = 0, 0
    for batch in Reader(settings).read(topics.scores):
        results, sizes = results + len(batch), sizes + len(batch.values.data)
    return [
        {"id": "footprint.rss.empty", "value": empty_gb, "unit": "GB", "correct": True},
        {
            "id": f"footprint.rss.{entities}x{METRICS}",
            "value": largest / 1e9,
            "unit": "GB",
            "limit": RSS_LIMIT_GB * entities / ENTITIES,
            "events": total,
            "score_bytes": sizes / results,
            "correct": total == results,
        },
    ]


def _empty_gb(environ: dict[str, str]) -> float:
    """Return the resident memory of a predictor that has seen no record."""
    port = free_port()
    process = start(environ | {"LAPWING_TELEMETRY__PORT": str(port)}, "consumer_prediction")
    try:
        wait_until_ready(process, port)
        time.sleep(2.0)
        return float(psutil.Process(process.pid).memory_info().rss / 1e9)
    finally:
        process.terminate()
        process.wait(30)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    options = _options()
    chosen = [name for name in IDS if fnmatch(name, options.rows)]
    engines = [name.removeprefix("idle.") for name in chosen if name.startswith("idle.")]
    rows: list[Any] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {"LAPWING_TELEMETRY__LOG_LEVEL": "warning"}
        if engines:
            rows += idle(environ, folder, engines, options)
        if len(chosen) > len(engines):
            rows += memory(environ, folder, options.entities)
    return report(rows, options.repeats, options.json, ("confluent-kafka", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="ids, such as 'idle.*'")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each idle measurement")
    parser.add_argument("--repeats", type=int, default=5, help="of the idle measurements")
    parser.add_argument("--entities", type=int, default=ENTITIES, help="of the rss row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
