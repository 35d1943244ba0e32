"""Threads of a predictor: ``python -m benchmarks.threads [--hosts N --days N --repeats N]``.

Each row folds the same records of a log in memory to encoded results, from a copy of the same
state, with one thread and with several in turn. A row is correct if the results of all runs are
equal byte for byte. ``--json FILE`` writes all rows. ``ratio`` says something only where
``waiting_share`` is small: the time that the threads waited for a core, because other processes
had it, per processor time.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import schemas
from benchmarks.documents import report
from benchmarks.fleet.hosts import METRICS, generate
from consumer_prediction.folding import Folded, FoldingPool, Piece
from consumer_prediction.outgoing import Encoder, SchemaIds
from consumer_prediction.ownership import Owned
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_metric_events
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import Settings
from shared.snapshots import SnapshotProgress

SCHEMA_ID = 1
WARM_DAYS = 4
"""Days before the measurement: the ensemble's warm-up and one day more."""


class Run(NamedTuple):
    """One measurement.

    waiting_s : time that its threads were ready to run and had no core, because others ran
    """

    wall_s: float
    cpu_s: float
    waiting_s: float
    digest: str


class Log:
    """The records of a generated fleet in partitions, and the states after the warm-up."""

    def __init__(self, detector: str, hosts: int, days: int, partitions: int) -> None:
        self.settings = Settings.model_validate(
            {"detector": detector, "topics": {"partitions": partitions}}
        )
        self.rules = Rules(Configuration.from_settings(self.settings))
        text = schemas.text(schemas.METRIC_EVENT)
        self.decoder = AvroDecoder.of_schemas({SCHEMA_ID: text}, self.settings.input)
        self.encoder = Encoder(self.settings.topics, SchemaIds(2, 3, 4), "bench", 1 << 20)
        fleet = generate(hosts, WARM_DAYS + days, seed=0, anomalies=False)
        names = [f"host-{number}" for number in range(hosts)]
        homes = np.arange(hosts) % partitions
        self.batches = [
            _batch(self.settings.topics.input, home, fleet, names, np.flatnonzero(homes == home))
            for home in range(partitions)
        ]
        self.warm = [len(batch) * WARM_DAYS // (WARM_DAYS + days) for batch in self.batches]
        self.states = []
        for batch, rows in zip(self.batches, self.warm, strict=True):
            self.decoder.prepare(batch)
            scorer = self._scorer(PartitionState(0))
            scorer.process(batch.rows(0, rows), self.decoder)
            self.states.append(scorer.state)

    @property
    def records(self) -> int:
        """Records of one run."""
        return sum(map(len, self.batches)) - sum(self.warm)

    def run(self, threads: int, batch_records: int) -> Run:
        """Fold the records after the warm-up.

        batch_records : records that the partitions share in one round, as in one poll
        """
        owned = [
            Owned(self._scorer(_copy(state)), 0, SnapshotProgress(number))
            for number, state in enumerate(self.states)
        ]
        kept: list[Folded] = []
        pool = FoldingPool(threads, self.decoder, self.encoder, time.monotonic)
        rounds = list(self._rounds(owned, batch_records // len(owned)))
        waited_before_s = waited_s()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        for pieces in rounds:
            pool.fold(pieces, kept.append)
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        waiting_s = waited_s() - waited_before_s
        pool.close()
        return Run(wall_s, cpu_s, waiting_s, self._digest(kept))

    def _digest(self, kept: Sequence[Folded]) -> str:
        """Return a digest of all results of each partition in their order."""
        digests = {batch.partition: hashlib.sha256() for batch in self.batches}
        for folded in kept:
            for sent in folded.results:
                content = b"\0".join([sent.topic.encode(), sent.values.data, sent.keys.data])
                digests[folded.piece.batch.partition].update(content)
        whole = b"".join(digest.digest() for digest in digests.values())
        return hashlib.sha256(whole).hexdigest()

    def _rounds(self, owned: Sequence[Owned], size: int) -> list[list[Piece]]:
        longest = max(len(b) - w for b, w in zip(self.batches, self.warm, strict=True))
        rounds = []
        for start in range(0, longest, size):
            pieces = []
            for one, batch, warm in zip(owned, self.batches, self.warm, strict=True):
                part = batch.rows(warm + start, min(len(batch), warm + start + size))
                if warm + start < len(batch):
                    pieces.append(Piece(one, part, False))
            rounds.append(pieces)
        return rounds

    def _scorer(self, state: PartitionState) -> Scorer:
        return Scorer(state, self.rules)


def _batch(topic: str, partition: int, fleet: Any, names: Sequence[str], hosts: Any) -> Batch:
    """Return the records of some hosts in order of time."""
    rows = len(fleet.time_ms)
    values = np.ascontiguousarray(fleet.values[hosts].transpose(1, 0, 2).reshape(-1, len(METRICS)))
    keys = [names[host] for host in hosts] * rows
    times = np.repeat(fleet.time_ms, len(hosts))
    return Batch(
        topic,
        partition,
        encode_metric_events(SCHEMA_ID, keys, times, values),
        Blob.join([key.encode() for key in keys]),
        np.arange(len(keys)),
        np.zeros(len(keys), np.int64),
    )


def waited_s() -> float:
    """Return how long the threads of this process have waited for a core (Linux)."""
    files = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


def _copy(state: PartitionState) -> PartitionState:
    arrays = {name: array.copy() for name, array in state.to_arrays().items()}
    return PartitionState.from_arrays(
        arrays, state.metric_names(), state.base, state.next_offset, state.activation
    )


def measure(log: Log, threads: int, repeats: int, batch_records: int) -> list[dict[str, Any]]:
    """Compare one thread with several, in turn; return a row for each."""
    runs: dict[int, list[Run]] = {1: [], threads: []}
    log.run(threads, batch_records)
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in range(repeats):
        for count, found in runs.items():
            found.append(log.run(count, batch_records))
            gc.collect()
    gc.enable()
    detector = log.settings.detector.value
    is_equal = len({run.digest for found in runs.values() for run in found}) == 1
    rows: list[dict[str, Any]] = []
    for count, found in runs.items():
        pairs = list(zip(runs[1], found, strict=True))
        seconds = statistics.median(run.wall_s for run in found)
        row: dict[str, Any] = {"id": f"threads.{detector}.{count}", "unit": "events/s"}
        row["value"] = log.records / seconds
        row["base"] = f"threads.{detector}.1"
        row["ratio"] = statistics.median(one.wall_s / many.wall_s for one, many in pairs)
        row["cpu_ratio"] = statistics.median(many.cpu_s / one.cpu_s for one, many in pairs)
        row["cpu_us_per_event"] = 1e6 * statistics.median(run.cpu_s for run in found) / log.records
        row["waiting_share"] = statistics.median(run.waiting_s / run.cpu_s for run in found)
        rows.append(row | {"correct": is_equal})
    return rows


def main() -> int:
    options = _options()
    rows = []
    for detector in options.detectors:
        log = Log(detector, options.hosts, options.days, options.partitions)
        rows += measure(log, options.threads, options.repeats, options.batch)
    return report(rows, options.repeats, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", nargs="+", default=["ensemble"])
    parser.add_argument("--hosts", type=int, default=60)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=5000, help="records of a round")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
