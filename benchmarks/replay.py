"""Replay of a log after a restart without a snapshot: ``python -m benchmarks.replay [OPTIONS]``.

Options: ``--records N``, ``--hosts N``, ``--threads N``, ``--repeats N``, ``--json FILE``.

The records of three metrics lie in memory. A replay decodes and folds them, and encodes nothing; so
the rows say what of it is Lapwing's own, and a real one adds the time to fetch the records. A row
is correct if the states are those, byte for byte, of a predictor that has just scored the records.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.documents import report
from benchmarks.fleet.hosts import DAY_ROWS
from benchmarks.threads import WARM_DAYS, Log
from consumer_prediction.folding import FoldingPool, Piece
from consumer_prediction.ownership import Owned
from shared.scoring.scorer import Scorer
from shared.scoring.state import PartitionState
from shared.snapshots import SnapshotProgress

PARTITIONS, POLL_RECORDS = 6, 5_000


def replay(log: Log, threads: int, *, is_replayed: bool) -> tuple[float, float, str]:
    """Fold all records into new states.

    returns : wall and processor seconds, digest of the states
    """
    owned = [
        Owned(Scorer(PartitionState(0), log.rules), 0, SnapshotProgress(number))
        for number in range(len(log.batches))
    ]
    pool = FoldingPool(threads, log.decoder, log.encoder, time.monotonic)
    rounds = _rounds(log, owned, is_replayed=is_replayed)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for pieces in rounds:
        pool.fold(pieces, lambda folded: None)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    pool.close()
    digest = hashlib.sha256()
    for one in owned:
        for name, array in sorted(one.state.to_arrays().items()):
            digest.update(name.encode() + array.tobytes())
    return wall_s, cpu_s, digest.hexdigest()


def _rounds(log: Log, owned: Sequence[Owned], *, is_replayed: bool) -> list[list[Piece]]:
    each = POLL_RECORDS // len(owned)
    longest = max(map(len, log.batches))
    return [
        [
            Piece(one, batch.rows(start, min(start + each, len(batch))), is_replayed)
            for one, batch in zip(owned, log.batches, strict=True)
            if start < len(batch)
        ]
        for start in range(0, longest, each)
    ]


def measure(log: Log, threads: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Replay with each number of threads in turn; return a row for each."""
    records = sum(map(len, log.batches))
    _, _, expected = replay(log, 1, is_replayed=False)
    runs: dict[int, list[tuple[float, float, str]]] = {count: [] for count in threads}
    for _ in range(repeats):
        for count, found in runs.items():
            found.append(replay(log, count, is_replayed=True))
    return [
        {
            "id": f"replay.{count}_threads",
            "value": statistics.median(wall_s for wall_s, _, _ in found) * 1e6 / records,
            "unit": "s/million records",
            "cpu_s": statistics.median(cpu_s for _, cpu_s, _ in found) * 1e6 / records,
            "records": records,
            "correct": all(digest == expected for _, _, digest in found),
        }
        for count, found in runs.items()
    ]


def main() -> int:
    options = _options()
    days = max(1, round(options.records / options.hosts / DAY_ROWS) - WARM_DAYS)
    log = Log("ensemble", options.hosts, days, PARTITIONS)
    threads = sorted({1, options.threads})
    return report(measure(log, threads, options.repeats), options.repeats, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--records", type=int, default=1_000_000, help="about so many")
    add("--hosts", type=int, default=300)
    add("--threads", type=int, default=2)
    add("--repeats", type=int, default=3)
    add("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
