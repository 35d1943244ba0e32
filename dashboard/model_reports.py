"""Models on the shared volume as the page shows them: manifests and evaluation reports.

Invariant: only regular files of a bounded size are read, and a manifest only if its SHA-256 is the
           folder's name; nothing here loads a model. Signatures are for predictors to check.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MANIFEST_BYTES = 2 << 20
REPORT_BYTES = 64 << 20
PICTURE_BYTES = 4 << 20
MOST_MODELS = 50
MOST_ENTITIES = 30
SHA256 = re.compile(r"[0-9a-f]{64}")
PICTURE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}\.svg")

_SHOWN = (
    "detector", "version", "contamination", "threshold", "parameters", "metrics", "features",
    "training", "evaluation", "seeds", "libraries", "seed", "topic",
)  # fmt: skip

Facts = Mapping[str, Any]


class ModelReports:
    """Reads the folder of published models.

    keep : manifests never change, so each is read once
    """

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self._manifests: dict[str, Facts] = {}

    def summary(self) -> Facts:
        """Return the current model, the newest models, and why they cannot be read.

        problem : empty = they could be read
        """
        try:
            names = self._newest()
            current = self._current()
        except OSError as error:
            why = error.strerror or str(error)
            return {"current": None, "models": [], "problem": f"{self.models_dir}: {why}"}
        models = [self._about(name, published_ms) for name, published_ms in names]
        return {"current": current, "models": models, "problem": ""}

    def model(self, sha256: str) -> Facts | None:
        """Return the facts of one model and of its report; None = it is not on the volume."""
        folder = self.models_dir / sha256
        try:
            published_ms = int(folder.stat().st_mtime * 1000)
        except OSError:
            return None
        report = self._report(sha256)
        if report is None:
            return {**self._about(sha256, published_ms), "entities": [], "pictures": {}}
        per_entity = report.get("per_entity", {})
        pictures = report.get("pictures", {})
        chosen = sorted(per_entity, key=lambda name: (-_peak(per_entity[name]), name))
        rows = [{"entity": name, **per_entity[name]} for name in chosen[:MOST_ENTITIES]]
        shown = {name: file for name, file in pictures.items() if PICTURE.fullmatch(str(file))}
        return {**self._about(sha256, published_ms), "entities": rows, "pictures": shown}

    def picture(self, sha256: str, name: str) -> bytes | None:
        """Return a picture of a model's report; None = there is none of this name."""
        if not SHA256.fullmatch(sha256) or not PICTURE.fullmatch(name):
            return None
        try:
            return read_bounded(self.models_dir / sha256 / "report" / name, PICTURE_BYTES)
        except (OSError, ValueError):
            return None

    def _newest(self) -> list[tuple[str, int]]:
        """Return the newest folders and when they were published, ms since 1970, newest first."""
        found = [
            (entry.name, int(entry.stat().st_mtime * 1000))
            for entry in os.scandir(self.models_dir)
            if SHA256.fullmatch(entry.name) and entry.is_dir()
        ]
        return sorted(found, key=lambda one: (-one[1], one[0]))[:MOST_MODELS]

    def _current(self) -> str | None:
        try:
            text = read_bounded(self.models_dir / "CURRENT", 4096).decode("ascii", "replace")
        except (FileNotFoundError, ValueError):
            return None
        return text.strip() if SHA256.fullmatch(text.strip()) else None

    def _about(self, sha256: str, published_ms: int) -> Facts:
        manifest = self._manifest(sha256)
        facts = {name: manifest[name] for name in _SHOWN if name in manifest}
        return {
            "sha256": sha256,
            "model_id": sha256[:16],
            "published_ms": published_ms,
            "has_report": (self.models_dir / sha256 / "report" / "report.json").is_file(),
            "problem": manifest.get("problem", ""),
            **facts,
        }

    def _manifest(self, sha256: str) -> Facts:
        if sha256 in self._manifests:
            return self._manifests[sha256]
        try:
            data = read_bounded(self.models_dir / sha256 / "manifest.json", MANIFEST_BYTES)
            if hashlib.sha256(data).hexdigest() != sha256:
                return {"problem": "its manifest does not have the SHA-256 in the folder's name"}
            found: Facts = json.loads(data)
        except (OSError, ValueError) as error:
            return {"problem": f"its manifest cannot be read: {error}"}
        self._manifests[sha256] = {name: found[name] for name in _SHOWN if name in found}
        return self._manifests[sha256]

    def _report(self, sha256: str) -> Facts | None:
        try:
            path = self.models_dir / sha256 / "report" / "report.json"
            found = json.loads(read_bounded(path, REPORT_BYTES))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def with_age(
    scored: Sequence[Facts], active: Sequence[Facts], published: Sequence[Facts]
) -> list[Facts]:
    """Add to models that scored records their version, and when they were published.

    scored    : rows with model_id; None = no trained model
    active    : activations, which know the version also of a model that is not on the volume
    published : from ``ModelReports.summary``
    returns   : the rows with version and published_ms; None = not known
    """
    versions = {one["model_sha256"][:16]: one.get("model_version") for one in active}
    known = {one["model_id"]: one for one in published}
    rows: list[Facts] = []
    for row in scored:
        found = known.get(row["model_id"], {})
        version = found.get("version") or versions.get(row["model_id"]) or None
        rows.append({**row, "version": version, "published_ms": found.get("published_ms")})
    return rows


def read_bounded(path: Path, most: int) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    raises : OSError; ValueError for another kind of file or a larger one
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        if about.st_size > most:
            raise ValueError(f"{path.name} has {about.st_size} bytes, at most {most} are read")
        return file.read(most)


def _peak(entry: Facts) -> float:
    return float(entry.get("peak_severity", 0.0))
