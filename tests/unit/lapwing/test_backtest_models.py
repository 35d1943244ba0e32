"""Which model a backtest takes, and that it is one of its detector."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lapwing.backtest.models import check_fit, find_model
from shared.errors import ArtifactMissing, ConfigError
from shared.events import Detector
from shared.scoring.configuration import Configuration
from shared.settings import load_settings


def test_models_are_found_by_their_first_digits(tmp_path, monkeypatch):
    name = "ab12" * 16
    (tmp_path / name).mkdir()
    (tmp_path / ("cd34" * 16)).mkdir()
    monkeypatch.setattr("shared.artifacts.load", lambda folder, sha256, trust: (folder, sha256))
    assert find_model(tmp_path, name[:9]) == (tmp_path, name)
    assert find_model(tmp_path, None) is None
    assert find_model(tmp_path, "none") is None
    with pytest.raises(ArtifactMissing, match=r"--model CURRENT: .* contains no model"):
        find_model(tmp_path, "CURRENT")
    (tmp_path / "CURRENT").write_text(name + "\n")
    assert find_model(tmp_path, "CURRENT") == (tmp_path, name)
    (tmp_path / ("ab12" * 2 + "f" * 56)).mkdir()
    with pytest.raises(ConfigError, match=r"--model ab12ab12: 2 artefacts in .* match"):
        find_model(tmp_path, "ab12ab12")


def test_a_detector_needs_a_model_of_its_own_kind():
    configuration = Configuration.from_settings(
        load_settings({"detector": "isolation_forest"}, environ={})
    )
    model = SimpleNamespace(detector=Detector.ONE_CLASS_SVM)
    with pytest.raises(
        ConfigError,
        match="detector is isolation_forest, but the model was trained for one_class_svm",
    ):
        check_fit(configuration, model)
    model.detector = Detector.ISOLATION_FOREST
    check_fit(configuration, model)
