"""Severity, attribution and the checks of a model's parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Detector
from shared.features.vectors import FEATURE_NAMES, FEATURES
from shared.kernels.trained.trained_rows import rarity_of
from shared.models.attribution import attribute
from shared.models.model import KNOTS_PER_DECADE, Model, calibrate
from tests.support.models import DETECTORS, trained

FOREST = trained(Detector.ISOLATION_FOREST).model
PEERS = trained(Detector.PEER_GROUPS).model
OF_VIEWS = [detector for detector in DETECTORS if not detector.sees_values]
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def with_calibration(scores: np.ndarray, threshold: float) -> Model:
    return replace(FOREST, calibration=calibrate(scores), threshold=threshold)


@pytest.mark.parametrize("detector", DETECTORS)
def test_severity_is_half_at_the_threshold_and_never_falls(detector: Detector) -> None:
    model = trained(detector).model
    low, high = model.calibration[0], model.calibration[-1]
    even = np.linspace(low - 1.0, high + 3 * (high - low), 2_000)
    scores = np.sort(np.concatenate([even, model.calibration, [model.threshold]]))
    severity = model.severity(scores)
    assert model.severity(np.array([model.threshold]))[0] == 0.5
    assert (np.diff(severity) >= 0).all()
    assert (severity[scores < model.threshold] < 0.5).all()
    assert (severity[scores > model.threshold] >= 0.5).all()
    assert severity[0] == 0.0
    assert 0.9 < severity[-1] <= 1.0


@given(
    st.lists(FINITE, min_size=20, max_size=60),
    FINITE,
    st.lists(st.floats(-1e8, 1e8, allow_nan=False), min_size=2, max_size=20),
)
def test_severity_of_any_training_scores(
    training: list[float], threshold: float, scores: list[float]
) -> None:
    model = with_calibration(np.array(training), threshold)
    ordered = np.sort(np.array([*scores, threshold]))
    severity = model.severity(ordered)
    assert ((severity >= 0) & (severity <= 1)).all()
    assert (np.diff(severity) >= 0).all()
    assert (severity[ordered == threshold] == 0.5).all()
    assert ((severity < 0.5) == (ordered < threshold)).all()


def test_severity_counts_powers_of_ten_of_rarity() -> None:
    """A score above 99 % of the training scores is ten times rarer than a threshold at 90 %."""
    training = np.arange(1.0, 100_001.0)
    model = with_calibration(training, float(np.quantile(training, 0.9)))
    at = np.quantile(training, [0.0, 1 - 10**-0.5, 0.9, 0.99, 0.999])
    np.testing.assert_allclose(model.severity(at), [0.0, 0.25, 0.5, 0.75, 1 - 0.5 / 3], atol=2e-3)


def test_severity_goes_on_rising_beyond_all_training_scores() -> None:
    training = np.random.default_rng(0).normal(size=5_000)
    model = with_calibration(training, float(np.quantile(training, 0.98)))
    beyond = model.severity(training.max() + np.array([0.0, 0.5, 1.0, 2.0, 5.0, 1e9]))
    assert (np.diff(beyond) > 0).all()
    assert beyond[0] > 0.8
    assert beyond[-1] > 0.999


def test_severity_of_a_row_does_not_depend_on_the_batch() -> None:
    scores = np.random.default_rng(0).uniform(0.3, 0.9, 101)
    whole = FOREST.severity(scores)
    assert (
        b"".join(FOREST.severity(scores[k : k + 1]).tobytes() for k in range(101))
        == whole.tobytes()
    )


def test_calibration_samples_the_tail() -> None:
    training = np.random.default_rng(0).exponential(size=10_000)
    knots = calibrate(training)
    assert (np.diff(knots) >= 0).all()
    assert len(knots) == 4 * KNOTS_PER_DECADE + 1
    assert knots[0] == training.min()
    assert knots[2 * KNOTS_PER_DECADE] == pytest.approx(np.quantile(training, 0.99))
    assert np.mean(training >= knots[3 * KNOTS_PER_DECADE]) == pytest.approx(1e-3, rel=0.1)


def test_equal_training_scores_still_give_an_order() -> None:
    model = with_calibration(np.full(50, 2.0), 2.0)
    assert model.severity(np.array([1.0, 2.0, 2.1, 9.0])).tolist() == sorted(
        model.severity(np.array([1.0, 2.0, 2.1, 9.0]))
    )
    assert model.severity(np.array([1.9]))[0] < 0.5 < model.severity(np.array([2.1]))[0]


@pytest.mark.parametrize("detector", OF_VIEWS)
def test_rarity_in_the_fold_equals_that_of_many_rows(detector: Detector) -> None:
    model = trained(detector).model
    X = np.abs(np.random.default_rng(0).normal(size=(200, FEATURES)))
    X[::7] *= 4.0
    want = model.rarity(model.score(X))
    assert np.array([rarity_of(model.arrays, row) for row in X]).tobytes() == want.tobytes()
    assert want.max() > want.min()


@pytest.mark.parametrize("knots", [[0.0, 1.0], [0.6, 0.6], [-1e100, 1e100]])
def test_rarity_in_the_fold_equals_that_of_many_rows_at_every_knot(knots: list[float]) -> None:
    low, high = knots
    for calibration in (np.linspace(low, high, 40), np.array([low] * 39 + [high])):
        model = replace(FOREST, calibration=calibration)
        X = trained(Detector.ISOLATION_FOREST).canary
        want = model.rarity(model.score(X))
        assert [rarity_of(model.arrays, row) for row in X] == want.tolist()


def test_model_id_is_the_start_of_the_digest() -> None:
    assert replace(FOREST, sha256="0123456789abcdef" * 4).model_id == "0123456789abcdef"


USUAL = np.full(FEATURES, 0.5)


def distance(X: np.ndarray) -> np.ndarray:
    """A detector: the sum of squares of what is beyond the usual row."""
    return ((X - USUAL) ** 2).sum(axis=1)


def test_attribution_shares_follow_the_features_parts() -> None:
    X = np.tile(USUAL, (3, 1))
    X[0, 1] += 3.0
    X[1, [0, 2]] += 2.0, 1.0
    X[2, 6] += 1.0
    shares, top = attribute(distance, X, USUAL)
    want = np.zeros((3, FEATURES))
    want[0, 1], want[2, 6], want[1, [0, 2]] = 1.0, 1.0, (0.8, 0.2)
    np.testing.assert_allclose(shares, want, atol=1e-12)
    assert [FEATURE_NAMES[k] for k in top] == ["jump", "deviation", "spread"]


def test_attribution_of_a_saturated_score_still_shares() -> None:
    """Taking one of two unusual features away changes nothing, but putting one back in does."""

    def saturated(X: np.ndarray) -> np.ndarray:
        return np.minimum(distance(X), 1.0)

    X = USUAL[None].copy()
    X[0, [0, 4]] = 5.0
    shares, _ = attribute(saturated, X, USUAL)
    assert shares[0, [0, 4]].tolist() == [0.5, 0.5]


def test_attribution_where_nothing_raises_the_score() -> None:
    X = np.tile(USUAL, (2, 1))
    X[0, 4] = 2.0
    shares, _ = attribute(lambda rows: np.zeros(len(rows)), X, USUAL)
    assert shares[0].tolist() == [0.0] * 4 + [1.0] + [0.0] * 2
    np.testing.assert_allclose(shares[1], 1 / FEATURES)


def test_feature_below_the_usual_one_has_no_share() -> None:
    X = USUAL[None].copy()
    X[0, :2] = 0.0, 2.0
    shares, _ = attribute(distance, X, USUAL)
    assert shares[0].tolist() == [0.0, 1.0] + [0.0] * 5


@pytest.mark.parametrize("detector", OF_VIEWS)
def test_attribution_names_the_feature_that_was_moved(detector: Detector) -> None:
    model = trained(detector).model
    X = np.tile(model.usual, (2, 1))
    X[0, 0] = X[1, 3] = 3.0
    shares, top = model.attribute(X)
    assert top.tolist() == [0, 3]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares >= 0).all()


def test_attribution_of_no_rows() -> None:
    shares, top = FOREST.attribute(np.empty((0, FEATURES)))
    assert shares.shape == (0, FEATURES)
    assert len(top) == 0


def nan_at(array: np.ndarray, *place: int) -> np.ndarray:
    changed = array.copy()
    changed[place] = np.nan
    return changed


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"usual": FOREST.usual[:-1].copy()}, r"usual is float64 \(6,\)"),
        ({"usual": nan_at(FOREST.usual, 3)}, "usual is not finite"),
        ({"metrics": ("cpu", "cpu")}, "empty or duplicate"),
        ({"metrics": ("cpu", "")}, "empty"),
        ({"metrics": ()}, "metrics: there are none"),
        ({"detector": Detector.ONE_CLASS_SVM}, "arrays are of another detector"),
        ({"threshold": float("nan")}, "threshold"),
        ({"calibration": FOREST.calibration[:5]}, "calibration does not have 33 to 4096"),
        ({"calibration": FOREST.calibration[::-1].copy()}, "not sorted"),
        ({"calibration": FOREST.calibration.astype(np.float32)}, "calibration is float32"),
        ({"calibration": nan_at(FOREST.calibration, 3)}, "not finite"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(FOREST, **change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"usual": np.zeros(FEATURES)}, r"usual is float64 \(7,\), not .* \(0,\)"),
        ({"metrics": ("cpu",)}, "the detector takes 4 features, a row has 3"),
        ({"detector": Detector.ONE_CLASS_SVM}, "arrays are of another detector"),
    ],
)
def test_parts_that_do_not_fit_peers_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(PEERS, **change)


@pytest.mark.parametrize("threshold", [-1e308, -1.0, 0.0, 0.6, 1.0, 1e308])
@pytest.mark.parametrize("knots", [[-1e100, 1e100], [1.0 - 2**-53, 1.0], [0.0, 5e-324], [0.6, 0.6]])
def test_severity_is_a_number_whatever_the_calibration(
    knots: list[float], threshold: float
) -> None:
    low, high = knots
    model = replace(FOREST, threshold=threshold, calibration=np.array([low] * 39 + [high]))
    scores = np.array([-1e100, -1.0, 0.0, low, high, 0.5, 1.0, 1e100])
    with np.errstate(over="ignore"):
        severity, rarity = model.severity(scores), model.rarity(scores)
    assert ((severity >= 0) & (severity <= 1)).all()
    assert (np.diff(severity[np.argsort(scores, kind="stable")]) >= 0).all()
    assert np.isfinite(rarity).all()
