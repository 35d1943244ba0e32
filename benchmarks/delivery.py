"""Cost of exactly-once against at-least-once: ``python -m benchmarks.delivery [--json FILE]``.

Throughput: one predictor with the default detector processes backlogs, exactly-once and
at-least-once in turn. It has no trained model unless ``--trained`` is given: the cheaper the
scoring, the larger the share of delivery.

Latency: events are sent at a steady rate, and a reader in the sending process records when each
score arrives. A latency runs from handing a record to the producer until its score is read, with
read_committed for exactly-once and read_uncommitted for at-least-once.

All measurements use one stream whose hosts are past their warm-up. Kafka and registry are chosen as
in ``benchmarks.services``. A run takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

import schemas
from benchmarks.services import run, services, start
from lapwing.topics import ensure
from shared.batch import Blob, Outgoing
from shared.encode.avro_columns import encode_metric_events
from shared.encode.records import decode_records
from shared.errors import TransportError
from shared.kafka import Admin, Publisher, client_config
from shared.kafka.client import CONSUMER_TUNING
from shared.registry import Registry
from shared.settings import Settings, load_settings
from tests.faults.suite import versions
from tests.support.services.records import murmur2

DELIVERIES = ("exactly-once", "at-least-once")
COMMIT_MS = 100
INTERVALS_MS = (10, 25, 50, 250, 1000)
SHARE, LOW_RATE = 0.2, 1_000.0
START_MS, STEP_MS, DAY_STEPS = 1_767_225_600_000, 300_000, 288
WARMUP_ROWS = 1_000
"""Events of each host before the measurements: more than three days of warm-up at five minutes."""

SETTLE_S = 2.0
SLICE_S = 0.005
PATIENCE_S = 120.0

Place = tuple[int, int]
"""(partition, offset) of an input record."""

Moment = tuple[float, int, float]
"""Monotonic seconds, events committed by then, seconds of the predictor's processor time."""


