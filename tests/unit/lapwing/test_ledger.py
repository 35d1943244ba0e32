"""The demo's ledgers: a record counts once, and differences are reported."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.demo.ledger import DEAD, SCORED, Ledger


def ints(*values):
    return np.array(values, np.int64)


def filled():
    ledger = Ledger(2)
    ledger.partitions[0].sent(ints(0, 1, 2, 3), ints(1000, 1010, 1020, 1030))
    ledger.partitions[1].sent(ints(0), ints(2000))
    ledger.partitions[0].answered(ints(0, 1, 3), ints(1005, 1020, 1100), SCORED)
    ledger.partitions[0].answered(ints(2), ints(1040), DEAD)
    ledger.partitions[1].answered(ints(0), ints(2500), SCORED)
    return ledger


def test_everything_answered_agrees():
    ledger = filled()
    assert (ledger.sent, ledger.scored, ledger.dead, ledger.answered, ledger.repeats) == (
        5,
        4,
        1,
        5,
        0,
    )
    assert ledger.disagreements({0: 4, 1: 1}) == []
    assert ledger.latency_ms().tolist() == [5, 10, 20, 70, 500]
    assert ledger.latency_ms({0: 3, 1: 1}).tolist() == [70]
    assert ledger.span_s({0: 2, 1: 0}) == (3, 1.48)


def test_each_kind_of_disagreement_is_said():
    ledger = filled()
    (missing,) = ledger.disagreements({0: 5, 1: 1})
    assert "partition 0: 5 records, 3 scored, 1 dead letters (1 without a result" in missing
    ledger.partitions[1].answered(ints(0), ints(2600), DEAD)
    (both,) = ledger.disagreements({0: 4, 1: 1})
    assert "1 with both" in both
    (beyond,) = filled().disagreements({0: 4, 1: 0})
    assert "1 results of records that do not exist" in beyond


def test_a_missing_and_a_doubled_record_do_not_cancel_out():
    ledger = Ledger(1)
    ledger.partitions[0].sent(ints(0, 1), ints(0, 0))
    ledger.partitions[0].answered(ints(0), ints(1), SCORED)
    ledger.partitions[0].answered(ints(0), ints(1), DEAD)
    assert ledger.disagreements({0: 2})


def test_a_repeat_counts_once_and_keeps_the_first_time():
    ledger = filled()
    assert ledger.partitions[0].answered(ints(3, 3), ints(9000, 9001), SCORED).tolist() == []
    assert ledger.repeats == 2
    assert ledger.scored == 4
    assert ledger.latency_ms()[3] == 70
    one = Ledger(1)
    assert one.partitions[0].answered(ints(5, 5, 4), ints(1, 2, 3), SCORED).tolist() == [0, 2]
    assert one.repeats == 1


@given(st.permutations(range(40)), st.integers(1, 7))
def test_the_frontier_is_the_first_offset_without_a_result(order, cut):
    ledger = Ledger(1).partitions[0]
    seen = set()
    for start in range(0, 40, cut):
        part = order[start : start + cut]
        ledger.answered(ints(*part), ints(*part), SCORED)
        seen.update(part)
        assert ledger.frontier == next(offset for offset in range(41) if offset not in seen)


def test_books_grow():
    ledger = Ledger(1).partitions[0]
    many = np.arange(5000)
    ledger.sent(many, many)
    ledger.answered(many[::-1].copy(), many, SCORED)
    assert ledger.frontier == 5000
    assert ledger.end == 5000
