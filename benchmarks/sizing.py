"""A check of the sizing page at 1/50 of its load: ``python -m benchmarks.sizing``.

It sends 20,000 events a second of 20,000 series (6,667 entities with three metrics) to one
predictor on a real Kafka, and compares processor time and memory with the plan that
``benchmarks.load_plan`` computes. A row is correct if the figure is within the plan and each record
has exactly one result, in order. Kafka and registry are as in ``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from benchmarks.documents import PACKAGES, report
from benchmarks.latency import Row, Run, Subject
from benchmarks.load_plan import (
    METRICS,
    UTILISATION,
    WHOLE_EVENTS,
    WHOLE_SERIES,
    Plan,
    measured,
    plan,
)
from benchmarks.paced import Sender
from benchmarks.services import services

PART = 50
PEAK_MS = 1_000.0
"""p99 at which a predictor still keeps up: a backlog would grow with every second."""


def check(environ: dict[str, str], folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Run one predictor at 1/PART of the whole load."""
    expected = plan(measured(), WHOLE_EVENTS / PART, WHOLE_SERIES / PART)
    row = Row(WHOLE_EVENTS // PART, interval_ms=100)
    with ExitStack() as stack:
        hosts = math.ceil(WHOLE_SERIES / PART / METRICS)
        sender = Sender(hosts, days=1 + int(row.rate * (seconds + 5) / hosts / 288))
        stack.callback(sender.close)
        subject = Subject(row, environ, folder)
        stack.callback(subject.close)
        subject.measure(sender, 5.0)
        process = psutil.Process(subject.process.pid)
        before, began_s = process.cpu_times(), time.monotonic()
        largest = _Largest(process)
        run = subject.measure(sender, seconds)
        after, lasted_s = process.cpu_times(), time.monotonic() - began_s
        rss_gb = largest.stop() / 1e9
    cores = (after.user + after.system - before.user - before.system) / lasted_s
    return _rows(expected, run, cores, rss_gb)


def _rows(expected: Plan, run: Run, cores: float, rss_gb: float) -> list[dict[str, Any]]:
    figures = [
        ("cores", cores, "cores", expected.predictors * UTILISATION),
        ("memory", rss_gb, "GB", expected.memory_gb),
        ("p99", run.p99, "ms", PEAK_MS),
    ]
    return [
        {
            "id": f"sizing.check.{name}",
            "value": value,
            "unit": unit,
            "limit": limit,
            "correct": run.correct and value <= limit,
        }
        for name, value, unit, limit in figures
    ]


class _Largest:
    """The largest resident memory of a process until ``stop``."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return it, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._bytes

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._bytes = max(self._bytes, self._process.memory_info().rss)


def main() -> int:
    options = _options()
    whole = plan(measured(), WHOLE_EVENTS, WHOLE_SERIES)
    print(json.dumps(whole._asdict()), flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {"LAPWING_TELEMETRY__LOG_LEVEL": "warning"}
        rows = check(environ, folder, options.seconds)
    return report(rows, 1, options.json, ("confluent-kafka", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
