"""Detectors on the generated fleet, each at its own threshold for one rate of false alarms.

Invariant: a variant differs from another in its detector and its model alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_entity, fold_with
from benchmarks.fleet.hosts import METRICS, Fleet
from benchmarks.fleet.judging import Judgement, each_row, judge, row_threshold
from benchmarks.histories import read_series
from consumer_training.training import train
from shared.ensemble.fold import EnsembleParams, limits_for, params_for
from shared.events import Detector
from shared.kernels.trained.trained_rows import WITHOUT_MODEL
from shared.models.model import Model
from shared.settings import Settings, TrainSettings

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

TRAINED = tuple(detector for detector in Detector if detector.is_trained)
LOWEST, HIGHEST = 0.4, 4.0
"""Bounds of the search for a threshold."""

ROUNDS = 9
"""Halvings of the range on a logarithmic scale: to half a percent of the threshold."""


@dataclass(frozen=True)
class Variant:
    """One configuration of the fold; ``trained`` names the model whose rarities it gets."""

    name: str
    detector: Detector
    trained: Detector | None = None


def variants(trained: Sequence[Detector] = TRAINED) -> list[Variant]:
    """Return the configurations that are compared: with these models, and with single views."""
    found = [Variant("ensemble, no model", Detector.ENSEMBLE)]
    found += [
        Variant(f"ensemble + {spoken(detector)}", Detector.ENSEMBLE, detector)
        for detector in trained
    ]
    found += [Variant(f"{spoken(detector)} alone", detector, detector) for detector in trained]
    views = [one for one in Detector if one is not Detector.ENSEMBLE and not one.is_trained]
    return found + [Variant(f"{spoken(detector)} alone", detector) for detector in views]


def spoken(detector: Detector) -> str:
    """Return a detector's name as a table shows it."""
    return detector.value.replace("_", " ")


def host_names(fleet: Fleet) -> list[str]:
    """Return the names of a fleet's hosts."""
    return [f"host-{host:04d}" for host in range(len(fleet.values))]


def run(fleet: Fleet, variant: Variant, threshold: float, model: Model | None) -> list[Flags]:
    """Fold every host separately, with the product's warm-up; return its alarms."""
    limits = limits_for(len(METRICS), variant.detector, cold_start=False)
    params = params_for(threshold, variant.detector)
    return [
        fold_with(model, name, fleet.time_ms, values, METRICS, limits, params).is_anomaly
        for name, values in zip(host_names(fleet), fleet.values, strict=True)
    ]


def train_model(fleet: Fleet, detector: Detector) -> Model:
    """Train on the rows before the border, as the training consumer does."""
    names = host_names(fleet)
    before = slice(0, fleet.border)
    history = read_series(
        dict.fromkeys(names, fleet.time_ms[before]),
        {name: values[before] for name, values in zip(names, fleet.values, strict=True)},
        METRICS,
        Settings(),
    )
    settings = TrainSettings(split=0.99)
    return train(history.rows(), detector, Settings().features, settings).model


def scores_of(fleet: Fleet, model: Model) -> list[Floats]:
    """Return the model's scores of all rows of each host; those that it does not know are last."""
    limits, params = limits_for(len(METRICS)), EnsembleParams()
    found = []
    for values in fleet.values:
        features = fold_entity(fleet.time_ms, values, limits, params, WITHOUT_MODEL).features
        known = ~np.isnan(features[:, 0])
        scores = np.full(len(values), -np.inf)
        scores[known] = model.score(features[known])
        found.append(scores)
    return found


def compare(
    fleet: Fleet, allowed: float, compared: Sequence[Variant] | None = None
) -> dict[str, Judgement]:
    """Judge variants, by default all, at the same rate of false alarms."""
    models: dict[Detector | None, Model | None] = {None: None}
    found = {}
    for variant in variants() if compared is None else compared:
        began_s = time.process_time()
        if variant.trained is not None and variant.trained not in models:
            models[variant.trained] = train_model(fleet, variant.trained)
        found[variant.name] = settle(fleet, variant, models[variant.trained], allowed)
        _say(variant.name, began_s)
    if compared is not None:
        return found
    shipped = EnsembleParams().threshold
    found["ensemble, threshold as shipped"] = judge(
        fleet, run(fleet, variants()[0], shipped, None), shipped
    )
    for detector, model in models.items():
        if detector is not None and model is not None and not detector.sees_values:
            scores = scores_of(fleet, model)
            at = row_threshold(fleet, scores, allowed)
            found[f"{spoken(detector)}, every row"] = judge(fleet, each_row(scores)(at), at)
    return found


def settle(fleet: Fleet, variant: Variant, model: Model | None, allowed: float) -> Judgement:
    """Find the lowest threshold at which false alarms stay as rare as allowed, by halving."""
    low, high = LOWEST, HIGHEST
    best = judge(fleet, run(fleet, variant, high, model), high)
    for _ in range(ROUNDS):
        middle = float(np.sqrt(low * high))
        judged = judge(fleet, run(fleet, variant, middle, model), middle)
        if judged.false_per_day <= allowed:
            high, best = middle, judged
        else:
            low = middle
    return best


def _say(what: str, began_s: float) -> None:
    print(f"{time.process_time() - began_s:6.1f} s  {what}", file=sys.stderr, flush=True)
