"""Computations of the fault suite's rows: the coordinator of a name, growth of a predictor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.faults.rows_cluster import _java_hash
from tests.faults.rows_soak import Usage, _judge
from tests.faults.table import Tally


@pytest.mark.parametrize(
    ("text", "hashed"), [("", 0), ("a", 97), ("hello", 99162322), ("kafka", 101807910)]
)
def test_names_are_shared_out_as_java_does(text, hashed):
    assert _java_hash(text) == hashed


def test_a_negative_hash_loses_its_sign():
    assert _java_hash("zzzzzzzz") == 1_910_022_912
    assert _java_hash("polygenelubricants") == 2**31


def usage_of(*samples: list[tuple[float, float, int, int]]) -> Usage:
    usage = Usage(SimpleNamespace(name="stays", process=None, exits={1: len(samples) - 1}))
    usage.close()
    usage.lives = dict(enumerate(samples))
    return usage


def steady(
    count: int, *, rss: float = 0, fds: int = 0, threads: int = 0
) -> list[tuple[float, float, int, int]]:
    """Samples of a process that takes so much more in its last quarter."""
    late = [4 * k >= 3 * count for k in range(count)]
    return [
        (2.0 * k, 200 + rss * late[k], 20 + fds * late[k], 15 + threads * late[k])
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("grown", "clean"),
    [
        ({}, True),
        ({"rss": 39, "fds": 4, "threads": 4}, True),
        ({"rss": 41}, False),
        ({"fds": 5}, False),
        ({"threads": 5}, False),
    ],
)
def test_a_predictor_that_grew_fails_the_soak(grown, clean):
    tally = Tally("soak", None)
    _judge(
        SimpleNamespace(name="run1"),
        tally,
        usage_of(steady(80, **grown)),
        SimpleNamespace(done={"broker killed": 3}),
    )
    assert tally.clean is clean
    record = tally.record("soak")
    assert len(record["rss_mib"]) == len(record["fds"]) == len(record["threads"]) == 4
    assert (record["samples"], record["faults"]) == (80, {"broker killed": 3})


def test_the_process_that_lived_longest_is_judged_if_it_lived_long_enough():
    tally = Tally("soak", None)
    _judge(
        SimpleNamespace(name="run1"),
        tally,
        usage_of(steady(20), steady(60)),
        SimpleNamespace(done={}),
    )
    assert tally.clean
    assert tally.more["samples"] == 60
    short = Tally("soak", None)
    _judge(
        SimpleNamespace(name="run1"), short, usage_of(*[steady(20)] * 4), SimpleNamespace(done={})
    )
    assert not short.clean


def test_the_slope_is_that_of_the_second_half():
    rising = [(2.0 * k, 100.0 + max(0, k - 50) * 0.5, 20, 15) for k in range(100)]
    assert usage_of(rising).slope_per_hour(1) == pytest.approx(900.0, abs=0.1)
    assert usage_of(rising).slope_per_hour(2) == 0.0
