"""Publishes, finds, loads and removes models; the layout is that of the package.

Invariant: nothing of a model is parsed before its digest, and with trusted keys its signature, have
been checked.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from shared.artifacts.volume import read_file, replace_file, sync_folder, write_files
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.models.artifact_format import (
    MAX_MANIFEST_BYTES,
    decode_arrays,
    decode_manifest,
    digest,
    encode,
    stated_bytes,
)
from shared.models.model import Model
from shared.models.signatures import (
    MAX_KEY_BYTES,
    SIGNATURE_BYTES,
    Trust,
    is_signed,
    read_private,
    read_public,
)
from shared.settings import ModelSettings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CURRENT = "CURRENT"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ARRAYS = "model.npz"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABANDONED_AFTER_S = 3600.0
_ANYBODY = Trust()

Key = TypeVar("Key")


def trust(settings: ModelSettings) -> Trust:
    """Read the public keys that the settings name.

    raises : ConfigError naming setting and file
    """
    return Trust(
        settings.max_bytes,
        tuple(
            _read_key("models.trusted_keys", name, read_public) for name in settings.trusted_keys
        ),
    )


def signing_key(settings: ModelSettings) -> Ed25519PrivateKey | None:
    """Read the key that published models are signed with; None = they are not signed.

    raises : ConfigError naming setting and file, also when these settings would refuse models that
             are signed so
    """
    trusted = trust(settings).keys
    if not settings.sign_key:
        if trusted:
            raise ConfigError(
                "models.sign_key is empty, but models.trusted_keys is not: an unsigned model would"
                " be refused"
            )
        return None
    key = _read_key("models.sign_key", settings.sign_key, read_private)
    if trusted and key.public_key() not in trusted:
        raise ConfigError(
            f"models.sign_key: {settings.sign_key}: its public key is not in models.trusted_keys"
        )
    return key


def current(models_dir: Path) -> str | None:
    """Return the SHA-256 of the current model; None before the first.

    raises : ArtifactRefused when CURRENT does not contain 64 hex digits
    """
    with _named(models_dir):
        try:
            text = read_file(models_dir / CURRENT, 4096).decode("ascii", "replace").strip()
        except ArtifactMissing:
            return None
        if not _SHA256.fullmatch(text):
            raise ArtifactRefused(f"{CURRENT}: it contains {text[:80]!r}, not 64 hex digits")
    return text


def load(models_dir: Path, sha256: str, trust: Trust = _ANYBODY) -> Model:
    """Read and check one model.

    raises : ArtifactMissing when its folder or a file in it is absent
             ArtifactRefused naming the file and the check

    Memory: at most four times the arrays (at most ``trust.max_bytes`` of them) and twenty times the
            manifest.
    """
    folder = _folder(models_dir, sha256)
    with _named(folder):
        facts = _manifest(folder, sha256, trust)
        size_bytes = stated_bytes(facts, trust.max_bytes)
        return decode_arrays(sha256, facts, read_file(folder / ARRAYS, size_bytes, exactly=True))


def manifest(models_dir: Path, sha256: str, trust: Trust = _ANYBODY) -> Mapping[str, Any]:
    """Read a model's manifest, without its arrays.

    raises : as ``load``
    """
    folder = _folder(models_dir, sha256)
    with _named(folder):
        return _manifest(folder, sha256, trust)


def publish(
    models_dir: Path,
    model: Model,
    facts: Mapping[str, Any],
    canary: npt.NDArray[np.float64],
    extras: Mapping[str, bytes] | None = None,
    *,
    max_bytes: int = _ANYBODY.max_bytes,
    key: Ed25519PrivateKey | None = None,
) -> Model:
    """Write a model's folder if it does not exist yet, sign it, and make it the current model.

    facts   : additional entries of the manifest; JSON values, without the current time
    canary  : float64 (c, d)   rows whose scores every reader recomputes
    extras  : {file name: content}   for people
    key     : None = not signed
    returns : the model with its sha256
    raises  : ConfigError when models_dir cannot be written, or the arrays are larger than max_bytes
              (models.max_bytes)
    """
    manifest_bytes, arrays_bytes = encode(model, facts, canary)
    if len(arrays_bytes) > max_bytes:
        raise ConfigError(
            f"models.max_bytes allows {max_bytes} bytes, the model has {len(arrays_bytes)}:"
            " increase it in training and in every predictor, or train a smaller model"
            " (train.svm_rows, train.nu; train.trees, train.samples; fewer entities)"
        )
    sha256 = digest(manifest_bytes)
    folder = models_dir / sha256
    signature = {SIGNATURE: key.sign(manifest_bytes)} if key else {}
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        if not _is_whole(models_dir, sha256, Trust(max_bytes)):
            files = {**(extras or {}), ARRAYS: arrays_bytes, **signature, MANIFEST: manifest_bytes}
            _write_folder(models_dir, sha256, files, max_bytes)
        elif key and not _is_whole(models_dir, sha256, Trust(max_bytes, (key.public_key(),))):
            replace_file(models_dir, folder / SIGNATURE, signature[SIGNATURE])
        os.utime(folder)
        replace_file(models_dir, models_dir / CURRENT, sha256.encode() + b"\n")
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return replace(model, sha256=sha256)


def published_s(models_dir: Path, sha256: str) -> float | None:
    """Return when a model was last published, seconds since 1970 UTC by the volume's clock.

    returns : None where it does not exist
    """
    try:
        return (models_dir / sha256).stat().st_mtime
    except OSError:
        return None


def attach(models_dir: Path, sha256: str, name: str, files: Mapping[str, bytes]) -> bool:
    """Add a folder for people to a published model atomically; an existing one is kept.

    name    : of the folder, within the model's
    files   : {file name: content}
    returns : whether it was added
    raises  : ArtifactMissing; ConfigError when models_dir cannot be written
    """
    folder = _folder(models_dir, sha256)
    temporary = models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp"
    try:
        if (folder / name).exists():
            return False
        write_files(temporary, files)
        temporary.rename(folder / name)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return True


def prune(models_dir: Path, keep: int, in_use: Collection[str] = ()) -> list[str]:
    """Remove old models and leftovers of interrupted publishing.

    keep    : most recently published models that are kept, in addition to the current one
    in_use  : SHA-256 of further models that are kept
    returns : the SHA-256 of the removed models
    raises  : ConfigError when models_dir cannot be written
    """
    kept = {current(models_dir), *in_use}
    try:
        folders = [
            path for path in models_dir.iterdir() if _SHA256.fullmatch(path.name) and path.is_dir()
        ]
        newest_first = sorted(
            folders, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True
        )
        old = [path for path in newest_first[keep:] if path.name not in kept]
        for path in old:
            hidden = models_dir / f".{path.name}.{os.urandom(6).hex()}.tmp"
            path.rename(hidden)
            shutil.rmtree(hidden)
        for path in models_dir.glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error
    return [path.name for path in old]


def check_writable(models_dir: Path) -> None:
    """Check that the folder is writable, before a long training that writes to it.

    raises : ConfigError naming models_dir
    """
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        probe = models_dir / f".probe.{os.urandom(6).hex()}.tmp"
        probe.write_bytes(b"lapwing")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"models_dir {models_dir} cannot be written: {error}") from error


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Add the folder to refusals; a lack of memory is one as well."""
    try:
        yield
    except ArtifactRefused as error:
        raise ArtifactRefused(f"{folder}: {error}") from error
    except MemoryError as error:
        raise ArtifactRefused(f"{folder}: not enough memory to load it") from error


