"""The SBOM: each package of THIRD_PARTY.md with licences, hashes and dependencies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"^\| ([\w.-]+) \| ([\w.-]+) \| (.+?) \| \S* \|$", re.MULTILINE)


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def licences(component: dict[str, Any]) -> set[str]:
    """Each licence by its SPDX id or expression, or by the name that its metadata state."""
    found = set()
    for one in component["licenses"]:
        licence = one.get("license", {})
        found.add(one.get("expression") or licence.get("id") or licence["name"])
    return found


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sbom") / "lapwing.cdx.json"
    run("make", "sbom", f"SBOM={path}")
    return path


@pytest.fixture(scope="module")
def bom(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(target.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """The licences in THIRD_PARTY.md, by name and version."""
    path = tmp_path_factory.mktemp("page") / "THIRD_PARTY.md"
    run(sys.executable, "deploy/third_party.py", path)
    rows = TABLE.findall(path.read_text("utf-8").partition("\n## ")[0])
    return {(name, version): licence for name, version, licence in rows if name != "package"}


@pytest.mark.timeout(600)
def test_each_component_has_a_licence(bom: dict[str, Any]) -> None:
    assert len(bom["components"]) > 50
    assert [one["name"] for one in bom["components"] if not one.get("licenses")] == []
    assert licences(bom["metadata"]["component"]) == {"Apache-2.0"}


@pytest.mark.timeout(600)
def test_the_components_are_those_of_the_page(
    bom: dict[str, Any], listed: dict[tuple[str, str], str]
) -> None:
    assert {(one["name"], one["version"]) for one in bom["components"]} == set(listed)


@pytest.mark.timeout(600)
def test_a_licence_is_what_the_metadata_state(
    bom: dict[str, Any], listed: dict[tuple[str, str], str]
) -> None:
    by_name = {one["name"]: licences(one) for one in bom["components"]}
    expected = {
        "orjson": "MPL-2.0 AND (Apache-2.0 OR MIT)",
        "cryptography": "Apache-2.0 OR BSD-3-Clause",
        "fastapi": "MIT",
        "requests": "Apache-2.0",
        "protobuf": "3-Clause BSD License",
        "uPlot": "MIT",
    }
    assert {name: licence for name, licence in expected.items() if licence in by_name[name]} == (
        expected
    )
    spdx = re.compile(r"[\w.+()-]+-[\d.][\w.-]*|MIT|ISC|[\w.+() -]+ (AND|OR|WITH) [\w.+() -]+")
    for (name, _), licence in listed.items():
        if spdx.fullmatch(licence):
            assert licence in by_name[name], name


@pytest.mark.timeout(600)
def test_each_package_has_the_hashes_of_the_lock(bom: dict[str, Any]) -> None:
    lock = (ROOT / "requirements" / "full.txt").read_text("utf-8")
    for one in bom["components"]:
        if one["name"] == "uPlot":
            continue
        found = {
            digest["content"]
            for reference in one["externalReferences"]
            for digest in reference.get("hashes", ())
        }
        name, version = map(re.escape, one["purl"].removeprefix("pkg:pypi/").split("@"))
        pattern = rf"^{name}(?:\[[^]]*\])?=={version} .*(?:\n .*)*"
        [pin] = re.findall(pattern, lock, re.MULTILINE)
        assert found == set(re.findall(r"sha256:([0-9a-f]{64})", pin)), one["name"]


@pytest.mark.timeout(600)
def test_the_dependencies_form_one_graph(bom: dict[str, Any]) -> None:
    needs = {one["ref"]: one.get("dependsOn", []) for one in bom["dependencies"]}
    reached: set[str] = set()
    front = [bom["metadata"]["component"]["bom-ref"]]
    while front:
        ref = front.pop()
        if ref not in reached:
            reached.add(ref)
            front += needs[ref]
    assert {one["bom-ref"] for one in bom["components"]} <= reached


@pytest.mark.timeout(600)
def test_the_same_lock_gives_the_same_bytes(target: Path, tmp_path: Path) -> None:
    run("make", "sbom", f"SBOM={tmp_path / 'again.json'}")
    assert (tmp_path / "again.json").read_bytes() == target.read_bytes()
