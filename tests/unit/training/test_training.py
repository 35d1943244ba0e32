"""Training: split, exclusions, threshold, planted anomalies, independence of reading order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from consumer_training.history import Rows
from consumer_training.training import (
    MIN_SERIES_ROWS,
    TEST,
    TRAIN,
    UNUSED,
    TooFewRows,
    Trained,
    split,
    train,
)
from shared.columns import Columns
from shared.events import Detector
from shared.features.vectors import Calendar, vectors
from shared.kernels.units import DAY_MS
from shared.models.artifact_format import encode
from shared.scoring.state import PartitionState, fold
from shared.settings import FeatureSettings, TrainSettings
from tests.support.models import DETECTORS, SETTINGS, START_MS, STEP_MS, rows_of, series, trained

FEATURES = FeatureSettings()


def fit(rows: Rows, detector: Detector = Detector.ISOLATION_FOREST, **change: object) -> Trained:
    return train(rows, detector, FEATURES, SETTINGS.model_copy(update=change))


def three_hosts(rows: int = 200) -> dict[str, npt.NDArray[np.float64]]:
    return {f"host-{k}": series(rows, 2, seed=k) for k in range(3)}


@pytest.mark.parametrize("detector", DETECTORS)
def test_planted_anomalies_are_found(detector: Detector) -> None:
    values = {f"host-{k}": series(300, 2, k, step_ms=6 * STEP_MS) for k in range(3)}
    planted = {"host-0": (250, 0, 8.0), "host-1": (270, 1, 0.05), "host-2": (220, 1, 6.0)}
    for name, (row, metric, factor) in planted.items():
        values[name][row, metric] *= factor
    result = fit(rows_of(values, ("cpu", "network"), 6 * STEP_MS), detector, trees=50, samples=128)
    flagged = result.scores > result.model.threshold
    for number, (name, (row, metric, _)) in enumerate(sorted(planted.items())):
        low, high = result.rows.bounds[number], result.rows.bounds[number + 1]
        scores = result.scores[low:high]
        assert flagged[low + row], name
        assert scores[row] >= np.nanquantile(scores, 0.97), name
        start = int(low)
        folded = result.rows.fold(number, number + 1, FEATURES.window)
        X = vectors(
            folded.rolling[[row]], np.array([number], np.int32), result.rows.time_ms[[start + row]],
            result.model.scale, result.model.calendar,
        )  # fmt: skip
        assert result.model.score(X)[0] == scores[row]
        assert result.model.attribute(X)[0][0].argmax() == metric, name


def test_split_is_by_time_within_each_series() -> None:
    values = {"long": series(200, 1, 0), "short": series(100, 1, 1)}
    part, counts = split(rows_of(values, ("cpu",)), 12, TrainSettings(split=0.6))
    assert counts.tolist() == [120, 60]
    assert part.tolist() == [TRAIN] * 120 + [TEST] * 80 + [TRAIN] * 60 + [TEST] * 40


def test_late_and_duplicate_rows_are_not_used() -> None:
    rows = rows_of({"a": series(120, 1, 0)}, ("cpu",))
    time_ms, values = rows.time_ms.copy(), rows.values.copy()
    time_ms[10] = START_MS
    time_ms[20], values[20] = time_ms[19], values[19]
    time_ms[30] = time_ms[29]
    part, counts = split(
        replace(rows, time_ms=time_ms, values=values), 12, TrainSettings(split=0.5)
    )
    assert np.flatnonzero(part == UNUSED).tolist() == [10, 20]
    assert counts.tolist() == [59]


def test_series_with_too_few_rows_is_left_out_and_named() -> None:
    values = three_hosts() | {"tiny": series(MIN_SERIES_ROWS, 2, 9)}
    result = fit(rows_of(values, ("cpu", "network")), split=0.6)
    assert result.left_out == {"tiny": 30}
    assert result.facts["training"]["left_out"] == {"tiny": 30}
    assert result.model.scale.entities == ("host-0", "host-1", "host-2")
    assert result.model.entity_rows(["tiny"]).tolist() == [-1]
    assert np.isnan(result.scores[result.rows.bounds[3] :]).all()


def test_too_few_rows_say_how_many() -> None:
    with pytest.raises(TooFewRows) as caught:
        fit(rows_of({"a": series(100, 1, 0), "b": series(10, 1, 1)}, ("cpu",)))
    assert (caught.value.rows, caught.value.needed, caught.value.left_out) == (60, 100, 1)
    with pytest.raises(TooFewRows) as caught:
        fit(rows_of({"a": series(10, 1, 0)}, ("cpu",)))
    assert caught.value.rows == 0


def test_threshold_is_the_contaminations_quantile_or_the_one_that_is_set() -> None:
    rows = rows_of(three_hosts(), ("cpu", "network"))
    result = fit(rows, contamination=0.05)
    scores = result.scores[result.part == TRAIN]
    assert np.mean(scores > result.model.threshold) == pytest.approx(0.05, abs=1 / len(scores))
    fixed = fit(rows, threshold=0.61)
    assert fixed.model.threshold == 0.61
    assert fixed.facts["threshold_fixed"] is True


def test_window_of_days_leaves_older_rows_out() -> None:
    rows = rows_of({"a": series(600, 1, 0)}, ("cpu",))
    result = fit(rows, window_days=1.0)
    newest = START_MS + 599 * STEP_MS
    assert (rows.time_ms[result.part != UNUSED] >= newest - DAY_MS).all()
    assert int((result.part != UNUSED).sum()) == 289
    assert result.facts["training"]["first_event_ms"] == newest - DAY_MS


def test_nothing_of_the_test_part_is_learnt() -> None:
    """Other test rows, same model to the byte."""
    values = three_hosts()
    first = fit(rows_of(values, ("cpu", "network")))
    for name in values:
        values[name][130:] = 1e6
    second = fit(rows_of(values, ("cpu", "network")))
    assert encode(first.model, {}, first.canary) == encode(second.model, {}, second.canary)


@pytest.mark.parametrize("detector", DETECTORS)
def test_same_rows_same_bytes_however_the_series_are_grouped(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(three_hosts(150), ("cpu", "network"))
    first = fit(rows, detector)
    original = Rows.groups
    monkeypatch.setattr(Rows, "groups", lambda self, limit=1: original(self, 1))
    second = fit(rows, detector)
    assert encode(first.model, first.facts, first.canary) == encode(
        second.model, second.facts, second.canary
    )
    assert first.scores.tobytes() == second.scores.tobytes()


def test_training_sees_what_the_predictor_computes() -> None:
    """The predictor folds all entities together, batch by batch; scores are equal bit by bit."""
    result = trained(Detector.ISOLATION_FOREST)
    rows = result.rows
    order = np.argsort(rows.time_ms, kind="stable")
    owner = np.repeat(np.arange(3, dtype=np.int32), np.diff(rows.bounds))[order]
    state = PartitionState(0)
    for name, _ in rows.series:
        state.entities.add(name)
    state.metrics = list(rows.metrics)
    found = []
    for low in range(0, len(order), 37):
        take = order[low : low + 37]
        nothing = np.empty(0, np.int64)
        columns = Columns(
            np.arange(len(take)),
            owner[low : low + 37],
            rows.time_ms[take],
            rows.values[take],
            nothing,
            np.empty(0, np.uint8),
        )
        rolling = fold(state, columns, FEATURES.window).rolling
        X = vectors(
            rolling,
            owner[low : low + 37],
            rows.time_ms[take],
            result.model.scale,
            result.model.calendar,
        )
        found.append(result.model.score(X))
    assert np.concatenate(found).tobytes() == result.scores[order].tobytes()


def test_metric_without_any_value_is_no_feature() -> None:
    values = {
        name: np.column_stack([v, np.full(len(v), np.nan)]) for name, v in three_hosts().items()
    }
    result = fit(rows_of(values, ("cpu", "network", "disk")))
    assert result.model.metrics == ("cpu", "network")
    assert result.facts["training"]["metrics_without_values"] == ["disk"]


def test_metric_that_one_host_lacks_is_missing_there() -> None:
    values = three_hosts()
    values["host-1"][:, 1] = np.nan
    result = fit(rows_of(values, ("cpu", "network")))
    assert np.isnan(result.model.scale.centre[1, 1]).all()
    assert not np.isnan(result.model.scale.centre[[0, 2]]).any()
    assert np.isfinite(result.scores).all()


def test_entity_in_two_partitions_has_one_scale() -> None:
    rows = rows_of({"a": series(150, 1, 0), "b": series(150, 1, 1)}, ("cpu",))
    result = fit(replace(rows, series=(("a", 0), ("a", 5))))
    assert result.model.scale.entities == ("a",)
    assert (result.part == TRAIN).sum() == 180


def test_facts_hold_no_clock_and_are_json_values() -> None:
    facts = trained(Detector.ONE_CLASS_SVM).facts
    assert facts["parameters"] == {"nu": 0.1, "gamma": "scale", "rows": 150}
    assert facts["training"]["rows"] == 270
    assert facts["training"]["test_rows"] == 180
    assert facts["training"]["first_event"] == "2024-01-01T00:00:00Z"
    assert trained(Detector.ONE_CLASS_SVM).model.version == facts["training"]["last_event"]
    encode(trained(Detector.ONE_CLASS_SVM).model, facts, trained(Detector.ONE_CLASS_SVM).canary)


def test_support_vector_machine_sees_at_most_so_many_seeded_rows() -> None:
    rows = rows_of(three_hosts(150), ("cpu", "network"))
    few = fit(rows, Detector.ONE_CLASS_SVM, svm_rows=120)
    assert few.estimator.shape_fit_ == (120, 13)
    assert fit(rows, Detector.ONE_CLASS_SVM, svm_rows=1_000).estimator.shape_fit_ == (270, 13)
    other = fit(rows, Detector.ONE_CLASS_SVM, svm_rows=120, seed=1)
    assert not np.array_equal(few.model.member.vectors, other.model.member.vectors)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
def test_kernel_width_stands_in_the_model_as_a_number(gamma: float | str) -> None:
    result = fit(rows_of(three_hosts(150), ("cpu", "network")), Detector.ONE_CLASS_SVM, gamma=gamma)
    expected = {"auto": 1 / 13, 0.05: 0.05}.get(gamma)
    assert expected is None or result.model.member.gamma == expected
    assert 0 < result.model.member.gamma < 1


def test_calendar_travels_with_the_model() -> None:
    features = FeatureSettings(timezone="Europe/Berlin", business_start=8, business_end=18)
    result = train(
        rows_of(three_hosts(), ("cpu", "network")), Detector.ISOLATION_FOREST, features, SETTINGS
    )
    expected = Calendar.from_settings(features)
    assert result.model.calendar.transitions_ms.tobytes() == expected.transitions_ms.tobytes()
    assert result.model.calendar.business_minutes.tolist() == [480, 1080]
    assert result.facts["feature_settings"]["timezone"] == "Europe/Berlin"
