"""The files of snapshots: right or older, never wrong, after crashes, zombies and damage."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import snapshots
from shared.errors import ConfigError, SnapshotRefused
from shared.events import STATE_VERSION
from shared.snapshots import SnapshotFolder
from shared.snapshots.frames import Selection, parse
from shared.snapshots.writer import MAX_DELTAS
from tests.support.snapshot_logs import LOGS, Writer, feeding, flip, is_delta, marks_of, put


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def folder(tmp_path):
    return SnapshotFolder(tmp_path, "cluster/1", "metrics.test.raw", "topic-id", "group", keep=2)


# --- restoring ------------------------------------------------------------------------------------


def test_the_newest_at_or_below_the_committed_offset_is_restored(folder):
    folder = replace(folder, keep=9)
    put(folder, 5, 9, 14, 30, 44)
    for at_most, offset in ((44, 44), (43, 30), (13, 9), (9, 9), (5, 5)):
        state, head, refused = folder.restore(0, at_most, base=0)
        assert snapshots.encode(state) == snapshots.encode(feeding(offset))
        assert (state.next_offset, head.offset, refused) == (offset, offset, [])
    assert folder.restore(0, 4, base=0) == (None, None, [])
    assert folder.restore(1, 44, base=0) == (None, None, [])


def test_a_delta_holds_what_moved_and_goes_on_after_a_restart(folder):
    """Two thirds of the rows later, one entity moves; two processes take turns on one chain."""
    base, small = put(folder, 44, 45)
    assert (is_delta(base), is_delta(small)) == (False, True)
    assert small.stat().st_size < 0.5 * base.stat().st_size
    again = Writer(folder, LOGS[0], 45)
    again.fold(1)
    again.write()
    [newest] = set(folder.partition(0).iterdir()) - {base, small}
    assert is_delta(newest)
    assert small.name.split("-")[2] in newest.name
    assert snapshots.encode(folder.restore(0, 46, 0).state) == snapshots.encode(feeding(46))


def test_a_chain_ends_where_deltas_outgrow_their_base(folder):
    writer = Writer(folder, LOGS[0])
    kinds = []
    for _ in LOGS[0]:
        writer.fold(1)
        assert writer.write() is None
        head = writer.progress.head
        kinds.append(head.deltas)
        assert head.delta_bytes < 1.1 * head.base_bytes
    assert kinds.count(0) > 3
    assert max(kinds) >= 2
    assert sum(not is_delta(path) for path in folder.partition(0).iterdir()) == folder.keep
    assert snapshots.encode(folder.restore(0, 60, 0).state) == snapshots.encode(feeding(60))


def test_a_chain_is_never_too_many_files(folder):
    writer = Writer(folder, LOGS[0])
    writer.fold(60)
    deltas = []
    for _ in range(MAX_DELTAS + 2):
        writer.write()
        deltas.append(writer.progress.head.deltas)
    assert 0 in deltas[1:]
    assert max(deltas) <= MAX_DELTAS
    assert 0 < sum(map(is_delta, folder.partition(0).iterdir())) <= 2 * MAX_DELTAS


def test_members_that_were_begun_anew_are_written_as_a_whole(folder):
    """Another detector was there for a while, and no snapshot came in between."""
    writer = Writer(folder, LOGS[0])
    writer.fold(44)
    writer.write()
    entities, slots = len(writer.state.ensemble.entities), len(writer.state.ensemble.metrics)
    writer.state.ensemble = type(writer.state.ensemble)()
    writer.state.ensemble.reserve(entities, slots)
    writer.fold(1)
    assert writer.write() is None
    assert snapshots.encode(folder.restore(0, 99, 0).state) == snapshots.encode(writer.state)


def test_a_state_without_online_members_and_back(folder):
    """A trained detector drops the members' records; another detector starts them afresh."""
    writer = Writer(folder, LOGS[0])
    writer.fold(30)
    writer.write()
    writer.state.ensemble = type(writer.state.ensemble)()
    for _ in range(2):
        writer.state.next_offset += 1
        assert writer.write() is None
        assert snapshots.encode(folder.restore(0, 99, 0).state) == snapshots.encode(writer.state)
    writer.state.ensemble.reserve(4, 8)
    writer.state.ensemble.metrics["centre"][0] = 3.0
    for _ in range(2):
        writer.state.next_offset += 1
        assert writer.write() is None
        assert snapshots.encode(folder.restore(0, 99, 0).state) == snapshots.encode(writer.state)


