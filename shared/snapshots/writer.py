"""When a process writes snapshots, and how little its loop sees of it.

Law: the loop only copies what has changed, at a moment when the state is committed; hashing,
     writing and fsync happen behind,
one snapshot at a time. A snapshot that fails costs a longer replay and nothing else.
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
from shared.snapshots.folder import Restored, SnapshotFolder, Tip
from shared.snapshots.frames import Frame, Marks, Room, Selection

SHARE = 0.02
"""Most of the time that snapshots may take."""

REPLAY_S = 2.4
"""Work of the loop that a restart should have to do again at most, over all partitions."""

_MUCH_BYTES = 32 << 20

MOST_DELTAS = 64
"""Deltas on one base: every one is a file that a restart opens."""


@dataclass(slots=True)
class Trail:
    """What a process knows about the snapshots of one partition.

    tip           : the newest durable one, None = the next one is a base
    offset        : what has been copied so far; -1 = nothing
    captured_at_s : when, -inf = never by this process, so that one is due
    work_s        : time that the loop spent on the partition's rows since: what a restart would
                    have to do again
    """

    partition: int
    tip: Tip | None = None
    offset: int = -1
    captured_at_s: float = -float("inf")
    work_s: float = 0.0

    @classmethod
    def after(cls, partition: int, restored: Restored) -> Trail:
        """Go on from what was restored."""
        return cls(partition, restored.tip, restored.tip.offset if restored.tip else -1)


class Finished(NamedTuple):
    """How a snapshot ended; error None = it is durable."""

    partition: int
    size_bytes: int
    error: LapwingError | None


@dataclass(slots=True)
class _Job:
    """A snapshot on its way.

    before         : what it goes on from, None = it is a base
    offset, marks  : how the state was
    began_s        : when its copy was begun
    copy_s, work_s : time that the copy took; work that it saves a restart
    in_room        : it was copied, so the next copy has to wait
    """

    trail: Trail
    before: Tip | None
    offset: int
    marks: Marks
    began_s: float
    copy_s: float
    work_s: float
    in_room: bool
    future: Future[tuple[str, int, float]]


class SnapshotWriter:
    """Writes the snapshots of one process.

    behind    : False = ``write`` does it all, for who wants to see each step
    clock     : monotonic seconds
    cpu_clock : seconds of processor time of the thread that asks
    """

    def __init__(
        self,
        folder: SnapshotFolder,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        *,
        behind: bool = True,
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._pool = ThreadPoolExecutor(1, "snapshots") if behind else None
        self._room = Room()
        self._making_room: Future[None] | None = None
        self._jobs: list[_Job] = []
        self._ended: list[Finished] = []
        self._copy_again_s = -float("inf")
        self._write_again_s = -float("inf")
        self._failed_s = -float("inf")

    def next_due(self, trails: Iterable[Trail], interval_s: float) -> Trail | None:
        """Choose what to write now, given the partitions that are committed and beyond their
        snapshot.

        The loop's own part never takes more than SHARE of the time. All of it together, with what
        happens behind, takes no more either, and a partition is left alone for the interval -
        unless a restart would have to do more than REPLAY_S of work
        again: a process that is killed more often than the interval would otherwise never write a
               snapshot, and each start
        would have more to replay.
        """
        now_s = self._clock()
        trails = list(trails)
        if now_s < self._copy_again_s or self._is_busy():
            return None
        self._settle()
        urgent = (
            now_s - self._failed_s >= interval_s
            and sum(trail.work_s for trail in trails) >= REPLAY_S
        )
        if now_s < self._write_again_s and not urgent:
            return None
        ripe = [trail for trail in trails if urgent or now_s - trail.captured_at_s >= interval_s]
        return max(ripe, key=lambda trail: (trail.work_s, -trail.captured_at_s), default=None)

    def write(self, trail: Trail, state: PartitionState, *, last: bool = False) -> None:
        """Snapshot a committed state, as it stands; how it ended, ``finished`` says.

        last : the state will not be folded any more, so it need not be copied; else nothing happens
               while another is on its way, or before there is memory for the copy
        """
        if self._is_busy() and not last:
            return
        self._settle()
        began_s = self._clock()
        selection, before = choose(trail.tip, state)
        room = None if last or self._pool is None else self._room
        try:
            if room and not self._has_room(selection.size_bytes):
                return
            frame = selection.frame(before.digest if before else "", room)
        except MemoryError as error:
            trail.captured_at_s = began_s
            why = LapwingError(
                f"no memory for a copy of the state of partition {trail.partition}: {error}"
            )
            self._failed_s = began_s
            self._ended.append(Finished(trail.partition, 0, why))
            return
        copy_s = self._clock() - began_s
        self._copy_again_s = began_s + copy_s / SHARE
        marks, future = (
            Marks.of(state, selection.arrays),
            self._submit(partial(self._store, trail.partition, frame)),
        )
        self._jobs.append(
            _Job(
                trail,
                before,
                frame.next_offset,
                marks,
                began_s,
                copy_s,
                trail.work_s,
                not last,
                future,
            )
        )
        trail.offset, trail.captured_at_s, trail.work_s = state.next_offset, began_s, 0.0

    def finished(self) -> list[Finished]:
        """Return how the snapshots ended that have ended since the last call."""
        self._settle()
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Wait until all that was begun is durable or has failed."""
        if self._pool is not None:
            self._pool.shutdown()

    def _has_room(self, size_bytes: int) -> bool:
        """Whether the copy may begin; much fresh memory is made ready behind, for its pages cost
        more than the copy.
        """
        if self._making_room:
            making, self._making_room = self._making_room, None
            making.result()
        if size_bytes <= self._room.size_bytes:
            return True
        if self._pool is not None and size_bytes > _MUCH_BYTES:
            self._making_room = self._pool.submit(self._room.grow, size_bytes)
            return False
        self._room.grow(size_bytes)
        return True

    def _submit(
        self, store: Callable[[], tuple[str, int, float]]
    ) -> Future[tuple[str, int, float]]:
        if self._pool is not None:
            return self._pool.submit(store)
        future: Future[tuple[str, int, float]] = Future()
        try:
            future.set_result(store())
        except LapwingError as error:
            future.set_exception(error)
        return future

    def _store(self, partition: int, frame: Frame) -> tuple[str, int, float]:
        began_s = self._cpu_clock()
        digest, size_bytes = self.folder.store(partition, frame)
        return digest, size_bytes, self._cpu_clock() - began_s

    def _is_busy(self) -> bool:
        making = self._making_room
        return (making is not None and not making.done()) or any(
            job.in_room and not job.future.done() for job in self._jobs
        )

    def _settle(self) -> None:
        """Take note of what has ended, in its order."""
        while self._jobs and self._jobs[0].future.done():
            job = self._jobs.pop(0)
            trail, size_bytes, error = job.trail, 0, None
            try:
                digest, size_bytes, cpu_s = job.future.result()
            except LapwingError as failed:
                error = failed
                self._failed_s = job.began_s
                trail.work_s += job.work_s
                trail.tip = None if isinstance(failed, SnapshotRefused) else trail.tip
                trail.offset = trail.tip.offset if trail.tip else -1
            else:
                before = job.before
                trail.tip = Tip(
                    digest,
                    job.offset,
                    job.marks,
                    before.base_bytes if before else size_bytes,
                    before.delta_bytes + size_bytes if before else 0,
                    before.deltas + 1 if before else 0,
                )
                self._write_again_s = job.began_s + (job.copy_s + cpu_s) / SHARE
            self._ended.append(Finished(trail.partition, size_bytes, error))


def choose(tip: Tip | None, state: PartitionState) -> tuple[Selection, Tip | None]:
    """Return what to write, and what it goes on from; all of the state where deltas would outgrow
    their base.
    """
    if tip is not None and tip.deltas < MOST_DELTAS:
        changed = Selection.of(state, tip.marks)
        if tip.delta_bytes + changed.size_bytes <= tip.base_bytes:
            return changed, tip
    return Selection.of(state), None
