"""When snapshots are written, and how little the loop sees of it."""

import os
import threading
import time

import pytest

from shared import snapshots
from shared.errors import ConfigError
from shared.scoring.state import PartitionState
from shared.snapshots import SnapshotFolder, SnapshotProgress, SnapshotWriter
from shared.snapshots.folder import ChainHead
from shared.snapshots.frames import CopyBuffer, Selection
from shared.snapshots.writer import (
    LEAST_REPLAY_S,
    MAX_REPLAY_S,
    MAX_TIME_SHARE,
    QUIET_INTERVALS,
)
from tests.support.snapshot_logs import LOGS, Writer, feed, feeding


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path):
    return SnapshotFolder(tmp_path, "cluster/1", "metrics.test.raw", "topic-id", "group", keep=2)


class Gate:
    """A disk that is as slow as the test wants."""

    def __init__(self, monkeypatch) -> None:
        self.open = threading.Event()
        monkeypatch.setattr(os, "fsync", lambda _: self.open.wait(10))


def test_the_loop_goes_on_while_a_snapshot_is_written(folder, monkeypatch):
    gate = Gate(monkeypatch)
    writer = SnapshotWriter(folder, lambda: 0.0)
    state, progress, other = feeding(30), SnapshotProgress(0), SnapshotProgress(1)
    want = snapshots.encode(state)
    writer.write(progress, state)
    feed(state, LOGS[0][30:40])
    assert writer.finished() == []
    assert writer.next_due([progress, other], 0.0) is None
    writer.write(other, state)
    assert other.offset == -1
    last = snapshots.encode(state)
    writer.write(progress, state, last=True)
    gate.open.set()
    writer.close()
    assert [(done.partition, done.error) for done in writer.finished()] == [(0, None), (0, None)]
    assert snapshots.encode(folder.restore(0, 30, 0).state) == want
    assert snapshots.encode(folder.restore(0, 40, 0).state) == last
    assert progress.head.offset == 40


def test_much_memory_is_made_ready_before_the_copy(folder, monkeypatch):
    monkeypatch.setattr("shared.snapshots.writer._LARGE_COPY_BYTES", 0)
    writer, state, progress = (
        SnapshotWriter(folder, lambda: 100.0),
        feeding(30),
        SnapshotProgress(0),
    )
    writer.write(progress, state)
    assert progress.offset == -1
    while writer.next_due([progress], 10.0) is not progress:
        time.sleep(0.001)
    writer.write(progress, state)
    assert progress.offset == 30
    writer.close()
    assert [done.error for done in writer.finished()] == [None]
    assert snapshots.encode(folder.restore(0, 30, 0).state) == snapshots.encode(state)


@pytest.mark.parametrize("large_copy_bytes", [0, 1 << 30])
def test_no_memory_for_a_copy_is_a_snapshot_less(folder, monkeypatch, large_copy_bytes):
    monkeypatch.setattr("shared.snapshots.writer._LARGE_COPY_BYTES", large_copy_bytes)
    writer, state, progress = (
        SnapshotWriter(folder, lambda: 100.0),
        feeding(30),
        SnapshotProgress(0, work_s=1.5),
    )

    def full(*_):
        raise MemoryError("unable to allocate it")

    monkeypatch.setattr(CopyBuffer, "grow", full)
    while not (ended := writer.finished()):
        writer.write(progress, state)
    assert "partition 0: unable to allocate it" in str(ended[0].error)
    assert (progress.work_s, progress.head, progress.captured_at_s) == (1.5, None, 100.0)
    writer.write(progress, state, last=True)
    writer.close()
    assert folder.restore(0, 30, 0).state.next_offset == 30


class Clocks:
    """A stopped clock; a copy takes a fixed time, and the write behind it a fixed share."""

    def __init__(self, copy_s: float, cpu_s: float) -> None:
        self.now_s, self.cpu_s, self.copy_s, self.behind_s = 100.0, 0.0, copy_s, cpu_s

    def wall(self) -> float:
        return self.now_s

    def cpu(self) -> float:
        self.cpu_s += self.behind_s
        return self.cpu_s

    def write(
        self, writer: SnapshotWriter, progress: SnapshotProgress, state: PartitionState, monkeypatch
    ) -> None:
        real = Selection.frame

        def slow(*args):
            self.now_s += self.copy_s
            return real(*args)

        with monkeypatch.context() as patched:
            patched.setattr(Selection, "frame", slow)
            state.next_offset += 1
            writer.write(progress, state)

    def until_due(
        self,
        writer: SnapshotWriter,
        progresses: list[SnapshotProgress],
        load: float,
        interval_s: float = 10.0,
    ) -> float:
        began_s = self.now_s
        while (due := writer.next_due(progresses, interval_s)) is None:
            self.now_s += 0.1
            for progress in progresses:
                progress.work_s += 0.1 * load / len(progresses)
            assert self.now_s < began_s + 1000
        assert due in progresses
        return self.now_s - began_s


