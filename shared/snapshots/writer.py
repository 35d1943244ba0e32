"""When a process writes snapshots, and how little of that its loop does itself.

Invariant: the loop only copies what has changed, when the state is committed. Hashing, writing and
fsync happen in a background thread, one snapshot at a time. A snapshot that fails costs a longer
replay and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from shared.errors import LapwingError, SnapshotRefused
from shared.scoring.state import PartitionState
from shared.snapshots.folder import ChainHead, Restored, SnapshotFolder
from shared.snapshots.frames import ChangeMarks, CopyBuffer, Frame, Selection

MAX_TIME_SHARE = 0.02
"""Largest share of the time that writing snapshots may take."""

MAX_REPLAY_S = 2.4
"""Most work of the loop that a restart should have to repeat, over all partitions."""

LEAST_REPLAY_S = 0.2
"""Work on a partition that a snapshot should save a restart; for less, it waits longer."""

QUIET_INTERVALS = 12
"""Intervals after which the snapshot of a partition with less work is due."""

MAX_DELTAS = 64
"""Deltas on one base; a restart opens a file for each."""

_LARGE_COPY_BYTES = 32 << 20


@dataclass(slots=True)
class SnapshotProgress:
    """What a process knows about the snapshots of one partition.

    head          : the newest durable snapshot; None = the next one is a base
    offset        : first offset that no snapshot contains yet; -1 = nothing has been copied
    captured_at_s : when it was copied; -inf = never by this process, so that a snapshot is due
    work_s        : time that the loop has since spent on the partition's records: what a restart
                    would have to repeat
    """

    partition: int
    head: ChainHead | None = None
    offset: int = -1
    captured_at_s: float = -float("inf")
    work_s: float = 0.0

    @classmethod
    def after(cls, partition: int, restored: Restored) -> SnapshotProgress:
        """Continue from what was restored."""
        offset = restored.head.offset if restored.head else -1
        return cls(partition, restored.head, offset)


class Finished(NamedTuple):
    """How a snapshot ended; error None = it is durable."""

    partition: int
    size_bytes: int
    error: LapwingError | None


class _Stored(NamedTuple):
    """A durable file; cpu_s: processor time that hashing and writing took."""

    digest: str
    size_bytes: int
    cpu_s: float


@dataclass(slots=True)
class _Job:
    """A snapshot that is being written.

    parent    : the snapshot that it builds on; None = it is a base
    offset    : first offset that it does not contain
    marks     : those of the copied state
    began_s   : when the copy began
    copy_s    : how long the copy took
    work_s    : work that it saves a restart
    in_buffer : it lies in the copy buffer, so the next copy has to wait
    """

    progress: SnapshotProgress
    parent: ChainHead | None
    offset: int
    marks: ChangeMarks
    began_s: float
    copy_s: float
    work_s: float
    in_buffer: bool
    future: Future[_Stored]


class SnapshotWriter:
    """Writes the snapshots of one process.

    clock         : monotonic seconds
    cpu_clock     : processor time of the calling thread, seconds
    in_background : False = ``write`` returns when the file is durable; for tests
    """

    def __init__(
        self,
        folder: SnapshotFolder,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        *,
        in_background: bool = True,
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._pool = ThreadPoolExecutor(1, "snapshots") if in_background else None
        self._buffer = CopyBuffer()
        self._growing: Future[None] | None = None
        self._jobs: list[_Job] = []
        self._finished: list[Finished] = []
        self._next_copy_s = -float("inf")
        self._next_write_s = -float("inf")
        self._failed_s = -float("inf")

    def next_due(
        self, candidates: Iterable[SnapshotProgress], interval_s: float
    ) -> SnapshotProgress | None:
        """Return the partition whose snapshot is due now, else None.

        candidates : partitions that are committed and whose snapshot is older than their state

        The loop's copy takes at most MAX_TIME_SHARE of the time. So does copying and writing
        together, and each partition waits for the interval, unless a restart would have to repeat
        more than MAX_REPLAY_S of work: a process that is killed more often than the interval would
        otherwise never write a snapshot, and each start would have more to replay. A partition
        whose records are folded again within LEAST_REPLAY_S waits for QUIET_INTERVALS.
        """
        now_s = self._clock()
        candidates = list(candidates)
        if now_s < self._next_copy_s or self._is_busy():
            return None
        self._collect_finished()
        replay_s = sum(progress.work_s for progress in candidates)
        is_urgent = replay_s >= MAX_REPLAY_S and now_s - self._failed_s >= interval_s
        if now_s < self._next_write_s and not is_urgent:
            return None
        due = [
            progress
            for progress in candidates
            if is_urgent or _is_due(progress, now_s - progress.captured_at_s, interval_s)
        ]
        return max(
            due, key=lambda progress: (progress.work_s, -progress.captured_at_s), default=None
        )

    def write(
        self, progress: SnapshotProgress, state: PartitionState, *, last: bool = False
    ) -> None:
        """Write a snapshot of a committed state; ``finished`` tells how it ended.

        last : the state will not change any more, so it is not copied. Otherwise nothing happens
               while another snapshot is being written, or before there is memory for the copy
        """
        if self._is_busy() and not last:
            return
        self._collect_finished()
        began_s = self._clock()
        selection, parent = choose(progress.head, state)
        buffer = None if last or self._pool is None else self._buffer
        try:
            if buffer and not self._fits_buffer(selection.size_bytes):
                return
            frame = selection.frame(parent.digest if parent else "", buffer)
        except MemoryError as error:
            self._note_no_memory(progress, began_s, error)
            return
        copy_s = self._clock() - began_s
        self._next_copy_s = began_s + copy_s / MAX_TIME_SHARE
        job = _Job(
            progress=progress,
            parent=parent,
            offset=frame.next_offset,
            marks=ChangeMarks.of(state, selection.arrays),
            began_s=began_s,
            copy_s=copy_s,
            work_s=progress.work_s,
            in_buffer=not last,
            future=self._submit(partial(self._store, progress.partition, frame)),
        )
        self._jobs.append(job)
        progress.offset = state.next_offset
        progress.captured_at_s = began_s
        progress.work_s = 0.0

    def finished(self) -> list[Finished]:
        """Return the snapshots that have ended since the last call."""
        self._collect_finished()
        finished = self._finished
        self._finished = []
        return finished

    def close(self) -> None:
        """Wait until each snapshot that was begun is durable or has failed."""
        if self._pool is not None:
            self._pool.shutdown()

    def _note_no_memory(
        self, progress: SnapshotProgress, began_s: float, error: MemoryError
    ) -> None:
        progress.captured_at_s = began_s
        self._failed_s = began_s
        reason = f"no memory for a copy of the state of partition {progress.partition}: {error}"
        self._finished.append(Finished(progress.partition, 0, LapwingError(reason)))

    def _fits_buffer(self, size_bytes: int) -> bool:
        """Return whether the copy may begin.

        A large buffer is allocated in the background, because touching its pages costs more than
        the copy.
        """
        if self._growing:
            growing = self._growing
            self._growing = None
            growing.result()
        if size_bytes <= self._buffer.size_bytes:
            return True
        if self._pool is not None and size_bytes > _LARGE_COPY_BYTES:
            self._growing = self._pool.submit(self._buffer.grow, size_bytes)
            return False
        self._buffer.grow(size_bytes)
        return True

    def _submit(self, store: Callable[[], _Stored]) -> Future[_Stored]:
        if self._pool is not None:
            return self._pool.submit(store)
        future: Future[_Stored] = Future()
        try:
            future.set_result(store())
        except LapwingError as error:
            future.set_exception(error)
        return future

    def _store(self, partition: int, frame: Frame) -> _Stored:
        began_s = self._cpu_clock()
        digest, size_bytes = self.folder.store(partition, frame)
        return _Stored(digest, size_bytes, self._cpu_clock() - began_s)

    def _is_busy(self) -> bool:
        if self._growing is not None and not self._growing.done():
            return True
        return any(job.in_buffer and not job.future.done() for job in self._jobs)

    def _collect_finished(self) -> None:
        """Record how jobs ended, in the order in which they were begun."""
        while self._jobs and self._jobs[0].future.done():
            job = self._jobs.pop(0)
            partition = job.progress.partition
            try:
                stored = job.future.result()
            except LapwingError as error:
                self._note_failed(job, error)
                self._finished.append(Finished(partition, 0, error))
            else:
                job.progress.head = _head_after(job, stored)
                self._next_write_s = job.began_s + (job.copy_s + stored.cpu_s) / MAX_TIME_SHARE
                self._finished.append(Finished(partition, stored.size_bytes, None))

    def _note_failed(self, job: _Job, error: LapwingError) -> None:
        self._failed_s = job.began_s
        progress = job.progress
        progress.work_s += job.work_s
        if isinstance(error, SnapshotRefused):
            progress.head = None
        progress.offset = progress.head.offset if progress.head else -1


def _is_due(progress: SnapshotProgress, age_s: float, interval_s: float) -> bool:
    is_quiet = progress.work_s < LEAST_REPLAY_S
    return age_s >= (QUIET_INTERVALS * interval_s if is_quiet else interval_s)


def choose(head: ChainHead | None, state: PartitionState) -> tuple[Selection, ChainHead | None]:
    """Return what to write, and the snapshot that it builds on.

    It is a base where there is none, or where its deltas would become larger than it is.
    """
    if head is not None and head.deltas < MAX_DELTAS:
        changed = Selection.of(state, head.marks)
        if head.delta_bytes + changed.size_bytes <= head.base_bytes:
            return changed, head
    return Selection.of(state), None


def _head_after(job: _Job, stored: _Stored) -> ChainHead:
    if job.parent is None:
        return ChainHead(stored.digest, job.offset, job.marks, stored.size_bytes)
    return ChainHead(
        stored.digest,
        job.offset,
        job.marks,
        job.parent.base_bytes,
        job.parent.delta_bytes + stored.size_bytes,
        job.parent.deltas + 1,
    )
