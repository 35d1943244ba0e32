"""What was fetched and not handed over: nothing lost, nothing twice, in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Batch, Blob
from shared.kafka.held import HeldRecords


def rows(partition: int, start: int, count: int) -> Batch:
    offsets = np.arange(start, start + count)
    values = [b"%d" % offset for offset in offsets]
    stamps = np.zeros(count, np.int64)
    return Batch("t", partition, Blob.join(values), Blob.join(values), offsets, stamps)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("take"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("keep"), st.integers(0, 2), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_rows_leave_in_order_and_once(steps) -> None:
    held, ends = HeldRecords(), [0, 0, 0]
    expected: list[list[int]] = [[], [], []]
    for what, which, count in steps:
        if what == "add":
            held.add([rows(which, ends[which], count)])
            expected[which] += range(ends[which], ends[which] + count)
            ends[which] += count
        elif what == "take":
            total = sum(map(len, expected))
            taken = held.take(which)
            assert sum(map(len, taken)) == min(which, total)
            assert len({batch.partition for batch in taken}) == len(taken)
            for batch in taken:
                offsets = batch.offsets.tolist()
                assert offsets == expected[batch.partition][: len(offsets)]
                assert batch.values[0] == b"%d" % offsets[0]
                del expected[batch.partition][: len(offsets)]
        elif what == "drop":
            held.drop([which])
            expected[which] = []
        else:
            held.keep({which})
            expected = [kept if p == which else [] for p, kept in enumerate(expected)]
        assert len(held) == sum(map(len, expected))


def test_what_one_fetch_brought_is_handed_on_as_it_is() -> None:
    held, batch = HeldRecords(), rows(1, 0, 5)
    held.add([batch])
    (taken,) = held.take(5)
    assert taken is batch
