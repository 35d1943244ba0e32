"""A log, processes that fold it, and their snapshots; they change what the kernels change."""

from pathlib import Path

import numpy as np

from shared.columns import Columns
from shared.errors import LapwingError
from shared.features.kernels.places import FORGOTTEN, NEVER_MS
from shared.scoring.state import Folded, PartitionState, fold
from shared.snapshots import SnapshotFolder, SnapshotProgress, SnapshotWriter
from shared.snapshots.frames import ChangeMarks

NONE = np.zeros(0, np.int64), np.zeros(0, np.uint8)
NAMES = ("alpha", "beta", "gamma", "delta")
FORGET_MS = 8000
RELEASED = ("row", "place", "reason", "slots")


def feed(
    state: PartitionState,
    rows: list[tuple],
    metrics: tuple[str, ...] = ("cpu", "disk"),
    max_entities: int = NEVER_MS,
) -> Folded:
    """Fold rows, and update the records of online members and quality as their kernels do."""
    for metric in metrics:
        if metric not in state.metrics:
            state.metrics.append(metric)
    entity = np.array([state.entities.add(NAMES[row[0]]) for row in rows], np.int32)
    values = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), 2)
    time_ms = np.array([row[1] * 1000 for row in rows], np.int64)
    columns = Columns(np.arange(len(rows)), entity, time_ms, values, *NONE)
    folded = fold(state, columns, 5, FORGET_MS, max_entities)
    entities, slots = state.places_used, state.slots_used
    state.ensemble.reserve(entities, slots)
    state.quality.reserve(entities, slots)
    left = list(zip(*(getattr(folded.releases, name) for name in RELEASED), strict=True))
    for row in range(len(rows)):
        place = folded.place[row]
        while left and left[0][0] == row:
            forget(state, *left.pop(0)[1:])
        state.quality.entities["reported"][place] += 1
        if folded.counted[row]:
            state.quality.presence["rows"][place, time_ms[row] % 288] += 1
            state.ensemble.entities["live_ms"][place] += values[row, 0]
            for slot in folded.slots[row, :2][~np.isnan(values[row])]:
                state.ensemble.metrics["centre"][slot] += time_ms[row]
                state.quality.series["since_ms"][slot] += time_ms[row]
    state.quality.clock["reporting"] = entities
    state.settle()
    state.next_offset += len(rows)
    return folded


def forget(state: PartitionState, place: int, reason: int, slots: np.ndarray) -> None:
    """Reset the records of an entity that lost its place, or returned to it."""
    for slot in slots[slots >= 0]:
        state.ensemble.metrics[slot] = np.zeros((), state.ensemble.metrics.dtype)
        state.quality.series[slot] = np.zeros((), state.quality.series.dtype)
    if reason != FORGOTTEN:
        for records in (state.ensemble.entities, state.quality.entities, state.quality.presence):
            records[place] = np.zeros((), records.dtype)


def log_of(seed: int, rows: int = 60) -> list[tuple]:
    """Return rows with new entities, late and duplicate rows, missing values and long silences."""
    random = np.random.default_rng(seed)
    log: list[tuple] = []
    for place in range(rows):
        known = 1 + 3 * place // rows
        jump = int(random.choice([0, 1, 1, 2, 30], p=[0.2, 0.3, 0.3, 0.15, 0.05]))
        minute = (log[-1][1] if log else 5) + jump - (5 if random.random() < 0.1 else 0)
        row = (
            int(random.integers(0, known + 1)),
            max(0, minute),
            float(random.integers(0, 4)),
            float("nan"),
        )
        log.append((*row[:3], 1.0) if random.random() < 0.6 and place > rows // 3 else row)
    return log


LOGS = [log_of(seed) for seed in range(4)]


def feeding(offset: int, log: list[tuple] = LOGS[0]) -> PartitionState:
    state = PartitionState(0)
    if offset:
        feed(state, log[:offset])
    return state


class Writer:
    """One process that folds the log and writes snapshots on request."""

    def __init__(self, folder: SnapshotFolder, log: list[tuple], at_most: int = 0) -> None:
        self.log = log
        self.writer = SnapshotWriter(folder, lambda: 0.0, lambda: 0.0, in_background=False)
        self.restored = folder.restore(0, at_most, 0)
        self.state = self.restored.state or PartitionState(0)
        self.progress = SnapshotProgress.after(0, self.restored)

    def fold(self, rows: int) -> None:
        at = self.state.next_offset
        feed(self.state, self.log[at : at + rows])

    def write(self) -> LapwingError | None:
        self.writer.write(self.progress, self.state)
        [done] = self.writer.finished()
        return done.error


def put(folder: SnapshotFolder, *offsets: int) -> list[Path]:
    """Write snapshots at these offsets, as one process would; returns their files."""
    writer, paths = Writer(folder, LOGS[0]), []
    for offset in offsets:
        writer.fold(offset - writer.state.next_offset)
        before = set(folder.partition(0).glob("*"))
        assert writer.write() is None
        paths += set(folder.partition(0).glob("*")) - before
    return paths


def marks_of(state: PartitionState) -> ChangeMarks:
    return ChangeMarks.of(state, state.to_arrays())


def is_delta(path: Path) -> bool:
    return path.name.count("-") == 3


def flip(path: Path, place: int | None = None, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1 << bit
    path.write_bytes(bytes(data))
