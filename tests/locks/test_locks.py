"""The locked packages are installed exactly as locked, by any pip that a new environment has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
IMAGE = (ROOT / "Dockerfile").read_text("utf-8")
PIPS = ("22.3", "23.2.1", "24.2", "newest")
PARTS = ("full.txt", "core.txt", "build.txt")
"""Locks that are parts of dev.txt."""

OPTIONS = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]


def locked(name: str) -> list[Requirement]:
    """The pins of a lock that this interpreter needs."""
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[a-zA-Z]", line)]
    return [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]


def entries(name: str) -> set[str]:
    """The pins of a lock with their hashes; markers differ where another package needs them too."""
    lock = (ROOT / "requirements" / name).read_text("utf-8")
    pins = re.findall(r"^[a-zA-Z].*(?:\n .*)*", lock, re.MULTILINE)
    return {re.sub(r" ; .*? \\\n", " \\\\\n", pin, count=1) for pin in pins}


def names(pins: list[Requirement]) -> dict[str, str]:
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def run(*command: str | Path) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", params=PIPS)
def old_pip(request, tmp_path_factory) -> Path:
    """The interpreter of a new environment with this pip."""
    folder = tmp_path_factory.mktemp("pip")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = "pip" if request.param == "newest" else f"pip=={request.param}"
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", wanted)
    return python


@pytest.mark.timeout(900)
def test_the_largest_lock_is_installed_as_it_stands(old_pip: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    wanted = [
        "-r",
        "requirements/dev.txt",
        "--dry-run",
        "--ignore-installed",
        "--report",
        str(report),
    ]
    run(old_pip, "-m", "pip", "--no-input", "install", *OPTIONS, *wanted)
    found = {
        canonicalize_name(one["metadata"]["name"]): one["metadata"]["version"]
        for one in json.loads(report.read_text("utf-8"))["install"]
    }
    assert found == names(locked("dev.txt"))


@pytest.mark.parametrize("lock", PARTS)
def test_a_smaller_lock_is_a_part_of_the_largest(lock: str) -> None:
    assert entries(lock)
    assert entries(lock) <= entries("dev.txt")


def test_make_and_the_image_install_with_these_options() -> None:
    (line,) = re.findall(r"^INSTALL := \$\(PIP\) install (.*)$", MAKEFILE, re.MULTILINE)
    assert [word for word in line.split() if word != "--no-compile"] == OPTIONS
    lines = re.findall(r"pip install (.*) -r requirements/", IMAGE)
    assert len(lines) >= 2
    assert all(line.split() == OPTIONS for line in lines)


@pytest.mark.parametrize("lock", ["core.txt", "full.txt", "dev.txt"])
def test_a_lock_lacks_nothing_that_its_packages_need(lock: str) -> None:
    pins = names(locked(lock))
    for pin in locked(lock):
        for text in requires(pin.name) or ():
            needed = Requirement(text)
            wanted = needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)
            )
            if wanted:
                version = pins.get(canonicalize_name(needed.name))
                assert version is not None, f"{lock}: {pin.name} needs {needed}"
                assert version in needed.specifier, (
                    f"{lock}: {pin.name} needs {needed}, locked is {version}"
                )


def test_what_is_installed_here_fits_together() -> None:
    assert "No broken requirements found." in run(sys.executable, "-m", "pip", "check")


@pytest.mark.parametrize("pin", locked("dev.txt"), ids=lambda pin: pin.name)
def test_what_is_locked_is_what_is_installed(pin: Requirement) -> None:
    from importlib.metadata import version

    try:
        assert version(pin.name) in pin.specifier
    except PackageNotFoundError:
        pytest.fail(f"{pin} is not installed: run `make install`")
