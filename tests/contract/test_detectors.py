"""The battery that every detector passes: the habits of river and scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consumer_training.fitting.estimators import fit
from shared import artifacts
from shared.events import Detector
from shared.kernels.trained.peers import NUMBER
from shared.models.model import Model
from shared.settings import TrainSettings
from tests.support.models import DETECTORS, ENTITIES, SETTINGS, rows_like_training, trained

pytestmark = pytest.mark.parametrize("detector", DETECTORS)


def model_of(detector: Detector) -> Model:
    return trained(detector).model


def test_scores_are_finite_even_far_out(detector: Detector) -> None:
    model = model_of(detector)
    near = rows_like_training(detector, 20)
    far = np.concatenate([near * 10.0**power for power in range(7)])
    flat = [np.full((1, near.shape[1]), size) for size in (1e6, -1e6, 0.0)]
    extremes = np.concatenate([far, *flat])
    for X in (extremes, -extremes):
        scores = model.score(X)
        assert scores.dtype == np.float64
        assert scores.shape == (len(X),)
        assert np.isfinite(scores).all()
        assert ((model.severity(scores) >= 0) & (model.severity(scores) <= 1)).all()


def test_same_seed_same_model(detector: Detector) -> None:
    X = rows_like_training(detector, 400)
    twice = [fit(detector, X, SETTINGS, ENTITIES)[1].score(X).tobytes() for _ in range(2)]
    assert twice[0] == twice[1]


def test_other_seed_other_model(detector: Detector) -> None:
    """The groups of few entities use no randomness."""
    X = rows_like_training(detector, 400)
    first, second = (
        fit(detector, X, SETTINGS.model_copy(update={"seed": seed}), ENTITIES)[1].score(X)
        for seed in (0, 1)
    )
    assert np.array_equal(first, second) == (detector is Detector.PEER_GROUPS)


def test_subset_and_order_do_not_matter(detector: Detector) -> None:
    model, X = model_of(detector), rows_like_training(detector, 90)
    whole = model.score(X)
    order = np.random.default_rng(1).permutation(len(X))
    assert model.score(X[order]).tobytes() == whole[order].tobytes()
    assert model.score(X[::3]).tobytes() == whole[::3].tobytes()
    assert model.score(np.asfortranarray(X)).tobytes() == whole.tobytes()


def test_batch_of_one_equals_the_row_of_many(detector: Detector) -> None:
    model, X = model_of(detector), rows_like_training(detector, 70)
    assert (
        b"".join(model.score(X[row : row + 1]).tobytes() for row in range(len(X)))
        == model.score(X).tobytes()
    )
    shares, top = model.attribute(X)
    for row in range(0, len(X), 11):
        share, feature = model.attribute(X[row : row + 1])
        assert share.tobytes() == shares[row].tobytes()
        assert feature[0] == top[row]


def test_higher_is_more_anomalous(detector: Detector) -> None:
    X = rows_like_training(detector, 1_000, seed=3)
    settings = TrainSettings(trees=50, samples=128, svm_rows=300, nu=0.05)
    _, member = fit(detector, X, settings, ENTITIES)
    usual = member.score(rows_like_training(detector, 200, seed=4))
    far = np.full((1, X.shape[1]), 8.0)
    if detector is Detector.RECONSTRUCTION:
        far[0, [NUMBER, -1]] = 0.0, -8.0
    outlier = member.score(far)
    assert outlier[0] > usual.max()


def test_input_is_left_alone_and_may_be_read_only(detector: Detector) -> None:
    model, X = model_of(detector), rows_like_training(detector, 10)
    X.setflags(write=False)
    before = X.tobytes()
    model.score(X)
    model.attribute(X)
    assert X.tobytes() == before


def test_wrong_number_of_features_is_an_error(detector: Detector) -> None:
    model = model_of(detector)
    takes = rf"X has shape \(5, {model.features - 1}\), the model takes \(n, {model.features}\)"
    with pytest.raises(ValueError, match=takes):
        model.score(rows_like_training(detector, 5)[:, 1:])


def test_survives_save_and_load_bit_for_bit(detector: Detector, tmp_path: Path) -> None:
    result = trained(detector)
    published = artifacts.publish(tmp_path, result.model, result.facts, result.canary)
    loaded = artifacts.load(tmp_path, published.sha256)
    X = rows_like_training(detector, 50)
    scores = result.model.score(X)
    assert loaded.score(X).tobytes() == scores.tobytes()
    assert loaded.severity(scores).tobytes() == result.model.severity(scores).tobytes()
    assert loaded.attribute(X)[0].tobytes() == result.model.attribute(X)[0].tobytes()
    assert loaded.threshold == result.model.threshold
    assert loaded.metrics == result.model.metrics
    assert loaded.usual.tobytes() == result.model.usual.tobytes()
