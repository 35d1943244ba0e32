"""The README says what is so: its commands and options exist, its table is current, what it names is there."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lapwing import __main__ as entry
from shared.settings import load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")

TESTED_BY = {
    "lapwing demo": "tests/integration/test_demo.py",
    "lapwing data fetch": "tests/unit/test_cli.py",
    "lapwing topics": "tests/integration/test_readme_commands.py",
    "lapwing produce": "tests/integration/test_readme_commands.py",
    "lapwing train": "tests/integration/test_readme_commands.py",
    "lapwing predict": "tests/integration/test_readme_commands.py",
    "lapwing tail": "tests/integration/test_readme_commands.py",
    "lapwing inspect": "tests/integration/test_readme_commands.py",
    "lapwing doctor": "tests/integration/test_readme_commands.py",
    "lapwing backtest": "tests/unit/test_backtest.py",
    "lapwing --set": "tests/unit/test_cli.py",
    "lapwing --config": "tests/unit/test_cli.py",
    "docker-compose": "tests/compose/test_compose.py",
    "make": ".ci/run",
    "export": "tests/integration/test_readme_commands.py",
}
"""Beginning of a command -> the file that runs commands of this kind."""


def commands():
    """Every line of the shell blocks, and every command in running text."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    spans = re.findall(r"`((?:lapwing|make|docker-compose) [^`]+)`", README)
    return sorted({shlex.join(shlex.split(line, comments=True)) for line in lines + spans})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_run_by_something(command):
    found = [file for begin, file in TESTED_BY.items() if command == begin or command.startswith(f"{begin} ")]
    assert found, f"{command}: nothing runs it"
    assert all((ROOT / file).is_file() for file in found)


def help_of(words):
    """Print the help of the command that words begin with; return it with the words that follow."""
    words = list(words)
    command = []
    if "--set" not in words and "--config" not in words:
        command = words[: 2 if words[0] in ("topics", "data") else 1]
    out = io.StringIO()
    before = sys.argv
    sys.argv = ["lapwing", *command, "--help"]
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            entry.main()
    finally:
        sys.argv = before
    return out.getvalue(), words[len(command) :]


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("lapwing ")])
def test_lapwing_has_the_command_and_its_options(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(command)[1:]
    if not words or words[0].startswith("-"):
        assert words[0] in help_of(["--help"])[0]
        return
    text, rest = help_of(words)
    assert text, f"{command}: no such command"
    for word in rest:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", text), f"{command}: no option {word}"


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make ")])
def test_make_has_the_target(command):
    target = shlex.split(command)[1]
    assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE)


def test_the_settings_table_is_current():
    table = runpy.run_path(str(ROOT / "docs" / "settings_table.py"))
    assert table["with_table"](README) == README, "run `python docs/settings_table.py`"


def test_the_settings_table_names_variables_that_work():
    table = runpy.run_path(str(ROOT / "docs" / "settings_table.py"))
    rows = [row for row in table["rows"]() if row[1] not in ("", "none") and not row[0].startswith("kafka")]
    assert len(rows) > 40
    environ = {table["variable"](name): default for name, default, *_ in rows}
    assert load_settings(environ=environ).model_dump() == load_settings(environ={}).model_dump()


def test_variables_in_the_text_are_settings():
    names = set(re.findall(r"`(LAPWING_[A-Z_]+)(?:=([^`]*))?`", README))
    assert len(names) > 5
    values = {
        "LAPWING_DETECTOR": "novelty",
        "LAPWING_INPUT__TIME_UNIT": "s",
        "LAPWING_TRAIN__TREES": "200",
        "LAPWING_TOPICS__PARTITIONS": "4",
        "LAPWING_TELEMETRY__PORT": "9100",
    }
    for name, value in names:
        load_settings(environ={name: value or values.get(name, "x")})


def test_services_of_the_compose_file_are_there():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in re.findall(r"--scale (\w+)=", README):
        assert name in services


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
