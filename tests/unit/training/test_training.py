"""Training: split, exclusions, refusals, threshold, planted anomalies, independence of order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from consumer_training import training
from consumer_training.reading.history import Rows
from consumer_training.reading.reservoir import ALARMED, LABELLED
from consumer_training.training import (
    TEST,
    TRAIN,
    UNUSED,
    RefusedRows,
    TooFewRows,
    Trained,
    split,
    train,
)
from shared.events import Detector
from shared.features.vectors import FEATURES
from shared.kernels.units import DAY_MS
from shared.labels import Window
from shared.models.artifact_format import encode
from shared.settings import FeatureSettings, Settings, TrainSettings
from tests.support.episodes import needs_speed
from tests.support.models import (
    DETECTORS,
    SETTINGS,
    START_MS,
    STEP_MS,
    WARMUP_ROWS,
    history_of,
    rows_of,
    series,
    trained,
)

pytestmark = needs_speed

METRICS = ("cpu", "network")


def fit(rows: Rows, detector: Detector = Detector.ISOLATION_FOREST, **change: object) -> Trained:
    return train(rows, detector, FeatureSettings(), SETTINGS.model_copy(update=change))


def three_hosts(rows: int = 150) -> dict[str, npt.NDArray[np.float64]]:
    return {f"host-{k}": series(rows, 2, seed=k) for k in range(3)}


@pytest.mark.parametrize("detector", DETECTORS)
def test_planted_anomalies_are_found(detector: Detector) -> None:
    values = three_hosts(240)
    planted = {"host-0": (200, 0, 3.0), "host-1": (210, 1, 0.05), "host-2": (190, 1, 3.0)}
    for name, (row, metric, factor) in planted.items():
        values[name][row, metric] *= factor
    result = fit(rows_of(values, METRICS), detector, trees=50, samples=128)
    for number, (name, (row, _, _)) in enumerate(sorted(planted.items())):
        low, high = result.rows.bounds[number], result.rows.bounds[number + 1]
        scores = result.scores[low:high]
        at = int(np.flatnonzero(result.rows.time_ms[low:high] == START_MS + row * STEP_MS)[0])
        assert scores[at] > result.model.threshold, name
        assert scores[at] >= np.nanquantile(scores, 0.97), name


def test_cold_rows_are_not_trained_on_and_the_split_is_by_time() -> None:
    rows = rows_of({"long": series(248, 1, 0), "short": series(148, 1, 1)}, ("cpu",))
    assert rows.time_ms.min() == START_MS + WARMUP_ROWS * STEP_MS
    assert np.diff(rows.bounds).tolist() == [200, 100]
    part = split(rows, TrainSettings(split=0.6))
    assert part.tolist() == [TRAIN] * 120 + [TEST] * 80 + [TRAIN] * 60 + [TEST] * 40


def test_rows_that_alarmed_or_are_labelled_are_not_trained_on() -> None:
    values = three_hosts(240)
    values["host-1"][100:112] *= 4.0
    labels = {"host-2": [Window(START_MS + 120 * STEP_MS, START_MS + 129 * STEP_MS)]}
    history = history_of(values, METRICS, labels=labels)
    rows = history.rows()
    result = fit(rows)
    alarmed = rows.use == ALARMED
    owner = np.repeat([0, 1, 2], np.diff(rows.bounds))
    hours = (rows.time_ms - START_MS) // STEP_MS
    assert {101, 105, 110} <= set(hours[alarmed & (owner == 1)].tolist())
    assert hours[rows.use == LABELLED].tolist() == list(range(120, 130))
    assert (result.part[alarmed | (rows.use == LABELLED)] != TRAIN).all()
    assert result.facts["training"]["alarmed_rows"] == alarmed.sum()
    assert result.facts["training"]["labelled_rows"] == 10
    listed = history.sampling()["left_out_episodes"]
    assert ("host-1", "2024-01-05T04:00:00.000Z") in {
        (one["entity"], one["start"]) for one in listed
    }
    assert history.sampling()["episodes"] >= len(listed) > 0


def test_an_outage_in_the_training_range_does_not_become_normal() -> None:
    """The model of a poisoned range scores the outage as rare as that of a clean one."""
    clean, poisoned = three_hosts(240), three_hosts(240)
    for name in poisoned:
        poisoned[name][100:112] *= 0.05
    rows = rows_of(poisoned, METRICS)
    hours = (rows.time_ms - START_MS) // STEP_MS
    outage = (rows.use == ALARMED) & (hours >= 100) & (hours < 104)
    assert outage.sum() >= 10
    models = [
        fit(one, Detector.ONE_CLASS_SVM, svm_rows=1_000).model
        for one in (rows_of(clean, METRICS), rows)
    ]
    first, second = (
        float(model.rarity(model.score(rows.features[outage])).min()) for model in models
    )
    assert first > 2.5
    assert second > 2.5


def test_only_alarmed_rows_are_refused_by_name() -> None:
    rows = rows_of(three_hosts(), METRICS)
    with pytest.raises(RefusedRows, match=r"no usable training row: 300 rows .* 6 in labelled"):
        fit(replace(rows, use=np.where(np.arange(306) < 6, LABELLED, ALARMED).astype(np.uint8)))


@pytest.mark.parametrize("detector", DETECTORS)
def test_constant_metrics_are_refused_by_name(detector: Detector) -> None:
    rows = rows_of(three_hosts(), METRICS)
    values = np.ones_like(rows.values)
    same = replace(rows, features=np.ones_like(rows.features), values=values)
    with pytest.raises(RefusedRows, match=r"all 183 training rows look alike .*constant"):
        fit(same, detector)


def test_entities_whose_values_never_change_have_no_training_row() -> None:
    flat = {f"host-{k}": np.full((200, 2), 5.0) for k in range(3)}
    with pytest.raises((RefusedRows, TooFewRows)):
        fit(rows_of(flat, METRICS))


def test_entity_without_a_training_row_is_left_out_and_named() -> None:
    values = three_hosts() | {"tiny": series(WARMUP_ROWS + 1, 2, 9)}
    result = fit(rows_of(values, METRICS))
    assert result.left_out == {"tiny": 1}
    assert result.facts["training"]["left_out"] == {"tiny": 1}
    assert result.facts["training"]["entities"] == 3


def test_one_entity_gives_a_model_that_says_so() -> None:
    result = fit(rows_of({"a": series(300, 2, 0)}, METRICS))
    assert result.facts["training"]["entities"] == 1
    assert "agree" in result.facts["seeds"]


def test_too_few_rows_say_how_many() -> None:
    with pytest.raises(TooFewRows) as caught:
        fit(rows_of({"a": series(148, 1, 0), "b": series(10, 1, 1)}, ("cpu",)))
    assert (caught.value.rows, caught.value.needed) == (60, 100)
    with pytest.raises(TooFewRows) as caught:
        fit(rows_of({"a": series(10, 1, 0)}, ("cpu",)))
    assert caught.value.rows == 0


def test_threshold_is_the_contaminations_quantile_or_the_one_that_is_set() -> None:
    rows = rows_of(three_hosts(), METRICS)
    result = fit(rows, contamination=0.05)
    scores = result.scores[result.part == TRAIN]
    assert np.mean(scores > result.model.threshold) == pytest.approx(0.05, abs=1 / len(scores))
    fixed = fit(rows, threshold=0.61)
    assert fixed.model.threshold == 0.61
    assert fixed.facts["threshold_fixed"] is True


def test_window_of_days_leaves_older_rows_out() -> None:
    rows = rows_of({"a": series(600, 1, 0)}, ("cpu",))
    result = fit(rows, window_days=10.0)
    newest = START_MS + 599 * STEP_MS
    assert (rows.time_ms[result.part != UNUSED] >= newest - 10 * DAY_MS).all()
    assert int((result.part != UNUSED).sum()) == 241
    assert result.facts["training"]["first_event_ms"] == newest - 10 * DAY_MS


def test_nothing_of_the_test_part_is_learnt() -> None:
    """Other test rows, same model to the byte."""
    values = three_hosts()
    first = fit(rows_of(values, METRICS))
    for name in values:
        values[name][130:] = 1e6
    second = fit(rows_of(values, METRICS))
    assert encode(first.model, {}, first.canary) == encode(second.model, {}, second.canary)


@pytest.mark.parametrize("detector", DETECTORS)
def test_same_rows_same_bytes_however_the_log_is_cut(detector: Detector) -> None:
    first = fit(rows_of(three_hosts(), METRICS), detector)
    second = fit(history_of(three_hosts(), METRICS, cut=37).rows(), detector)
    assert encode(first.model, first.facts, first.canary) == encode(
        second.model, second.facts, second.canary
    )
    assert first.scores.tobytes() == second.scores.tobytes()


def test_seeds_that_do_not_agree_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = trained(Detector.ONE_CLASS_SVM).facts["seeds"]
    assert seeds["seeds"] == [0, 1, 2]
    assert seeds["rows"] == 123
    assert seeds["agree"] == (seeds["least_rank_correlation"] >= training.AGREEMENT)
    rows = rows_of(three_hosts(), METRICS)
    few = fit(rows, trees=1, samples=2).facts["seeds"]
    assert few["least_rank_correlation"] < 0.8
    assert few["agree"] is False


def test_metric_without_any_value_is_not_listed() -> None:
    values = {
        name: np.column_stack([v, np.full(len(v), np.nan)]) for name, v in three_hosts().items()
    }
    result = fit(rows_of(values, (*METRICS, "disk")))
    assert result.model.metrics == METRICS
    assert result.facts["training"]["metrics_without_values"] == ["disk"]


def test_facts_hold_no_clock_and_are_json_values() -> None:
    result = trained(Detector.ONE_CLASS_SVM)
    facts = result.facts
    assert facts["parameters"] == {"nu": 0.1, "gamma": "scale", "rows": 150}
    assert facts["training"]["rows"] == 183
    assert facts["training"]["test_rows"] == 123
    assert facts["training"]["first_event"] == "2024-01-03T00:00:00Z"
    assert result.model.version == facts["training"]["last_event"]
    encode(result.model, facts, result.canary)


def test_support_vector_machine_sees_at_most_so_many_seeded_rows() -> None:
    rows = rows_of(three_hosts(), METRICS)
    few = fit(rows, Detector.ONE_CLASS_SVM, svm_rows=120)
    assert few.estimator.shape_fit_ == (120, FEATURES)
    whole = fit(rows, Detector.ONE_CLASS_SVM, svm_rows=1_000)
    assert whole.estimator.shape_fit_ == (183, FEATURES)
    other = fit(rows, Detector.ONE_CLASS_SVM, svm_rows=120, seed=1)
    assert not np.array_equal(few.model.member.vectors, other.model.member.vectors)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
def test_kernel_width_stands_in_the_model_as_a_number(gamma: float | str) -> None:
    result = fit(rows_of(three_hosts(), METRICS), Detector.ONE_CLASS_SVM, gamma=gamma)
    expected = {"auto": 1 / FEATURES, 0.05: 0.05}.get(gamma)
    assert expected is None or result.model.member.gamma == expected
    assert 0 < result.model.member.gamma < 10


def test_the_predictors_settings_decide_what_is_cold() -> None:
    settings = Settings.model_validate({"detection": {"warmup_days": 4.0}})
    rows = history_of(three_hosts(), METRICS, settings=settings).rows()
    assert rows.time_ms.min() == START_MS + 96 * STEP_MS
