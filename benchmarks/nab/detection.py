"""The product's detector and policy over a corpus, each series separately.

Invariant: all series share the product's default configuration, and a row's score depends only on
           its series' rows up to it.

The detector gets only the length of the benchmark's probation, as its warm-up; with the product's
own warm-up it does not get even that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from benchmarks.detecting import fold_entity
from benchmarks.nab.corpus import Floats, Series
from shared.ensemble.fold import EnsembleParams, limits_for, params_for, views_of
from shared.ensemble.kernels.course.course_layout import WARMUP
from shared.events import Detector
from shared.kernels.units import DAY_MS
from shared.settings import DetectionSettings

DETECTOR = "lapwing"
ALARM = 0.5
QUIET = 0.499
"""Highest score of a row without an alarm: policy may suppress an alarm of a high severity."""

DETECTION = DetectionSettings()
SHORTEST_DAYS = 0.01


class Warmup(StrEnum):
    """Length of the warm-up of a series."""

    PROBATION = "probation"
    PRODUCT = "product"

    def samples(self, series: Series) -> int:
        """Return the samples of warm-up of the course; 0 = the product's own rule."""
        return min(max(series.probation, 2), WARMUP) if self is Warmup.PROBATION else 0

    def days(self, series: Series, most: float) -> float:
        """Return the days of warm-up: those of the product, with the probation at most its own."""
        if self is Warmup.PRODUCT:
            return most
        probation_ms = float(
            series.time_ms[min(series.probation, len(series) - 1)] - series.time_ms[0]
        )
        return max(min(most, probation_ms / DAY_MS), SHORTEST_DAYS)


@dataclass(frozen=True)
class Scored:
    """Verdicts of the detector on every series.

    scores     : >= ALARM where the detector alarms
    severities : 0 during warm-up
    seconds    : time that scoring took
    """

    scores: list[Floats]
    severities: list[Floats]
    seconds: float


def default_params() -> EnsembleParams:
    """Return the params of the product's default settings."""
    return params_for(DETECTION.threshold)._replace(ready_days=DETECTION.warmup_days)


def score_corpus(
    corpus: Sequence[Series],
    params: EnsembleParams,
    warmup: Warmup = Warmup.PROBATION,
    use: int = views_of(Detector.ENSEMBLE),
) -> Scored:
    """Run the detector over each series separately.

    use  : views that may alarm, a bit each
    Cost : about 4 us per value
    """
    scores, severities, began_s = [], [], time.process_time()
    for series in corpus:
        limits = limits_for(1, warmup=warmup.samples(series), cold_start=DETECTION.cold_start)
        limits = limits._replace(settings=limits.settings._replace(use=use))
        mine = params._replace(ready_days=warmup.days(series, params.ready_days))
        verdicts = fold_entity(series.time_ms, series.values[:, None], limits, mine)
        severity = np.where(np.isnan(verdicts.severity), 0.0, verdicts.severity)
        scores.append(as_scores(verdicts.is_anomaly, severity))
        severities.append(severity)
    return Scored(scores, severities, time.process_time() - began_s)


def as_scores(alarm: npt.NDArray[np.bool_], severity: Floats) -> Floats:
    """Return severities at ALARM or above exactly where there is an alarm, float64 (n,)."""
    return np.where(alarm, np.maximum(severity, ALARM), np.minimum(severity, QUIET))
