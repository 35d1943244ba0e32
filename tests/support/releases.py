"""Released versions beside this one: a wheel of a tag's sources, unpacked and compiled once.

Invariant: a release is known by its tag; where the clone does not have the tag, by the revision
           that it was set at. A clone without that history cannot run it, and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.services.maven import CACHE

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 1200.0


@dataclass(frozen=True)
class Release:
    """A released version; ``revision`` is used where the tag is missing."""

    tag: str
    revision: str
    state_version: int


RELEASES = (Release("v0.1.0", "9a6a96c7833c0133551f352ed655ff1c8ac2a497", 2),)
"""Releases that predictors of this one are tested beside, the newest last."""


class NoRelease(Exception):
    """A release cannot be built here; the message says why."""


def commit_of(release: Release) -> str:
    """Return the commit of a release.

    raises : NoRelease in a clone that has neither the tag nor the revision
    """
    for name in (release.tag, release.revision):
        found = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if found.returncode == 0:
            return found.stdout.strip()
    shallow = _git("rev-parse", "--is-shallow-repository").stdout.strip()
    why = {"true": "the clone is shallow", "false": "the history does not have it"}
    raise NoRelease(
        f"{release.tag} ({release.revision[:12]}) is not in this clone:"
        f" {why.get(shallow, 'these sources are not a git repository')}; `git fetch --unshallow"
        " --tags` brings it"
    )


def unpacked(release: Release) -> Path:
    """Return the folder with the content of a release's wheel, kernels compiled; made once.

    raises : NoRelease
    """
    commit = commit_of(release)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = CACHE / f"lapwing-{release.tag}-{commit[:12]}-py{version}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        wheel = _wheel(commit, Path(scratch))
        made = Path(scratch, "content")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made)
        if not folder.is_dir():
            made.rename(folder)
    # numba keys its cache on a file's place, so kernels are compiled where they stay.
    try:
        ran = _run([sys.executable, "-m", "shared.kernels"], folder, environment_of(folder))
    except subprocess.TimeoutExpired:
        return folder  # what is missing is compiled by the first process that needs it
    if ran.returncode:
        shutil.rmtree(folder)
        raise NoRelease(f"{release.tag}: its kernels do not compile:\n{ran.stderr[-2000:]}")
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    """Return the variables with which Python runs a release."""
    return os.environ | {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": ""}


def _wheel(commit: str, scratch: Path) -> Path:
    sources, archive = scratch / "sources", scratch / "sources.tar"
    ran = _git("archive", "--format=tar", f"--output={archive}", commit)
    if ran.returncode:
        raise NoRelease(f"git archive {commit}: {ran.stderr.strip()}")
    with tarfile.open(archive) as packed:
        packed.extractall(sources, filter="data")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(scratch)]
    ran = _run(command, sources, dict(os.environ))
    wheels = list(scratch.glob("*.whl"))
    if ran.returncode or len(wheels) != 1:
        raise NoRelease(f"no wheel of {commit}:\n{ran.stdout[-1000:]}{ran.stderr[-2000:]}")
    return wheels[0]


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return _run(["git", *words], ROOT, dict(os.environ))
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", "git is not installed")


def _run(
    command: list[str], folder: Path, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
