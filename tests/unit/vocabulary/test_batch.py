"""Blobs and batches: joined bytes, and cuts that share what they can."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Batch, Blob

VALUES = st.lists(st.one_of(st.none(), st.binary(max_size=6)), max_size=12)


def batch_of(values):
    n = len(values)
    headers = {row: [("h", bytes([row]))] for row in range(0, n, 2)}
    return Batch(
        "t",
        3,
        Blob.join(values),
        Blob.join([b"k"] * n),
        np.arange(n) * 2 + 5,
        np.arange(n) * 7,
        headers,
    )


@given(VALUES)
def test_a_blob_gives_back_what_was_joined_and_none_is_empty(values):
    blob = Blob.join(values)
    assert [blob[row] for row in range(len(blob))] == [value or b"" for value in values]


@given(VALUES, st.data())
def test_rows_of_a_batch_are_a_batch(values, data):
    whole = batch_of(values)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    part = whole.rows(start, stop)
    assert len(part) == stop - start
    assert [part.values[row] for row in range(len(part))] == [
        value or b"" for value in values[start:stop]
    ]
    assert part.offsets.tolist() == whole.offsets[start:stop].tolist()
    assert part.broker_ms.tolist() == whole.broker_ms[start:stop].tolist()
    assert part.headers == {
        row - start: h for row, h in whole.headers.items() if start <= row < stop
    }


def test_all_rows_are_the_batch_itself():
    whole = batch_of([b"a", b"b"])
    assert whole.rows(0, 2) is whole


@given(VALUES, st.lists(st.integers(0, 12), max_size=4))
def test_pieces_of_a_batch_join_to_the_batch(values, cuts):
    whole = batch_of(values)
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    joined = Batch.join([whole.rows(start, stop) for start, stop in itertools.pairwise(bounds)])
    assert (joined.values.data, joined.keys.data) == (whole.values.data, whole.keys.data)
    for mine, its in (
        (joined.values.bounds, whole.values.bounds),
        (joined.keys.bounds, whole.keys.bounds),
        (joined.offsets, whole.offsets),
        (joined.broker_ms, whole.broker_ms),
    ):
        assert (mine.tolist(), mine.dtype) == (its.tolist(), its.dtype)
    assert joined.headers == whole.headers
