"""Time from the sending of a record to its committed result, against an echo, on a real Kafka.

Run ``python -m benchmarks.latency [--seconds 5] [--repeats 5] [--rows '*.10k*'] [--json FILE]``.
Every row has its own input topic and its own process, which waits while others are measured; they
are measured in turn. The echo writes values as large as scores, with the client settings of a
predictor, without transactions. A row is correct if each record has exactly one result, in order.
Kafka and registry are as in ``benchmarks.services``.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.documents import PACKAGES, report
from benchmarks.paced import Sender, Sent
from benchmarks.services import services
from benchmarks.throughput import SCORE_BYTES
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.kafka.client import CONSUMER_REQUIRED, CONSUMER_TUNING, client_config
from shared.kafka.engine import ENGINES
from shared.kafka.sink import _TUNING as SINK_TUNING
from shared.settings import load_settings

HOSTS, DAYS = 1000, 6
WARM_S = 1.0
"""The first second of each measurement does not count."""

PATIENCE_S = 30.0


class Row(NamedTuple):
    """What is measured under a permanent id.

    interval_ms : between two commits; None = at-least-once with the default interval
    limit_ms    : of the p99; None = there is a ratio instead
    """

    rate: int
    is_echo: bool = False
    interval_ms: int | None = None
    limit_ms: float | None = None

    @property
    def base(self) -> str:
        """Id of the echo with the same rate."""
        return f"echo.{self.rate // 1000}k"


ROWS = {
    "echo.1k": Row(1_000, is_echo=True),
    "at_least_once.1k": Row(1_000),
    "echo.10k": Row(10_000, is_echo=True),
    "at_least_once.10k": Row(10_000),
    "exactly_once.10k.interval100": Row(10_000, interval_ms=100, limit_ms=160.0),
    "exactly_once.10k.interval10": Row(10_000, interval_ms=10, limit_ms=70.0),
    "echo.50k": Row(50_000, is_echo=True),
    "at_least_once.50k": Row(50_000),
}
"""Ids are permanent: figures of different builds are compared by them."""


class Run(NamedTuple):
    """One measurement; times in ms."""

    p50: float
    p99: float
    correct: bool


class Subject:
    """A process whose results are timed, with topics of its own."""

    def __init__(
        self, row: Row, environ: dict[str, str], folder: Path, engine: str = "native"
    ) -> None:
        name = f"lat{uuid.uuid4().hex[:8]}"
        self.row = row
        self.environ = environ | {
            "LAPWING_TOPICS__DATASET": name,
            "LAPWING_PREDICT__GROUP": f"group-{name}",
            "LAPWING_STATE_DIR": str(folder / name),
            "LAPWING_ENGINE": engine,
            "LAPWING_SLOT": "a",
        }
        if row.interval_ms is None:
            self.environ["LAPWING_PREDICT__DELIVERY"] = "at-least-once"
        else:
            self.environ["LAPWING_PREDICT__COMMIT_INTERVAL_MS"] = str(row.interval_ms)
        self.settings = load_settings(environ=self.environ)
        ensure(self.settings).checked()
        required = CONSUMER_REQUIRED | {"group.id": name, "enable.partition.eof": "false"}
        tuning = CONSUMER_TUNING | {"fetch.wait.max.ms": "2"}
        config = client_config(self.settings, "consumer", tuning=tuning, required=required)
        self.reader = ENGINES["native"]().consumer(config, print)
        starts = dict.fromkeys(range(self.settings.topics.partitions), 0)
        self.reader.start(self.settings.topics.scores, starts)
        module = ["benchmarks.latency", "--echo"] if row.is_echo else ["consumer_prediction"]
        self.process = subprocess.Popen([sys.executable, "-m", *module], env=self.environ)

    def measure(self, sender: Sender, seconds: float) -> Run:
        """Send records at the row's rate, and return the times until their results are read."""
        count = int(self.row.rate * seconds)
        sender.send(self.environ, self.row.rate, seconds)
        read_s: dict[int, list[tuple[float, int]]] = {}
        keys: dict[int, list[bytes]] = {}
        done, deadline_s = 0, time.monotonic() + seconds + PATIENCE_S
        while done < count and time.monotonic() < deadline_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"the process ended with {self.process.returncode}")
            batches = self.reader.fetch(20_000, 0.02).batches
            now_s = time.monotonic()
            for batch in batches:
                read_s.setdefault(batch.partition, []).append((now_s, len(batch)))
                keys.setdefault(batch.partition, []).append(batch.keys.data)
                done += len(batch)
        return _run(sender.sent(), read_s, keys, done == count)

    def close(self) -> None:
        """End the process."""
        self.reader.close()
        self.process.terminate()
        self.process.wait(30)


