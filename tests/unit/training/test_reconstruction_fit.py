"""What metrics have in common: the network's fit, its loss curve and what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from consumer_training.fitting.reconstruction import Epoch, NoCommonMetrics, fit_reconstruction
from consumer_training.training import RefusedRows, Trained, train
from shared.events import Detector
from shared.models.reconstruction import Reconstruction
from shared.models.value_rows import list_entities
from shared.settings import FeatureSettings
from tests.support.episodes import needs_speed
from tests.support.models import SETTINGS, rows_of, series

ENTITIES = list_entities(["a", "b"])
METRICS = 6


def correlated(count: int, seed: int) -> np.ndarray:
    """Rows of two entities; six metrics follow two causes, one of them by its absolute value."""
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((2, count))
    causes = [first, first, second, second, np.abs(first), first + second]
    noise = 0.1 * random.standard_normal((count, METRICS))
    X = np.empty((count, METRICS + 2))
    X[:, 0] = np.repeat([0, 1], [count // 2, count - count // 2])
    X[:, 1] = 0
    scale = np.where(X[:, :1] == 0, 10.0, 1000.0)
    X[:, 2:] = scale * (5.0 + np.stack(causes, axis=1) + noise)
    return X


def swapped(X: np.ndarray) -> np.ndarray:
    """Give each row the second metric of another row of its entity: each value alone is usual."""
    X = X.copy()
    for entity in (0, 1):
        own = X[:, 0] == entity
        X[own, 3] = np.roll(X[own, 3], 7)
    return X


@pytest.mark.parametrize("is_linear", [False, True])
def test_rows_in_which_a_metric_no_longer_follows_score_higher(is_linear: bool) -> None:
    _, member = fit_reconstruction(correlated(2_000, 0), ENTITIES, 0, is_linear=is_linear)
    X = correlated(400, 1)
    usual, broken = member.score(X), member.score(swapped(X))
    assert np.median(broken) > 2.0 * np.median(usual)
    assert 0.5 < np.median(usual) < 1.5


def test_the_loss_curve_and_the_best_pass_are_reported_and_the_same_again() -> None:
    seen: list[Epoch] = []
    X = correlated(1_000, 0)
    facts, member = fit_reconstruction(X, ENTITIES, 3, is_linear=False, watch=seen.append)
    assert facts["form"] == "autoencoder"
    assert facts["units"] == [6, 12, facts["units"][2], 12, 6]
    assert 1 <= facts["units"][2] <= 5
    assert len(facts["loss"]) == len(facts["validation"]) == len(seen) > 5
    assert facts["validation"][-1] < 0.5 * facts["validation"][0]
    assert facts["best_epoch"] == int(np.argmin([epoch.validation for epoch in seen])) + 1
    assert [epoch.number for epoch in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].best == min(epoch.validation for epoch in seen)
    again = fit_reconstruction(X, ENTITIES, 3, is_linear=False)[1]
    assert again.weights.tobytes() == member.weights.tobytes()
    other = fit_reconstruction(X, ENTITIES, 4, is_linear=False)[1]
    assert other.weights.tobytes() != member.weights.tobytes()


def test_fitting_stops_early_where_rows_held_back_gain_nothing() -> None:
    facts, _ = fit_reconstruction(correlated(400, 0), ENTITIES, 0, is_linear=False)
    assert facts["stopped_early"]
    assert facts["best_epoch"] < len(facts["loss"]) < 60


def test_principal_components_say_what_they_explain() -> None:
    facts, member = fit_reconstruction(correlated(1_000, 0), ENTITIES, 0, is_linear=True)
    assert member.linear == 1
    assert facts["form"] == "pca"
    assert facts["units"][0] == facts["units"][2] == METRICS
    assert 0.97 <= facts["explained_variance"] <= 1.0
    assert 0.0 < facts["validation"] < 0.3


def test_each_entity_has_scales_of_its_own() -> None:
    _, member = fit_reconstruction(correlated(1_000, 0), ENTITIES, 0, is_linear=True)
    np.testing.assert_allclose(member.center[:, 0], [50.0, 5000.0], rtol=0.1)
    np.testing.assert_allclose(member.spread[:, 0], [10.0, 1000.0], rtol=0.2)


@pytest.mark.parametrize("rows", [0, 23])
def test_too_few_values_are_refused(rows: int) -> None:
    with pytest.raises(NoCommonMetrics, match="needs at least 2"):
        fit_reconstruction(correlated(2 * rows, 0), ENTITIES, 0, is_linear=True)


def trained(hosts: dict[str, np.ndarray], names: tuple[str, ...], form: str) -> Trained:
    settings = SETTINGS.model_copy(update={"reconstruction": form})
    return train(rows_of(hosts, names), Detector.RECONSTRUCTION, FeatureSettings(), settings)


@needs_speed
@pytest.mark.parametrize("form", ["autoencoder", "pca"])
def test_a_model_of_the_history_says_how_it_was_fitted(form: str) -> None:
    hosts = {f"host-{k}": series(150, 3, seed=k) for k in range(3)}
    result = trained(hosts, ("cpu", "network", "disk"), form)
    assert isinstance(result.model.member, Reconstruction)
    assert result.model.member.linear == (form == "pca")
    assert result.facts["reconstruction"]["form"] == form
    assert result.facts["parameters"] == {"form": form}
    assert np.isfinite(result.scores[result.part > 0]).all()


@needs_speed
def test_one_metric_is_refused_by_name() -> None:
    hosts = {f"host-{k}": series(150, 1, seed=k) for k in range(3)}
    with pytest.raises(RefusedRows, match=r"1 metrics .* needs at least 2; .* train\.member"):
        trained(hosts, ("cpu",), "pca")
