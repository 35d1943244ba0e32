"""Predictors and echoes on one real Kafka, in events a second.

Run ``python -m benchmarks.throughput [--hosts 48] [--days 8] [--repeats 5] [--rows 'predict.*']
[--json FILE]``. Every row is measured once per repeat, in turn, so that load from outside meets all
of them. A row is correct if each input record has exactly one result, and if rows of the same input
and detector have the same results byte for byte. Kafka and registry are as in
``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.documents import PACKAGES, document
from benchmarks.filling import fill
from benchmarks.services import run, services, start, watched
from shared.batch import Blob, Outgoing
from shared.kafka import Admin, Reader
from shared.kafka.client import CONSUMER_REQUIRED, CONSUMER_TUNING, client_config
from shared.kafka.engine import engine_of
from shared.settings import Settings, load_settings

SCORE_BYTES = 330
"""Size of a score of three metrics, which the sized echoes write."""

WARM_SHARE = 0.1
"""Share of the records after which the clock starts."""

LONGEST_S = 600.0


class Row(NamedTuple):
    """What is measured under a permanent id.

    detector : empty = an echo, which sends the records on without transactions
    is_sized : an echo writes values as large as scores
    model    : the ensemble has a trained model as a member
    metrics  : of a record
    """

    detector: str = ""
    engine: str = "python"
    base: str = "echo_sized.python"
    is_sized: bool = False
    model: bool = False
    metrics: int = 3
    more: tuple[tuple[str, str], ...] = ()

    @property
    def results(self) -> tuple[str, bool, bool, int]:
        """Rows that agree in this have the same results."""
        return self.detector, self.is_sized, self.model, self.metrics


THREADS = (("LAPWING_PREDICT__THREADS", "2"),)
AT_LEAST_ONCE = (("LAPWING_PREDICT__DELIVERY", "at-least-once"),)
ONE_THREAD = "predict.ensemble.native"
ROWS = {
    "echo.python": Row(base="echo.python"),
    "echo.native": Row(engine="native", base="echo.python"),
    "echo_sized.python": Row(is_sized=True),
    "echo_sized.native": Row(engine="native", is_sized=True),
    "predict.ensemble.python": Row("ensemble"),
    "predict.ensemble.native": Row("ensemble", "native"),
    "predict.ensemble.native.threads2": Row("ensemble", "native", ONE_THREAD, more=THREADS),
    "predict.ensemble.native.at_least_once": Row("ensemble", "native", more=AT_LEAST_ONCE),
    "predict.ensemble_model.native": Row("ensemble", "native", model=True),
    "predict.isolation_forest.python": Row("isolation_forest"),
    "predict.isolation_forest.native": Row("isolation_forest", "native"),
    "predict.one_class_svm.native": Row("one_class_svm", "native"),
    "predict.ensemble.native.metrics1": Row("ensemble", "native", ONE_THREAD, metrics=1),
    "predict.ensemble.native.metrics10": Row("ensemble", "native", ONE_THREAD, metrics=10),
}
"""Ids are permanent: figures of different builds are compared by them."""


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
        rows = _selected(options.rows)
        bench = Bench(environ, folder, options.hosts, options.days, rows)
        runs: dict[str, list[Run]] = {name: [] for name in rows}
        for repeat in range(options.repeats):
            for name in rows:
                runs[name].append(bench.measure(rows[name]))
                number = f"{repeat + 1}/{options.repeats}"
                print(f"{number} {name:<38} {_text(runs[name][-1])}", flush=True)
        document = bench.document(runs)
    for row in document["rows"]:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row["correct"] for row in document["rows"]) else 1


class Bench:
    """Topics of generated fleets, the models of trained detectors, and what is measured.

    environ_of_run : the environment of the settings that ``fresh`` returned last
    """

    def __init__(
        self,
        environ: dict[str, str],
        folder: Path,
        hosts: int,
        days: int,
        rows: Mapping[str, Row],
    ) -> None:
        self.environ = environ
        self.folder = folder
        self.inputs: dict[int, str] = {}
        self.totals: dict[int, int] = {}
        for metrics in sorted({row.metrics for row in rows.values()}):
            self._fill(metrics, hosts, days)
        for row in rows.values():
            if self._models(row) and not Path(self._models(row)).exists():
                watched(start(self._of(row), "consumer_training", "--once"))

    def _fill(self, metrics: int, hosts: int, days: int) -> None:
        """Write the records of a fleet; the producer's have three metrics."""
        name = f"input{uuid.uuid4().hex[:8]}"
        environ = self.environ | {"LAPWING_TOPICS__DATASET": name}
        run(environ, "lapwing", "topics", "ensure")
        settings = load_settings(environ=environ)
        if metrics == 3:
            fleet = ("--fleet", str(hosts), "--days", str(days), "--speed", "max", "--json")
            watched(start(environ, "producer", *fleet))
        else:
            fill(settings, metrics, hosts, days)
        self.inputs[metrics] = settings.topics.input
        ends = Admin(settings).end_offsets(settings.topics.input)
        self.totals[metrics] = sum(ends.values())

    def measure(self, row: Row) -> Run:
        """Measure a row once."""
        return self.predict(row) if row.detector else self.echo(row)

    def echo(self, row: Row) -> Run:
        """Send every input record on, without transactions, in this process."""
        settings = self.fresh(row)
        client = engine_of(settings)
        source, target = settings.topics.input, settings.topics.scores
        total = self.totals[row.metrics]
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
        clock = _Clock(psutil.Process(), total)
        done = 0
        while done < total:
            for batch in consumer.fetch(5_000, 0.1).batches:
                values = _sized(len(batch)) if row.is_sized else batch.values
                sent = 0
                while sent < len(batch):
                    sent, _ = producer.put(Outgoing(target, values, batch.keys), sent)
                    producer.poll(0.0 if sent == len(batch) else 0.01)
                done += len(batch)
            clock.note(done)
        producer.flush(60.0)
        clock.note(done)
        gc.enable()
        gc.unfreeze()
        consumer.close()
        producer.close()
        return clock.run(*self.results(settings))

    def predict(self, row: Row) -> Run:
        """Score every input record, in transactions unless the row says otherwise."""
        settings = self.fresh(row)
        process = start(self.environ_of_run, "consumer_prediction")
        return self.follow(process, settings, self.totals[row.metrics])

    def follow(self, process: subprocess.Popen[str], settings: Settings, total: int) -> Run:
        """Measure a process until it has committed so many records; end it."""
        admin = Admin(settings)
        clock = _Clock(psutil.Process(process.pid), total)
        try:
            deadline = time.monotonic() + LONGEST_S
            while clock.done < total:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the process ended with {process.returncode}")
                committed = admin.committed(settings.predict.group, settings.topics.input).values()
                clock.note(sum(position.offset for position in committed))
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(30)
        return clock.run(*self.results(settings))

    def document(self, runs: Mapping[str, list[Run]]) -> dict[str, Any]:
        """Return the medians, and ratios to the base's run of the same repeat."""
        rows = []
        for name, measured in runs.items():
            kind = ROWS[name]
            same = [
                one for other in runs if ROWS[other].results == kind.results for one in runs[other]
            ]
            complete = all(one.results == self.totals[kind.metrics] for one in measured)
            row: dict[str, object] = {"id": f"throughput.{name}", "unit": "events/s"}
            row["value"] = statistics.median(one.events_per_s for one in measured)
            row["cpu_us_per_event"] = statistics.median(one.cpu_us for one in measured)
            if base := runs.get(kind.base):
                pairs = list(zip(measured, base, strict=True))
                ratios = [one.events_per_s / other.events_per_s for one, other in pairs]
                row |= {"base": f"throughput.{kind.base}", "ratio": statistics.median(ratios)}
                row["cpu_ratio"] = statistics.median(
                    one.cpu_us / other.cpu_us for one, other in pairs
                )
            row["correct"] = complete and len({one.digest for one in same}) == 1
            rows.append(row)
        repeats, load = min(map(len, runs.values())), os.getloadavg()[1]
        found = document(rows, repeats, load, ("confluent-kafka", *PACKAGES))
        return found | {"events": self.totals}

    def _models(self, row: Row) -> str:
        """Return the folder of the models that a row needs; empty = none."""
        is_trained = row.model or row.detector in ("isolation_forest", "one_class_svm")
        return str(self.folder / row.detector) if is_trained else ""

    def _of(self, row: Row) -> dict[str, str]:
        """Return the environment of a row on its input."""
        detector = {"LAPWING_DETECTOR": row.detector} if row.detector else {}
        return (
            self.environ
            | detector
            | {
                "LAPWING_TOPICS__INPUT": self.inputs[row.metrics],
                "LAPWING_ENGINE": row.engine,
                "LAPWING_MODELS_DIR": self._models(row) or str(self.folder / "none"),
            }
        )

    def fresh(self, row: Row) -> Settings:
        """Return settings with topics, group and state of their own that read the same input."""
        name = uuid.uuid4().hex[:8]
        self.environ_of_run = (
            self._of(row)
            | dict(row.more)
            | {
                "LAPWING_TOPICS__DATASET": f"run{name}",
                "LAPWING_PREDICT__GROUP": f"group-{name}",
                "LAPWING_STATE_DIR": str(self.folder / name),
            }
        )
        run(self.environ_of_run, "lapwing", "topics", "ensure")
        return load_settings(environ=self.environ_of_run)

    def results(self, settings: Settings) -> tuple[int, str]:
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
        if self._first is None or self._first == self._last:
            raise RuntimeError(
                f"all {self.done} records were committed at once: use more --hosts or --days"
            )
        wall_s, cpu_s, count = (
            last - first for last, first in zip(self._last, self._first, strict=True)
        )
        return Run(count / wall_s, 1e6 * cpu_s / count, results, digest)


def _sized(count: int) -> Blob:
    bounds = np.arange(count + 1, dtype=np.int64) * SCORE_BYTES
    return Blob(bytes(count * SCORE_BYTES), bounds)


def _selected(pattern: str) -> dict[str, Row]:
    """Return the rows whose ids match, and their bases."""
    chosen = [name for name in ROWS if fnmatch(name, pattern)]
    wanted = {*chosen, *(ROWS[name].base for name in chosen)}
    return {name: row for name, row in ROWS.items() if name in wanted}


def _text(one: Run) -> str:
    return f"{one.events_per_s:>10,.0f} events/s {one.cpu_us:7.2f} us of CPU, {one.results} results"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=48)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="ids, such as 'predict.*'")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