def _run(
    sent: Sent,
    read_s: dict[int, list[tuple[float, int]]],
    keys: dict[int, list[bytes]],
    is_complete: bool,
) -> Run:
    """Compare the k-th record of each partition with the k-th result: both have the same order."""
    if not is_complete:
        return Run(float("nan"), float("nan"), correct=False)
    waits, correct = [], True
    first_s = sent.at_s[0] + WARM_S
    for partition, reads in read_s.items():
        own = np.flatnonzero(sent.partition == partition)
        arrived = np.repeat([at_s for at_s, _ in reads], [count for _, count in reads])
        names = b"".join(f"host-{number}".encode() for number in sent.entity[own].tolist())
        if len(arrived) != len(own) or b"".join(keys[partition]) != names:
            correct = False
            continue
        counted = sent.at_s[own] >= first_s
        waits.append((arrived - sent.at_s[own])[counted])
    waited_ms = 1000.0 * np.concatenate(waits)
    p50, p99 = np.percentile(waited_ms, (50, 99)).tolist()
    return Run(p50, p99, correct)


def echo() -> None:
    """Send every record of the input on until the process is ended."""
    settings = load_settings(environ=dict(os.environ))
    source, target = settings.topics.input, settings.topics.scores
    engine = ENGINES["native"]()
    required = CONSUMER_REQUIRED | {"group.id": target, "enable.partition.eof": "false"}
    consumer = engine.consumer(
        client_config(settings, "consumer", tuning=CONSUMER_TUNING, required=required), print
    )
    sending = SINK_TUNING | {"acks": "all", "partitioner": "murmur2_random"}
    producer = engine.producer(client_config(settings, "producer", tuning=sending), print, None)
    consumer.start(source, dict.fromkeys(range(settings.topics.partitions), 0))
    gc.freeze()
    gc.disable()
    while True:
        for batch in consumer.fetch(5_000, 0.1).batches:
            bounds = np.arange(len(batch) + 1, dtype=np.int64) * SCORE_BYTES
            values, sent = Blob(bytes(int(bounds[-1])), bounds), 0
            while sent < len(batch):
                sent, _ = producer.put(Outgoing(target, values, batch.keys), sent)
                producer.poll(0.0)


def rows_of(found: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """Return the medians; ratio = p99 / that of the echo in the same repeat."""
    rows = []
    for name, runs in found.items():
        kind = ROWS[name]
        row: dict[str, Any] = {"id": f"latency.{name}", "unit": "ms"}
        row["value"] = statistics.median(run.p99 for run in runs)
        row["p50"] = statistics.median(run.p50 for run in runs)
        if base := found.get(kind.base):
            pairs = zip(runs, base, strict=True)
            row |= {"base": f"latency.{kind.base}"}
            row["ratio"] = statistics.median(one.p99 / echo.p99 for one, echo in pairs)
        if kind.limit_ms is not None:
            row["limit"] = kind.limit_ms
        rows.append(row | {"correct": all(run.correct for run in runs)})
    return rows


def main() -> int:
    options = _options()
    if options.echo:
        echo()
    chosen = {name: row for name, row in ROWS.items() if fnmatch(name, options.rows)}
    names = {*chosen, *(row.base for row in chosen.values())}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {**os.environ, **services(stack)} | {"LAPWING_TELEMETRY__LOG_LEVEL": "warning"}
        sender = Sender(HOSTS, DAYS)
        stack.callback(sender.close)
        subjects: dict[str, Subject] = {}
        for name in ROWS:
            if name in names:
                subjects[name] = Subject(ROWS[name], environ, folder)
                stack.callback(subjects[name].close)
        for subject in subjects.values():
            subject.measure(sender, 1.5)  # starts what is started by the first records
        found: dict[str, list[Run]] = {name: [] for name in subjects}
        for _ in range(options.repeats):
            for name, subject in subjects.items():
                found[name].append(subject.measure(sender, WARM_S + options.seconds))
                print(f"{name:<30} {found[name][-1]}", flush=True)
        return report(rows_of(found), options.repeats, options.json, ("confluent-kafka", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="ids, such as '*.10k*'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