# --- damage ---------------------------------------------------------------------------------------


def test_damage_is_passed_over_and_named(folder):
    flip(put(folder, 44, 45, 46)[2])
    state, _, refused = folder.restore(0, 100, base=0)
    assert snapshots.encode(state) == snapshots.encode(feeding(45))
    assert len(refused) == 1
    assert "SHA-256" in refused[0]


def test_what_builds_on_damage_is_passed_over(folder):
    """A damaged base and its deltas are skipped, with one message; the chain before is restored."""
    put(folder, 20)
    files = sorted(put(folder, 44, 45, 46))
    flip(files[0])
    state, _, refused = folder.restore(0, 100, base=0)
    assert snapshots.encode(state) == snapshots.encode(feeding(20))
    assert len(refused) == 1
    assert f"builds on {files[0].name}" in refused[0]


def test_a_file_that_memory_cannot_hold_is_passed_over(folder, monkeypatch):
    _, newest = put(folder, 20, 44)
    real = parse

    def parse_small(data):
        if len(data) == newest.stat().st_size:
            raise MemoryError("unable to allocate it")
        return real(data)

    monkeypatch.setattr("shared.snapshots.folder.parse", parse_small)
    state, _, refused = folder.restore(0, 100, base=0)
    assert state.next_offset == 20
    assert "unable to allocate" in refused[0]


def test_a_delta_whose_base_is_gone_is_passed_over_and_removed(folder):
    put(folder, 20)
    base, delta = put(folder, 44, 45)
    base.unlink()
    state, _, refused = folder.restore(0, 100, base=0)
    assert state.next_offset == 20
    assert refused
    assert all("is missing" in why for why in refused)
    put(folder, 50)
    assert not delta.exists()


def test_a_snapshot_of_another_history_is_passed_over(folder):
    put(folder, 5)
    state, _, refused = folder.restore(0, 100, base=3)
    assert state is None
    assert "begins at offset 0" in refused[0]


def test_a_file_under_another_name_is_passed_over(folder):
    [path] = put(folder, 5)
    path.rename(path.with_name(path.name.replace(f"{5:020d}", f"{6:020d}")))
    assert "its name does not match its content" in folder.restore(0, 100, base=0).refused[0]


def test_a_delta_is_never_applied_to_another_base(folder):
    """The same offset with other content, as after a bug or a manual change."""
    base, _ = put(folder, 44, 45)
    digest = base.stem.split("-")[2]
    other = feeding(44, LOGS[1])
    frame = Selection.of(other).frame()
    folder.store(0, frame)
    [wrong] = {path for path in folder.partition(0).iterdir() if not is_delta(path)} - {base}
    wrong.replace(base)
    state, _, refused = folder.restore(0, 100, base=0)
    assert state is None
    assert digest in refused[0]
    assert "its name does not match its content" in refused[0]


def test_a_delta_says_itself_what_it_goes_on_from(folder):
    """Whatever its name says."""
    base, *_ = put(folder, 44)
    other, state = feeding(44, LOGS[1]), feeding(45, LOGS[1])
    digest, _ = folder.store(
        0,
        Selection.of(state, marks_of(other)).frame(folder.store(0, Selection.of(other).frame())[0]),
    )
    for path in folder.partition(0).iterdir():
        if digest[:16] in path.name:
            path.rename(
                path.with_name(
                    "-".join([*path.stem.split("-")[:3], base.stem.split("-")[2]]) + ".snapshot"
                )
            )
    restored = folder.restore(0, 45, 0)
    assert restored.state.next_offset == 44
    assert "builds on another snapshot" in restored.refused[0]


