"""Contribution of each view: the default without it, and each view alone.

Invariant: a variant differs from the default only in params that the product has, and is run again
           at every threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.nab.corpus import Series
from benchmarks.nab.figures import GRID, Figures, best_of, cells, columns, run, table
from benchmarks.nab.scoring import Ruler
from shared.ensemble.fold import VIEW_NAMES, EnsembleParams, params_for, views_of
from shared.ensemble.kernels.layout import CROSS, JOINED, TRAINED
from shared.events import Detector

Progress = Callable[[str], None]
OF_ENTITIES = (CROSS, TRAINED, JOINED)
"""Views that need several metrics or a model, which a single series does not have."""

ALONE = (Detector.TIME_OF_DAY, Detector.JUMP, Detector.COURSE)


@dataclass(frozen=True)
class Measured:
    """A variant at the default threshold and at its best one."""

    name: str
    at_default: Figures
    best_threshold: float
    best: Figures

    def plain(self) -> dict[str, Any]:
        """Return what JSON takes."""
        return {
            "name": self.name,
            "at_default": self.at_default.plain(),
            "best_threshold": self.best_threshold,
            "best": self.best.plain(),
        }


def variants(base: EnsembleParams) -> dict[str, tuple[EnsembleParams, int]]:
    """Return the settings of each variant: the default, without each view, each view alone.

    Settings as ``detector`` takes them: params, and a bit for each view that may alarm.
    """
    whole = views_of(Detector.ENSEMBLE)
    found = {"default": (base, whole)}
    for view, name in enumerate(VIEW_NAMES):
        if view not in OF_ENTITIES:
            found[f"without {name}"] = (base, whole & ~(1 << view))
    for detector in ALONE:
        params = params_for(base.threshold, detector)._replace(ready_days=base.ready_days)
        found[f"{detector.value} alone"] = (params, views_of(detector))
    return found


def ablate(
    corpus: Sequence[Series], ruler: Ruler, base: EnsembleParams, progress: Progress
) -> list[Measured]:
    """Measure every variant."""
    found = []
    for name, (params, use) in variants(base).items():
        progress(f"ablation: {name}")
        found.append(measure_at(name, _judge(corpus, ruler, params, use), base.threshold, GRID))
    return found


def measure_at(
    name: str, judge: Callable[[float], Figures], default: float, thresholds: Sequence[float]
) -> Measured:
    """Judge at the default threshold and at each of the others."""
    runs = {threshold: judge(threshold) for threshold in sorted({default, *thresholds})}
    threshold, best = best_of(runs.items())
    return Measured(name, runs[default], threshold, best)


def show(title: str, measured: Sequence[Measured], default: str, free: str) -> str:
    """Write two tables: all at the default threshold, and each at its best one."""
    head = columns(measured[0].best)
    at_default = [[one.name, *cells(one.at_default)] for one in measured]
    best = [[one.name, f"{one.best_threshold:g}", *cells(one.best)] for one in measured]
    return "\n".join([
        f"{title}; standard / low-FP / low-FN", "", f"at {default}", table(["", *head], at_default),
        "", f"each at its best {free}", table(["", free, *head], best),
    ])  # fmt: skip


def plain(measured: Sequence[Measured]) -> list[Mapping[str, Any]]:
    """Return what JSON takes."""
    return [one.plain() for one in measured]


def _judge(
    corpus: Sequence[Series], ruler: Ruler, params: EnsembleParams, use: int
) -> Callable[[float], Figures]:
    return lambda threshold: run(corpus, ruler, params._replace(threshold=threshold), use=use)