@pytest.mark.parametrize(
    ("copy_s", "cpu_s", "load", "wait_s"),
    [
        (0.0, 0.0, 0.2, 10.0),  # cheap: at the interval
        (0.1, 0.1, 0.03, 10.0),
        (0.0, 0.0, 0.005, LEAST_REPLAY_S / 0.005),  # little to do again: not before it is worth it
        (0.0, 0.0, 0.0001, 10.0 * QUIET_INTERVALS),
        (0.0, 0.0, 0.6, MAX_REPLAY_S / 0.6),  # much to do again: before the interval
        (0.1, 1.0, 0.01, 1.1 / MAX_TIME_SHARE),  # nothing is pressing: all of it within the share
        # a restart would have much to do: the loop's part within the share
        (0.1, 1.0, 0.2, MAX_REPLAY_S / 0.2),
        (0.4, 1.0, 0.2, 0.4 / MAX_TIME_SHARE),  # the share of the loop goes before the replay
    ],
)
def test_how_long_to_wait(folder, monkeypatch, copy_s, cpu_s, load, wait_s):
    clocks, progress, state = Clocks(copy_s, cpu_s), SnapshotProgress(0), feeding(30)
    writer = SnapshotWriter(folder, clocks.wall, clocks.cpu, in_background=False)
    clocks.write(writer, progress, state, monkeypatch)
    assert [done.error for done in writer.finished()] == [None]
    assert clocks.until_due(writer, [progress], load) == pytest.approx(wait_s - copy_s, abs=0.21)


def test_a_process_that_never_lives_for_an_interval_writes_snapshots(folder):
    """Replayed work counts as well; otherwise each start would take longer than the one before."""
    clocks = Clocks(0.0, 0.0)
    writer = SnapshotWriter(folder, clocks.wall, clocks.cpu, in_background=False)
    replayed = [
        SnapshotProgress(number, captured_at_s=clocks.now_s, work_s=MAX_REPLAY_S / 2)
        for number in range(2)
    ]
    assert writer.next_due(replayed, 10.0) is replayed[0]
    replayed[1].work_s -= 0.1
    assert writer.next_due(replayed, 10.0) is None


def test_after_a_failure_it_waits_for_the_interval(folder, monkeypatch):
    """A full volume is tried again now and then, however much a restart would have to do."""
    clocks, progress, state = (
        Clocks(0.0, 0.0),
        SnapshotProgress(0, work_s=2 * MAX_REPLAY_S),
        feeding(30),
    )
    writer = SnapshotWriter(folder, clocks.wall, clocks.cpu, in_background=False)
    with monkeypatch.context() as patched:
        patched.setattr(
            SnapshotFolder, "store", lambda *_: (_ for _ in ()).throw(ConfigError("full"))
        )
        clocks.write(writer, progress, state, monkeypatch)
    assert [str(done.error) for done in writer.finished()] == ["full"]
    assert clocks.until_due(writer, [progress], 0.5) == pytest.approx(10.0, abs=0.21)


def test_partitions_take_turns(folder, monkeypatch):
    """The one with most work to lose goes first, and together they keep within the share."""
    clocks, states = Clocks(0.05, 0.0), {number: feeding(20) for number in range(4)}
    writer = SnapshotWriter(folder, clocks.wall, clocks.cpu, in_background=False)
    progresses = [SnapshotProgress(number, captured_at_s=clocks.now_s) for number in range(4)]
    began_s, order = clocks.now_s, []
    for _ in range(12):
        clocks.until_due(writer, progresses, 0.2)
        due = writer.next_due(progresses, 10.0)
        order.append(due.partition)
        clocks.write(writer, due, states[due.partition], monkeypatch)
    assert sorted(order[:4]) == sorted(order[4:8]) == sorted(order[8:]) == [0, 1, 2, 3]
    assert 12 * 0.05 / (clocks.now_s - began_s) <= MAX_TIME_SHARE


def test_a_failed_write_gives_its_work_back(folder, monkeypatch):
    writer = Writer(folder, LOGS[0])
    writer.fold(10)
    writer.progress.work_s = 1.5
    with monkeypatch.context() as patched:
        patched.setattr(Selection, "frame", lambda *_: (_ for _ in ()).throw(MemoryError))
        assert "no memory" in str(writer.write())
    assert writer.progress.work_s == 1.5
    assert writer.progress.head is None
    assert writer.write() is None
    assert isinstance(writer.progress.head, ChainHead)
    assert writer.progress.work_s == 0.0
