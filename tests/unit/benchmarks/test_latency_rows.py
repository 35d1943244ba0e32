"""How the benchmark of latency pairs records with results, and what it calls correct."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alternating import rows_of as alternating_rows
from benchmarks.latency import WARM_S, Run, _run, rows_of
from benchmarks.paced import Sent

SENT = Sent(
    at_s=np.array([0.0, WARM_S, WARM_S + 1, WARM_S + 1]),
    partition=np.array([0, 1, 0, 1]),
    entity=np.array([3, 4, 3, 5]),
    late_s=0.0,
)
KEYS = {0: [b"host-3host-3"], 1: [b"host-4", b"host-5"]}


def test_the_results_of_a_partition_are_in_the_order_of_its_records() -> None:
    read = {0: [(WARM_S + 1.010, 2)], 1: [(WARM_S + 0.020, 1), (WARM_S + 1.030, 1)]}
    run = _run(SENT, read, KEYS, is_complete=True)
    assert run.correct
    assert run.p50 == pytest.approx(20.0)  # the first record does not count
    assert run.p99 == pytest.approx(29.8)


def test_results_of_other_records_are_not_correct() -> None:
    read = {0: [(WARM_S + 1.010, 2)], 1: [(WARM_S + 0.020, 1), (WARM_S + 1.030, 1)]}
    assert not _run(SENT, read, KEYS | {1: [b"host-5", b"host-4"]}, is_complete=True).correct
    assert not _run(SENT, read, KEYS, is_complete=False).correct
    assert not _run(SENT, read | {1: [(WARM_S, 1)]}, KEYS, is_complete=True).correct


def test_ratios_are_those_of_a_repeat() -> None:
    echo, ours = [Run(1, 10, True), Run(1, 20, True)], [Run(2, 20, True), Run(2, 20, False)]
    first, second = rows_of({"echo.10k": echo, "at_least_once.10k": ours})
    assert (first["ratio"], first["correct"]) == (1.0, True)
    assert (second["value"], second["ratio"], second["correct"]) == (20.0, 1.5, False)
    assert second["base"] == "latency.echo.10k"
    base, other = alternating_rows("x", {"a": [1.0, 3.0], "b": [0.5, 1.0]}, "a", "us", 10.0)
    assert (base["ratio"], other["ratio"], other["value"]) == (1.0, 2.5, 7.5)
