"""The sentence that a person reads at night: what is said of each feature, and whose it is."""

from __future__ import annotations

import numpy as np
import pytest

from shared.ensemble.kernels.outputs import CELL_DTYPE
from shared.events import Detector
from shared.features.vectors import FEATURE_NAMES, FEATURES
from shared.scoring.explaining import Trained, _sentence
from tests.support.models import trained

VALUES = {"value": 124.0, "expected": 40.0, "lower": 30.0, "upper": 50.0}


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        ("deviation", "cpu is 124, expected 40"),
        ("jump", "cpu changed to 124 in an unusual step"),
        ("residual", "cpu, at 124, does not follow the other metrics"),
        (
            "quarter_hour",
            "cpu deviates over the last quarter of an hour, now 124, expected 40",
        ),
        ("hour", "cpu deviates over the last hour, now 124, expected 40"),
        (
            "residual_hour",
            "cpu, now 124, has not followed the other metrics over the last hour",
        ),
        ("spread", "cpu, now 124, varies more than usual from one value to the next"),
    ],
)
def test_the_reason_says_what_a_person_would(feature: str, sentence: str) -> None:
    assert _sentence("cpu", feature, dict(VALUES)) == sentence


def test_each_feature_has_a_sentence_also_where_nothing_is_known() -> None:
    for feature in FEATURE_NAMES:
        assert "cpu" in _sentence("cpu", feature, dict.fromkeys(VALUES))


@pytest.mark.parametrize("detector", [Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM])
def test_shares_are_those_of_the_metrics_that_features_come_from(detector: Detector) -> None:
    model = trained(detector).model
    features = np.tile(model.usual, (3, 1))
    features[1, [0, 3]] = 3.2
    features[2] = np.nan
    sources = np.zeros((3, FEATURES), np.int32)
    sources[1, [0, 3]] = 1
    cells = np.zeros((3, 2), CELL_DTYPE)
    cells["expected"] = 40.0
    cells["upper"] = np.nan
    seen = Trained(features, sources, np.array([[1.0, 124.0]] * 3), cells, ["cpu", "disk"])
    assert seen.known.tolist() == [True, True, False]
    found = seen.explain(model, np.array([1, 2, 1]))
    assert list(found) == [1]
    assert found[1].metric == "disk"
    assert found[1].shares["disk"] == pytest.approx(1.0)
    assert found[1].values == {"value": 124.0, "expected": 40.0, "lower": 0.0, "upper": None}
    assert found[1].top_feature in ("disk.deviation", "disk.quarter_hour")
    assert found[1].reason.startswith(f"the {detector.value.replace('_', ' ')} finds the metrics")
    assert seen.explain(None, np.array([1])) == {}
