"""A model that was trained on another topic, or measures something else, is said to be so."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import structlog

from consumer_prediction.models import ModelVolume
from lapwing.doctor.files import check_model
from shared import artifacts
from shared.events import Detector
from shared.models.origin import no_metric_in_common, other_topic
from shared.operations.counters import Counters
from shared.settings import Settings, TopicSettings
from tests.support.models import trained


def publish(folder: Path, **facts: Any) -> None:
    result = trained(Detector.ONE_CLASS_SVM)
    artifacts.publish(folder, result.model, facts, result.canary)


@pytest.mark.parametrize(
    ("facts", "logged"),
    [
        (
            {"input": {"topic": "a"}, "metrics": ["cpu", "net"]},
            "it was trained on a (metrics cpu, net), but the input is b",
        ),
        ({"input": {"topic": "b"}, "metrics": ["cpu"]}, ""),
        ({"metrics": ["cpu"]}, ""),
        ({"input": ["a"]}, ""),
        ({"input": {"topic": 7}}, ""),
    ],
)
def test_another_topic(facts: dict[str, Any], logged: str) -> None:
    assert other_topic(facts, "b") == logged


def test_what_a_manifest_says_is_cut() -> None:
    facts = {"input": {"topic": "x" * 10_000}, "metrics": ["y" * 10_000] * 10_000}
    assert len(other_topic(facts, "b")) < 1000


def test_metrics_that_do_not_occur() -> None:
    facts = {"metrics": [f"m{i}" for i in range(7)]}
    logged = no_metric_in_common(facts, ["rpm", "temp"])
    assert logged == (
        "none of its metrics (m0, m1, m2, m3, m4, ...) is in the input, which has rpm, temp"
    )
    assert no_metric_in_common(facts, ["m6", "temp"]) == ""
    assert no_metric_in_common(facts, []) == no_metric_in_common({}, ["temp"]) == ""


def test_a_predictor_says_so_once_for_each_model(tmp_path: Path) -> None:
    publish(tmp_path, input={"topic": "metrics.cloudwatch.raw"})
    times = itertools.count()
    for topic, wanted in (("plant.metrics", 1), ("metrics.cloudwatch.raw", 0), ("", 0)):
        models = ModelVolume(tmp_path, 0.5, lambda: next(times), Counters(), topic=topic)
        with structlog.testing.capture_logs() as logs:
            assert models.newest() is models.newest() is not None
        logged = [log for log in logs if log["event"] == "model was trained on another topic"]
        assert len(logged) == wanted
        assert all("LAPWING_MODELS_DIR" in log["remedy"] for log in logged)


def test_the_doctor_says_so(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, topics=TopicSettings(input="plant.metrics"))
    finding = check_model(settings)
    assert (finding.result, finding.remedy) == ("ok", "")
    assert "none is needed" in finding.message
    publish(tmp_path, input={"topic": "plant.metrics"})
    assert check_model(settings, ["cpu"]).result == "ok"
    finding = check_model(settings, ["rpm"])
    assert finding.result == "failed"
    assert "none of its metrics (cpu, network) is in the input, which has rpm" in finding.message
    publish(tmp_path, input={"topic": "metrics.cloudwatch.raw"})
    finding = check_model(settings, ["cpu"])
    assert finding.result == "warning"
    assert "trained on metrics.cloudwatch.raw (metrics cpu, network)" in finding.message
    assert "LAPWING_MODELS_DIR" in finding.remedy


def test_the_doctor_warns_where_a_trained_detector_has_no_model(tmp_path: Path) -> None:
    finding = check_model(Settings(models_dir=tmp_path, detector=Detector.ISOLATION_FOREST))
    assert (finding.result, finding.remedy) == ("warning", "lapwing train --once")
