"""Peer groups as arrays: the kernel against its twin, and what the class refuses."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest

from shared.kernels.clock import Zone
from shared.kernels.trained import peers as kernels
from shared.kernels.units import HOUR_MS
from shared.models.peers import Peers
from shared.models.value_rows import (
    UNKNOWN,
    hash_of,
    list_entities,
    local_hours,
    numbers_of,
    value_rows,
)
from tests.reference.peers import score_peers

JIT = not numba.config.DISABLE_JIT
NAN = np.nan


def two_groups(parts: int = 2) -> Peers:
    """Make two groups of three metrics; the fourth entity has no peers."""
    center = np.array([[10.0, 100.0, NAN], [50.0, NAN, 5.0]])
    spread = np.array([[1.0, 20.0, NAN], [5.0, NAN, 0.5]])
    grown = 1.0 + np.arange(parts)[None, :, None]
    return Peers(
        list_entities(["a", "b", "c", "d"]),
        np.array([0, 1, 0, -1], np.int32),
        center[:, None, :] * grown,
        spread[:, None, :] * np.ones_like(grown),
    )


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    X = random.standard_normal((count, 5)) * 60.0
    X[:, 0] = random.integers(-2, 6, count)
    X[:, 1] = random.integers(-1, 26, count)
    X[:, 2:][random.random((count, 3)) < 0.3] = NAN
    return X


@pytest.mark.parametrize("parts", [1, 2, 24])
def test_twin_agrees(parts: int) -> None:
    peers, X = two_groups(parts), rows(300, parts)
    wanted = score_peers(peers, X)
    assert peers.score(X).tolist() == [score for score, _ in wanted]
    assert peers.knows(X).tolist() == [group >= 0 for _, group in wanted]
    assert {group for _, group in wanted} == {-1, 0, 1}


@pytest.mark.skipif(not JIT, reason="compares with the compiled kernel")
def test_compiler_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    peers, X = two_groups(), rows(200, 9)
    compiled = peers.score(X)
    for name in ("part_of_day", "_from_group"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    plain, chosen = np.empty(len(X)), np.empty(len(X), np.int64)
    kernels.score_peers.py_func(X, peers.group, peers.center, peers.spread, plain, chosen)
    assert plain.tobytes() == compiled.tobytes()


def test_a_row_is_compared_with_its_own_group_only() -> None:
    peers = two_groups(1)
    like_the_other = np.array([[0.0, 3.0, 50.0, NAN, NAN]])
    assert peers.score(like_the_other).tolist() == [40.0]
    assert peers.peers_of(like_the_other[0]) == 2
    assert peers.expected(like_the_other[0], 0) == (10.0, 7.0, 13.0)
    assert peers.shares(like_the_other).tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def test_an_unknown_entity_is_compared_with_the_nearest_group_that_has_its_metrics() -> None:
    peers = two_groups(1)
    X = np.array(
        [
            [UNKNOWN, 3.0, 50.0, NAN, NAN],
            [UNKNOWN, 3.0, 11.0, NAN, NAN],
            [UNKNOWN, 3.0, NAN, 100.0, 5.0],
            [UNKNOWN, 3.0, NAN, NAN, NAN],
        ]
    )
    assert peers.score(X).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert peers.knows(X).tolist() == [True, True, True, False]


def test_without_peers_or_values_nothing_is_said() -> None:
    peers = two_groups(1)
    X = np.array([[3.0, 0.0, 999.0, 999.0, 999.0], [1.0, 0.0, NAN, 999.0, NAN]])
    assert peers.score(X).tolist() == [0.0, 0.0]
    assert not peers.knows(X).any()
    assert np.isnan(peers.expected(X[0], 0)).all()
    assert peers.peers_of(X[0]) == 0
    np.testing.assert_allclose(peers.shares(X)[0], [0.0, 0.0, 1 / 3, 1 / 3, 1 / 3])


def test_absurd_values_and_numbers_give_finite_scores() -> None:
    peers = two_groups()
    X = np.array([[1e300, -1e300, 1e300, -1e300, 0.0], [0.5, 23.9, -1e308, 1e308, NAN]])
    assert peers.score(X).tolist() == [1e6, 1e6]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"entities": np.array([1, 1, 2, 3], np.uint64)}, "entities are not increasing"),
        ({"entities": np.arange(3, dtype=np.uint64)}, r"group is int32 \(4,\)"),
        ({"entities": np.arange(4)}, "entities is int64"),
        ({"group": np.array([0, 1, 2, -1], np.int32)}, r"group is outside -1..1"),
        ({"group": np.array([0, 1, 0, -2], np.int32)}, r"group is outside -1..1"),
        ({"center": np.ones((2, 3))}, r"center has shape \(2, 3\)"),
        ({"center": np.ones((0, 2, 3))}, r"center has shape \(0, 2, 3\)"),
        ({"center": np.ones((2, 2, 3)), "spread": np.ones((2, 1, 3))}, "spread is float64"),
        ({"center": np.ones((2, 5, 3)), "spread": np.ones((2, 5, 3))}, "5 parts of a day"),
        ({"center": np.ones((1025, 1, 1)), "spread": np.ones((1025, 1, 1))}, "1025 groups"),
        ({"center": np.ones((2, 2, 3))}, "spread is NaN at other places than center"),
        ({"spread": np.zeros((2, 2, 3)), "center": np.ones((2, 2, 3))}, "spread is outside"),
        ({"spread": np.full((2, 2, 3), np.inf), "center": np.ones((2, 2, 3))}, "spread is outside"),
        ({"center": np.full((2, 2, 3), np.inf), "spread": np.ones((2, 2, 3))}, "center is beyond"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(two_groups(), **change)


def test_entities_are_found_by_name() -> None:
    entities = list_entities(["b", "a", "b"])
    assert len(entities) == 2
    assert entities[numbers_of(["a"], entities)[0]] == hash_of("a")
    assert numbers_of(["c", "a", "b"], entities)[0] == UNKNOWN
    assert sorted(numbers_of(["a", "b"], entities).tolist()) == [0, 1]
    assert numbers_of(["a"], entities[:0]).tolist() == [UNKNOWN]
    assert hash_of("a") == 0x21DA787F017AA8B1


def test_hours_are_local() -> None:
    zone = Zone(np.array([np.iinfo(np.int64).min, 10 * HOUR_MS]), np.array([0, HOUR_MS // 2]))
    time_ms = np.array([0, 9, 10, 23]) * HOUR_MS + HOUR_MS // 2
    assert local_hours(time_ms, zone).tolist() == [0, 9, 11, 0]


def test_rows_have_a_column_for_each_of_the_models_metrics() -> None:
    X = value_rows(np.array([4, -1]), np.array([7, 8]), np.array([[1.0, 2.0], [3.0, 4.0]]), [1, -1])
    np.testing.assert_array_equal(X, [[4.0, 7.0, 2.0, NAN], [-1.0, 8.0, 4.0, NAN]])
