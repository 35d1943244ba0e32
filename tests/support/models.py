"""Small series with planted anomalies, and small models trained on them."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.histories import read_series
from consumer_training.reading.history import History, Rows
from consumer_training.training import Trained, train
from shared.events import Detector
from shared.features.vectors import FEATURES
from shared.kernels.trained.peers import FIRST_METRIC, HOUR, NUMBER
from shared.kernels.units import HOUR_MS
from shared.labels import Windows
from shared.models.value_rows import list_entities
from shared.settings import FeatureSettings, Settings, TrainSettings

START_MS = 1_704_067_200_000
STEP_MS = HOUR_MS
ENTITIES = list_entities(["host-0", "host-1", "host-2"])
DETECTORS = tuple(detector for detector in Detector if detector.is_trained)
SETTINGS = TrainSettings(trees=20, samples=64, min_rows=100, svm_rows=150, nu=0.1)
WARMUP_ROWS = 48
"""Rows of an entity before the end of its warm-up."""


def series(rows: int, metrics: int, seed: int, step_ms: int = STEP_MS) -> np.ndarray:
    """A daily shape with noise; later metrics follow the first."""
    random = np.random.default_rng(seed)
    load = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(rows) * step_ms / 86_400_000)
    columns = [10.0**k * load * (1.0 + 0.05 * random.standard_normal(rows)) for k in range(metrics)]
    return np.stack(columns, axis=1)


def history_of(
    values: dict[str, np.ndarray],
    metrics: tuple[str, ...],
    step_ms: int = STEP_MS,
    settings: Settings | None = None,
    labels: Windows | None = None,
    cut: int = 1 << 20,
) -> History:
    """The history of series that all begin at START_MS and come every step_ms, row by row."""
    times = {name: START_MS + np.arange(len(rows)) * step_ms for name, rows in values.items()}
    return read_series(times, values, metrics, settings or Settings(), labels, cut)


def rows_of(
    values: dict[str, np.ndarray], metrics: tuple[str, ...], step_ms: int = STEP_MS
) -> Rows:
    """The sampled rows of series that all begin at START_MS and come every step_ms."""
    return history_of(values, metrics, step_ms).rows()


def rows_like_training(detector: Detector, rows: int, seed: int = 0) -> np.ndarray:
    """Rows as a detector takes them, of ENTITIES where it sees values (two metrics)."""
    random = np.random.default_rng(seed)
    width = FIRST_METRIC + 2 if detector.sees_values else FEATURES
    X = random.standard_normal((rows, width))
    if detector.sees_values:
        X[:, NUMBER] = np.sort(random.integers(0, len(ENTITIES), rows))
        X[:, HOUR] = random.integers(0, 24, rows)
    return X


@cache
def trained(detector: Detector, hosts: int = 3, rows: int = 150) -> Trained:
    """A model of three hosts with two metrics each, one of which is sometimes missing."""
    values = {f"host-{k}": series(rows, 2, seed=k) for k in range(hosts)}
    values["host-1"][::17, 1] = np.nan
    return train(rows_of(values, ("cpu", "network")), detector, FeatureSettings(), SETTINGS)
