"""House rules that a machine can check: docstrings, sizes, locks, names in documents."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from shared.settings import Settings, load_settings
from shared.settings.names import ENV_PREFIX

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "shared",
    "schemas",
    "data",
    "producer",
    "consumer_training",
    "consumer_prediction",
    "dashboard",
    "lapwing",
)
CODE = [
    path
    for top in (*PACKAGES, "tests", "benchmarks", "docs")
    for path in sorted((ROOT / top).rglob("*.py"))
]
LONGEST = 500
MOST_MODULES = 12
"""Modules of one folder of the product, with its ``__init__``."""

MOST_PARAMETERS = 8
UNGROUPED = ("tests/reference/quality.py",)
"""Where functions still take more."""

WIDEST = 100
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
NOT_IN_COMPOSE = {
    "LAPWING_SLOT",
    "LAPWING_KAFKA",
    "LAPWING_REGISTRY__BASIC_AUTH",
    "LAPWING_TOPICS__REPLICATION",
}
NOT_IN_COMPOSE |= {"LAPWING_TELEMETRY__HOST", "LAPWING_TRAIN__EVERY", "LAPWING_TRAIN__CRON"}
NOT_IN_COMPOSE |= {"LAPWING_DASHBOARD__HOST", "LAPWING_DASHBOARD__PORT"}
"""One per replica, one node, no password, or given by a command of the file."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unfit_docstrings(source: str) -> list[str]:
    """Return whose docstring has no summary: one line of at most WIDEST columns, then a blank one.

    Only the module needs a docstring; ruff asks for those of the product's functions and classes.
    """
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, DOCUMENTED):
            continue
        docstring = ast.get_docstring(node)
        if docstring is None and node is not tree:
            continue
        summary, *rest = (docstring or "").splitlines() or [""]
        fits = len(summary) <= WIDEST and not any(rest[:1])
        if not (fits and summary.endswith((".", ":"))):
            found.append(getattr(node, "name", "module"))
    return found


def test_docstrings_have_a_summary_of_one_line() -> None:
    assert {name_of(path).split("/")[0] for path in CODE} >= {"shared", "tests", "benchmarks"}
    found = {name_of(path): unfit_docstrings(path.read_text("utf-8")) for path in CODE}
    assert {name: unfit for name, unfit in found.items() if unfit} == {}


def test_an_unfit_docstring_is_found() -> None:
    assert (
        unfit_docstrings('"""Some."""\ndef f():\n    """Do.\n\n    More\n    lines.\n    """') == []
    )
    assert unfit_docstrings('"""Some."""\nclass A:\n    def f(self): ...') == []
    assert unfit_docstrings("def f(): ...") == ["module"]
    assert unfit_docstrings('"""Some."""\nclass A:\n    """Two\n    lines."""') == ["A"]
    assert unfit_docstrings('"""Some."""\ndef f():\n    """Do\n\n    this."""') == ["f"]
    assert unfit_docstrings(f'"""{"word " * WIDEST}."""') == ["module"]


