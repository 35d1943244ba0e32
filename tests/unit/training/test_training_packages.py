"""Without the training packages, its commands say at once what to install."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from consumer_training import packages
from consumer_training.__main__ import main as train
from lapwing.backtest.models import Trainer
from lapwing.demo.command import run as demo
from lapwing.demo.plan import DemoOptions
from producer.sources import SourceOptions
from shared.errors import ConfigError
from shared.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def core_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without scikit-learn and pandas."""
    find = importlib.util.find_spec
    gone = ("sklearn", "pandas")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in gone else find(name))


def test_the_list_is_the_extras() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extra = about["project"]["optional-dependencies"]["train"]
    assert sorted(packages.NEEDED.values()) == sorted(Requirement(one).name for one in extra)


def test_nothing_is_missing_here() -> None:
    packages.require_packages("a test")


@pytest.mark.usefixtures("core_only")
def test_train_ends_with_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("shared.operations.telemetry.configure", lambda *_: None)
    assert train(["--once"]) == 2
    error = capsys.readouterr().err
    assert "training needs pandas, scikit-learn" in error
    assert "install lapwing[train]" in error


@pytest.mark.usefixtures("core_only")
def test_demo_is_refused() -> None:
    options = DemoOptions(SourceOptions(None, fleet=2), 1, None, 0.6, True, False, None, None)
    with pytest.raises(ConfigError, match=r"the demo needs pandas, scikit-learn"):
        demo(options, {}, 0.0)


@pytest.mark.usefixtures("core_only")
def test_backtest_cannot_train() -> None:
    with pytest.raises(ConfigError, match=r"--train needs pandas, scikit-learn"):
        Trainer(None, Settings())  # type: ignore[arg-type]
