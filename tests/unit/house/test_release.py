"""What `make release` makes: the wheel's contents, the same bytes twice, licences of others."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lapwing import __version__

ROOT = Path(__file__).resolve().parents[3]


def build(target: Path) -> Path:
    """Build the wheel into a folder."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    ran = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    [wheel] = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    sections = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert sections[0] == __version__


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"lapwing-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    about = f"lapwing-{__version__}.dist-info"
    packages = {
        "consumer_prediction",
        "consumer_training",
        "dashboard",
        "data",
        "lapwing",
        "producer",
        "schemas",
        "shared",
    }
    assert {name.split("/")[0] for name in names} == packages | {about}
    needed = {
        f"{about}/licenses/LICENSE",
        "dashboard/static/index.html",
        "dashboard/static/vendor/uplot.js",
        "dashboard/static/vendor/uplot-LICENSE.txt",
        "data/catalogue.toml",
        "schemas/score_event.avsc",
    }
    assert needed <= set(names)
    unwanted = re.compile(r"(__pycache__|\.nb[ic]$|\.pyc$|\.env|(^|/)tests?/|\.log$)")
    assert [name for name in names if unwanted.search(name)] == []


def test_the_wheel_starts_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = f"lapwing-{__version__}.dist-info"
        metadata = archive.read(f"{about}/METADATA").decode()
        points = archive.read(f"{about}/entry_points.txt").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "lapwing = lapwing.__main__:main" in points


def test_the_same_sources_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert digest(again) == digest(wheel)


def test_licences_of_others_are_complete(tmp_path: Path) -> None:
    target = tmp_path / "THIRD_PARTY.md"
    command = [sys.executable, str(ROOT / "deploy" / "third_party.py"), str(target)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    text = target.read_text("utf-8")
    for name in ("uPlot", "numpy", "confluent-kafka", "scikit-learn", "fastapi", "protobuf"):
        assert re.search(rf"^\| {name} \| [\d.]+", text, re.MULTILINE | re.IGNORECASE), name
        assert re.search(rf"^## {name} [\d.]+", text, re.MULTILINE | re.IGNORECASE), name
    assert "MIT License" in text
    assert "Apache License" in text


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
