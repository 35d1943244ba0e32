"""Where the processor time of an event goes: ``python -m benchmarks.parts [--detectors NAME ...]``.

Each row is the time in one kernel, per event, from a record's bytes to its encoded score; ``rest``
is everything else: numpy, Python, alarms and their explanations. Kernels run without Python's
global lock, the rest holds it, so that their share says what threads can gain. A row is correct if
measuring changed no byte of the results. Time is the thread's own, so that load from outside counts
little. Log and options are those of ``benchmarks.threads``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import shared.directory as directory
import shared.ensemble.fold as ensemble
import shared.quality.checks as quality
import shared.scoring.state as features
from benchmarks.documents import report
from benchmarks.threads import Log
from shared.decode.kernels import avro_rows, frame_rows
from shared.encode.kernels import avro_values

KERNELS: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "ensemble": ((ensemble, "fold_rows"),),
    "rolling": ((features, "fold_rows"),),
    "quality": ((quality, "watch_rows"),),
    "encode": ((avro_values, "encode_score_rows"), (avro_values, "select_names")),
    "decode": (
        (frame_rows, "read_frames"),
        (frame_rows, "number_runs"),
        (avro_rows, "decode_rows"),
    ),
    "names": ((directory, "intern_names"),),
}
"""The kernels of each part, where the product looks them up."""


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Add up the processor time of each part's kernels within the block, in seconds."""
    spent = dict.fromkeys(KERNELS, 0.0)

    def wrapped(kernel: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            began_s = time.thread_time()
            result = kernel(*arguments)
            spent[part] += time.thread_time() - began_s
            return result

        return run

    kept = [(m, name, getattr(m, name)) for found in KERNELS.values() for m, name in found]
    for part, found in KERNELS.items():
        for module, name in found:
            setattr(module, name, wrapped(getattr(module, name), part))
    try:
        yield spent
    finally:
        for module, name, kernel in kept:
            setattr(module, name, kernel)


def measure(log: Log, repeats: int, batch_records: int) -> list[dict[str, Any]]:
    """Return a row for each part, with the median of the repeats."""
    digest = log.run(1, batch_records).digest
    found: dict[str, list[float]] = {part: [] for part in (*KERNELS, "rest")}
    is_equal = True
    for _ in range(repeats):
        with timed() as spent:
            run = log.run(1, batch_records)
        is_equal = is_equal and run.digest == digest
        for part, seconds in (*spent.items(), ("rest", run.cpu_s - sum(spent.values()))):
            found[part].append(1e6 * seconds / log.records)
    total = sum(map(statistics.median, found.values()))
    detector = log.settings.detector.value
    return [
        {
            "id": f"parts.{detector}.{part}",
            "value": statistics.median(values),
            "unit": "us/event",
            "ratio": statistics.median(values) / total,
            "correct": is_equal,
        }
        for part, values in found.items()
    ]


def main() -> int:
    options = _options()
    rows = []
    for detector in options.detectors:
        log = Log(detector, options.hosts, options.days, 6)
        rows += measure(log, options.repeats, options.batch)
    return report(rows, options.repeats, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", nargs="+", default=["ensemble"])
    parser.add_argument("--hosts", type=int, default=60)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--batch", type=int, default=5000, help="records of a round")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