def _folder(models_dir: Path, sha256: str) -> Path:
    if not _SHA256.fullmatch(sha256):
        raise ArtifactRefused(f"{sha256[:80]!r} is not an artefact's name: 64 hex digits")
    folder = models_dir / sha256
    try:
        exists = folder.is_dir()
    except OSError as error:
        raise ArtifactRefused(f"{folder}: it cannot be accessed: {error}") from error
    if not exists:
        raise ArtifactMissing(f"{folder} does not exist")
    return folder


def _manifest(folder: Path, sha256: str, trust: Trust) -> dict[str, Any]:
    """Read a manifest; its signature is checked before it is parsed."""
    data = read_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
    if trust.keys:
        try:
            signature = read_file(folder / SIGNATURE, SIGNATURE_BYTES)
        except ArtifactMissing as error:
            raise ArtifactRefused(
                f"{SIGNATURE}: it does not exist, but models.trusted_keys requires a signature"
            ) from error
        if not is_signed(data, signature, trust.keys):
            raise ArtifactRefused(
                f"{SIGNATURE}: it is not a signature of {MANIFEST} by a key of models.trusted_keys"
            )
    return decode_manifest(sha256, data)


def _is_whole(models_dir: Path, sha256: str, trust: Trust) -> bool:
    try:
        load(models_dir, sha256, trust)
    except (ArtifactMissing, ArtifactRefused):
        return False
    return True


def _read_key(setting: str, name: str, parse: Callable[[bytes], Key]) -> Key:
    try:
        return parse(read_file(Path(name), MAX_KEY_BYTES))
    except ArtifactMissing as error:
        raise ConfigError(f"{setting}: {error}") from error
    except (ArtifactRefused, ValueError) as error:
        raise ConfigError(f"{setting}: {name}: {error}") from error


def _write_folder(
    models_dir: Path, sha256: str, files: Mapping[str, bytes], max_bytes: int
) -> None:
    """Write a folder under a hidden name, then rename it; a damaged one is moved away first."""
    folder = models_dir / sha256
    temporary = models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp"
    try:
        write_files(temporary, files)
        if folder.exists():
            folder.rename(models_dir / f".{sha256}.{os.urandom(6).hex()}.tmp")
        temporary.rename(folder)
        sync_folder(models_dir)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        # Otherwise another process has published the same model meanwhile.
        if not _is_whole(models_dir, sha256, Trust(max_bytes)):
            raise
