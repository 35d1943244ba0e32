"""The forest kernel against scikit-learn, against its slow twin, and with the compiler off."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from consumer_training.fitting.estimators import floor_to_float32, forest_of
from shared.kernels.trained import forest as kernels
from shared.models.model import Forest
from tests.reference.forest import order_key, score_forest

JIT = not numba.config.DISABLE_JIT
ROWS = 10_000 if JIT else 60


def data(rows: int, features: int, seed: int) -> np.ndarray:
    """Correlated, skewed and binary columns, ties, zeros of both signs, and a few far rows."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((rows, features))
    X[:, 1] = np.abs(X[:, 1]) ** 3
    X[:, 2] = np.round(X[:, 2])
    X[:, -1] = random.integers(0, 2, rows)
    X[:: max(rows // 20, 1)] *= 5.0
    X[random.random(X.shape) < 0.05] = 0.0
    X[random.random(X.shape) < 0.02] = -0.0
    return X


@pytest.mark.parametrize(
    ("trees", "samples", "features"),
    [(100, 256, 18), (1, 2, 3), (7, 33, 8), (8, 64, 4), (13, 1000, 23)],
)
def test_equals_scikit_learn_in_scores_and_in_every_flag(
    trees: int, samples: int, features: int
) -> None:
    estimator = IsolationForest(
        n_estimators=trees, max_samples=samples, random_state=3, contamination=0.02
    )
    estimator.fit(data(3_000, features, 1).astype(np.float32))
    forest = forest_of(estimator)
    X = data(ROWS, features, 2)
    scores = forest.score(X)
    np.testing.assert_allclose(scores, -estimator.score_samples(X), rtol=0, atol=1e-15)
    assert np.array_equal(scores > -estimator.offset_, estimator.predict(X) == -1)


def test_quantile_of_own_training_scores_flags_as_scikit_learn_does() -> None:
    estimator = IsolationForest(n_estimators=50, random_state=0, contamination=0.05)
    X = data(2_000 if JIT else 300, 6, 4)
    estimator.fit(X.astype(np.float32))
    scores = forest_of(estimator).score(X)
    threshold = -np.percentile(-scores, 5.0)
    assert np.array_equal(scores > threshold, estimator.predict(X) == -1)


def test_twin_agrees() -> None:
    estimator = IsolationForest(n_estimators=11, max_samples=64, random_state=0).fit(
        data(500, 5, 0)
    )
    forest = forest_of(estimator)
    X = data(40, 5, 9)
    np.testing.assert_allclose(forest.score(X), score_forest(forest, X), rtol=3e-16, atol=0)


@pytest.mark.skipif(not JIT, reason="compares with the compiled kernel")
def test_compiler_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = forest_of(IsolationForest(n_estimators=19, random_state=0).fit(data(500, 5, 0)))
    X = data(30, 5, 9)
    compiled = forest.score(X)
    for name in ("order_keys", "_child", "_exp2", "_add_eight_trees"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    nodes = np.empty(len(forest.feature), np.int64)
    place = np.arange(len(nodes)) - np.repeat(forest.offsets[:-1], np.diff(forest.offsets))
    kernels.pack_nodes.py_func(
        forest.feature, forest.threshold, np.where(forest.left < 0, place, forest.left), nodes
    )
    plain = np.empty(len(X))
    kernels.score_forest.py_func(
        X, nodes, forest.path_length, forest.offsets, forest.depth, forest.denominator, plain
    )
    assert plain.tobytes() == compiled.tobytes()


@pytest.mark.parametrize("cut", [1, 7, 63, 64, 65, 129])
def test_batch_changes_no_bit(cut: int) -> None:
    forest = forest_of(IsolationForest(n_estimators=10, random_state=0).fit(data(500, 5, 0)))
    X = data(200 if JIT else 131, 5, 9)
    whole = forest.score(X)
    parts = [forest.score(X[low : low + cut]) for low in range(0, len(X), cut)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert forest.score(X[::-1])[::-1].tobytes() == whole.tobytes()
    assert len(forest.score(X[:0])) == 0


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=20))
def test_keys_order_like_the_numbers(values: list[float]) -> None:
    array = np.array(values, np.float32)
    keys = np.empty(len(array), np.int64)
    kernels.order_keys(array, keys)
    assert keys.tolist() == [order_key(v) for v in values]
    assert np.array_equal(keys[:, None] <= keys, array[:, None] <= array)
    assert keys.min() >= -(2**31)
    assert keys.max() < 2**31 - 1


@given(st.lists(st.floats(-1e30, 1e30), min_size=1), st.floats(width=32, allow_nan=False))
def test_rounded_thresholds_split_float32_alike(thresholds: list[float], x: float) -> None:
    exact = np.array(thresholds)
    rounded = floor_to_float32(exact)
    assert np.array_equal(np.float32(x) <= rounded, float(np.float32(x)) <= exact)


@settings(max_examples=200)
@given(st.floats(-60.0, 0.0))
def test_exp2_is_within_one_unit_in_the_last_place(exponent: float) -> None:
    assert kernels._exp2(exponent) == pytest.approx(2.0**exponent, rel=2.3e-16)


def test_exp2_of_an_absurd_exponent_is_finite() -> None:
    assert kernels._exp2(0.0) == 1.0
    assert kernels._exp2(-1.0) == 0.5
    assert kernels._exp2(-1e300) == 2.0**-1000


def tiny() -> Forest:
    """Make a forest of two trees.

    The first is feature 0 <= .5 ? leaf : (feature 1 <= -1 ? leaf : leaf), the second a single leaf.
    """
    return Forest(
        feature=np.array([0, -1, 1, -1, -1, -1], np.int32),
        threshold=np.array([0.5, 0, -1, 0, 0, 0], np.float32),
        left=np.array([1, -1, 3, -1, -1, -1], np.int32),
        path_length=np.array([0.0, 1.0, 0.0, 2.0, 3.0, 4.0]),
        offsets=np.array([0, 5, 6]),
        denominator=2.0,
        features=2,
    )


def test_small_forest_by_hand() -> None:
    X = np.array([[0.5, 9.0], [0.6, -1.0], [0.6, -0.9]])
    np.testing.assert_allclose(tiny().score(X), [2**-2.5, 2**-3.0, 2**-3.5], rtol=3e-16)
    assert tiny().depth == 2


def put(array: np.ndarray, place: int, value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"feature": put(tiny().feature, 2, 2)}, "feature is outside"),
        ({"feature": put(tiny().feature, 2, -2)}, "feature is outside"),
        ({"feature": tiny().feature.astype(np.int64)}, "feature is int64"),
        ({"threshold": put(tiny().threshold, 0, np.inf)}, "threshold is not finite"),
        ({"threshold": put(tiny().threshold, 2, np.nan)}, "threshold is not finite"),
        ({"threshold": put(tiny().threshold, 1, 1.0)}, "a leaf has a threshold"),
        ({"threshold": tiny().threshold[:5]}, "threshold is float32"),
        ({"left": put(tiny().left, 2, 4)}, "children are not in breadth-first order"),
        ({"left": put(tiny().left, 2, 1)}, "children are not in breadth-first order"),
        ({"left": put(tiny().left, 0, 0)}, "children are not in breadth-first order"),
        ({"left": put(tiny().left, 1, 3)}, "children are not in breadth-first order"),
        (
            {"feature": put(tiny().feature, 5, 0), "left": put(tiny().left, 5, 1)},
            "no node's children|inner node",
        ),
        ({"path_length": put(tiny().path_length, 1, -1.0)}, "path_length is not finite"),
        ({"path_length": put(tiny().path_length, 0, 1.0)}, "inner node a path_length"),
        ({"offsets": np.array([0, 4, 6])}, "left: "),
        ({"offsets": np.array([0, 6, 6])}, "offsets do not divide"),
        ({"offsets": np.array([1, 5, 6])}, "offsets do not divide"),
        ({"offsets": np.array([0])}, "offsets do not divide"),
        ({"denominator": 0.0}, "denominator"),
        ({"denominator": float("nan")}, "denominator"),
        ({"features": 1}, "feature is outside"),
        ({"features": 40_000}, "not 1 to"),
    ],
)
def test_arrays_that_would_lead_the_kernel_astray_are_refused(
    change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(tiny(), **change)


def test_loop_of_children_is_refused() -> None:
    leaf = np.array([0, -1, -1], np.int32)
    with pytest.raises(ValueError, match="children"):
        Forest(
            leaf,
            np.zeros(3, np.float32),
            np.array([0, -1, -1], np.int32),
            np.array([0, 1.0, 1]),
            np.array([0, 3]),
            1.0,
            1,
        )


def test_chain_that_is_too_deep_is_refused() -> None:
    inner = 70
    feature = np.full(2 * inner + 1, -1, np.int32)
    left = np.full(2 * inner + 1, -1, np.int32)
    feature[[0, *range(2, 2 * inner, 2)]] = 0
    left[feature == 0] = 1 + 2 * np.arange(inner)
    with pytest.raises(ValueError, match="deeper than 64"):
        Forest(
            feature, np.zeros(len(feature), np.float32), left, np.where(feature < 0, 1.0, 0.0),
            np.array([0, len(feature)]), 1.0, 1,
        )  # fmt: skip


def test_subsets_of_features_are_refused() -> None:
    estimator = IsolationForest(n_estimators=3, max_features=0.5, random_state=0).fit(
        data(100, 4, 0)
    )
    with pytest.raises(ValueError, match="max_features"):
        forest_of(estimator)
