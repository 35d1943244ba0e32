"""House rules that a machine can check: docstrings, sizes, locks, and that what the documents name exists."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from shared.settings import ENV_PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "schemas", "data", "producer", "consumer_training", "consumer_prediction", "lapwing")
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
CODE = [path for top in (*PACKAGES, "tests", "benchmarks", "docs") for path in sorted((ROOT / top).rglob("*.py"))]
LONGEST = 500
NOT_IN_COMPOSE = {"LAPWING_SLOT", "LAPWING_KAFKA", "LAPWING_REGISTRY__BASIC_AUTH", "LAPWING_TOPICS__REPLICATION"}
NOT_IN_COMPOSE |= {"LAPWING_TELEMETRY__HOST", "LAPWING_TRAIN__EVERY", "LAPWING_TRAIN__CRON"}
"""One per replica, one node, no password, or given by TRAIN_SCHEDULE."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_module_says_what_it_is() -> None:
    modules = [path for path in CODE if name_of(path).split("/")[0] in PACKAGES]
    assert len(modules) >= 40
    said = {name_of(path): ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in modules}
    assert [name for name, text in said.items() if not text.split("\n\n")[0].rstrip().endswith((".", ":"))] == []


def test_every_file_can_be_read_in_one_sitting() -> None:
    lengths = {name_of(path): path.read_text("utf-8").count("\n") for path in CODE}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


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


# --- what is installed -----------------------------------------------------------------------------------------


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Canonical name -> (version, number of hashes)."""
    found: dict[str, tuple[str, int]] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text("utf-8")):
        if entry.strip() and not entry.startswith("#"):
            pin = re.match(r"(\S+)==(\S+)", entry)
            assert pin, f"{name}: {entry.splitlines()[0]} is not pinned"
            found[canonicalize_name(pin[1])] = (pin[2], entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("name", ["runtime.txt", "build.txt", "dev.txt"])
def test_lock_has_hashes_and_names_no_place(name: str) -> None:
    assert [package for package, (_, hashes) in locked(name).items() if not hashes] == []
    text = (ROOT / "requirements" / name).read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted| @ |^-e|\.\.?/", text, re.MULTILINE)


def test_locks_hold_what_the_project_asks_for() -> None:
    about = project()
    groups, extras = about["dependency-groups"], about["project"]["optional-dependencies"]
    asked = {
        "runtime.txt": about["project"]["dependencies"] + extras["report"],
        "build.txt": about["build-system"]["requires"] + groups["build"],
    }
    asked["dev.txt"] = [*asked["runtime.txt"], *asked["build.txt"], *groups["test"], *groups["dev"]]
    for name, requirements in asked.items():
        pins = locked(name)
        for requirement in map(Requirement, requirements):
            version = pins.get(canonicalize_name(requirement.name), ("missing", 0))[0]
            assert version in requirement.specifier, (
                f"{name} has {requirement.name} {version}, pyproject.toml asks {requirement}"
            )


def test_locks_agree() -> None:
    dev = locked("dev.txt")
    for name in ("runtime.txt", "build.txt"):
        assert {package: dev.get(package) for package in locked(name)} == locked(name)


def test_wheel_holds_every_package() -> None:
    tool = project()["tool"]
    assert sorted(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
    assert sorted(tool["mypy"]["packages"]) == sorted(PACKAGES)
    image = (ROOT / "Dockerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for package in PACKAGES:
        assert f"COPY {package}/ {package}/" in image
        assert f"!{package}" in ignored


# --- what the documents name -----------------------------------------------------------------------------------


def make_targets() -> dict[str, str]:
    return dict(re.findall(r"^([a-z][a-z-]*):.*?## (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_every_make_target_has_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE))
    assert named == set(make_targets())
    assert set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.MULTILINE)) == named
    assert {"demo", "test", "lint", "types", "format", "clean", "compose-test", "lock"} <= named


def spoken(document: str) -> Iterator[str]:
    """Every line of code in a document: of its code blocks, and what stands between single back quotes."""
    text = (ROOT / document).read_text("utf-8")
    blocks = re.findall(r"^( *)```\w*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    for _, block in blocks:
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL))


def test_make_targets_in_documents_exist() -> None:
    said = {
        doc: {name for line in spoken(doc) for name in re.findall(r"(?:^|[;&$(] *)make ([a-z][a-z-]*)", line)}
        for doc in DOCUMENTS
    }
    assert {"demo", "test"} <= said["README.md"]
    assert {"unit", "integration", "compose-test"} <= said["CONTRIBUTING.md"]
    assert set().union(*said.values()) <= set(make_targets())


def commands_in(document: str) -> set[tuple[str, ...]]:
    """(command, subcommand or "", options...) of every `lapwing ...` in a document."""
    found = set()
    for line in spoken(document):
        for tail in re.findall(r"(?:^|[\s$|])lapwing((?: +[^\s|;&)]+)*)", line):
            words = tail.split()
            if words and re.fullmatch(r"[a-z]+", words[0]):
                inner = words[1] if words[0] in ("topics", "data") and len(words) > 1 and words[1].isalpha() else ""
                options = sorted({word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)})
                found.add((words[0], inner, *options))
    return found


def cli(*words: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    ran = subprocess.run(
        [sys.executable, "-m", "lapwing", *words], cwd=ROOT, env=plain | {"COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"lapwing {' '.join(words)}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def test_commands_in_documents_exist() -> None:
    asked: dict[tuple[str, ...], set[str]] = {}
    for document in DOCUMENTS:
        for command, inner, *options in commands_in(document):
            asked.setdefault((command, inner) if inner else (command,), set()).update(options)
    assert ("demo",) in asked
    missing = []
    for words, options in sorted(asked.items()):
        said = cli(*words, "--help")
        missing += [f"lapwing {' '.join(words)} {option}" for option in sorted(options) if option not in said]
    assert missing == []


# --- findings --------------------------------------------------------------------------------------------------


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


# --- settings --------------------------------------------------------------------------------------------------


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


def test_settings_in_documents_exist() -> None:
    known = set(variables()) | {"LAPWING_CONFIG", "LAPWING_NAB_DIR"}
    said = {name for document in DOCUMENTS for line in spoken(document) for name in re.findall(r"LAPWING_[A-Z_]+[A-Z]", line)}
    assert {name for name in said if name not in known and not name.startswith("LAPWING_KAFKA__")} == set()


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


def test_compose_passes_every_setting_on() -> None:
    passed = {name for name in compose()["x-settings"] if not name.startswith("LAPWING_KAFKA__")}
    assert passed == set(variables()) - NOT_IN_COMPOSE


def example() -> dict[str, str | None]:
    """What .env.example says when every line is in force."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    return dotenv_values(stream=StringIO("\n".join(re.sub(r"^#(?=[A-Z_]+=)", "", line) for line in lines)), interpolate=False)


