"""The figures of a run: the few that a table shows, and the whole summary.

Invariant: all runs take their figures from here, so they can be compared; none depends on the name
           of a category.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.nab.corpus import Floats, Series
from benchmarks.nab.detection import ALARM, DETECTOR, Scored, Warmup, score_corpus
from benchmarks.nab.events import count_events
from benchmarks.nab.scoring import PROFILES, STANDARD, Ruler, sweep, tally
from benchmarks.nab.vus import mean_vus
from lapwing import __version__
from shared.ensemble.fold import EnsembleParams, views_of
from shared.events import Detector

GRID = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
"""Thresholds at which variants are rerun."""


@dataclass(frozen=True)
class Figures:
    """Scores of one run.

    profiles    : profile -> normalised score over the corpus
    by_category : category -> profile -> score, the categories with windows to judge
    """

    profiles: Mapping[str, float]
    by_category: Mapping[str, Mapping[str, float]]
    f1: float
    false_per_day: float

    @property
    def standard(self) -> float:
        """The standard profile over the corpus; -inf where there is no window to judge by."""
        score = self.profiles[STANDARD.name]
        return score if math.isfinite(score) else -math.inf

    def plain(self) -> dict[str, Any]:
        """Return what JSON takes."""
        return {
            "profiles": dict(self.profiles),
            "by_category": {name: dict(scores) for name, scores in self.by_category.items()},
            "f1": self.f1,
            "false_events_per_day_and_series": self.false_per_day,
        }


def figures_of(
    corpus: Sequence[Series], ruler: Ruler, scores: Sequence[Floats], threshold: float = ALARM
) -> Figures:
    """Judge scores at one threshold."""
    counted = tally(ruler, scores, threshold)
    events = count_events(corpus, scores, threshold)
    by_profile = {profile.name: counted.by_category(profile) for profile in PROFILES}
    judged = [name for name, score in by_profile[STANDARD.name].items() if math.isfinite(score)]
    return Figures(
        profiles={profile.name: counted.normalised(profile) for profile in PROFILES},
        by_category={
            name: {profile: scores[name] for profile, scores in by_profile.items()}
            for name in judged
        },
        f1=events.f1,
        false_per_day=events.false_events_per_day,
    )


def run(
    corpus: Sequence[Series],
    ruler: Ruler,
    params: EnsembleParams,
    warmup: Warmup = Warmup.PROBATION,
    use: int = views_of(Detector.ENSEMBLE),
) -> Figures:
    """Run the detector, with the views of ``use``, and judge it."""
    return figures_of(corpus, ruler, score_corpus(corpus, params, warmup, use).scores)


def best_of(runs: Iterable[tuple[float, Figures]]) -> tuple[float, Figures]:
    """Return the run with the highest standard score, and its threshold; of equals the highest."""
    return max(runs, key=lambda one: (one[1].standard, one[0]))


def summarise(
    corpus: Sequence[Series], ruler: Ruler, scored: Scored, params: EnsembleParams, warmup: Warmup
) -> dict[str, Any]:
    """Gather every figure of one run.

    ``optimised`` is what NAB's own optimiser finds in the written scores: the threshold between 0
    and 1 that is best for each profile. Below ALARM the policy has no effect.
    """
    counted = tally(ruler, scored.scores, ALARM)
    events = count_events(corpus, scored.scores, ALARM)
    swept = sweep(ruler, scored.scores)
    best = [swept.best(profile) for profile in PROFILES] if swept.windows else []
    return {
        "version": __version__,
        "detector": DETECTOR,
        "settings": params._asdict(),
        "warmup": warmup.value,
        "threshold": params.threshold,
        "series": len(corpus),
        "values": sum(map(len, corpus)),
        "profiles": {profile.name: counted.normalised(profile) for profile in PROFILES},
        "by_category": {profile.name: counted.by_category(profile) for profile in PROFILES},
        "optimised": {
            one.profile.name: {"threshold": one.threshold, "score": one.score} for one in best
        },
        "events": {
            "windows": events.windows,
            "hits": events.hits,
            "false_events": events.false_events,
            "precision": events.precision,
            "recall": events.recall,
            "f1": events.f1,
            "false_events_per_day_and_series": events.false_events_per_day,
            "median_delay_min": events.median_delay_min,
            "median_wait_min": events.median_wait_min,
        },
        "vus_pr": {
            name: mean_vus(corpus, scored.severities, name).pr for name in ("2022", "revised")
        },
        "microseconds_per_value": 1e6 * scored.seconds / sum(map(len, corpus)),
    }


def line(summary: Mapping[str, Any]) -> str:
    """Return a run as one line."""
    profiles = " / ".join(f"{figure:.1f}" for figure in summary["profiles"].values())
    standard = summary["by_category"][STANDARD.name].items()
    categories = ", ".join(
        f"{name} {score:.1f}" for name, score in standard if math.isfinite(score)
    )
    events = summary["events"]
    return (
        f"threshold {summary['threshold']:.2f}, {summary['warmup']} warm-up: standard / low-FP /"
        f" low-FN {profiles} ({categories or 'no windows'}), F1 {events['f1']:.2f} at"
        f" {events['false_events_per_day_and_series']:.3f} false a day, VUS-PR"
        f" {summary['vus_pr']['2022']:.2f} ({summary['vus_pr']['revised']:.2f} revised),"
        f" {summary['microseconds_per_value']:.1f} us a value"
    )


def columns(found: Figures) -> list[str]:
    """Return the heads of the columns of ``cells``."""
    return ["all", *found.by_category, "F1", "false/day"]


def cells(found: Figures) -> list[str]:
    """Format figures as table cells.

    These are standard / low-FP / low-FN scores over all and per category, event F1, and false
    events per day.
    """
    scores = [found.profiles, *found.by_category.values()]
    triples = [" / ".join(f"{score:.1f}" for score in one.values()) for one in scores]
    return [*triples, f"{found.f1:.2f}", f"{found.false_per_day:.3f}"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows under their heads, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def aligned(row: Sequence[str]) -> str:
        first, *others = (text.ljust(width) if place == 0 else text.rjust(width) for place,
            (text, width) in
                          enumerate(zip(row, widths, strict=True)))  # fmt: skip
        return "  ".join([first, *others]).rstrip()

    return "\n".join(map(aligned, [head, ["-" * width for width in widths], *rows]))


def plain(value: Any) -> Any:
    """Replace values that JSON does not have by null."""
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
