"""Score Lapwing's ensemble on NAB: ``python -m benchmarks.nab --data DIR --out OUT [--threshold T ...]``.

Law: one configuration for every series; a row's score depends on its series' rows up to it. Of the benchmark itself only the
length of the probation is known to the detector, as its warm-up; ``--product-warmup`` leaves it to the product's own rule.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.nab.corpus import Series, read_corpus
from benchmarks.nab.events import count_events
from benchmarks.nab.results import write_results
from benchmarks.nab.scoring import PROFILES, Ruler, measure, tally
from benchmarks.nab.vus import mean_vus
from lapwing import __version__
from shared.ensemble import EnsembleState, fold, limits_for
from shared.errors import LapwingError
from shared.kernels.layout import Knobs

DETECTOR = "lapwing"
ALARM = 0.5
QUIET = 0.499
"""Highest score of a row that is no alarm: policy may hold an alarm back although the severity is high."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """What the detector says of every series: score >= ALARM where it alarms, severity (0 while warming up), seconds spent."""

    scores: list[Floats]
    severities: list[Floats]
    seconds: float


def main() -> int:
    options = _options()
    try:
        corpus = read_corpus(options.data)
    except LapwingError as error:
        print(f"benchmarks.nab: {error}", file=sys.stderr)
        return error.exit_code
    ruler = measure(corpus)
    score_corpus(corpus[:1], Knobs(), product_warmup=options.product_warmup)  # compiles
    summary = {}
    for threshold in options.threshold:
        knobs = Knobs()._replace(threshold=threshold)
        scored = score_corpus(corpus, knobs, product_warmup=options.product_warmup)
        summary = summarise(corpus, ruler, scored, knobs, options.product_warmup)
        print(line(summary), flush=True)
    paths = write_results(options.out, DETECTOR, corpus, scored.scores)
    (options.out / "summary.json").write_text(json.dumps(_plain(summary), indent=1) + "\n", "utf-8")
    print(f"{len(paths)} result files and summary.json of the last threshold are in {options.out}")
    return 0


def score_corpus(corpus: Sequence[Series], knobs: Knobs, *, product_warmup: bool) -> Scored:
    """Run the detector over each series by itself."""
    scores, severities, began_s = [], [], time.process_time()
    for series in corpus:
        state = EnsembleState()
        state.reserve(1, 1)
        limits = limits_for(1, 0 if product_warmup else min(max(series.probation, 2), 1024), cold_start=False)
        rows = len(series)
        verdicts = fold(
            state, np.zeros((1, 1), np.int32), np.zeros(rows, np.int32), series.time_ms, series.values[:, None], limits, knobs
        )
        severity = np.where(np.isnan(verdicts.severity), 0.0, verdicts.severity)
        scores.append(np.where(verdicts.alarm, np.maximum(severity, ALARM), np.minimum(severity, QUIET)))
        severities.append(severity)
    return Scored(scores, severities, time.process_time() - began_s)


def summarise(corpus: Sequence[Series], ruler: Ruler, scored: Scored, knobs: Knobs, product_warmup: bool) -> dict[str, Any]:
    """Gather every figure of one run."""
    counted = tally(ruler, scored.scores, ALARM)
    events = count_events(corpus, scored.scores, ALARM)
    rows = sum(len(series) for series in corpus)
    return {
        "version": __version__,
        "settings": knobs._asdict(),
        "warmup": "product" if product_warmup else "probation",
        "threshold": knobs.threshold,
        "series": len(corpus),
        "profiles": {profile.name: counted.normalised(profile) for profile in PROFILES},
        "by_category": {profile.name: counted.by_category(profile) for profile in PROFILES},
        "events": {
            "precision": events.precision,
            "recall": events.recall,
            "f1": events.f1,
            "false_events_per_day_and_series": events.false_events_per_day,
            "median_delay_min": events.median_delay_min,
        },
        "vus_pr": {name: mean_vus(corpus, scored.severities, name).pr for name in ("2022", "revised")},
        "microseconds_per_value": 1e6 * scored.seconds / rows,
    }


def line(summary: dict[str, Any]) -> str:
    """Say a run in one line."""
    profiles = " / ".join(f"{figure:.1f}" for figure in summary["profiles"].values())
    aws = summary["by_category"]["standard"].get("realAWSCloudwatch", math.nan)
    events = summary["events"]
    return (
        f"threshold {summary['threshold']:.2f}  standard / low-FP / low-FN {profiles}  AWS {aws:.1f}  F1 {events['f1']:.2f} at "
        f"{events['false_events_per_day_and_series']:.3f} false a day  VUS-PR {summary['vus_pr']['2022']:.2f} "
        f"({summary['vus_pr']['revised']:.2f} revised)  {summary['microseconds_per_value']:.1f} us a value"
    )


def _plain(value: Any) -> Any:
    """Replace what JSON cannot say by null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nab", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a NAB checkout, or its data folder")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="where result files and summary.json go")
    parser.add_argument("--threshold", type=float, nargs="+", default=[Knobs().threshold], help="the detector is rerun at each")
    parser.add_argument("--product-warmup", action="store_true", help="the product's warm-up instead of the probation's length")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
