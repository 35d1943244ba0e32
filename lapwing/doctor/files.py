"""Checks of the model in use and of the folders."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lapwing.doctor.findings import Finding
from shared import artifacts
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.settings import Settings


def check_model(settings: Settings) -> Finding:
    """Load the model in use."""
    folder = settings.models_dir
    try:
        sha256 = artifacts.current(folder)
        if sha256 is None:
            without = "the online members judge alone"
            if settings.detector.is_trained:
                without = "events are scored as WARMING"
            said = f"none in {folder} yet; {without}"
            return Finding("model", "warning", said, "lapwing train --once")
        model = artifacts.load(folder, sha256, artifacts.trust(settings.models))
    except ConfigError as error:
        return Finding(
            "model",
            "failed",
            str(error),
            "a PEM file with an Ed25519 public key; docs/models.md says how to make one",
        )
    except (ArtifactMissing, ArtifactRefused) as error:
        remedy = (
            "lapwing train --once publishes a new one; predictors go on with the last good one"
            " meanwhile"
        )
        return Finding("model", "failed", str(error), remedy)
    if model.detector != settings.trained_detector:
        remedy = "lapwing train --once with this setting, or set `detector` to what the model is"
        return Finding(
            "model",
            "failed",
            f"it is of {model.detector}, the settings ask for {settings.trained_detector}",
            remedy,
        )
    said = f"{model.model_id} loads: {model.detector}, trained up to {model.version}"
    return Finding("model", "ok", said)


def check_folder(name: str, folder: Path, purpose: str, *, needed: bool) -> Finding:
    """Write a file into a folder, or where it would be made, and remove it again."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".lapwing-doctor-"):
            pass
    except OSError as error:
        said = f"{folder} cannot be written by user {os.getuid()}: {error.strerror}; {purpose}"
        remedy = (
            f"chown or chmod {place}, or set {name} (LAPWING_{name.upper()}) to a folder that can"
            " be written"
        )
        return Finding(name, "failed" if needed else "warning", said, remedy)
    return Finding(name, "ok", f"{folder} can be {'written' if place == folder else 'made'}")
