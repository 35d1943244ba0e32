"""The product's detector and policy over a corpus, each series by itself, in its product's default
configuration.

Law: one configuration for every series, and a row's score depends on its series' rows up to it. Of
     the benchmark itself only
the length of the probation is known to the detector, as its warm-up; the product's own warm-up does
not know even that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from benchmarks.nab.corpus import Floats, Series
from shared.ensemble.fold import EnsembleState, fold, knobs_for, limits_for
from shared.ensemble.kernels.layout import WARMUP, Knobs
from shared.events import Detector
from shared.settings import DetectionSettings

DETECTOR = "lapwing"
ALARM = 0.5
QUIET = 0.499
"""Highest score of a row that is no alarm: policy may hold an alarm back although the severity is
high.
"""

DETECTION = DetectionSettings()


class Warmup(StrEnum):
    """How long a series is watched before it is judged."""

    PROBATION = "probation"
    PRODUCT = "product"

    def samples(self, series: Series) -> int:
        """Return what ``limits_for`` takes; 0 = the product's own rule."""
        return (
            min(max(series.probation, 2), WARMUP)
            if self is Warmup.PROBATION
            else DETECTION.warmup_samples
        )


@dataclass(frozen=True)
class Scored:
    """What the detector says of every series: score >= ALARM where it alarms, severity (0 while
    warming up), seconds spent.
    """

    scores: list[Floats]
    severities: list[Floats]
    seconds: float


def default_knobs() -> Knobs:
    """Return the knobs of the product's default settings."""
    return knobs_for(Detector.ENSEMBLE, DETECTION.threshold)


def score_corpus(
    corpus: Sequence[Series], knobs: Knobs, warmup: Warmup = Warmup.PROBATION
) -> Scored:
    """Run the detector over each series by itself.  Cost: about 3 us per value."""
    scores, severities, began_s = [], [], time.process_time()
    for series in corpus:
        state = EnsembleState()
        state.reserve(1, 1)
        limits = limits_for(1, warmup.samples(series), cold_start=DETECTION.cold_start)
        slots, entity = np.zeros((1, 1), np.int32), np.zeros(len(series), np.int32)
        verdicts = fold(state, slots, entity, series.time_ms, series.values[:, None], limits, knobs)
        severity = np.where(np.isnan(verdicts.severity), 0.0, verdicts.severity)
        scores.append(as_scores(verdicts.is_anomaly, severity))
        severities.append(severity)
    return Scored(scores, severities, time.process_time() - began_s)


def as_scores(alarm: npt.NDArray[np.bool_], severity: Floats) -> Floats:
    """Return severities at ALARM or above exactly where there is an alarm, float64 (n,)."""
    return np.where(alarm, np.maximum(severity, ALARM), np.minimum(severity, QUIET))