class Stream:
    """Endless stream of a fleet's events, and the only writer of its topic.

    The hosts take turns; each reports three metrics every five minutes.

    sent : events so far
    """

    def __init__(self, settings: Settings, schema_id: int, hosts: int) -> None:
        self.sent = 0
        self._topic, self._schema_id = settings.topics.input, schema_id
        self._names = [f"host-{number:04}" for number in range(hosts)]
        self._keys = [name.encode() for name in self._names]
        self._partitions = [murmur2(key) % settings.topics.partitions for key in self._keys]
        self._ends = [0] * settings.topics.partitions
        self._publisher = Publisher(settings, stall_s=PATIENCE_S)
        self._dice = np.random.default_rng(0)

    def send(self, count: int) -> None:
        """Send this number of events as fast as the broker takes them, and wait for them."""
        values, keys, _ = self._next(count)
        self._publisher.send(Outgoing(self._topic, Blob.join(values), Blob.join(keys)))
        self._flush()

    def pace(
        self, rate: float, seconds: float
    ) -> tuple[list[Place], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Send events at a steady rate, and record when each was handed to the producer.

        returns : (partition, offset) of each event; monotonic time of its hand-over in s; delay of
                  the hand-over against the rate in s
        """
        values, keys, places = self._next(round(rate * seconds))
        handed_s, began_s, row = np.empty(len(values)), time.monotonic(), 0
        while row < len(values):
            stop = min(len(values), int((time.monotonic() - began_s) * rate))
            if stop > row:
                handed_s[row:stop] = time.monotonic()
                self._publisher.send(
                    Outgoing(self._topic, Blob.join(values[row:stop]), Blob.join(keys[row:stop]))
                )
                row = stop
            time.sleep(SLICE_S)
        self._flush()
        return places, handed_s, handed_s - began_s - np.arange(len(values)) / rate

    def close(self) -> None:
        self._publisher.close()

    def _next(self, count: int) -> tuple[list[bytes], list[bytes], list[Place]]:
        """Return values, keys, and (partition, offset) of the next events."""
        number = np.arange(self.sent, self.sent + count)
        host, step = number % len(self._names), number // len(self._names)
        season = np.sin(2 * np.pi * (step / DAY_STEPS + host / len(self._names)))
        metrics = np.stack(
            [40 + 20 * season, 1e6 * (1 + 0.5 * season), np.full(count, 5e4)], axis=1
        )
        metrics *= 1 + 0.05 * self._dice.normal(size=metrics.shape)
        names = [self._names[k] for k in host]
        blob = encode_metric_events(self._schema_id, names, START_MS + step * STEP_MS, metrics)
        places = []
        for k in host:
            partition = self._partitions[k]
            places.append((partition, self._ends[partition]))
            self._ends[partition] += 1
        self.sent += count
        return [blob[row] for row in range(count)], [self._keys[k] for k in host], places

    def _flush(self) -> None:
        if self._publisher.flush(PATIENCE_S) or self._publisher.failed:
            raise RuntimeError(
                f"the broker did not take the events: {self._publisher.counts()}"
            ) from self._publisher.first_error


class Watcher:
    """Reader of scores in its own thread; records arrival times, decodes in ``take``."""

    def __init__(self, settings: Settings, isolation: str) -> None:
        self._seen: list[tuple[float, bytes]] = []
        self._closing = threading.Event()
        ends = Admin(settings).end_offsets(settings.topics.scores)
        required = {
            "group.id": "lapwing-benchmark",
            "isolation.level": isolation,
            "enable.auto.commit": "false",
        }
        self._consumer = Consumer(
            client_config(settings, "consumer", tuning=CONSUMER_TUNING, required=required)
        )
        self._consumer.assign(
            [TopicPartition(settings.topics.scores, p, end) for p, end in ends.items()]
        )
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)
        self._thread.start()

    def wait(self, count: int, alive: Callable[[], object]) -> None:
        """Wait for this number of scores since the last ``take``."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self._seen) < count:
            alive()
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{len(self._seen):,} of {count:,} scores after {PATIENCE_S:g} s"
                )
            time.sleep(0.02)

    def take(self) -> dict[Place, float]:
        """Return when the score of each input record was first read, and clear the list."""
        seen, self._seen = self._seen, []
        text, first = schemas.text(schemas.SCORE_EVENT), dict[Place, float]()
        records = decode_records([value for _, value in seen], [text] * len(seen))
        for (at_s, _), record in zip(seen, records, strict=True):
            first.setdefault((record["source_partition"], record["source_offset"]), at_s)
        return first

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10)
        self._consumer.close()

    def _follow(self) -> None:
        while not self._closing.is_set():
            with suppress(KafkaException):
                messages = self._consumer.consume(1, 0.1)
                if messages:
                    messages += self._consumer.consume(5_000, 0.0)
                at_s = time.monotonic()
                self._seen += [
                    (at_s, message.value() or b"")
                    for message in messages
                    if message.error() is None
                ]


