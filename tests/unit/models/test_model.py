"""Severity, attribution and the checks of a model's parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Detector
from shared.features.vectors import Scale, feature_names
from shared.models.attribution import attribute, metric_columns
from shared.models.model import KNOTS_PER_DECADE, Model, calibrate
from tests.support.models import DETECTORS, trained

FOREST = trained(Detector.ISOLATION_FOREST).model
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


def test_entity_rows() -> None:
    assert FOREST.entity_rows(["host-2", "stranger", "host-0", ""]).tolist() == [2, -1, 0, -1]
    assert FOREST.entity_rows([]).dtype == np.int32


def test_model_id_is_the_start_of_the_digest() -> None:
    assert replace(FOREST, sha256="0123456789abcdef" * 4).model_id == "0123456789abcdef"


def distance(X: np.ndarray) -> np.ndarray:
    """A detector that knows no time: the sum of squares of the metrics' columns."""
    return (X[:, :-3] ** 2).sum(axis=1)


def test_attribution_shares_follow_the_metrics_parts() -> None:
    X = np.zeros((3, 5 * 3 + 3))
    X[0, metric_columns(1, 3)[0]] = 3.0
    X[1, metric_columns(0, 3)[1]] = 2.0
    X[1, metric_columns(2, 3)[2]] = 1.0
    X[2, metric_columns(2, 3)[4]] = 1.0
    shares, top = attribute(distance, X, 3)
    np.testing.assert_allclose(shares, [[0, 1, 0, 0], [0.8, 0, 0.2, 0], [0, 0, 1, 0]])
    names = feature_names(("a", "b", "c"))
    assert [names[k] for k in top] == ["b.value", "a.mean", "c.missing"]


def test_attribution_of_a_saturated_score_still_shares() -> None:
    """Taking one of two odd metrics away changes nothing, but putting one back in does."""

    def saturated(X: np.ndarray) -> np.ndarray:
        return np.minimum(distance(X), 1.0)

    X = np.zeros((1, 13))
    X[0, [0, 4]] = 5.0
    shares, _ = attribute(saturated, X, 2)
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0.0]])


def test_attribution_to_the_time_of_day() -> None:
    def night(X: np.ndarray) -> np.ndarray:
        return X[:, -2]

    X = np.zeros((1, 8))
    X[0, -2] = 1.0
    shares, top = attribute(night, X, 1)
    assert shares.tolist() == [[0.0, 1.0]]
    assert feature_names(("cpu",))[top[0]] == "hour_cos"


def test_attribution_where_nothing_raises_the_score() -> None:
    X = np.zeros((2, 13))
    X[0, 4:8] = 2.0
    shares, _ = attribute(lambda rows: np.zeros(len(rows)), X, 2)
    assert shares.tolist() == [[0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]


@pytest.mark.parametrize("detector", DETECTORS)
def test_attribution_names_the_metric_that_was_moved(detector: Detector) -> None:
    result = trained(detector)
    X = np.zeros((4, 13))
    X[:, -3:] = result.canary[0, -3:]
    X[:2, 0:4] = 30.0
    X[2:, 4:8] = -30.0
    shares, top = result.model.attribute(X)
    assert shares[:, :2].argmax(axis=1).tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares >= 0).all()
    names = feature_names(("cpu", "network"))
    assert [names[k].split(".")[0] for k in top] == ["cpu", "cpu", "network", "network"]


def test_attribution_of_no_rows() -> None:
    shares, top = FOREST.attribute(np.empty((0, 13)))
    assert shares.shape == (0, 3)
    assert len(top) == 0


def scale_with(**change: np.ndarray) -> Scale:
    return replace(FOREST.scale, **change)


def nan_at(array: np.ndarray, *place: int) -> np.ndarray:
    changed = array.copy()
    changed[place] = np.nan
    return changed


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"metrics": ("cpu",)}, "takes 13 features, 1 metrics make 8"),
        ({"metrics": ("cpu", "cpu")}, "empty or duplicate"),
        ({"metrics": ("cpu", "")}, "empty"),
        ({"metrics": ()}, "metrics: there are none"),
        ({"detector": Detector.ONE_CLASS_SVM}, "arrays are of another detector"),
        ({"window": 1}, "window is 1"),
        ({"window": 65}, "window is 65"),
        ({"threshold": float("nan")}, "threshold"),
        ({"calibration": FOREST.calibration[:5]}, "calibration does not have 33 to 4096"),
        ({"calibration": FOREST.calibration[::-1].copy()}, "not sorted"),
        ({"calibration": FOREST.calibration.astype(np.float32)}, "calibration is float32"),
        ({"calibration": nan_at(FOREST.calibration, 3)}, "not finite"),
        ({"scale": scale_with(entities=("a", "b"))}, "centre is"),
        ({"scale": scale_with(entities=("a", "b", "a"))}, "one is duplicate"),
        ({"scale": scale_with(spread=-FOREST.scale.spread)}, "spread not finite and > 0"),
        ({"scale": scale_with(centre=FOREST.scale.centre * np.inf)}, "scale: "),
        ({"scale": scale_with(centre=nan_at(FOREST.scale.centre, 0, 0))}, "NaN only in part"),
        (
            {
                "scale": scale_with(
                    centre=nan_at(FOREST.scale.centre, 0, 0, 1),
                    spread=nan_at(FOREST.scale.spread, 0, 0, 1),
                )
            },
            "NaN only in part",
        ),
        ({"calendar": replace(FOREST.calendar, transitions_ms=np.array([5]))}, "transitions"),
        ({"calendar": replace(FOREST.calendar, offsets_ms=np.array([10**9]))}, "more than a day"),
        (
            {"calendar": replace(FOREST.calendar, business_days=np.ones(6, np.bool_))},
            "business_days is",
        ),
        (
            {"calendar": replace(FOREST.calendar, transitions_ms=np.empty(0, np.int64))},
            "offsets_ms|transitions",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(FOREST, **change)


def test_metric_that_an_entity_never_reports_is_no_error() -> None:
    centre, spread = FOREST.scale.centre.copy(), FOREST.scale.spread.copy()
    centre[0, 1], spread[0, 1] = np.nan, np.nan
    replace(FOREST, scale=scale_with(centre=centre, spread=spread))


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
