"""Snapshots as bytes: the state law, and whatever lies or is damaged is refused."""

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import snapshots
from shared.batch import Batch, Blob
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.avro_columns import encode_records, flat_schema
from shared.errors import SnapshotRefused
from shared.events import STATE_VERSION, Activation, Detector
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.settings import DetectionSettings, InputSettings, QualitySettings
from shared.snapshots.frames import Selection, overlay, parse, state_of
from tests.support.snapshot_logs import LOGS, NAMES, feed, log_of, marks_of

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 40),
        st.floats(-1e3, 1e3),
        st.one_of(st.just(float("nan")), st.floats(0, 1)),
    ),
    max_size=50,
)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_fold_after_restore_equals_fold_without(prefix, suffix):
    straight, broken = PartitionState(3), PartitionState(3)
    feed(straight, prefix)
    feed(broken, prefix)
    broken = snapshots.decode(snapshots.encode(broken))
    want, got = feed(straight, suffix), feed(broken, suffix)
    for name in set(want.__slots__) - {"releases"}:
        assert getattr(want, name).tobytes() == getattr(got, name).tobytes()
    assert snapshots.encode(straight) == snapshots.encode(broken)


def test_capacity_never_enters_the_bytes():
    small, large = PartitionState(0), PartitionState(0)
    large.reserve(10, 5000, 9, 7000)
    large.ensemble.reserve(50, 70)
    large.quality.reserve(50, 70)
    rows = [(0, 1, 1.0, 2.0), (2, 1, 3.0, float("nan"))]
    feed(small, rows)
    feed(large, rows)
    assert snapshots.encode(small) == snapshots.encode(large)


def state_at(offset: int, log: list[tuple] = LOGS[0]) -> PartitionState:
    state = PartitionState(0)
    feed(state, log[:offset])
    state.activation = Activation("ab" * 32, 2, "2014-04-10")
    return state


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_is_refused(data):
    whole = snapshots.encode(state_at(7))
    kind = data.draw(st.sampled_from(["cut", "flip", "junk", "append"]))
    if kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "flip":
        place = data.draw(st.integers(0, len(whole) - 1))
        damaged = (
            whole[:place]
            + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))])
            + whole[place + 1 :]
        )
    elif kind == "junk":
        damaged = data.draw(st.binary(max_size=200))
    else:
        damaged = whole + data.draw(st.binary(min_size=1, max_size=8))
    with pytest.raises(SnapshotRefused):
        snapshots.decode(damaged)


def resealed(whole: bytes, header_change) -> bytes:
    """A snapshot whose checksum is right and whose header is not."""
    size = int.from_bytes(whole[8:16], "big")
    header = json.loads(whole[16 : 16 + size])
    header_change(header)
    text = json.dumps(header).encode()
    body = whole[:8] + len(text).to_bytes(8, "big") + text + whole[16 + size : -32]
    return body + hashlib.sha256(body).digest()


def entry(header, name):
    return next(entry for entry in header["arrays"] if entry[0] == name)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: h.update(state_version=STATE_VERSION + 1), "state version"),
        (lambda h: h.pop("arrays"), "is inconsistent"),
        (lambda h: h["arrays"][0].__setitem__(2, [10**15]), "longer than the file"),
        (lambda h: h["arrays"][0].__setitem__(1, "|O"), "dtype"),
        (lambda h: h["arrays"].pop(), "left over"),
        (lambda h: h.update(metrics=["cpu", "disk", "net"]), "is inconsistent"),
        (lambda h: h.update(activation={"nonsense": 1}), "is inconsistent"),
        (lambda h: h.update(parent=None), "not a digest"),
        (lambda h: h.update(next_offset=-1), "not increasing"),
        (lambda h: h["arrays"][0].__setitem__(3, "@slots"), "is inconsistent"),
    ],
)
def test_a_header_that_lies_is_refused(change, why):
    with pytest.raises(SnapshotRefused, match=why):
        snapshots.decode(resealed(snapshots.encode(state_at(7)), change))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: entry(h, "ring").__setitem__(2, [10**9, 64]), "rows of array ring"),
        (lambda h: entry(h, "ring").__setitem__(2, [1, 64]), "rows of array ring"),
        (lambda h: entry(h, "ring").__setitem__(1, "<i8"), "does not fit the parent"),
        (lambda h: entry(h, "ensemble_metrics").__setitem__(2, [5, 7]), "left over"),
        (lambda h: h["arrays"].remove(entry(h, "slots")), "left over"),
    ],
)
def test_a_delta_that_lies_is_refused(change, why):
    state = state_at(44)
    base, marks = (
        parse(np.frombuffer(bytearray(snapshots.encode(state)), np.uint8)),
        marks_of(state),
    )
    feed(state, LOGS[0][44:45])
    body = b"".join(
        bytes(piece) for piece in Selection.of(state, marks).frame(base.digest).pieces()
    )
    whole = body + hashlib.sha256(body).digest()
    good = parse(np.frombuffer(whole, np.uint8))
    assert snapshots.encode(state_of(good, overlay(overlay({}, base), good))) == snapshots.encode(
        state
    )
    with pytest.raises(SnapshotRefused, match=why):
        overlay(overlay({}, base), parse(np.frombuffer(resealed(whole, change), np.uint8)))