def many_parameters(source: str) -> list[str]:
    """Return the functions with more than MOST_PARAMETERS; those of commands are their options."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            names = [
                p.arg for p in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            ]
            own = [name for name in names if name not in ("self", "cls")]
            if len(own) > MOST_PARAMETERS and "context" not in own:
                found.append(node.name)
    return found


def test_functions_take_few_parameters() -> None:
    sources = {
        name_of(path): path.read_text("utf-8")
        for path in CODE
        if not name_of(path).startswith(UNGROUPED)
    }
    found = {name: many_parameters(source) for name, source in sources.items()}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_a_function_of_many_parameters_is_found() -> None:
    names = [f"a{k}" for k in range(MOST_PARAMETERS)]
    source = "def {}({}): ..."
    assert many_parameters(source.format("f", ", ".join(["self", *names]))) == []
    assert many_parameters(source.format("f", ", ".join([*names, "*", "b"]))) == ["f"]
    assert many_parameters(source.format("f", ", ".join(["context", *names]))) == []


def test_every_file_can_be_read_in_one_sitting() -> None:
    lengths = {name_of(path): path.read_text("utf-8").count("\n") for path in CODE}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def crowded(paths: Iterable[Path]) -> dict[str, int]:
    """Folder -> number of its own modules, where these are more than MOST_MODULES."""
    counts = Counter(name_of(path.parent) for path in paths)
    return {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def test_a_folder_has_at_most_a_dozen_modules() -> None:
    modules = [path for path in CODE if name_of(path).split("/")[0] in PACKAGES]
    assert {"shared", "shared/kafka", "lapwing/backtest"} <= {name_of(m.parent) for m in modules}
    assert crowded(modules) == {}


def test_a_crowded_folder_is_found() -> None:
    full = [ROOT / "shared" / f"m{number}.py" for number in range(MOST_MODULES)]
    assert crowded([*full, ROOT / "shared" / "inner" / "m.py"]) == {}
    assert crowded([*full, ROOT / "shared" / "m.py"]) == {"shared": MOST_MODULES + 1}


UNIT = re.compile(r"^_?(?:MINUTE|HOUR|DAY|WEEK)_MS\b.* = ", re.MULTILINE)


def test_units_of_time_have_one_home() -> None:
    homes = [
        name_of(path)
        for path in CODE
        if name_of(path).split("/")[0] in PACKAGES and UNIT.search(path.read_text("utf-8"))
    ]
    assert homes == ["shared/kernels/units.py"]


def fields_of(schema: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from fields_of(branch, path)
    elif isinstance(schema, dict):
        for field in schema.get("fields", ()):
            yield f"{path}.{field['name']}", field
            yield from fields_of(field["type"], f"{path}.{field['name']}")
        for inner in ("items", "values", "type"):
            if isinstance(schema.get(inner), dict | list):
                yield from fields_of(schema[inner], path)


def test_every_field_of_a_schema_has_a_doc() -> None:
    fields = []
    for path in sorted((ROOT / "schemas").glob("*.avsc")):
        schema = json.loads(path.read_text("utf-8"))
        fields += [(path.stem, schema), *fields_of(schema, path.stem)]
    assert len(fields) >= 40
    assert [name for name, field in fields if not str(field.get("doc", "")).strip()] == []


def wide_lines(text: str) -> list[int]:
    """Numbers of the lines of prose that are too wide; tables, code and links are exempt."""
    wide, in_code = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        is_free = in_code or line.startswith(("    ", "|")) or "](" in line
        if not is_free and len(line) > WIDEST:
            wide.append(number)
    return wide


def test_documents_are_wrapped() -> None:
    paths = [*ROOT.glob("*.md"), ROOT / "data" / "README.md"]
    for top in ("benchmarks", "deploy", "docs", "findings", "tests"):
        paths += sorted((ROOT / top).rglob("*.md"))
    wide = {name_of(path): wide_lines(path.read_text("utf-8")) for path in paths}
    assert {"README.md", "docs/input.md", "findings/README.md"} <= set(wide)
    assert {name: lines for name, lines in wide.items() if lines} == {}


def test_a_wide_line_is_found() -> None:
    prose, row = "word " * 21, "|" + "cell " * 21
    assert wide_lines(prose) == [1]
    assert wide_lines(f"```\n{prose}\n```\n{row}\n    {prose}\n{prose}") == [6]


# --- what is installed ----------------------------------------------------------------------------


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Canonical name -> (version, number of hashes)."""
    found: dict[str, tuple[str, int]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text("utf-8")):
        if entry.strip() and not entry.startswith("#"):
            pin = re.match(r"([^\s\[]+)(?:\[\S+\])?==(\S+)", entry)
            assert pin, f"{name}: {entry.splitlines()[0]} is not pinned"
            found[canonicalize_name(pin[1])] = (pin[2], entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize(
    "name", ["core.txt", "full.txt", "build.txt", "dev.txt", "browser.txt", "release.txt"]
)
def test_lock_has_hashes_and_names_no_place(name: str) -> None:
    assert [package for package, (_, hashes) in locked(name).items() if not hashes] == []
    text = (ROOT / "requirements" / name).read_text("utf-8")
    assert not re.search(
        r"://|--(extra-)?index|--find-links|--trusted| @ |^-e|\.\.?/", text, re.MULTILINE
    )


def test_locks_hold_what_the_project_asks_for() -> None:
    about = project()
    groups, extras = about["dependency-groups"], about["project"]["optional-dependencies"]
    asked = {
        "core.txt": about["project"]["dependencies"],
        "full.txt": about["project"]["dependencies"]
        + [name for e in extras.values() for name in e],
        "build.txt": about["build-system"]["requires"] + groups["build"],
    }
    asked["dev.txt"] = [*asked["full.txt"], *asked["build.txt"], *groups["test"], *groups["dev"]]
    asked["browser.txt"] = groups["browser"]
    asked["release.txt"] = groups["release"]
    for name, requirements in asked.items():
        pins = locked(name)
        for requirement in map(Requirement, requirements):
            version = pins.get(canonicalize_name(requirement.name), ("missing", 0))[0]
            assert version in requirement.specifier, (
                f"{name} has {requirement.name} {version}, pyproject.toml asks {requirement}"
            )


def test_locks_agree() -> None:
    dev = locked("dev.txt")
    for name in ("core.txt", "full.txt", "build.txt"):
        assert {package: dev.get(package) for package in locked(name)} == locked(name)


def test_wheel_holds_every_package() -> None:
    tool = project()["tool"]
    assert sorted(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
    assert sorted(tool["mypy"]["packages"]) == sorted([*PACKAGES, "benchmarks"])
    image = (ROOT / "Dockerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for package in PACKAGES:
        assert f"COPY {package}/ {package}/" in image
        assert f"!{package}" in ignored


# --- what the documents name ----------------------------------------------------------------------


def make_targets() -> dict[str, str]:
    return dict(
        re.findall(
            r"^([a-z][a-z-]*):.*?## (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
        )
    )


def test_every_make_target_has_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE))
    assert named == set(make_targets())
    assert set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.MULTILINE)) == named
    assert {"demo", "test", "lint", "types", "format", "clean", "compose-test", "lock"} <= named


