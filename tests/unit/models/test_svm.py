"""The support vector kernel against scikit-learn and its slow twin, compiled and not."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from sklearn.svm import OneClassSVM

from consumer_training.fitting.estimators import svm_of
from shared.kernels.trained import svm as kernels
from shared.kernels.trained.svm import LANES
from shared.models.model import Svm
from tests.reference.svm import score_svm

JIT = not numba.config.DISABLE_JIT
ROWS = 10_000 if JIT else 40


def data(rows: int, features: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, features))
    X[:, 0] = np.abs(X[:, 0]) ** 3
    X[:: max(rows // 20, 1)] *= 8.0
    return X


def fitted(features: int, rows: int = 2_000, nu: float = 0.05) -> OneClassSVM:
    return OneClassSVM(nu=nu, gamma=1.0 / (features * 2.0)).fit(data(rows, features, 1))


@pytest.mark.parametrize("features", [1, 3, 4, 8, 13, 18])
def test_equals_scikit_learn_in_scores_and_in_every_flag(features: int) -> None:
    estimator = fitted(features)
    X = data(ROWS, features, 2)
    scores, theirs = svm_of(estimator).score(X), -estimator.decision_function(X)
    np.testing.assert_allclose(scores, theirs, rtol=0, atol=1e-11)
    assert np.array_equal(scores > 0.0, estimator.predict(X) == -1)
    ordered = np.sort(theirs)
    for place in (len(X) // 50, len(X) * 97 // 100):
        cut = (ordered[place] + ordered[place + 1]) / 2
        assert np.array_equal(scores > cut, theirs > cut)


def test_twin_agrees() -> None:
    svm = svm_of(fitted(7, rows=200))
    X = data(25, 7, 5)
    np.testing.assert_allclose(svm.score(X), score_svm(svm, X), rtol=0, atol=1e-13)


@pytest.mark.skipif(not JIT, reason="compares with the compiled kernel")
def test_compiler_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    svm = svm_of(fitted(7, rows=200))
    X = data(20, 7, 5)
    for name in ("_squared_distances", "_sum_in_lanes"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    padding = -len(svm.coefficients) % LANES
    columns = np.ascontiguousarray(np.pad(svm.vectors, ((0, padding), (0, 0))).T)
    plain = np.empty(len(X))
    kernels.score_svm.py_func(
        X, columns, np.pad(svm.coefficients, (0, padding)), svm.gamma, svm.rho, plain
    )
    assert plain.tobytes() == svm.score(X).tobytes()


@pytest.mark.parametrize("cut", [1, 3, 17])
def test_batch_changes_no_bit(cut: int) -> None:
    svm = svm_of(fitted(5, rows=200))
    X = data(60, 5, 9)
    whole = svm.score(X)
    assert (
        np.concatenate([svm.score(X[low : low + cut]) for low in range(0, len(X), cut)]).tobytes()
        == whole.tobytes()
    )
    assert svm.score(X[::-1])[::-1].tobytes() == whole.tobytes()
    assert len(svm.score(X[:0])) == 0


def test_kernel_value_over_its_whole_range() -> None:
    """One support vector at 0 with weight 1: the score is -exp(-distance squared)."""
    svm = Svm(np.zeros((1, 1)), np.ones(1), 1.0, 0.0)
    exponents = np.concatenate(
        [np.linspace(0, 50, 2_000 if JIT else 200), np.linspace(50, 700, 300)]
    )
    found = -svm.score(np.sqrt(exponents)[:, None])
    np.testing.assert_allclose(found, np.exp(-(np.sqrt(exponents) ** 2)), rtol=4e-16, atol=0)
    assert -svm.score(np.array([[1e6]]))[0] < 1e-307
    assert -svm.score(np.zeros((1, 1)))[0] == 1.0


def small() -> Svm:
    return Svm(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0.5, 0.5]), 0.1, 0.2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vectors": np.zeros((3, 2))}, "vectors is"),
        ({"vectors": np.zeros((2, 2), np.float32)}, "vectors is float32"),
        ({"vectors": np.zeros(2)}, "vectors have shape"),
        ({"vectors": np.array([[0.0, np.nan], [0, 0]])}, "not finite"),
        ({"coefficients": np.array([0.5, np.inf])}, "not finite"),
        ({"coefficients": np.empty(0), "vectors": np.empty((0, 2))}, "vectors have shape"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": float("inf")}, "gamma"),
        ({"rho": float("nan")}, "rho"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(small(), **change)