def test_a_delta_contains_the_slots_that_were_freed_and_not_taken_again():
    """Else the next metric in that slot would continue from the records of a dropped one."""
    state, nothing = PartitionState(0), float("nan")
    feed(state, [(0, 1, 1.0, 2.0), (1, 1, 1.0, nothing)], max_entities=2)
    whole = bytearray(snapshots.encode(state))
    base, marks = parse(np.frombuffer(whole, np.uint8)), marks_of(state)
    dropped = feed(state, [(2, 2, 1.0, nothing)], max_entities=2).releases
    assert dropped.slots.tolist() == [[0, 1]]
    assert state.places.slot_place[: state.slots_used].tolist() == [0, -1, 1]
    delta = Selection.of(state, marks).frame(base.digest)
    restored = state_of(delta, overlay(overlay({}, base), delta))
    assert snapshots.encode(restored) == snapshots.encode(state)


INPUT = InputSettings()
DECODER = AvroDecoder.of_schemas({1: flat_schema("lapwing.Metric", "host", ("cpu", "disk"))}, INPUT)


@pytest.mark.parametrize("detector", [Detector.ENSEMBLE, Detector.ISOLATION_FOREST])
def test_the_marks_name_every_row_that_the_kernels_move(detector):
    """Rows that the kernels change are marked, unchanged ones are not.

    The log has late rows, duplicates and entities that start over.
    """
    rows = [
        (NAMES[e], minute * 60_000, cpu, None if np.isnan(disk) else disk)
        for e, minute, cpu, disk in log_of(7, 200)
    ]
    rows = [
        {"host": h, "timestamp": 1_400_000_000_000 + t, "cpu": cpu, "disk": disk}
        for h, t, cpu, disk in rows
    ]
    values = [
        encode_records(flat_schema("lapwing.Metric", "host", ("cpu", "disk")), 1, [row])[0]
        for row in rows
    ]
    batch = Batch(
        "in", 0, Blob.join(values), Blob.join([b""] * 200), np.arange(200), np.zeros(200, np.int64)
    )
    configuration = Configuration(
        detector, 5, DetectionSettings(warmup_days=0.01), QualitySettings(forget_days=0.01)
    )
    scorer = Scorer(PartitionState(0), Rules(configuration))
    state, named, moved = scorer.state, 0, 0
    for start, stop in pairwise(range(0, 201, 4)):
        marks, before = (
            marks_of(state),
            {name: array.copy() for name, array in state.to_arrays().items()},
        )
        scorer.process(batch.rows(start, stop), DECODER)
        arrays, changed = state.to_arrays(), marks.changed(state)
        for name, index in marks.by_row(state, arrays).items():
            was, now = before[name], arrays[name]
            both = min(len(was), len(now))
            rows_moved = (
                np.flatnonzero((was[:both] != now[:both]).reshape(both, -1).any(axis=1))
                if both
                else []
            )
            assert set(rows_moved) | set(range(len(was), len(now))) <= set(changed[index])
            named, moved = named + len(changed[index]), moved + len(rows_moved)
    assert 0 < moved <= named < 200 * 5
