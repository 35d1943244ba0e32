"""Predictors and echoes on one real Kafka, by Kafka client.

Run ``python -m benchmarks.throughput [--hosts 48] [--days 8] [--repeats 5] [--json FILE]``. Every
row is measured once per repeat, in turn, so that load from outside meets all of them. A row is
correct if each input record has exactly one result, and the results of the two clients are equal
byte for byte. Kafka and registry are as in ``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.services import run, services, start, watched
from shared.batch import Outgoing
from shared.kafka import Admin, Reader
from shared.kafka.client import CONSUMER_REQUIRED, CONSUMER_TUNING, client_config
from shared.kafka.engine import engine_of
from shared.settings import Settings, load_settings

ENGINES = ("python", "native")
DETECTORS = ("ensemble", "isolation_forest")
WARM_SHARE = 0.1
"""Share of the records after which the clock starts."""

LONGEST_S = 600.0


class Run(NamedTuple):
    """One measurement; digest: of all results in order, by partition."""

    events_per_s: float
    cpu_us: float
    results: int
    digest: str


def main() -> int:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {
            "LAPWING_TOPICS__DATASET": f"bench{uuid.uuid4().hex[:8]}",
            "LAPWING_STATE_DIR": str(folder / "state"),
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }
        bench = Bench(environ, folder, options.hosts, options.days)
        runs: dict[str, list[Run]] = {name: [] for name in bench.rows()}
        for repeat in range(options.repeats):
            for name, measure in bench.rows().items():
                runs[name].append(measure())
                print(f"{repeat + 1}/{options.repeats} {name:<28} {_text(runs[name][-1])}")
        document = bench.document(runs)
    for row in document["rows"]:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row["correct"] for row in document["rows"]) else 1


class Bench:
    """A topic of a generated fleet, the models of trained detectors, and what is measured."""

    def __init__(self, environ: dict[str, str], folder: Path, hosts: int, days: int) -> None:
        self.environ = environ
        self.folder = folder
        self.settings = load_settings(environ=environ)
        run(environ, "lapwing", "topics", "ensure")
        fleet = ("--fleet", str(hosts), "--days", str(days), "--speed", "max", "--json")
        watched(start(environ, "producer", *fleet))
        ends = Admin(self.settings).end_offsets(self.settings.topics.input)
        self.total = sum(ends.values())
        watched(start(self._of("isolation_forest"), "consumer_training", "--once"))

    def rows(self) -> dict[str, Callable[[], Run]]:
        """Return what is measured, in order, by permanent id."""
        rows: dict[str, Callable[[], Run]] = {}
        for engine in ENGINES:
            rows[f"echo.{engine}"] = lambda engine=engine: self.echo(engine)
        for detector in DETECTORS:
            for engine in ENGINES:
                rows[f"predict.{detector}.{engine}"] = lambda detector=detector, engine=engine: (
                    self.predict(detector, engine)
                )
        return rows

    def echo(self, engine: str) -> Run:
        """Send every input record on, without transactions, in this process."""
        settings = self._fresh({"LAPWING_ENGINE": engine})
        client = engine_of(settings)
        source, target = self.settings.topics.input, settings.topics.scores
        more = {"group.id": target, "enable.partition.eof": "false"}
        required = CONSUMER_REQUIRED | more
        consumer = client.consumer(
            client_config(settings, "consumer", tuning=CONSUMER_TUNING, required=required), print
        )
        tuning = {"linger.ms": "5", "batch.num.messages": "10000", "partitioner": "murmur2_random"}
        producer = client.producer(
            client_config(settings, "producer", tuning=tuning | {"acks": "all"}), print, None
        )
        consumer.start(source, dict.fromkeys(range(settings.topics.partitions), 0))
        gc.collect()
        gc.freeze()
        gc.disable()
        clock = _Clock(psutil.Process(), self.total)
        done = 0
        while done < self.total:
            for batch in consumer.fetch(5_000, 0.1).batches:
                row = 0
                while row < len(batch):
                    row, _ = producer.put(Outgoing(target, batch.values, batch.keys), row)
                    producer.poll(0.0 if row == len(batch) else 0.01)
                done += len(batch)
            clock.note(done)
        producer.flush(60.0)
        clock.note(done)
        gc.enable()
        gc.unfreeze()
        consumer.close()
        producer.close()
        return clock.run(*self._results(settings))

    def predict(self, detector: str, engine: str) -> Run:
        """Score every input record, in transactions."""
        settings = self._fresh({**self._of(detector), "LAPWING_ENGINE": engine})
        admin = Admin(settings)
        process = start(self._environ, "consumer_prediction")
        clock = _Clock(psutil.Process(process.pid), self.total)
        try:
            deadline = time.monotonic() + LONGEST_S
            while clock.done < self.total:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the predictor ended with {process.returncode}")
                committed = admin.committed(settings.predict.group, settings.topics.input).values()
                clock.note(sum(position.offset for position in committed if position))
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(30)
        return clock.run(*self._results(settings))

    def document(self, runs: Mapping[str, list[Run]]) -> dict[str, object]:
        """Return the medians; the base of a row is the same one on the Python client."""
        rows = []
        for name, measured in runs.items():
            base = f"{name.rpartition('.')[0]}.python"
            rate = statistics.median(one.events_per_s for one in measured)
            cpu_us = statistics.median(one.cpu_us for one in measured)
            base_cpu_us = statistics.median(one.cpu_us for one in runs[base])
            base_rate = statistics.median(one.events_per_s for one in runs[base])
            digests = {one.digest for one in (*measured, *runs[base])}
            complete = all(one.results == self.total for one in measured)
            row = {"id": f"throughput.{name}", "base": f"throughput.{base}"}
            row |= {"value": rate, "unit": "events/s", "ratio": rate / base_rate}
            row |= {"cpu_us_per_event": cpu_us, "cpu_ratio": cpu_us / base_cpu_us}
            rows.append(row | {"correct": complete and len(digests) == 1})
        packages = ("confluent-kafka", "numba", "numpy")
        return {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in packages},
            "events": self.total,
            "rows": rows,
        }

    def _of(self, detector: str) -> dict[str, str]:
        """Return the environment of a detector, with a folder of models of its own."""
        models = str(self.folder / detector)
        return self.environ | {"LAPWING_DETECTOR": detector, "LAPWING_MODELS_DIR": models}

    def _fresh(self, more: dict[str, str]) -> Settings:
        """Return settings with topics, group and state of their own that read the same input."""
        name = uuid.uuid4().hex[:8]
        self._environ = {
            **self.environ,
            **more,
            "LAPWING_TOPICS__DATASET": f"run{name}",
            "LAPWING_TOPICS__INPUT": self.settings.topics.input,
            "LAPWING_PREDICT__GROUP": f"group-{name}",
            "LAPWING_STATE_DIR": str(self.folder / name),
        }
        run(self._environ, "lapwing", "topics", "ensure")
        return load_settings(environ=self._environ)

    def _results(self, settings: Settings) -> tuple[int, str]:
        """Return how many results there are, and a digest of them."""
        digests = {number: hashlib.sha256() for number in range(settings.topics.partitions)}
        count = 0
        for batch in Reader(settings).read(settings.topics.scores):
            count += len(batch)
            for row in range(len(batch)):
                digests[batch.partition].update(batch.keys[row] + b"\0" + batch.values[row])
        whole = b"".join(digest.digest() for digest in digests.values())
        return count, hashlib.sha256(whole).hexdigest()


class _Clock:
    """Time and processor time of a process between two of its records."""

    def __init__(self, process: psutil.Process, total: int) -> None:
        self.done = 0
        self._process = process
        self._total = total
        self._first: tuple[float, float, int] | None = None
        self._last = (0.0, 0.0, 0)

    def note(self, done: int) -> None:
        """Note how many records are done."""
        if done > self.done or done == self._total:
            self.done = done
            cpu = self._process.cpu_times()
            self._last = (time.monotonic(), cpu.user + cpu.system, done)
            if self._first is None and done >= WARM_SHARE * self._total:
                self._first = self._last

    def run(self, results: int, digest: str) -> Run:
        """Return what was measured."""
        assert self._first is not None
        wall_s, cpu_s, count = (
            last - first for last, first in zip(self._last, self._first, strict=True)
        )
        return Run(count / wall_s, 1e6 * cpu_s / count, results, digest)


def _text(one: Run) -> str:
    return f"{one.events_per_s:>10,.0f} events/s {one.cpu_us:7.2f} us of CPU, {one.results} results"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=48)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
