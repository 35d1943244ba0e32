"""Checks of the model in use and of the folders."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from lapwing.doctor.findings import Finding
from shared import artifacts
from shared.errors import ArtifactMissing, ArtifactRefused, ConfigError
from shared.models.origin import no_metric_in_common, other_topic
from shared.settings import Settings


def check_model(settings: Settings, metrics: Collection[str] = ()) -> Finding:
    """Load the model in use, and compare its training data with the input.

    metrics : metrics of the input; empty = unknown
    """
    folder = settings.models_dir
    try:
        sha256 = artifacts.current(folder)
        if sha256 is None:
            return _no_model(settings)
        trust = artifacts.trust(settings.models)
        model = artifacts.load(folder, sha256, trust)
        facts = artifacts.manifest(folder, sha256, trust)
    except ConfigError as error:
        return Finding(
            "model",
            "failed",
            str(error),
            "a PEM file with an Ed25519 public key; docs/models.md says how to make one",
        )
    except (ArtifactMissing, ArtifactRefused) as error:
        remedy = (
            "lapwing train --once publishes a new one; predictors keep the last good model"
            " meanwhile"
        )
        return Finding("model", "failed", str(error), remedy)
    if model.detector != settings.trained_detector:
        remedy = "lapwing train --once with this setting, or set `detector` to the model's"
        return Finding(
            "model",
            "failed",
            f"its detector is {model.detector}, the settings need {settings.trained_detector}",
            remedy,
        )
    message = f"{model.model_id} loads: {model.detector}, trained up to {model.version}"
    apart = "give each input its own models_dir (LAPWING_MODELS_DIR), and train there"
    if why := no_metric_in_common(facts, metrics):
        return Finding("model", "failed", f"{message}; but {why}", apart)
    if why := other_topic(facts, settings.topics.input):
        return Finding("model", "warning", f"{message}; but {why}", apart)
    return Finding("model", "ok", message)


def _no_model(settings: Settings) -> Finding:
    if settings.detector.is_trained:
        message = f"none in {settings.models_dir} yet; events are scored as WARMING"
        return Finding("model", "warning", message, "lapwing train --once")
    message = f"none in {settings.models_dir}; none is needed, the online members decide alone"
    return Finding("model", "ok", message)


def check_folder(name: str, folder: Path, purpose: str, *, needed: bool) -> Finding:
    """Write a test file into a folder, or into its nearest existing parent, and remove it."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".lapwing-doctor-"):
            pass
    except OSError as error:
        message = f"{folder} cannot be written by user {os.getuid()}: {error.strerror}; {purpose}"
        remedy = (
            f"chown or chmod {existing}, or set {name} (LAPWING_{name.upper()}) to a folder that"
            " can be written"
        )
        return Finding(name, "failed" if needed else "warning", message, remedy)
    return Finding(name, "ok", f"{folder} can be {'written' if existing == folder else 'created'}")
