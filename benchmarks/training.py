"""Training on a long topic: ``python -m benchmarks.training [--sizes 1x 10x 50x] [--json FILE]``.

Each size is a log in memory of records of three metrics, an hour apart; 10x is ten times as long,
50x ten times as long with five times the hosts. A process of its own trains on it with the service
itself, from the bytes of the records to the published model, without pictures. The records are
made while they are read, which counts. A row is correct if one thread and two publish the same
model (compared at 1x), and if memory stayed below the limit.

Times say something only where ``waiting_share`` is small: the time that the threads waited for a
core that other processes had, per processor time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

import schemas
from benchmarks.documents import report
from benchmarks.threads import waited_s
from consumer_training import service
from consumer_training.outside import Dependencies, Options
from consumer_training.service import TrainingService
from shared import artifacts
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_metric_events
from shared.kernels.units import HOUR_MS
from shared.operations.counters import Counters
from shared.settings import Settings

PARTITIONS = 4
BATCH_RECORDS = 5_000
START_MS = 1_704_067_200_000
LIMIT_MIB = 1024


class Size(NamedTuple):
    """Hosts of a topic, and hours of records."""

    hosts: int
    hours: int


SIZES = {"1x": Size(3_000, 100), "10x": Size(3_000, 1_000), "50x": Size(15_000, 1_000)}


class LogInMemory:
    """A topic that makes its records when they are read; a day in a thousand is an outage."""

    def __init__(self, size: Size) -> None:
        self._hosts, self._hours = size
        self.read_began: tuple[float, float, float] | None = None

    def ends(self) -> Mapping[int, int]:
        """Return the end offset of each partition."""
        each = self._hosts // PARTITIONS * self._hours
        return dict.fromkeys(range(PARTITIONS), each)

    def identity(self) -> str:
        """Return nothing: there is no other topic."""
        return ""

    def read(self, start: Mapping[int, int] | None, end: Mapping[int, int]) -> Iterator[Batch]:
        """Yield all records, the partitions by turns."""
        hosts = self._hosts // PARTITIONS
        hours = max(BATCH_RECORDS // hosts, 1)
        for first in range(0, self._hours, hours):
            for partition in range(PARTITIONS):
                times = np.arange(first, min(first + hours, self._hours))
                yield self._batch(partition, hosts, times)

    def _batch(self, partition: int, hosts: int, hours: np.ndarray[Any, Any]) -> Batch:
        random = np.random.default_rng([partition, int(hours[0])])
        names = [f"host-{number:05d}" for number in range(partition, self._hosts, PARTITIONS)]
        hour = np.repeat(hours, hosts)
        daily = 50.0 + 10.0 * np.sin(2.0 * np.pi * hour / 24.0)
        values = daily[:, None] + random.normal(0.0, 2.0, (len(hour), 3))
        values[random.random((len(hours), hosts)).ravel() < 1e-3] *= 3.0
        count = len(hour)
        return Batch(
            "metrics",
            partition,
            encode_metric_events(1, names * len(hours), START_MS + hour * HOUR_MS, values),
            Blob(b"", np.zeros(count + 1, np.int64)),
            int(hours[0]) * hosts + np.arange(count, dtype=np.int64),
            np.zeros(count, np.int64),
        )


class _Clock:
    """What the service has logged, with the time and the processor time of each line."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, Any]] = {}

    def __call__(
        self, logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        at = {"wall_s": time.perf_counter(), "cpu_s": time.process_time(), "waited_s": waited_s()}
        self.lines[str(event["event"])] = dict(event) | {"at": at}
        raise structlog.DropEvent


def train(size: Size, threads: int) -> dict[str, Any]:
    """Train on a topic of this size in this process; return what was measured."""
    clock = _Clock()
    structlog.configure(processors=[clock])
    vars(service)["MAX_PICTURES"] = 0
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {"models_dir": folder, "train": {"threads": threads, "checkpoint_s": 0}}
        )
        topic = LogInMemory(size)
        decoder = AvroDecoder.of_schemas({1: schemas.text(schemas.METRIC_EVENT)}, settings.input)
        clocks = time.time, time.monotonic, time.sleep
        outside = Dependencies(topic, lambda: decoder, *clocks, retained_models=frozenset)
        trainer = TrainingService(settings, Options(once=True), outside, Counters(), lambda: False)
        began = {
            "wall_s": time.perf_counter(),
            "cpu_s": time.process_time(),
            "waited_s": waited_s(),
        }
        trainer.train_once()
        digest = artifacts.current(Path(folder))
    read, fitted = clock.lines["input read"], clock.lines["model trained"]
    spent = {name: read["at"][name] - before for name, before in began.items()}
    return {
        "digest": digest,
        "records": size.hosts * size.hours,
        "folded": read["events_read"],
        "share": read["entity_share"],
        "rows": fitted["rows"],
        "fit_s": fitted["seconds"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **spent,
    }


def run(name: str, threads: int) -> dict[str, Any]:
    """Train in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--child", name, str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}, {threads} threads: {json.dumps(found)}", file=sys.stderr, flush=True)
    return found


def rows_of(name: str, found: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a size, measured with each number of threads."""
    is_equal = len({one["digest"] for one in found.values()}) == 1
    rows = []
    for threads, one in found.items():
        row: dict[str, Any] = {
            "id": f"training.{name}.threads{threads}",
            "unit": "records/s",
            "value": one["records"] / one["wall_s"],
            "cpu_us_per_event": 1e6 * one["cpu_s"] / one["records"],
            "waiting_share": one["waited_s"] / one["cpu_s"],
            "seconds": one["wall_s"],
            "fit_s": one["fit_s"],
            "peak_mib": one["peak_mib"],
            "share": one["share"],
            "correct": is_equal and one["peak_mib"] <= LIMIT_MIB,
        }
        if len(found) > 1:
            first = min(found)
            row["base"] = f"training.{name}.threads{first}"
            row["ratio"] = found[first]["wall_s"] / one["wall_s"]
        rows.append(row)
    return rows


def main() -> int:
    options = _options()
    if options.child:
        name, threads = options.child
        print(json.dumps(train(SIZES[name], int(threads))))
        return 0
    rows: list[dict[str, Any]] = []
    for name in options.sizes:
        threads = (1, 2) if name == "1x" else (2,)
        rows += rows_of(name, {count: run(name, count) for count in threads})
    return report(rows, 1, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
