"""Cost of snapshots and restores for many series: ``python -m benchmarks.snapshots``.

The state holds ``--series`` entities with one metric each; a share of them changes between two
snapshots. A figure is the median of several rounds. Times hold for the measuring machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shared.columns import Columns
from shared.scoring.state import PartitionState, fold
from shared.snapshots import SnapshotFolder, SnapshotProgress, SnapshotWriter
from shared.snapshots.frames import ChangeMarks, CopyBuffer, Selection
from shared.snapshots.writer import choose

ROUNDS = 3
DIRTY = (0.01, 0.2, 1.0)
COMMIT_S = 0.1
LOADS = (0.02, 0.2, 1.0)


def state_of(series: int) -> PartitionState:
    """A state with a full record for each series."""
    state = PartitionState(0)
    state.metrics.append("value")
    entity = np.array(
        [state.entities.add(f"series-{number:06}") for number in range(series)], np.int32
    )
    none = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    values = np.random.default_rng(0).normal(size=(series, 1))
    fold(state, Columns(np.arange(series), entity, np.full(series, 1000), values, *none), window=5)
    state.ensemble.reserve(series, series)
    memory = state.ensemble.metrics.view(np.uint8).reshape(series, -1)
    memory[:] = np.random.default_rng(1).integers(0, 256, memory.shape[1], dtype=np.uint8)
    state.next_offset = series
    return state


def move(state: PartitionState, share: float, first: int = 0) -> None:
    """Change a share of the series as one row of each would."""
    series = state.live
    moved = (first + np.arange(max(1, round(share * series)))) % series
    state.places.moves[moved] += 1
    state.ensemble.metrics.view(np.uint8).reshape(len(state.ensemble.metrics), -1)[
        moved, :: 1 << 12
    ] += 1
    state.next_offset += len(moved)


def measure_writes(state: PartitionState) -> list[dict[str, Any]]:
    """Time a base and deltas: the copy in the loop, the write in the background, the restore."""
    found = []
    for share in (None, *DIRTY):
        rounds = [_write(state, share) for _ in range(ROUNDS)]
        found.append(
            {
                "moved": share,
                **{name: statistics.median(each[name] for each in rounds) for name in rounds[0]},
            }
        )
    return found


def _write(state: PartitionState, share: float | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as root:
        folder = SnapshotFolder(Path(root), "cluster", "topic", "", "group")
        head, buffer = None, CopyBuffer()
        if share is not None:
            progress = SnapshotProgress(0)
            SnapshotWriter(folder, in_background=False).write(progress, state)
            head = folder.restore(0, state.next_offset, 0).head
            assert head is not None
            head = replace(head, marks=ChangeMarks.of(state, state.to_arrays()))
            move(state, share)
        buffer.grow(choose(head, state)[0].size_bytes)
        began_s = time.perf_counter()
        selection, before = choose(head, state)
        frame = selection.frame(before.digest if before else "", buffer)
        copy_s = time.perf_counter() - began_s
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        _, size_bytes = folder.store(0, frame)
        wall_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
        began_s, restore_cpu_s = time.perf_counter(), time.thread_time()
        restored = folder.restore(0, state.next_offset, 0).state
        restore_s, restore_cpu_s = time.perf_counter() - began_s, time.thread_time() - restore_cpu_s
        if restored is None or not _equal(restored, state):
            sys.exit("the restored state is another one")
    return {
        "mb": size_bytes / 1e6,
        "copy_s": copy_s,
        "behind_s": wall_s,
        "behind_cpu_s": cpu_s,
        "restore_s": restore_s,
        "restore_cpu_s": restore_cpu_s,
    }


def _equal(one: PartitionState, other: PartitionState) -> bool:
    """Return whether two states are equal, bit for bit."""
    pairs = zip(
        Selection.of(one).frame().pieces(), Selection.of(other).frame().pieces(), strict=True
    )
    return all(
        np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) for a, b in pairs
    )


def measure_loop(
    states: list[PartitionState], load: float, interval_s: float, seconds: float
) -> dict[str, Any]:
    """Run a loop under load that takes snapshots; every series changes once per interval.

    load : seconds of work per second of the loop

    The base snapshots are written before the measurement begins.
    """
    with tempfile.TemporaryDirectory() as root:
        writer = SnapshotWriter(SnapshotFolder(Path(root), "cluster", "topic", "", "group"))
        progresses = [SnapshotProgress(number) for number in range(len(states))]
        for progress, state in zip(progresses, states, strict=True):
            while progress.head is None:
                writer.write(progress, state)
                time.sleep(COMMIT_S)
                writer.finished()
        began_s, cpu_s = time.monotonic(), time.process_time()
        written, spans_s, worked_s, most_s = [], [], 0.0, 0.0
        lost_s = [0.0] * len(states)
        while (now_s := time.monotonic()) < began_s + seconds:
            worked_s += _work(load * COMMIT_S)
            for number, (progress, state) in enumerate(zip(progresses, states, strict=True)):
                move(
                    state,
                    COMMIT_S / interval_s,
                    int((now_s - began_s) / interval_s * len(state.entities)),
                )
                progress.work_s += load * COMMIT_S / len(states)
                lost_s[number] += load * COMMIT_S / len(states)
            most_s = max(most_s, sum(lost_s))
            before_s = time.monotonic()
            for done in writer.finished():
                if done.error:
                    raise done.error
                written.append(done.size_bytes)
                lost_s[done.partition] = progresses[done.partition].work_s
            if due := writer.next_due(progresses, interval_s):
                writer.write(due, states[due.partition])
            spans_s.append(time.monotonic() - before_s)
            time.sleep(max(0.0, COMMIT_S - (time.monotonic() - now_s)))
        lasted_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        writer.close()
    return {
        "load": load,
        "snapshots": len(written),
        "mb_per_s": sum(written) / 1e6 / lasted_s,
        "loop_share": sum(spans_s) / lasted_s,
        "longest_pause_s": max(spans_s),
        "cpu_share": (cpu_s - worked_s) / lasted_s,
        "most_to_replay_s": most_s,
    }


def _work(seconds: float) -> float:
    """Keep processor and interpreter as busy as scoring does; return the CPU seconds spent."""
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    numbers = np.arange(4096.0)
    while time.perf_counter() < began_s + seconds:
        numbers = np.sqrt(numbers + 1.0)
    return time.thread_time() - cpu_s


def main() -> None:
    """Print the cost of writes, and their effect on a loop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=__doc__)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument(
        "--partitions",
        type=int,
        default=1,
        help="that the series are spread over in the loop's part",
    )
    parser.add_argument("--interval", type=float, default=5.0, help="predict.snapshot_interval_s")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="how long each loop runs; 0 = only the writes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    given = parser.parse_args()
    if not given.json:
        print(
            f"{given.series:,} series; Python {platform.python_version()}, numpy {np.__version__},"
            f" {os.cpu_count()} cores"
        )
        print("\nmoved    written MB   copy s   behind s (cpu)   restore s (cpu)")
    for row in measure_writes(state_of(given.series)):
        moved = "base" if row["moved"] is None else f"{row['moved']:.0%}"
        message = (
            f"{moved:>5} {row['mb']:13.1f} {row['copy_s']:8.3f} {row['behind_s']:10.3f}"
            f" ({row['behind_cpu_s']:.3f}) {row['restore_s']:10.3f} ({row['restore_cpu_s']:.3f})"
        )
        print(json.dumps(row) if given.json else message, flush=True)
    if not given.seconds:
        return
    if not given.json:
        print(f"\n{given.partitions} partition(s), every series moves once in {given.interval:g} s")
        print(
            "load   snapshots     MB/s   loop's share   longest pause s   cpu of all   most to"
            " replay s"
        )
    states = [state_of(given.series // given.partitions) for _ in range(given.partitions)]
    for load in LOADS:
        row = measure_loop(states, load, given.interval, given.seconds)
        message = (
            f"{load:4.0%} {row['snapshots']:11} {row['mb_per_s']:8.1f} {row['loop_share']:14.2%}"
            f" {row['longest_pause_s']:17.3f} {row['cpu_share']:12.1%}"
            f" {row['most_to_replay_s']:18.2f}"
        )
        print(json.dumps(row) if given.json else message, flush=True)


if __name__ == "__main__":
    main()
