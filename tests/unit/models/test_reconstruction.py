"""A network as arrays: the kernel against its twin, and what a row is expected to be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numba
import numpy as np
import pytest

from shared.kernels.trained import reconstruction as kernels
from shared.models.reconstruction import Reconstruction
from shared.models.value_rows import list_entities
from tests.reference.reconstruction import score_reconstruction

JIT = not numba.config.DISABLE_JIT
NAN = np.nan


def network(linear: int, sizes: tuple[int, ...] = (4, 7, 2, 4), seed: int = 0) -> Reconstruction:
    random = np.random.default_rng(seed)
    pairs = list(pairwise(sizes))
    center, spread = random.normal(50, 20, (3, 4)), random.uniform(1, 9, (3, 4))
    center[1, 2] = spread[1, 2] = NAN
    center[2, 1:] = spread[2, 1:] = NAN
    return Reconstruction(
        list_entities(["a", "b", "c"]),
        center,
        spread,
        np.array(sizes, np.int32),
        random.standard_normal(sum(a * b for a, b in pairs)),
        random.standard_normal(sum(b for _, b in pairs)),
        linear,
        random.uniform(0.1, 2.0, (3, 4)),
    )


def mean_of_two() -> Reconstruction:
    """Reconstruct each of two metrics as the mean of their deviations."""
    return Reconstruction(
        list_entities(["a"]),
        np.array([[10.0, 100.0]]),
        np.array([[1.0, 20.0]]),
        np.array([2, 1, 2], np.int32),
        np.array([0.5, 0.5, 1.0, 1.0]),
        np.zeros(3),
        1,
        np.array([[0.5, 0.5]]),
    )


def rows(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    X = random.normal(50, 30, (count, 6))
    X[:, 0] = random.integers(-1, 4, count)
    X[:, 2:][random.random((count, 4)) < 0.3] = NAN
    return X


@pytest.mark.parametrize("linear", [0, 1])
def test_twin_agrees(linear: int) -> None:
    model, X = network(linear), rows(200, 1)
    wanted = score_reconstruction(model, X)
    np.testing.assert_allclose(model.score(X), [score for score, _ in wanted], rtol=1e-12)
    np.testing.assert_allclose(
        model.reconstruct(X)[1], [errors for _, errors in wanted], rtol=1e-9, atol=1e-12
    )
    assert set(model.knows(X).tolist()) == {False, True}
    assert model.knows(X).tolist() == [not np.isnan(errors).all() for _, errors in wanted]


@pytest.mark.skipif(not JIT, reason="compares with the compiled kernel")
@pytest.mark.parametrize("linear", [0, 1])
def test_compiler_changes_no_bit(monkeypatch: pytest.MonkeyPatch, linear: int) -> None:
    model, X = network(linear), rows(60, 2)
    compiled = model.score(X)
    for name in ("_standardise", "_propagate"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    plain, errors = np.empty(len(X)), np.empty((len(X), 4))
    kernels.score_reconstruction.py_func(
        X, model.center, model.spread, model.sizes, model.weights, model.biases, linear,
        model.noise, plain, errors
    )  # fmt: skip
    assert plain.tobytes() == compiled.tobytes()


def test_a_metric_that_does_not_follow_the_other_one_is_named() -> None:
    model = mean_of_two()
    follows, does_not = [0.0, 5.0, 12.0, 140.0], [0.0, 5.0, 14.0, 100.0]
    X = np.array([follows, does_not])
    assert model.score(X).tolist() == [0.0, 4.0]
    assert model.expected(X[1], 0) == (12.0, 10.5, 13.5)
    assert model.expected(X[1], 1) == (140.0, 110.0, 170.0)
    assert model.shares(X).tolist() == [[0.0, 0.0, 0.5, 0.5]] * 2


def test_unknown_entities_and_rows_of_one_metric_get_no_verdict() -> None:
    model = mean_of_two()
    X = np.array([[-1.0, 0.0, 99.0, 9.0], [1.0, 0.0, 99.0, 9.0], [0.0, 0.0, 99.0, NAN]])
    assert model.score(X).tolist() == [0.0, 0.0, 0.0]
    assert not model.knows(X).any()
    assert np.isnan(model.expected(X[0], 0)).all()


def test_absurd_values_give_finite_scores() -> None:
    largest = replace(network(0), weights=np.full(50, 1e3), biases=np.full(13, 1e3))
    for model in (network(0), network(1), largest, replace(largest, linear=1)):
        X = np.array([[0.0, 0.0, 1e308, -1e308, 1e308, -1e308], [0.5, 0.0, 0.0, 0.0, 0.0, 1e300]])
        assert np.isfinite(model.score(X)).all()
        assert np.isfinite(model.shares(X)).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"center": np.ones(4)}, r"center has shape \(4,\)"),
        ({"center": np.ones((3, 0))}, r"center has shape \(3, 0\)"),
        ({"sizes": np.array([4, 7, 2, 4], np.int64)}, "sizes is int64"),
        ({"sizes": np.full(8, 4, np.int32)}, "sizes has 8 entries, not 2 to 7"),
        ({"sizes": np.array([4, 0, 2, 4], np.int32)}, r"sizes is outside 1..512"),
        ({"weights": np.zeros(49)}, r"weights is float64 \(49,\), not contiguous float64 \(50,\)"),
        ({"biases": np.zeros(14)}, r"biases is float64 \(14,\)"),
        ({"noise": np.full((3, 4), 1e-9)}, "noise is outside"),
        ({"noise": np.full((3, 4), NAN)}, "noise is outside"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(network(0), **change)
