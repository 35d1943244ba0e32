"""The command line: what it offers, how settings reach the commands, how errors end it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
import tomllib
from functools import partialmethod
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lapwing
from lapwing import __main__ as entry
from lapwing.app import app, run
from shared.errors import ConfigError, TransportError
from shared.kafka import Admin
from shared.kafka.client import CALL_TIMEOUT_S
from tests.support.programs import run_code

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "backtest",
    "dashboard",
    "demo",
    "produce",
    "train",
    "predict",
    "tail",
    "topics",
    "data",
    "doctor",
    "explain",
    "export",
    "feedback",
    "dlq",
    "inspect",
    "incidents",
    "notify",
    "route",
}
HEAVY = (
    "numpy",
    "numba",
    "pydantic",
    "confluent_kafka",
    "fastavro",
    "structlog",
    "sklearn",
    "pandas",
    "matplotlib",
)


def lapwing_process(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "lapwing", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def as_user(monkeypatch, *arguments):
    """Run as the console script does."""
    monkeypatch.setattr(sys, "argv", ["lapwing", *arguments])
    try:
        return entry.main()
    except SystemExit as end:
        return end.code or 0


def test_every_command_of_the_contract_and_no_other():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names | {group.name for group in app.registered_groups} == COMMANDS


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((name,) for name in sorted(COMMANDS)),
        *(("topics", name) for name in ("ensure", "describe")),
        ("data", "fetch"),
        *(("dlq", name) for name in ("list", "show", "replay")),
        *(("feedback", name) for name in ("add", "undo", "list", "export")),
    ],
)
def test_every_command_has_help(command, monkeypatch, capsys):
    assert as_user(monkeypatch, *command, "--help") == 0
    assert len(capsys.readouterr().out) > 100


def test_help_loads_nothing_heavy_and_answers_at_once():
    code = (
        "import sys; sys.argv = ['lapwing', '--help']\nfrom lapwing.__main__ import main\ntry:"
        f" main()\nexcept SystemExit: pass\nprint([name for name in {HEAVY} if name in"
        " sys.modules])"
    )
    started = time.perf_counter()
    ran = run_code(code)
    seconds = time.perf_counter() - started
    assert ran.stdout.splitlines()[-1] == "[]"
    assert seconds < 3, "0.3 s on an idle machine; this only finds a slow import on a busy one"


def test_the_version_is_that_of_the_project(monkeypatch, capsys):
    assert as_user(monkeypatch, "--version") == 0
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert capsys.readouterr().out == f"lapwing {declared}\n"
    assert lapwing.__version__ == declared


def test_an_unknown_command_is_a_usage_error():
    ran = lapwing_process("fly")
    assert ran.returncode == 2
    assert "No such command 'fly'" in ran.stderr


def test_a_python_that_is_too_old_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
    monkeypatch.setattr(sys, "version", "3.9.18 (main)")
    assert entry.main() == 2
    assert "lapwing needs Python 3.11, 3.12 or 3.13; this is 3.9.18" in capsys.readouterr().err


def test_the_entry_reads_as_old_python():
    import ast

    for name in ("__init__.py", "__main__.py"):
        ast.parse((ROOT / "lapwing" / name).read_text(), feature_version=(3, 4))


# -- settings --------------------------------------------------------------------------------------


def settings_seen(monkeypatch, *arguments):
    seen = []
    monkeypatch.setattr(
        "consumer_prediction.__main__.serve",
        lambda name, overrides, flags, work: seen.append((flags, overrides.load(flags))) or 0,
    )
    before = dict(os.environ)
    assert as_user(monkeypatch, *arguments) == 0
    assert dict(os.environ) == before
    return seen[0]


def test_flags_win_over_environment_over_file_over_default(monkeypatch, tmp_path):
    file = tmp_path / "lapwing.toml"
    file.write_text(
        '[train]\ntrees = 1\nsamples = 2\nseed = 3\n[registry]\nurl = "http://file:1"\n'
    )
    monkeypatch.setenv("LAPWING_TRAIN__TREES", "10")
    monkeypatch.setenv("LAPWING_TRAIN__SAMPLES", "20")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://environment:1")
    flags, settings = settings_seen(
        monkeypatch,
        "--config",
        str(file),
        "--set",
        "train.trees=100",
        "--registry",
        "http://flag:1",
        "predict",
    )
    assert (
        settings.train.trees,
        settings.train.samples,
        settings.train.seed,
        settings.train.nu,
    ) == (100, 20, 3, 0.01)
    assert settings.registry.url == "http://flag:1"
    assert flags == {}


def test_kafka_settings_pass_through(monkeypatch):
    _, settings = settings_seen(
        monkeypatch,
        "--bootstrap-servers",
        "a:1,b:2",
        "--set",
        "kafka.security.protocol=SASL_SSL",
        "predict",
    )
    assert settings.bootstrap == "a:1,b:2"
    assert settings.kafka["security.protocol"] == "SASL_SSL"


def test_options_of_a_service_win_over_what_stands_before_it(monkeypatch, tmp_path):
    (tmp_path / "a.toml").write_text("[train]\ntrees = 1\n")
    (tmp_path / "b.toml").write_text("[train]\ntrees = 2\n")
    flags, settings = settings_seen(
        monkeypatch,
        "--set",
        "slot=0",
        "--set",
        "predict.group=g",
        "--config",
        str(tmp_path / "a.toml"),
        "predict",
        "--slot",
        "1",
        "--delivery=at-least-once",
        "--config",
        str(tmp_path / "b.toml"),
    )
    assert flags == {"slot": "1", "predict": {"delivery": "at-least-once"}}
    assert (settings.slot, settings.predict.group) == ("1", "g")
    assert settings.predict.delivery == "at-least-once"
    assert settings.train.trees == 2


def test_the_demo_passes_overrides_on_to_what_it_starts(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "lapwing.demo.command.run", lambda options, environ, started_s: seen.append(environ) or 0
    )
    monkeypatch.setenv("LAPWING_TRAIN__TREES", "10")
    arguments = ["--config", str(tmp_path), "--set", "train.trees=7", "demo", "--fleet", "3"]
    assert as_user(monkeypatch, *arguments) == 0
    (environ,) = seen
    assert environ["LAPWING_TRAIN__TREES"] == "7"
    assert environ["LAPWING_CONFIG"] == str(tmp_path)
    assert environ["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "train.trees", "doctor"), "write NAME=VALUE"),
        (("--set", "train.tree=1", "doctor"), "train.tree (LAPWING_TRAIN__TREE): no such setting"),
        (("--set", "trees=1", "doctor"), "LAPWING_TREES: no such setting"),
        (("--set", "train.trees=many", "tail"), "train.trees (LAPWING_TRAIN__TREES)"),
        (
            ("--config", "/nowhere.toml", "topics", "ensure"),
            "settings file /nowhere.toml does not exist",
        ),
        (("demo", "--speed", "0"), "--speed 0"),
        (("demo", "--backfill", "1"), "--backfill 1"),
        (("demo", "--predictors", "0"), "--predictors 0"),
        (("demo", "--data", "/nowhere"), "/nowhere: no such file or folder"),
        (("demo", "--data", "/tmp", "--fleet", "3"), "exclude each other"),
        (
            ("demo", "--fleet", "3", "--entity", "node"),
            "--entity describes columns of files, so it needs --data",
        ),
        (("demo", "--data", "/tmp", "--decimal", "dot"), "--decimal dot: point or comma"),
    ],
)
def test_a_wrong_setting_ends_with_one_message(arguments, message, monkeypatch, capsys):
    assert as_user(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("lapwing: ")
    assert message in error
    assert "Traceback" not in error


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "code"), [(ConfigError("c"), 2), (TransportError("t"), 1)])
def test_our_errors_become_one_message_and_their_exit_code(error, code, monkeypatch, capsys):
    import lapwing.doctor

    def examine(settings, as_json):
        raise error

    monkeypatch.setattr(lapwing.doctor, "examine", examine)
    assert as_user(monkeypatch, "doctor") == code
    assert capsys.readouterr().err == f"lapwing: {error}\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    import lapwing.doctor

    monkeypatch.setattr(lapwing.doctor, "examine", lambda settings, as_json: 1 // 0)
    monkeypatch.setattr(sys, "argv", ["lapwing", "doctor"])
    with pytest.raises(ZeroDivisionError):
        run()


def test_an_unreachable_broker_is_named(monkeypatch, capsys):
    assert CALL_TIMEOUT_S < 10.0
    patient = Admin.__init__
    monkeypatch.setattr(Admin, "__init__", partialmethod(patient, timeout_s=0.5))
    assert as_user(monkeypatch, "--bootstrap-servers", "127.0.0.1:1", "topics", "describe") == 1
    error = capsys.readouterr().err
    assert error.startswith("lapwing: ")
    assert "127.0.0.1:1" in error
    assert "Traceback" not in error


# -- data fetch ------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A local server with two files, and the checksum list that pins them."""
    served = tmp_path / "served"
    served.mkdir()
    sums = ""
    for name in ("a.csv", "b.csv"):
        (served / name).write_text(f"timestamp,value\n{name}")
        sums += f"{hashlib.sha256((served / name).read_bytes()).hexdigest()}  {name}\n"
    monkeypatch.setattr("data.text", lambda _: sums)
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(served)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", served
    server.shutdown()
    server.server_close()


def test_data_fetch(mirror, tmp_path):
    url, _ = mirror
    target = tmp_path / "nab"
    done = CliRunner().invoke(app, ["data", "fetch", "--url", url, "--to", str(target)])
    assert (done.exit_code, done.exception) == (0, None)
    assert "2 files downloaded, 0 already present" in done.output
    assert (target / "b.csv").read_text() == "timestamp,value\nb.csv"
    again = CliRunner().invoke(app, ["data", "fetch", "--url", url, "--to", str(target), "--json"])
    assert '"written": [], "present": ["a.csv", "b.csv"]' in again.output


def test_data_fetch_refuses_other_bytes(mirror, tmp_path, monkeypatch, capsys):
    url, served = mirror
    (served / "b.csv").write_text("not what was pinned")
    assert as_user(monkeypatch, "data", "fetch", "--url", url, "--to", str(tmp_path / "nab")) == 2
    assert "b.csv: its SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "nab" / "b.csv").exists()
