"""Robustness of the figures: perturbed params, and thresholds from the other categories.

Invariant: draws are numbered and fixed, so two versions are perturbed alike; a category never
           influences its own threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.nab.ablation import Progress
from benchmarks.nab.corpus import Series
from benchmarks.nab.detection import ALARM, Warmup, score_corpus
from benchmarks.nab.events import count_events
from benchmarks.nab.figures import GRID, Figures, best_of, run, table
from benchmarks.nab.scoring import STANDARD, Ruler, Tally, tally
from shared.ensemble.fold import EnsembleParams

WIDTH = 0.25
"""Each parameter is multiplied by a factor drawn uniformly from 1 - WIDTH to 1 + WIDTH."""

VARIANTS = ("threshold kept", "threshold perturbed as well", "each draw at its best threshold")
F1, FALSE_PER_DAY = "event F1", "false events per day and series"
THRESHOLDS = tuple(round(0.4 + 0.05 * step, 2) for step in range(25))


Spread = Mapping[str, float]
"""mean, lowest and highest of some draws."""


@dataclass(frozen=True)
class LeftOut:
    """One category, judged at the threshold that is best for all others.

    Scores are NaN where the category has no window.
    """

    category: str
    series: int
    threshold: float
    standard: float
    at_default: float
    false_per_day: float


def draws(base: EnsembleParams, count: int) -> Iterator[EnsembleParams]:
    """Yield perturbed params; draw number i is the same whatever the count."""
    for number in range(count):
        factors = np.random.default_rng(number).uniform(1.0 - WIDTH, 1.0 + WIDTH, len(base))
        yield EnsembleParams(
            *(float(param * factor) for param, factor in zip(base, factors, strict=True))
        )


def perturb(
    corpus: Sequence[Series],
    ruler: Ruler,
    base: EnsembleParams,
    count: int,
    warmup: Warmup,
    progress: Progress,
) -> dict[str, list[Figures]]:
    """Run every draw at the base's threshold, as drawn, and at the best one of the grid for it."""
    kept, drawn, best = VARIANTS
    found: dict[str, list[Figures]] = {variant: [] for variant in VARIANTS}
    for number, params in enumerate(draws(base, count), start=1):
        found[kept].append(run(corpus, ruler, params._replace(threshold=base.threshold), warmup))
        found[drawn].append(run(corpus, ruler, params, warmup))
        others = {at: run(corpus, ruler, params._replace(threshold=at), warmup) for at in GRID}
        threshold, at_best = best_of(others.items())
        found[best].append(at_best)
        progress(
            f"perturbed {number} of {count}, {warmup} warm-up: standard"
            f" {found[kept][-1].profiles[STANDARD.name]:.1f}, at its own threshold of"
            f" {params.threshold:.2f} {found[drawn][-1].profiles[STANDARD.name]:.1f}, at its best,"
            f" {threshold:g}, {at_best.profiles[STANDARD.name]:.1f}"
        )
    return found


def spread_of(perturbed: Mapping[str, Sequence[Figures]]) -> dict[str, dict[str, Spread]]:
    """Return mean, lowest and highest of each variant's standard scores and event figures.

    The standard score is given over all and per category.
    """
    found = {}
    for variant, runs in perturbed.items():
        found[variant] = {
            "all": _spread([one.profiles[STANDARD.name] for one in runs]),
            **{
                name: _spread([one.by_category[name][STANDARD.name] for one in runs])
                for name in runs[0].by_category
            },
            F1: _spread([one.f1 for one in runs]),
            FALSE_PER_DAY: _spread([one.false_per_day for one in runs]),
        }
    return found


def show_spread(
    spread: Mapping[str, Mapping[str, Spread]], count: int, threshold: float, warmup: Warmup
) -> str:
    """Write the perturbation as a table."""
    rows = [
        [
            f"{what}, {variant}",
            *(f"{one[name]:.{3 if what in (F1, FALSE_PER_DAY) else 1}f}" for name in one),
        ]
        for variant, figures in spread.items()
        for what, one in figures.items()
    ]
    message = (
        f"{count} draws, every parameter x {1 - WIDTH:g} to {1 + WIDTH:g}, threshold {threshold:g},"
        f" {warmup} warm-up"
    )
    return f"{message}, standard profile\n{table(['', *_spread([0.0])], rows)}"


def _spread(numbers: Sequence[float]) -> Spread:
    return {"mean": float(np.mean(numbers)), "lowest": min(numbers), "highest": max(numbers)}


def leave_one_out(
    corpus: Sequence[Series], ruler: Ruler, base: EnsembleParams, warmup: Warmup, progress: Progress
) -> list[LeftOut]:
    """Judge each category at the threshold that is best for all others; of equals the highest."""
    names = np.array([one.category for one in corpus])
    thresholds = sorted({*THRESHOLDS, base.threshold})
    tallies: dict[float, Tally] = {}
    false_events: dict[float, tuple[tuple[int, ...], tuple[float, ...]]] = {}
    for threshold in thresholds:
        scores = score_corpus(corpus, base._replace(threshold=threshold), warmup).scores
        tallies[threshold] = tally(ruler, scores, ALARM)
        counted = count_events(corpus, scores, ALARM)
        false_events[threshold] = (counted.false_events_by_series, counted.days_by_series)
        progress(f"left out: threshold {threshold:g}")
    found = []
    for category in np.unique(names):
        own, others = names == category, names != category
        known = {threshold: one.normalised(STANDARD, others) for threshold, one in tallies.items()}
        if not any(map(math.isfinite, known.values())):
            continue
        threshold = max(known, key=lambda at: (known[at], at))
        events, days = (np.asarray(one, np.float64)[own].sum() for one in false_events[threshold])
        standard, at_default = (
            tallies[at].normalised(STANDARD, own) for at in (threshold, base.threshold)
        )
        per_day = float(events / days) if days else 0.0
        found.append(
            LeftOut(str(category), int(own.sum()), threshold, standard, at_default, per_day)
        )
    return found


def show_left_out(found: Sequence[LeftOut], warmup: Warmup) -> str:
    """Write the categories that were left out as a table."""
    if not found:
        return (
            "leave one category out: there is no second category with windows to choose a"
            " threshold by"
        )
    head = [
        f"left out ({warmup} warm-up)",
        "series",
        "threshold of the others",
        "standard",
        "at the default",
        "false/day",
    ]
    rows = []
    for one in found:
        scores = [
            f"{score:.1f}" if math.isfinite(score) else "-"
            for score in (one.standard, one.at_default)
        ]
        rows.append(
            [
                one.category,
                f"{one.series}",
                f"{one.threshold:g}",
                *scores,
                f"{one.false_per_day:.3f}",
            ]
        )
    return table(head, rows)


def plain(found: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """Return what JSON takes."""
    return [vars(one) for one in found]