def test_env_example_names_what_compose_reads() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    fixed = {name for name, value in compose()["x-settings"].items() if value is not None and "${" not in str(value)}
    read = set(re.findall(r"\$\{([A-Z_]+)", text)) | {name for name in compose()["x-settings"] if name not in fixed}
    assert set(example()) == read


def test_env_example_gives_the_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert example()[name] == default
    given = {name: value for name, value in example().items() if name.startswith(ENV_PREFIX) and value and name in variables()}
    loaded, plain = load_settings(environ=given), load_settings(environ={})  # type: ignore[arg-type]
    expected = plain.model_dump()
    expected["telemetry"]["log_format"] = "human"
    assert loaded.model_dump() == expected


def test_images_are_pinned_and_the_broker_is_the_one_of_the_tests() -> None:
    services = compose()["services"]
    kafka = services["kafka"]["image"].removeprefix("apache/kafka:")
    assert re.fullmatch(r"\d+\.\d+\.\d+", kafka)
    assert re.fullmatch(r"confluentinc/cp-schema-registry:\d+\.\d+\.\d+", services["schema-registry"]["image"])
    poms = [path for path in ROOT.glob("tests/**/pom.xml") if "kafka" in path.read_text("utf-8")]
    assert poms
    assert all(kafka in path.read_text("utf-8") for path in poms)


def test_predictors_can_be_scaled() -> None:
    predictor = compose()["services"]["consumer_prediction"]
    assert not {"container_name", "ports", "hostname"} & set(predictor)
    assert "models:/models:ro" in predictor["volumes"]


def test_our_containers_cannot_write_where_they_should_not() -> None:
    services = compose()["services"]
    ours = {name: service for name, service in services.items() if name not in ("kafka", "schema-registry")}
    assert set(ours) == {"topics", "backfill", "producer", "consumer_training", "consumer_prediction"}
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^USER lapwing$", image, re.MULTILINE)
    assert not re.search(r"^# *syntax=|<<|--mount", image, re.MULTILINE)
