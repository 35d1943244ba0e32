"""Small series with planted anomalies, and small models trained on them."""

from __future__ import annotations

from functools import cache

import numpy as np

from consumer_training.history import Rows
from consumer_training.training import Trained, train
from shared.events import Detector
from shared.settings import FeatureSettings, TrainSettings

START_MS = 1_704_067_200_000
STEP_MS = 300_000
DETECTORS = tuple(detector for detector in Detector if detector.is_trained)
SETTINGS = TrainSettings(trees=20, samples=64, min_rows=100, svm_rows=150, nu=0.1)


def series(rows: int, metrics: int, seed: int, step_ms: int = STEP_MS) -> np.ndarray:
    """A daily shape with noise; later metrics follow the first."""
    random = np.random.default_rng(seed)
    load = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(rows) * step_ms / 86_400_000)
    columns = [10.0**k * load * (1.0 + 0.05 * random.standard_normal(rows)) for k in range(metrics)]
    return np.stack(columns, axis=1)


def rows_of(
    values: dict[str, np.ndarray], metrics: tuple[str, ...], step_ms: int = STEP_MS
) -> Rows:
    """Rows of series that all begin at START_MS and come every step_ms."""
    names = sorted(values)
    sizes = [len(values[name]) for name in names]
    time_ms = np.concatenate(
        [START_MS + np.arange(size, dtype=np.int64) * step_ms for size in sizes]
    )
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Rows(
        tuple((name, 0) for name in names),
        bounds,
        metrics,
        time_ms,
        np.concatenate([values[name] for name in names]),
    )


@cache
def trained(detector: Detector, hosts: int = 3, rows: int = 150) -> Trained:
    """A model of three hosts with two metrics each, one of which is sometimes missing."""
    values = {f"host-{k}": series(rows, 2, seed=k) for k in range(hosts)}
    values["host-1"][::17, 1] = np.nan
    return train(rows_of(values, ("cpu", "network")), detector, FeatureSettings(), SETTINGS)
