"""Published models on a shared volume: ``models/<sha256>/`` is immutable, ``CURRENT`` names the one in use.

Law: a folder appears under its name only when it is whole, and no file in it is ever changed; what is read is checked before it
is believed, and nothing is unpickled.

Layout: <models>/CURRENT                       the 64 hex digits of the artefact in use
        <models>/<sha256>/manifest.json        what the model is; its SHA-256 is the folder's name
                          model.npz            the arrays; size and SHA-256 stand in the manifest
                          estimator.joblib       for people; never read here
                          report/                for people, added once it is drawn
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.artifact_format import MAX_ARRAYS_BYTES, MAX_MANIFEST_BYTES, decode, decode_manifest, digest, encode
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.model import Model

CURRENT = "CURRENT"
MANIFEST = "manifest.json"
ARRAYS = "model.npz"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABANDONED_AFTER_S = 3600.0


def current(models_dir: Path) -> str | None:
    """Return the SHA-256 of the model in use, None before the first.

    raises : ArtifactRefused when CURRENT does not hold 64 hex digits
    """
    path = models_dir / CURRENT
    try:
        text = _read(path, 4096).decode("ascii", "replace").strip()
    except ArtifactMissing:
        return None
    if not _SHA256.fullmatch(text):
        raise ArtifactRefused(f"{path}: it holds {text[:80]!r}, not 64 hex digits")
    return text


def load(models_dir: Path, sha256: str) -> Model:
    """Read and check one model.

    raises : ArtifactMissing when its folder or a file in it is absent
             ArtifactRefused naming the file and the check
    """
    folder = _folder(models_dir, sha256)
    manifest, arrays = _read(folder / MANIFEST, MAX_MANIFEST_BYTES), _read(folder / ARRAYS, MAX_ARRAYS_BYTES)
    try:
        return decode(sha256, manifest, arrays)
    except ArtifactRefused as error:
        raise ArtifactRefused(f"{folder}: {error}") from error


def manifest(models_dir: Path, sha256: str) -> Mapping[str, Any]:
    """Read what one model says about itself, without its arrays.

    raises : as ``load``
    """
    folder = _folder(models_dir, sha256)
    try:
        return decode_manifest(sha256, _read(folder / MANIFEST, MAX_MANIFEST_BYTES))
    except ArtifactRefused as error:
        raise ArtifactRefused(f"{folder}: {error}") from error


def publish(
    models_dir: Path,
    model: Model,
    facts: Mapping[str, Any],
    canary: npt.NDArray[np.float64],
    extras: Mapping[str, bytes] | None = None,
) -> Model:
    """Write a model's folder if it is not there yet, and make it the current one.

    facts   : what the manifest says beside what the model itself holds; JSON values, no clock time among them
    canary  : float64 (c, d)   rows whose scores every reader recomputes
    extras  : {file name: content}   for people
    returns : the model with its sha256
    raises  : ConfigError when models_dir cannot be written
    """
    manifest_bytes, arrays_bytes = encode(model, facts, canary)
    sha256 = digest(manifest_bytes)
    folder = models_dir / sha256
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        if not _is_whole(models_dir, sha256):
            files = {**(extras or {}), ARRAYS: arrays_bytes, MANIFEST: manifest_bytes}
            _write_folder(models_dir, sha256, files)
        os.utime(folder)
        _point(models_dir, sha256)
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return replace(model, sha256=sha256)


def attach(models_dir: Path, sha256: str, name: str, files: Mapping[str, bytes]) -> bool:
    """Add a folder for people to a published model, whole or not at all; what is there already stays.

    name    : of the folder within the model's
    files   : {file name: content}
    returns : whether it was added
    raises  : ArtifactMissing; ConfigError when models_dir cannot be written
    """
    folder = _folder(models_dir, sha256)
    temporary = models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp"
    try:
        if (folder / name).exists():
            return False
        _write_files(temporary, files)
        temporary.rename(folder / name)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return True


def prune(models_dir: Path, keep: int) -> list[str]:
    """Remove all but the ``keep`` last published models, and what an interrupted publishing left; CURRENT always stays.

    returns : the SHA-256 of the removed models
    raises  : ConfigError when models_dir cannot be written
    """
    in_use = current(models_dir)
    try:
        folders = [path for path in models_dir.iterdir() if _SHA256.fullmatch(path.name) and path.is_dir()]
        newest_first = sorted(folders, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
        doomed = [path for path in newest_first[keep:] if path.name != in_use]
        for path in doomed:
            hidden = models_dir / f".{path.name}.{os.urandom(6).hex()}.tmp"
            path.rename(hidden)
            shutil.rmtree(hidden)
        for path in models_dir.glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return [path.name for path in doomed]


def check_writable(models_dir: Path) -> None:
    """Try to write, so that a long training does not end in a folder that cannot take its result.

    raises : ConfigError naming models_dir
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        probe = models_dir / f".probe.{os.urandom(6).hex()}.tmp"
        probe.write_bytes(b"lapwing")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error


def _folder(models_dir: Path, sha256: str) -> Path:
    if not _SHA256.fullmatch(sha256):
        raise ArtifactRefused(f"{sha256[:80]!r} is not an artefact's name: 64 hex digits")
    folder = models_dir / sha256
    if not folder.is_dir():
        raise ArtifactMissing(f"{folder} does not exist")
    return folder


def _is_whole(models_dir: Path, sha256: str) -> bool:
    try:
        load(models_dir, sha256)
    except (ArtifactMissing, ArtifactRefused):
        return False
    return True


def _read(path: Path, limit: int) -> bytes:
    """Read a file of at most limit bytes."""
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            data = file.read(min(size_bytes, limit) + 1)  # room for what is there, not for the most that is allowed
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} does not exist") from error
    except OSError as error:
        raise ArtifactRefused(f"{path}: it cannot be read: {error}") from error
    if len(data) > limit:
        raise ArtifactRefused(f"{path}: it is larger than {limit} bytes")
    return data


def _write_folder(models_dir: Path, sha256: str, files: Mapping[str, bytes]) -> None:
    """Write a folder under a hidden name, then rename it; a damaged one of the final name is moved away first."""
    folder, temporary = models_dir / sha256, models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp"
    try:
        _write_files(temporary, files)
        if folder.exists():
            folder.rename(models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp")
        temporary.rename(folder)
        _sync_folder(models_dir)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not _is_whole(models_dir, sha256):  # else another process has published the same model meanwhile
            raise


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, content in files.items():
        _write(folder / name, content)
    _sync_folder(folder)


def _point(models_dir: Path, sha256: str) -> None:
    temporary = models_dir / f".{CURRENT}.{os.urandom(6).hex()}.tmp"
    try:
        _write(temporary, sha256.encode() + b"\n")
        temporary.replace(models_dir / CURRENT)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(models_dir)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
