"""The trainer's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer_training import __main__ as entry
from consumer_training.__main__ import main
from shared.settings import load_settings

UNFIT = '{"type": "record", "name": "R", "fields": [{"name": "host", "type": "string"}]}'


def test_options_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(entry, "serve", lambda *arguments: seen.append(arguments) or 3)
    options = ["--detector", "one_class_svm", "--cron", "0 3 * * *", "--window-days", "7.5"]
    assert main([*options, "--models-dir", str(tmp_path)]) == 3
    assert main(["--once", "--config", "some.toml"]) == 3
    (name, _, flags, _), (_, overrides, no_flags, _) = seen
    settings = load_settings(flags, environ={"LAPWING_TRAIN__SEED": "5"})
    assert name == "train"
    assert settings.detector == "one_class_svm"
    assert settings.models_dir == tmp_path
    assert (settings.train.cron, settings.train.window_days, settings.train.seed) == (
        "0 3 * * *",
        7.5,
        5,
    )
    assert no_flags == {}
    assert overrides.file == Path("some.toml")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--every", "soon"], "train.every"),
        (["--every", "1h", "--cron", "* * * * *"], "train.every and train.cron exclude each other"),
        (["--window-days", "-1"], "train.window_days"),
        (["--cron", "at dawn"], "train.cron: 'at dawn' is not a cron line"),
        (["--labels", "nowhere.json"], "nowhere.json: it cannot be read"),
        (["--config", "nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_what_is_wrong_is_reported_with_exit_code_two(
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("shared.operations.telemetry.configure", lambda *_: None)
    assert main(options) == 2
    output = capsys.readouterr().err
    assert output.startswith("lapwing train: ")
    assert complaint in output
