"""Memory of entities that come and go: ``python -m benchmarks.churn [--entities N --life MIN]``.

Invariant: records take the predictor's own path, and bytes are those of the arrays in use; equal
           options give equal tables, up to the resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared import snapshots
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_flat, flat_schema
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import Settings

START_MS = 1_400_000_000_000
MINUTE_MS = 60_000
ROWS = 20
"""Rows of the table."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Memory:
    """Memory after some entities: those that report, those remembered, and bytes."""

    entities: int
    records: int
    reporting: int
    remembered: int
    array_bytes: int
    snapshot_bytes: int
    resident_bytes: int
    us_per_record: float


def array_bytes(state: PartitionState) -> int:
    """Return the capacity of all arrays of a partition's state, in bytes."""
    arrays: list[npt.NDArray[Any]] = [
        *state.places, state.ensemble.entities, state.ensemble.metrics, state.quality.entities,
        state.quality.presence, state.quality.series
    ]  # fmt: skip
    return sum(array.nbytes for array in arrays)


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


def rows_of(first: int, count: int, options: argparse.Namespace) -> tuple[Ints, Ints]:
    """Return entity and time of the records of some entities, in order of time.

    A new entity comes every ``every_s`` and reports once a minute for ``life`` minutes.
    """
    born_ms = START_MS + np.arange(first, first + count) * options.every_s * 1000
    times = born_ms[:, None] + np.arange(options.life) * MINUTE_MS
    entity = np.repeat(np.arange(first, first + count), options.life)
    order = np.argsort(times.ravel(), kind="stable")
    return entity[order], times.ravel()[order]


def measure(options: argparse.Namespace) -> list[Memory]:
    """Score all entities in ROWS parts, and measure after each."""
    names = [f"metric_{k}" for k in range(options.metrics)]
    settings = Settings()
    decoder = AvroDecoder.of_schemas({1: flat_schema("lapwing.Pod", "host", names)}, settings.input)
    scorer = Scorer(PartitionState(0), Rules(Configuration.from_settings(settings)))
    random = np.random.default_rng(0)
    found, offset = [], 0
    part = max(1, options.entities // ROWS)
    for first in range(0, options.entities, part):
        entity, time_ms = rows_of(first, part, options)
        hosts = [f"pod-{number:06}".encode() for number in range(first, first + part)]
        values = random.normal(50, 5, (len(entity), options.metrics))
        encoded = encode_flat(1, Blob.join(hosts), entity - first, time_ms, values)
        spent_s = 0.0
        for low in range(0, len(entity), options.batch):
            high = min(low + options.batch, len(entity))
            offsets = np.arange(offset + low, offset + high)
            records = Blob.join([encoded[row] for row in range(low, high)])
            keys = Blob.join([None] * (high - low))
            batch = Batch("in", 0, records, keys, offsets, np.zeros(high - low, np.int64))
            began_s = time.process_time()
            scorer.process(batch, decoder)
            spent_s += time.process_time() - began_s
        offset += len(entity)
        found.append(
            Memory(
                first + part,
                offset,
                int(min(part, options.life * 60 // options.every_s)),
                scorer.state.live,
                array_bytes(scorer.state),
                len(snapshots.encode(scorer.state)),
                resident_bytes(),
                spent_s / len(entity) * 1e6,
            )
        )
    return found


def main() -> int:
    options = _options()
    print(
        f"{options.entities} entities of {options.metrics} metrics, a new one every"
        f" {options.every_s} s, a record a minute for {options.life} minutes"
    )
    print("entities  records  reporting  remembered  arrays MiB  snapshot MiB  resident MiB  us")
    found = measure(options)
    for one in found:
        mib = [x / 2**20 for x in (one.array_bytes, one.snapshot_bytes, one.resident_bytes)]
        print(
            f"{one.entities:8d} {one.records:8d} {one.reporting:10d} {one.remembered:11d}"
            f" {mib[0]:11.1f} {mib[1]:13.1f} {mib[2]:13.1f} {one.us_per_record:3.0f}"
        )
    half = len(found) // 2
    flat = max(one.remembered for one in found[half:]) <= max(
        one.remembered for one in found[:half]
    )
    print("flat: the second half remembers no more than the first" if flat else "it grows")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return 0 if flat else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=10_000)
    parser.add_argument("--life", type=int, default=10, help="minutes that an entity lives")
    parser.add_argument("--every-s", type=int, default=120, help="seconds between two new ones")
    parser.add_argument("--metrics", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2000, help="records in a batch")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
