"""Trains a model on rows: split in time, scale, fit, set the threshold, calibrate.

Invariant: pure; the same rows and settings give the same arrays, bit for bit. Test rows, late and
           duplicate rows, the clock and the reading order do not affect them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer_training.estimators import fit
from consumer_training.history import Rows
from shared.events import Detector
from shared.features.vectors import Calendar, Scale, feature_names, fit_scale, vectors
from shared.kernels.units import DAY_MS
from shared.models.model import Model, calibrate
from shared.settings import FeatureSettings, TrainSettings
from shared.wording import iso

Floats = npt.NDArray[np.float64]

MIN_SERIES_ROWS = 50
"""A series with fewer training rows is excluded, because its scale would be unreliable."""

CANARY_ROWS = 16
UNUSED, TRAIN, TEST = 0, 1, 2


class TooFewRows(Exception):
    """There are too few training rows yet; the service waits, it is no error."""

    def __init__(self, rows: int, needed: int, left_out: int) -> None:
        super().__init__(f"{rows} training rows, {needed} are needed (train.min_rows)")
        self.rows = rows
        self.needed = needed
        self.left_out = left_out


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model with the data for its evaluation and report.

    part     : uint8 (n,)     UNUSED, TRAIN or TEST for each row
    scores   : float64 (n,)   NaN where unused
    left_out : {entity: its training rows} of entities excluded from the model
    facts    : contents of the manifest
    canary   : float64 (c, d)
    """

    model: Model
    estimator: Any
    rows: Rows
    part: npt.NDArray[np.uint8]
    scores: Floats
    left_out: dict[str, int]
    facts: dict[str, Any]
    canary: Floats


def train(
    rows: Rows, detector: Detector, features: FeatureSettings, settings: TrainSettings
) -> Trained:
    """Fit one model over all series.

    raises : TooFewRows

    Memory: 8 d bytes for each training row, and a few times that for GROUP_ROWS rows.
    """
    part, counts = split(rows, features.window, settings)
    left_out = _left_out(rows, counts)
    training_rows = int((part == TRAIN).sum())
    if training_rows < settings.min_rows:
        raise TooFewRows(training_rows, settings.min_rows, len(left_out))
    kept = [
        metric
        for metric in range(len(rows.metrics))
        if not np.isnan(rows.values[part == TRAIN, metric]).all()
    ]
    scale = _scale(rows, part, features.window, kept)
    metrics = tuple(rows.metrics[metric] for metric in kept)
    calendar = Calendar.from_settings(features)
    X = np.empty((training_rows, len(feature_names(metrics))))
    filled = 0
    for _, block in feature_blocks(rows, part == TRAIN, features.window, kept, scale, calendar):
        X[filled : filled + len(block)] = block
        filled += len(block)
    estimator, member = fit(detector, X, settings)
    trained_scores = member.score(X)
    model = Model(
        sha256="",
        version=iso(int(rows.time_ms[part == TRAIN].max()), finest="seconds"),
        detector=detector,
        metrics=metrics,
        window=features.window,
        calendar=calendar,
        scale=scale,
        member=member,
        threshold=_threshold(trained_scores, settings),
        calibration=calibrate(trained_scores),
    )
    scores = np.full(len(rows), np.nan)
    scores[part == TRAIN] = trained_scores
    canary = X[_canary_rows(trained_scores)].copy()
    del X
    for where, block in feature_blocks(rows, part == TEST, features.window, kept, scale, calendar):
        scores[where] = model.score(block)
    facts = _facts(rows, part, features, settings, detector, left_out, metrics)
    return Trained(model, estimator, rows, part, scores, left_out, facts, canary)


