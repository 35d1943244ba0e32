"""From the usual tutorial's pipeline to the default, one idea at a time.

The first steps are an Isolation Forest per series on value, hour and business hour, fitted on the
probation; the later ones are the product's ensemble with parts of it switched off. Refractory time,
policy and ranks are the product's kernels throughout.

Law: each step differs from the one before in what its name says, and is judged like any other
     detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from benchmarks.nab.ablation import MEMBERS, Measured, Progress, measure_at
from benchmarks.nab.corpus import Floats, Series
from benchmarks.nab.detection import ALARM
from benchmarks.nab.figures import GRID, Figures, figures_of, run
from benchmarks.nab.scoring import Ruler
from consumer_training.estimators import fit
from shared.ensemble.kernels.calibration import add, rank
from shared.ensemble.kernels.layout import ENTITY_DTYPE, SKETCH_DTYPE, Knobs, Record
from shared.ensemble.kernels.policy import decide
from shared.events import Detector
from shared.settings import FeatureSettings, TrainSettings

CONTAMINATION = TrainSettings().contamination
MARGINS = tuple(round(0.005 * step, 3) for step in range(81))
"""How far above the contamination's threshold a score of the forest must lie; 0 = its own flags."""

HOUR_MS = 3_600_000
NEVER = 1e9
"""A break-through that nothing reaches."""

FIRST_RANK = 20
LARGEST = float(np.finfo(np.float32).max)
"""Trees are grown in float32."""

Judge = Callable[[float], Figures]


@dataclass(frozen=True)
class Forested:
    """Scores of the series' own Isolation Forest, higher = odder, and those of them that it was
    fitted on.
    """

    series: Series
    scores: Floats
    fitted: Floats

    def flags(self, margin: float) -> Floats:
        """Return 1 where scikit-learn flags a row at CONTAMINATION and its score is beyond by the
        margin, else 0.
        """
        if not len(self.fitted):
            return np.zeros(len(self.series))
        beyond = self.scores + float(np.percentile(-self.fitted, 100.0 * CONTAMINATION))
        return np.asarray((beyond > 0.0) & (beyond >= margin), np.float64)


def steps(
    corpus: Sequence[Series], ruler: Ruler, base: Knobs, progress: Progress
) -> list[Measured]:
    """Measure every step; the forest's flags are varied by their margin."""
    once = base._replace(habituation=0.0, break_through=NEVER)
    progress("steps: Isolation Forest per series")
    forests = [forest_scores(one) for one in corpus]

    def flagged(margin: float) -> Figures:
        return figures_of(corpus, ruler, [one.flags(margin) for one in forests])

    def not_repeated(margin: float) -> Figures:
        knobs = once._replace(threshold=ALARM)
        return figures_of(
            corpus, ruler, [_alarms(one.flags(margin), one.series, knobs) for one in forests]
        )

    def ranked(threshold: float) -> Figures:
        knobs = once._replace(threshold=threshold)
        return figures_of(
            corpus, ruler, [_alarms(calibrated(one, knobs), one.series, knobs) for one in forests]
        )

    def ensemble(knobs: Knobs) -> Judge:
        return lambda threshold: run(corpus, ruler, knobs._replace(threshold=threshold))

    margin_steps: dict[str, Judge] = {
        f"Isolation Forest, contamination {CONTAMINATION:g}": flagged,
        "+ an alarm is not repeated": not_repeated,
    }
    found = [measure_at(name, judge, 0.0, MARGINS) for name, judge in margin_steps.items()]
    threshold_steps: dict[str, Judge] = {
        "+ ranks of the series' own past": ranked,
        "novelty in place of the forest": ensemble(only(once, "novelty")),
        "+ season: neighbours, time of day": ensemble(
            only(once, "novelty", "neighbours", "time_of_day")
        ),
        "+ burst": ensemble(once._replace(absence=0.0)),
        "+ habituation and break-through": ensemble(base._replace(absence=0.0)),
        "+ absence = default": ensemble(base),
    }
    for name, judge in threshold_steps.items():
        progress(f"steps: {name}")
        found.append(measure_at(name, judge, base.threshold, GRID))
    return found


def only(base: Knobs, *members: str) -> Knobs:
    """Return knobs with the named members only, at their weights, and without absence."""
    return base._replace(
        **{knob: 0.0 for name, knob in MEMBERS.items() if name not in members}, absence=0.0
    )


def forest_scores(series: Series) -> Forested:
    """Fit the product's Isolation Forest on the probation of one series and score all of it; a
    missing value scores 0.
    """
    features = FeatureSettings()
    hour = series.time_ms / HOUR_MS % 24.0
    weekday = (series.time_ms // (24 * HOUR_MS) + 3) % 7  # 1970-01-01 was a Thursday
    business = (
        (features.business_start <= hour)
        & (hour < features.business_end)
        & np.isin(weekday, features.business_days)
    )
    values = np.clip(series.values, -LARGEST, LARGEST)
    X = np.column_stack([values, np.floor(hour), business.astype(np.float64)])
    present = ~np.isnan(values)
    learnt = present & (np.arange(len(series)) < series.probation)
    scores = np.zeros(len(series))
    if learnt.sum() < 2:
        return Forested(series, scores, np.empty(0))
    _, forest = fit(Detector.ISOLATION_FOREST, X[learnt], TrainSettings())
    scores[present] = forest.score(np.ascontiguousarray(X[present]))
    return Forested(series, scores, scores[learnt])


def calibrated(one: Forested, knobs: Knobs) -> Floats:
    """Turn the forest's scores into rarities as the ensemble does with a member's: ranked,
    smoothed, per unit of time.
    """
    steps_ms = np.diff(one.series.time_ms[:150])
    interval_ms = max(float(np.median(steps_ms)), 1.0) if len(steps_ms) else 300_000.0
    per_time = knobs.interval_weight * math.log10(interval_ms / 300_000.0)
    memory = knobs.rank_memory * max(one.series.probation, 2)
    return (
        smooth_ranks(one.scores, memory, knobs.smoothing, np.zeros(1, SKETCH_DTYPE)[0]) + per_time
    )


@njit(cache=True)
def smooth_ranks(scores: Floats, memory: float, smoothing: float, sketch: Record) -> Floats:
    """Rank each score among its own past and average it with the moving mean of the ranks.

    scores : float64 (n,)   >= 0
    sketch : SKETCH_DTYPE   empty

    Twin: tests/reference/calibration.py::ranks.  Cost: O(n SKETCH).
    """
    out = np.empty(scores.shape[0])
    mean = 0.0
    for row in range(scores.shape[0]):
        rarity = rank(sketch, scores[row]) if row >= FIRST_RANK else 0.0
        add(sketch, scores[row], memory)
        mean += smoothing * (rarity - mean)
        out[row] = 0.5 * (rarity + mean)
    return out


@njit(cache=True)
def decide_rows(z: Floats, first: int, entity: Record, knobs: Knobs) -> Floats:
    """Send rows from ``first`` on through the product's policy; 1 where it alarms, else 0, float64
    (n,).

    Twin: tests/reference/policy.py::alarms.  Cost: O(n).
    """
    out = np.zeros(z.shape[0])
    for row in range(first, z.shape[0]):
        entity["rows"] += 1
        if decide(entity, z[row], False, knobs):
            out[row] = 1.0
    return out


def _alarms(z: Floats, series: Series, knobs: Knobs) -> Floats:
    entity = np.zeros(1, ENTITY_DTYPE)[0]
    entity["warmup"], entity["threshold"] = max(series.probation, 2), knobs.threshold
    return decide_rows(z, series.probation, entity, knobs)
