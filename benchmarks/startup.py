"""Time from a predictor's start to the first 200 of its /health/ready, on a real Kafka.

Run ``python -m benchmarks.startup [--hosts 50] [--repeats 5] [--cold] [--json FILE]``. Every row is
measured once per repeat, in turn. ``first`` has no state, ``again`` is killed and restarted with
its slot and snapshots, ``cold`` (once) has no compiled kernels. A row is correct if each record has
exactly one result after it, the same bytes in every row. Kafka and registry are as in
``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import psutil

from benchmarks.documents import PACKAGES, report
from benchmarks.services import services, start, wait_until_ready
from benchmarks.throughput import Bench, Row
from shared.kafka import Admin
from shared.settings import Settings
from tests.support.services.service import free_port

WARM_LIMIT_S, COLD_LIMIT_S = 3.0, 25.0
LONGEST_S = 600.0


class Ready(NamedTuple):
    """One start.

    cpu_s  : of the process until it was ready
    digest : of all results afterwards
    """

    seconds: float
    cpu_s: float
    results: int
    digest: str


class Starts:
    """Starts of a predictor on the records of a fleet."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder

    def first(self, row: Row, **more: str) -> Ready:
        """Start without any state."""
        settings = self.bench.fresh(row)
        return self._measured(settings, self._launch(more))

    def again(self, row: Row) -> Ready:
        """Start, kill once all is committed, and measure the start after it."""
        settings = self.bench.fresh(row)
        process = self._launch({})
        self._scored(settings, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return self._measured(settings, self._launch({}))

    def cold(self, row: Row) -> Ready:
        """Start without compiled kernels."""
        empty = self.folder / f"cache-{uuid.uuid4().hex}"
        return self.first(row, NUMBA_CACHE_DIR=str(empty))

    def _launch(self, more: dict[str, str]) -> Popen[str]:
        self._port = free_port()
        port = {"LAPWING_TELEMETRY__PORT": str(self._port), "LAPWING_SLOT": "a"}
        self._began_s = time.monotonic()
        return start(self.bench.environ_of_run | port | more, "consumer_prediction")

    def _measured(self, settings: Settings, process: Popen[str]) -> Ready:
        try:
            wait_until_ready(process, self._port, LONGEST_S)
            seconds = time.monotonic() - self._began_s
            times = psutil.Process(process.pid).cpu_times()
            self._scored(settings, process)
        finally:
            process.terminate()
            process.wait(30)
        return Ready(seconds, times.user + times.system, *self.bench.results(settings))

    def _scored(self, settings: Settings, process: Popen[str]) -> None:
        """Wait until all records are committed."""
        admin, topic = Admin(settings), settings.topics.input
        total = sum(admin.end_offsets(topic).values())
        while True:
            committed = admin.committed(settings.predict.group, topic).values()
            if sum(position.offset for position in committed) >= total:
                return
            self._check(process)
            time.sleep(0.05)

    def _check(self, process: Popen[str]) -> None:
        if process.poll() is not None or time.monotonic() > self._began_s + LONGEST_S:
            raise RuntimeError(f"the predictor ended with {process.returncode}")


def measure(starts: Starts, repeats: int, *, with_cold: bool) -> list[dict[str, Any]]:
    """Measure all rows in turn; return a row for each."""
    native, python = Row("ensemble", "native"), Row("ensemble", "python")
    kinds = {
        "first.python": (starts.first, python),
        "first.native": (starts.first, native),
        "again.native": (starts.again, native),
    }
    found: dict[str, list[Ready]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, (call, row) in kinds.items():
            found[name].append(call(row))
            print(name, found[name][-1], flush=True)
    if with_cold:
        found["cold.native"] = [starts.cold(native)]
    return rows_of(found, starts.bench.totals[3])


def rows_of(found: dict[str, list[Ready]], total: int) -> list[dict[str, Any]]:
    """Return the medians; ratio = the limit that a start must keep / its time."""
    results = {(one.results, one.digest) for runs in found.values() for one in runs}
    correct = len(results) == 1 and {count for count, _ in results} == {total}
    rows = []
    for name, runs in found.items():
        seconds = statistics.median(one.seconds for one in runs)
        limit_s = COLD_LIMIT_S if name.startswith("cold") else WARM_LIMIT_S
        row: dict[str, Any] = {"id": f"startup.{name}", "value": seconds, "unit": "s"}
        row["cpu_s"] = statistics.median(one.cpu_s for one in runs)
        row["limit"] = limit_s
        rows.append(row | {"correct": correct})
    return rows


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {
            "LAPWING_TOPICS__DATASET": f"bench{uuid.uuid4().hex[:8]}",
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }
        bench = Bench(environ, folder, options.hosts, 1, {"first": Row("ensemble", "native")})
        rows = measure(Starts(bench, folder), options.repeats, with_cold=options.cold)
    return report(rows, options.repeats, options.json, ("confluent-kafka", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also compile all kernels, minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
