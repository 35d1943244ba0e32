"""Snapshots: the state law in bytes, and every kind of damage is passed over."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import snapshots
from shared.codec import Columns
from shared.errors import ConfigError, SnapshotRefused
from shared.events import STATE_VERSION, Activation
from shared.snapshots import SnapshotFolder
from shared.state import PartitionState, fold

NONE = np.zeros(0, np.int64), np.zeros(0, np.uint8)
NAMES = ("alpha", "beta", "gamma", "delta")
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.floats(-1e3, 1e3), st.one_of(st.just(float("nan")), st.floats(0, 1))),
    max_size=50,
)


def feed(state: PartitionState, rows, metrics=("cpu", "disk")):
    for metric in metrics:
        if metric not in state.metrics:
            state.metrics.append(metric)
    entity = np.array([state.entities.add(NAMES[row[0]]) for row in rows], np.int32)
    values = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), 2)
    time_ms = np.array([row[1] * 1000 for row in rows], np.int64)
    folded = fold(state, Columns(np.arange(len(rows)), entity, time_ms, values, *NONE), window=5)
    state.next_offset += len(rows)
    return folded


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_fold_after_restore_equals_fold_without(prefix, suffix):
    straight, broken = PartitionState(3), PartitionState(3)
    feed(straight, prefix)
    feed(broken, prefix)
    broken = snapshots.decode(snapshots.encode(broken))
    want, got = feed(straight, suffix), feed(broken, suffix)
    for name in want.__slots__:
        assert getattr(want, name).tobytes() == getattr(got, name).tobytes()
    assert snapshots.encode(straight) == snapshots.encode(broken)


def test_capacity_never_enters_the_bytes():
    small, large = PartitionState(0), PartitionState(0)
    large.reserve(5000, 9, 7000)
    rows = [(0, 1, 1.0, 2.0), (2, 1, 3.0, float("nan"))]
    feed(small, rows)
    feed(large, rows)
    assert snapshots.encode(small) == snapshots.encode(large)


def state_at(offset: int) -> PartitionState:
    state = PartitionState(0)
    feed(state, [(k % 4, k, float(k), 1.0) for k in range(offset)])
    state.activation = Activation("ab" * 32, 2, "2014-04-10")
    return state


@pytest.fixture
def folder(tmp_path):
    return SnapshotFolder(tmp_path, "cluster/1", "metrics.test.raw", "topic-id", "group", keep=2)


def test_the_newest_at_or_below_the_committed_offset_is_restored(folder):
    for offset in (5, 9, 14):
        folder.write(0, state_at(offset))
    state, refused = folder.newest(0, 13, base=0)
    assert state.next_offset == 9
    assert refused == []
    assert snapshots.encode(state) == snapshots.encode(state_at(9))
    assert folder.newest(1, 13, base=0) == (None, [])


def test_only_the_newest_are_kept(folder):
    for offset in (5, 9, 14):
        folder.write(0, state_at(offset))
    assert sorted(p.name for p in folder.partition(0).iterdir()) == [
        f"v{STATE_VERSION}-{9:020d}.snapshot",
        f"v{STATE_VERSION}-{14:020d}.snapshot",
    ]


def test_damage_is_passed_over_and_named(folder):
    folder.write(0, state_at(5))
    path = folder.write(0, state_at(9))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    state, refused = folder.newest(0, 100, base=0)
    assert state.next_offset == 5
    assert len(refused) == 1
    assert "SHA-256" in refused[0]


def test_a_snapshot_of_another_history_is_passed_over(folder):
    folder.write(0, state_at(5))
    state, refused = folder.newest(0, 100, base=3)
    assert state is None
    assert "begins at offset 0" in refused[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_is_refused(data):
    whole = snapshots.encode(state_at(7))
    kind = data.draw(st.sampled_from(["cut", "flip", "junk", "append"]))
    if kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "flip":
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :]
    elif kind == "junk":
        damaged = data.draw(st.binary(max_size=200))
    else:
        damaged = whole + data.draw(st.binary(min_size=1, max_size=8))
    with pytest.raises(SnapshotRefused):
        snapshots.decode(damaged)


def resealed(header_change) -> bytes:
    """A snapshot whose checksum is right and whose header is not."""
    import hashlib
    import json

    whole = snapshots.encode(state_at(7))
    size = int.from_bytes(whole[8:16], "big")
    header = json.loads(whole[16 : 16 + size])
    header_change(header)
    text = json.dumps(header).encode()
    body = whole[:8] + len(text).to_bytes(8, "big") + text + whole[16 + size : -32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: h.update(state_version=STATE_VERSION + 1), "state version"),
        (lambda h: h.pop("arrays"), "does not fit together"),
        (lambda h: h["arrays"][0].__setitem__(2, [10**15]), "longer than the file"),
        (lambda h: h["arrays"][0].__setitem__(1, "|O"), "dtype"),
        (lambda h: h["arrays"].pop(), "left over"),
        (lambda h: h.update(metrics=["cpu"]), "does not fit together"),
        (lambda h: h.update(activation={"nonsense": 1}), "does not fit together"),
    ],
)
def test_a_header_that_lies_is_refused(change, why):
    with pytest.raises(SnapshotRefused, match=why):
        snapshots.decode(resealed(change))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="state_dir"):
        SnapshotFolder(tmp_path / "file", "c", "t", "", "g").write(0, state_at(3))


def test_names_that_are_no_file_names_never_meet(tmp_path):
    paths = {SnapshotFolder(tmp_path, c, "t", "", "g").partition(0) for c in ("a/b", "a_b", "..", "a b")}
    assert len(paths) == 4
    assert all(tmp_path in path.resolve().parents for path in paths)