class Bench:
    """One topic, group, slot and state, shared in turn by predictors of both deliveries."""

    def __init__(self, environ: dict[str, str], hosts: int) -> None:
        self.environ = environ
        self.settings = load_settings(environ=environ)
        ensure(self.settings).checked()
        registry, subject = Registry(self.settings.registry), f"{self.settings.topics.input}-value"
        self.stream = Stream(
            self.settings,
            registry.register(subject, schemas.text(schemas.METRIC_EVENT), "BACKWARD"),
            hosts,
        )
        self._admin = Admin(self.settings)

    @contextmanager
    def predictor(self, delivery: str, commit_ms: int) -> Iterator[subprocess.Popen[str]]:
        more = {
            "LAPWING_PREDICT__DELIVERY": delivery,
            "LAPWING_PREDICT__COMMIT_INTERVAL_MS": str(commit_ms),
        }
        process = start(self.environ | more, "consumer_prediction")
        try:
            yield process
        finally:
            process.terminate()
            code = process.wait(60)
        if code:
            raise RuntimeError(f"the predictor ended with {code}")

    def measure_backlog(self, delivery: str, events: int) -> dict[str, float]:
        """Measure rate and processor time on a backlog, from first to last commit."""
        first, last = self.catch_up(delivery, events)
        if first is None:
            raise RuntimeError(f"{events:,} events were committed at once; ask for more")
        seconds, worked, spent_s = (b - a for a, b in zip(first, last, strict=True))
        return {"events_per_s": worked / seconds, "cpu_s_per_million": 1e6 * spent_s / worked}

    def catch_up(self, delivery: str, events: int) -> tuple[Moment | None, Moment]:
        """Send a backlog and run a predictor until it has committed all of it; return two commits.

        returns : its first commit, None if one commit covered everything; its last commit
        """
        before = self.stream.sent
        self.stream.send(events)
        with self.predictor(delivery, COMMIT_MS) as process:
            deadline = time.monotonic() + PATIENCE_S + events / 1_000
            first: Moment | None = None
            while (done := self._committed()) < self.stream.sent:
                check(process)
                if done > before and first is None:
                    first = time.monotonic(), done, cpu_s(process)
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{done:,} of {self.stream.sent:,} events are committed")
                time.sleep(0.01)
            return first, (time.monotonic(), done, cpu_s(process))

    def latencies(
        self, delivery: str, commit_ms: int, rates: list[float], seconds: float
    ) -> Iterator[dict[str, Any]]:
        """Measure one predictor at each of the rates."""
        watcher = Watcher(
            self.settings, "read_committed" if delivery == "exactly-once" else "read_uncommitted"
        )
        try:
            with self.predictor(delivery, commit_ms) as process:
                self.stream.send(1)
                watcher.wait(1, lambda: check(process))
                watcher.take()
                for rate in rates:
                    figures = self._at_rate(process, watcher, rate, seconds)
                    yield {"delivery": delivery, "commit_interval_ms": commit_ms, **figures}
        finally:
            watcher.close()

    def _at_rate(
        self, process: subprocess.Popen[str], watcher: Watcher, rate: float, seconds: float
    ) -> dict[str, Any]:
        before, _, _ = self.stream.pace(rate, SETTLE_S)
        spent_s = cpu_s(process)
        places, handed_s, late_s = self.stream.pace(rate, seconds)
        watcher.wait(len(before) + len(places), lambda: check(process))
        spent_s = cpu_s(process) - spent_s
        seen_s = watcher.take()
        if missing := [place for place in places if place not in seen_s]:
            raise RuntimeError(
                f"{len(missing):,} of {len(places):,} events have no score, the first at"
                f" {missing[0]}"
            )
        taken_s = np.array([seen_s[place] for place in places]) - handed_s
        p50, p99, most = (1e3 * float(np.quantile(taken_s, share)) for share in (0.5, 0.99, 1.0))
        return {
            "asked_per_s": rate,
            "events_per_s": (len(places) - 1) / (handed_s[-1] - handed_s[0]),
            "events": len(places),
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": most,
            "cpu_s_per_million": 1e6 * spent_s / len(places),
            "sender_late_p99_ms": 1e3 * float(np.quantile(late_s, 0.99)),
        }

    def _committed(self) -> int:
        try:
            found = self._admin.committed(self.settings.predict.group, self.settings.topics.input)
        except TransportError as error:
            if not error.retriable:
                raise
            return 0
        return sum(position.offset for position in found.values())


def check(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"the predictor ended with {process.returncode}")