# --- the folder -----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    writer = Writer(SnapshotFolder(tmp_path / "file", "c", "t", "", "g"), LOGS[0])
    error = writer.write()
    assert isinstance(error, ConfigError)
    assert "state_dir" in str(error)


def test_names_that_are_no_file_names_never_meet(tmp_path):
    paths = {
        SnapshotFolder(tmp_path, c, "t", "", "g").partition(0) for c in ("a/b", "a_b", "..", "a b")
    }
    assert len(paths) == 4
    assert all(tmp_path in path.resolve().parents for path in paths)


def test_only_the_newest_bases_are_kept(folder):
    writer = Writer(folder, LOGS[0])
    for _ in range(5):
        writer.fold(5)
        writer.write()
        writer.progress.head = None
    assert [path.name.split("-")[1] for path in sorted(folder.partition(0).iterdir())] == [
        f"{20:020d}",
        f"{25:020d}",
    ]


def test_what_a_crash_left_and_other_versions_go_when_there_is_enough(folder):
    put(folder, 20)
    left = [
        folder.partition(0) / "1234.tmp",
        folder.partition(0) / f"v{STATE_VERSION - 1}-{15:020d}-{0:016x}.snapshot",
    ]
    for path in left:
        path.write_bytes(b"x")
    put(folder, 30)
    assert not any(path.exists() for path in left)
    assert len(list(folder.partition(0).iterdir())) == 2


def test_a_zombie_removes_nothing_that_is_newer(folder):
    """It keeps chains beyond its own offset, and files whose base it does not see."""
    folder = replace(folder, keep=1)
    chain = put(folder, 40, 41, 42)
    assert [is_delta(path) for path in chain] == [False, True, True]
    lonely = folder.partition(0) / f"v{STATE_VERSION}-{45:020d}-{1:016x}-{2:016x}.snapshot"
    lonely.touch()
    zombie = Writer(folder, LOGS[0])
    for offset in (35, 41, 45):
        zombie.fold(offset - zombie.state.next_offset)
        zombie.progress.head = None
        zombie.write()
        assert folder.restore(0, 60, 0).state.next_offset == max(offset, 42)
        assert lonely.exists() == (offset < 45)
        assert all(path.exists() == (offset < 45) for path in chain)


def test_a_chain_that_somebody_removed_is_begun_anew(folder):
    writer = Writer(folder, LOGS[0])
    writer.fold(44)
    writer.write()
    for path in folder.partition(0).iterdir():
        path.unlink()
    writer.fold(1)
    assert isinstance(writer.write(), SnapshotRefused)
    assert writer.progress.offset == -1
    writer.write()
    assert snapshots.encode(folder.restore(0, 45, 0).state) == snapshots.encode(feeding(45))


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_older_ones(folder, monkeypatch, call):
    writer = Writer(folder, LOGS[0])
    writer.fold(44)
    writer.write()
    writer.fold(1)
    writer.progress.work_s = 1.5

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((Path, call) if call == "replace" else (os, call)), full)
        assert "no space left" in str(writer.write())
    assert (writer.progress.offset, writer.progress.work_s) == (44, 1.5)
    assert not list(folder.partition(0).glob("*.tmp"))
    assert folder.restore(0, 100, 0).state.next_offset == 44
    assert writer.write() is None
    assert snapshots.encode(folder.restore(0, 100, 0).state) == snapshots.encode(feeding(45))


# --- random runs ----------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("fold"), st.integers(0, 1), st.integers(1, 12)),
        st.tuples(st.just("write"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 1), st.integers(0, 60)),
        st.tuples(st.just("torn"), st.integers(0, 1), st.integers(0, 1 << 30)),
        st.tuples(
            st.sampled_from(["flip", "cut", "remove"]), st.integers(0, 20), st.integers(0, 1 << 30)
        ),
    ),
    min_size=4,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(LOGS) - 1), ACTIONS)