# --- findings -------------------------------------------------------------------------------------


def test_findings_are_in_the_index_and_have_their_form() -> None:
    folder = ROOT / "findings"
    scripts = sorted(folder.glob("*.sh"))
    table = (folder / "README.md").read_text("utf-8")
    index = re.findall(r"^\| \[([\w-]+)\]\(([\w.-]+)\) \|", table, re.MULTILINE)
    assert sorted(index) == [(script.stem, script.name) for script in scripts]
    for script in (*scripts, *folder.glob("lib/*.sh")):
        command = ["bash", "-n", str(script)]
        parsed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, parsed.stderr
    for script in scripts:
        head = script.read_text("utf-8").partition("\n\nsource ")[0]
        parts = re.findall(r"^# (Software|Expected|Instead|Seen|Source)\b", head, re.MULTILINE)
        assert parts == ["Software", "Expected", "Instead", "Seen", "Source"], script.name
        assert os.access(script, os.X_OK), f"{script.name} is not executable"


# --- settings -------------------------------------------------------------------------------------


def variables() -> dict[str, Any]:
    """Every setting's environment name and its default."""
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for inner, its in section.model_fields.items():
                found[f"{ENV_PREFIX}{name}__{inner}".upper()] = its.default
        else:
            found[f"{ENV_PREFIX}{name}".upper()] = field.default
    return found


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


def test_compose_passes_every_setting_on() -> None:
    passed = {name for name in compose()["x-settings"] if not name.startswith("LAPWING_KAFKA__")}
    assert passed == set(variables()) - NOT_IN_COMPOSE


def example() -> dict[str, str | None]:
    """What .env.example says when every line is in force."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    return dotenv_values(
        stream=StringIO("\n".join(re.sub(r"^#(?=[A-Z_]+=)", "", line) for line in lines)),
        interpolate=False,
    )


def test_env_example_names_what_compose_reads() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    fixed = {
        name
        for name, value in compose()["x-settings"].items()
        if value is not None and "${" not in str(value)
    }
    read = set(re.findall(r"\$\{([A-Z_]+)", text)) | {
        name for name in compose()["x-settings"] if name not in fixed
    }
    assert set(example()) == read


def test_env_example_gives_the_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert example()[name] == default
    given = {name: value for name, value in example().items() if name in variables()}
    assert {"LAPWING_TRAIN__WINDOW_DAYS", "LAPWING_DETECTION__ALARMS_PER_DAY"} <= set(given)
    loaded = load_settings(environ=given)  # type: ignore[arg-type]
    plain = load_settings(environ={})
    expected = plain.model_dump()
    expected["telemetry"]["log_format"] = "human"
    assert loaded.model_dump() == expected


def test_the_values_that_env_example_proposes_are_accepted() -> None:
    text = (ROOT / ".env.example").read_text("utf-8")
    proposed = dict(re.findall(r"^#(LAPWING_[A-Z_]+)=.*e\.g\. (\{.*\})$", text, re.MULTILINE))
    assert set(proposed) == {"LAPWING_DETECTION__METRICS"}
    lines = "\n".join(f"{name}={value}" for name, value in proposed.items())
    read = dotenv_values(stream=StringIO(lines), interpolate=False)
    loaded = load_settings(environ=read)  # type: ignore[arg-type]
    assert loaded.detection.metrics["cpu"].direction == "up"


def test_images_are_pinned_and_the_broker_is_the_one_of_the_tests() -> None:
    services = compose()["services"]
    kafka = services["kafka"]["image"].removeprefix("apache/kafka:")
    assert re.fullmatch(r"\d+\.\d+\.\d+", kafka)
    assert re.fullmatch(
        r"confluentinc/cp-schema-registry:\d+\.\d+\.\d+", services["schema-registry"]["image"]
    )
    poms = [path for path in ROOT.glob("tests/**/pom.xml") if "kafka" in path.read_text("utf-8")]
    assert poms
    assert all(kafka in path.read_text("utf-8") for path in poms)


def test_predictors_can_be_scaled() -> None:
    predictor = compose()["services"]["consumer_prediction"]
    assert not {"container_name", "ports", "hostname"} & set(predictor)
    assert "models:/models:ro" in predictor["volumes"]


def test_our_containers_cannot_write_where_they_should_not() -> None:
    services = compose()["services"]
    ours = {
        name: service
        for name, service in services.items()
        if name not in ("kafka", "schema-registry", "prometheus", "grafana")
    }
    assert set(ours) == {
        "topics",
        "backfill",
        "incidents",
        "notify",
        "route",
        "producer",
        "consumer_training",
        "consumer_prediction",
        "dashboard",
    }
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^USER lapwing$", image, re.MULTILINE)
    assert not re.search(r"^# *syntax=|<<|--mount", image, re.MULTILINE)