def cpu_s(process: subprocess.Popen[str]) -> float:
    """Seconds of processor time so far."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def throughput(bench: Bench, events: int, pairs: int) -> dict[str, Any]:
    """Measure backlogs, exactly-once and at-least-once in turn; each pair gives a ratio."""
    print(f"\nbacklogs of {events:,} events, commit interval {COMMIT_MS} ms")
    print(
        f"{'pair':<8}{'exactly-once/s':>16}{'at-least-once/s':>17}{'ratio':>8}"
        f"{'CPU s per million':>26}"
    )
    found: list[dict[str, Any]] = []
    for number in range(pairs):
        once, least = (bench.measure_backlog(delivery, events) for delivery in DELIVERIES)
        ratio = once["events_per_s"] / least["events_per_s"]
        found.append({"exactly_once": once, "at_least_once": least, "ratio": ratio})
        _say_pair(str(number + 1), once, least, ratio)
    names = ("exactly_once", "at_least_once")
    middle = {
        name: {key: median(pair[name][key] for pair in found) for key in found[0][name]}
        for name in names
    }
    ratio = median(pair["ratio"] for pair in found)
    _say_pair("median", middle["exactly_once"], middle["at_least_once"], ratio)
    return {"backlog": events, "pairs": found, "median": middle | {"ratio": ratio}}


def _say_pair(name: str, once: dict[str, float], least: dict[str, float], ratio: float) -> None:
    cpu = f"{once['cpu_s_per_million']:.1f} against {least['cpu_s_per_million']:.1f}"
    print(
        f"{name:<8}{once['events_per_s']:>16,.0f}{least['events_per_s']:>17,.0f}"
        f"{ratio:>8.3f}{cpu:>26}",
        flush=True,
    )


def latency(bench: Bench, rates: list[float], seconds: float) -> list[dict[str, Any]]:
    """Measure both deliveries at the default commit interval, then exactly-once at others."""
    settings = [(delivery, COMMIT_MS) for delivery in DELIVERIES] + [
        (DELIVERIES[0], one) for one in INTERVALS_MS
    ]
    print(f"\nfrom a record's hand-over to its score, {seconds:g} s each after {SETTLE_S:g} s")
    print(
        f"{'delivery':<15}{'commit ms':>10}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"
        f"{'CPU s per million':>20}"
    )
    found = []
    for delivery, commit_ms in settings:
        for row in bench.latencies(delivery, commit_ms, rates, seconds):
            found.append(row)
            times = "".join(f"{row[name]:>9,.1f}" for name in ("p50_ms", "p99_ms", "max_ms"))
            print(
                f"{delivery:<15}{commit_ms:>10}{row['events_per_s']:>10,.0f}{times}"
                f"{row['cpu_s_per_million']:>20,.1f}",
                flush=True,
            )
    return found


def main() -> int:
    given = _parser().parse_args()
    about = {
        "hosts": given.hosts,
        "trained": given.trained,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "machine": platform.machine(),
        "versions": versions(),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = os.environ | services(stack)
        environ |= {
            "LAPWING_TOPICS__DATASET": f"bench{uuid.uuid4().hex[:8]}",
            "LAPWING_MODELS_DIR": str(folder / "models"),
            "LAPWING_STATE_DIR": str(folder / "state"),
            "LAPWING_SLOT": "benchmark",
            "LAPWING_PRODUCE__LINGER_MS": "0",
            "LAPWING_TELEMETRY__LOG_LEVEL": "warning",
        }
        bench = Bench(dict(environ), given.hosts)
        stack.callback(bench.stream.close)
        for delivery in DELIVERIES:
            bench.catch_up(delivery, given.hosts * WARMUP_ROWS // len(DELIVERIES))
        if given.trained:
            run(bench.environ, "consumer_training", "--once")
        figures = about | {"throughput": throughput(bench, given.events, given.pairs)}
        capacity = figures["throughput"]["median"]["exactly_once"]["events_per_s"]
        figures["latency"] = latency(bench, [LOW_RATE, round(SHARE * capacity)], given.seconds)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.delivery", description="What exactly-once costs."
    )
    parser.add_argument("--hosts", type=int, default=120)
    parser.add_argument(
        "--events", type=int, default=200_000, help="in each backlog (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=3, help="of backlogs (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=6.0,
        help="of each latency measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--trained",
        action="store_true",
        help="fit a model for the ensemble before anything is measured",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