def split(
    rows: Rows, window: int, settings: TrainSettings
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Assign each row to the training part or the test part.

    returns : uint8 (n,); int64 (S,) training rows of each series, including excluded ones

    The first ``train.split`` of a series' rows are for training. Unused are late and duplicate
    rows, rows before the newest ``train.window_days``, and series with fewer than MIN_SERIES_ROWS
    training rows.
    """
    part = np.full(len(rows), UNUSED, np.uint8)
    counts = np.zeros(len(rows.series), np.int64)
    earliest = np.iinfo(np.int64).min
    if settings.window_days is not None and len(rows):
        earliest = int(rows.time_ms.max()) - round(settings.window_days * DAY_MS)
    for low, high in rows.groups():
        start = int(rows.bounds[low])
        usable = rows.fold(low, high, window).counted & (
            rows.time_ms[start : rows.bounds[high]] >= earliest
        )
        for series in range(low, high):
            first = int(rows.bounds[series])
            numbers = first + np.flatnonzero(
                usable[first - start : rows.bounds[series + 1] - start]
            )
            counts[series] = int(len(numbers) * settings.split)
            if counts[series] >= MIN_SERIES_ROWS:
                part[numbers[: counts[series]]] = TRAIN
                part[numbers[counts[series] :]] = TEST
    return part, counts


def feature_blocks(
    rows: Rows,
    wanted: npt.NDArray[np.bool_],
    window: int,
    kept: list[int],
    scale: Scale,
    calendar: Calendar,
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Yield row numbers (k,) and feature vectors float64 (k, d), one group of series at a time.

    wanted : bool (n,) rows to yield
    kept   : indices of the metrics that the model has
    """
    row_of = {name: row for row, name in enumerate(scale.entities)}
    for low, high in rows.groups():
        start, stop = int(rows.bounds[low]), int(rows.bounds[high])
        chosen = np.flatnonzero(wanted[start:stop])
        if len(chosen):
            rolling = rows.fold(low, high, window).rolling[chosen][:, kept]
            owner = np.array([row_of.get(name, -1) for name, _ in rows.series[low:high]], np.int32)
            entity = np.repeat(owner, np.diff(rows.bounds[low : high + 1]))[chosen]
            yield (
                start + chosen,
                vectors(rolling, entity, rows.time_ms[start + chosen], scale, calendar),
            )


def _left_out(rows: Rows, counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """Return {entity: most training rows of a series} of entities without a long enough series."""
    most: dict[str, int] = {}
    for (name, _), count in zip(rows.series, counts.tolist(), strict=True):
        most[name] = max(most.get(name, 0), count)
    return {name: count for name, count in most.items() if count < MIN_SERIES_ROWS}


def _scale(rows: Rows, part: npt.NDArray[np.uint8], window: int, kept: list[int]) -> Scale:
    entities: list[str] = []
    centres, spreads = [], []
    for low, high in rows.groups():
        start, stop = int(rows.bounds[low]), int(rows.bounds[high])
        chosen = np.flatnonzero(part[start:stop] == TRAIN)
        if not len(chosen):
            continue
        rolling = rows.fold(low, high, window).rolling[chosen][:, kept]
        names, owner = np.unique(
            np.array([name for name, _ in rows.series[low:high]], object), return_inverse=True
        )
        entity = np.repeat(owner, np.diff(rows.bounds[low : high + 1]))[chosen]
        present, entity = np.unique(entity, return_inverse=True)
        scale = fit_scale(rolling, entity.astype(np.int32), [str(name) for name in names[present]])
        entities += scale.entities
        centres.append(scale.centre)
        spreads.append(scale.spread)
    return Scale(tuple(entities), np.concatenate(centres), np.concatenate(spreads))


def _threshold(scores: Floats, settings: TrainSettings) -> float:
    """Return the score exceeded by a share ``contamination`` of the training rows.

    Interpolated as scikit-learn's ``offset_`` is.
    """
    if settings.threshold is not None:
        return float(settings.threshold)
    return -float(np.percentile(-scores, 100.0 * settings.contamination))


def _canary_rows(scores: Floats) -> npt.NDArray[np.int64]:
    """Choose rows spread evenly over the ranks of the scores."""
    order = np.argsort(scores, kind="stable")
    return order[np.linspace(0, len(order) - 1, CANARY_ROWS).round().astype(np.int64)]


def _facts(
    rows: Rows,
    part: npt.NDArray[np.uint8],
    features: FeatureSettings,
    settings: TrainSettings,
    detector: Detector,
    left_out: dict[str, int],
    metrics: tuple[str, ...],
) -> dict[str, Any]:
    forest = {"trees": settings.trees, "samples": settings.samples}
    svm = {"nu": settings.nu, "gamma": settings.gamma, "rows": settings.svm_rows}
    trained = rows.time_ms[part == TRAIN]
    used = {
        name
        for (name, _), low, high in zip(rows.series, rows.bounds, rows.bounds[1:], strict=False)
        if part[low:high].any()
    }
    return {
        "seed": settings.seed,
        "contamination": settings.contamination,
        "threshold_fixed": settings.threshold is not None,
        "parameters": forest if detector is Detector.ISOLATION_FOREST else svm,
        "feature_settings": {
            "timezone": features.timezone,
            "business_start": features.business_start,
            "business_end": features.business_end,
            "business_days": list(features.business_days),
        },
        "training": {
            "split": settings.split,
            "window_days": settings.window_days,
            "rows": len(trained),
            "test_rows": int((part == TEST).sum()),
            "entities": len(used),
            "first_event": iso(int(trained.min()), finest="seconds"),
            "last_event": iso(int(trained.max()), finest="seconds"),
            "first_event_ms": int(trained.min()),
            "last_event_ms": int(trained.max()),
            "left_out": dict(sorted(left_out.items())[:100]),
            "left_out_entities": len(left_out),
            "metrics_without_values": [name for name in rows.metrics if name not in metrics],
        },
    }