def test_whatever_happens_a_restored_state_is_a_straight_fold(tmp_path_factory, seed, actions):
    """Whatever happens, a restored state equals an uninterrupted fold up to its offset.

    Two processes share the folder; writes are interrupted and files are damaged anywhere.
    """
    log = LOGS[seed]
    folder = SnapshotFolder(tmp_path_factory.mktemp("run"), "c", "t", "", "g", keep=2)
    writers = [Writer(folder, log), Writer(folder, log)]
    damaged = False
    for action, which, amount in actions:
        files = sorted(folder.partition(0).glob("*")) if folder.partition(0).is_dir() else []
        if action == "fold":
            writers[which].fold(amount)
        elif action == "write":
            error = writers[which].write()
            assert error is None or damaged
            if error is None and not damaged:
                assert (
                    folder.restore(0, writers[which].state.next_offset, 0).head.offset
                    == writers[which].state.next_offset
                )
        elif action == "crash":
            writers[which] = Writer(folder, log, amount)
            assert_right(writers[which].restored, amount, log)
        elif action == "torn":
            torn(folder, writers[which], amount)
            damaged = True
            writers[which] = Writer(folder, log, 60)
        elif files:
            damaged = True
            hit(files[which % len(files)], action, amount)
    assert_right(folder.restore(0, 60, 0), 60, log)


def assert_right(restored, at_most: int, log: list[tuple]) -> None:
    if restored.state is not None:
        assert restored.head.offset == restored.state.next_offset <= at_most
        assert snapshots.encode(restored.state) == snapshots.encode(
            feeding(restored.head.offset, log)
        )


def hit(path: Path, action: str, amount: int) -> None:
    size = path.stat().st_size
    if action == "remove":
        path.unlink()
    elif action == "cut":
        with path.open("r+b") as file:
            file.truncate(amount % max(1, size))
    elif size:
        flip(path, amount % size, amount % 8)


def torn(folder: SnapshotFolder, writer: Writer, amount: int) -> None:
    """Leave a partial file: a crash before the rename, or a disk cache lost after it."""
    before = set(folder.partition(0).glob("*")) if folder.partition(0).is_dir() else set()
    writer.write()
    for path in set(folder.partition(0).glob("*")) - before:
        hit(path, "cut", amount)
        if amount % 2:
            path.rename(path.with_suffix(".tmp"))


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_base_of_each_day_stays_for_the_checkpoint_days(folder):
    """Each file is given the time of its offset: four bases a day, one day after the other."""
    folder = replace(folder, keep=2, checkpoint_days=5)
    for offset in range(1, 41):
        state = feeding(offset)
        digest, _ = folder.store(0, Selection.of(state).frame(""))
        [path] = folder.partition(0).glob(f"*-{digest[:16]}.snapshot")
        written_s = 86_400 * (20_000 + offset / 4)
        os.utime(path, (written_s, written_s))
    offsets = sorted(int(path.name.split("-")[1]) for path in folder.partition(0).iterdir())
    assert offsets[-2:] == [39, 40], "what a restart needs"
    firsts = [offset for offset in offsets if offset % 4 == 0 and offset < 38]
    assert firsts == [20, 24, 28, 32, 36]
    assert set(offsets) - {39, 40} - set(firsts) <= {19}, "the rest of the oldest day"
    for at_most, offset in ((27, 24), (24, 24), (35, 32), (40, 40)):
        state, _, refused = folder.restore(0, at_most, base=0)
        assert (state.next_offset, refused) == (offset, [])
        assert snapshots.encode(state) == snapshots.encode(feeding(offset))


def test_a_checkpoint_is_a_base_without_its_deltas(folder):
    folder = replace(folder, keep=1, checkpoint_days=30)
    writer = Writer(folder, LOGS[0])
    while True:
        writer.fold(1)
        writer.write()
        kinds = [is_delta(path) for path in sorted(folder.partition(0).iterdir())]
        if kinds.count(False) == 2:
            break
    first, *others = sorted(folder.partition(0).iterdir())
    assert not is_delta(first)
    assert all(int(path.name.split("-")[1]) > 1 for path in others)
    assert [is_delta(path) for path in others] == [False], "only the new base, no old delta"
