"""A service's errors become a sentence and an exit code; a second signal ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from shared.errors import ConfigError, TransportError
from shared.operations.entry import Overrides, SettingsFile, given, run_command, serve, take_signals

ROOT = Path(__file__).parents[3]
NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("shared.operations.telemetry.configure", lambda _: None)
    monkeypatch.delenv("LAPWING_CONFIG", raising=False)
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_work_gets_settings_and_its_end_is_code_zero(tmp_path: Path) -> None:
    file, seen = tmp_path / "lapwing.toml", []
    file.write_text("[train]\nseed = 3\ntrees = 4\n")

    def work(settings, stopping):
        seen.append((settings.train.seed, settings.train.trees, stopping()))

    assert serve("train", Overrides(file), {"train": {"trees": 5}}, work) == 0
    assert seen == [(3, 5, False)]


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("wrong"), 2), (TransportError("away"), 1)]
)
def test_our_errors_become_a_sentence_and_a_code(error, code, capsys) -> None:
    def work(settings, stopping):
        raise error

    assert serve("predict", Overrides(), {}, work) == code
    assert capsys.readouterr().err == f"lapwing predict: {error}\n"


def test_a_wrong_setting_ends_before_any_work(capsys) -> None:
    assert (
        serve("train", Overrides(), {"train": {"tree": 1}}, lambda *_: pytest.fail("worked")) == 2
    )
    assert "train.tree (LAPWING_TRAIN__TREE): no such setting" in capsys.readouterr().err


def test_a_bug_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        serve("train", Overrides(), {}, lambda *_: 1 // 0)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_a_wish_to_end(number) -> None:
    stopping = take_signals()
    assert not stopping()
    signal.raise_signal(number)
    assert stopping()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """
        import signal
        from shared.operations.entry import take_signals
        stopping = take_signals()
        signal.raise_signal(signal.SIGTERM)
        print(stopping(), flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("never")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (-signal.SIGTERM, "True\n")


def test_options_that_nobody_gave_are_no_flags() -> None:
    flags = given(slot=None, models_dir="m", predict=given(group=None), train=given(seed=0))
    assert flags == {"models_dir": "m", "train": {"seed": 0}}


def test_overrides_say_the_same_as_variables() -> None:
    overrides = Overrides(Path("a.toml"), {"train.trees": "7", "kafka.sasl.mechanism": "PLAIN"})
    assert overrides.variables() == {
        "LAPWING_CONFIG": "a.toml",
        "LAPWING_TRAIN__TREES": "7",
        "LAPWING_KAFKA__SASL_MECHANISM": "PLAIN",
    }
    assert Overrides().variables() == {}


def test_a_command_by_itself_ends_with_a_code(capsys) -> None:
    seen: list[tuple[int, Overrides]] = []

    def count(context: typer.Context, config: SettingsFile = None, upto: int = 3) -> None:
        """Count."""
        seen.append((upto, Overrides.of(context, config)))
        raise typer.Exit(upto)

    assert run_command(count, "count", []) == 3
    assert run_command(count, "count", ["--upto", "0", "--config", "b.toml"]) == 0
    assert seen == [(3, Overrides()), (0, Overrides(Path("b.toml")))]
    assert run_command(count, "count", ["--upto", "many"]) == 2
    assert "--upto" in capsys.readouterr().err
    assert run_command(count, "count", ["--help"]) == 0
    assert "Usage: lapwing count" in capsys.readouterr().out
