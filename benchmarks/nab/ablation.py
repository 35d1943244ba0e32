"""What each part of the ensemble is worth: the default without it, and each member alone.

Law: a variant differs from the default in knobs that the product has, and is run again at every
     threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.nab.corpus import Series
from benchmarks.nab.figures import GRID, Figures, best_of, cells, columns, run, table
from benchmarks.nab.scoring import Ruler
from shared.ensemble.fold import knobs_for
from shared.ensemble.kernels.layout import Knobs

Progress = Callable[[str], None]

MEMBERS = {
    "novelty": "weight_long",
    "neighbours": "weight_neighbours",
    "time_of_day": "weight_time",
    "burst": "weight_short",
}
OTHERS = ("absence", "habituation", "refractory", "interval_weight")
"""Parts beside the members: the knob that is named turns each off when it is 0."""


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


def variants(base: Knobs) -> dict[str, Knobs]:
    """Return the default, the default without each part, and each member alone as the product's
    setting ``detector`` has it.
    """
    found = {"default": base}
    for name, knob in {**MEMBERS, **dict(zip(OTHERS, OTHERS, strict=True))}.items():
        found[f"without {name}"] = base._replace(**{knob: 0.0})
    for name in MEMBERS:
        found[f"{name} alone"] = knobs_for(name, base.threshold)
    return found


def ablate(
    corpus: Sequence[Series], ruler: Ruler, base: Knobs, progress: Progress
) -> list[Measured]:
    """Measure every variant."""
    found = []
    for name, knobs in variants(base).items():
        progress(f"ablation: {name}")
        found.append(measure_at(name, _judge(corpus, ruler, knobs), base.threshold, GRID))
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
        f"{title}; standard / low-FP / low-FN", "", f"at {default}", table(["", *head], at_default), "",
        f"each at its best {free}", table(["", free, *head], best),
    ])  # fmt: skip


def plain(measured: Sequence[Measured]) -> list[Mapping[str, Any]]:
    """Return what JSON takes."""
    return [one.plain() for one in measured]


def _judge(corpus: Sequence[Series], ruler: Ruler, knobs: Knobs) -> Callable[[float], Figures]:
    return lambda threshold: run(corpus, ruler, knobs._replace(threshold=threshold))
