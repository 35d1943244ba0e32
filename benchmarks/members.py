"""What each trained model is worth, alone and in the ensemble: ``python -m benchmarks.members``.

Four judges: recall by kind on the generated fleet, labelled traces of real machines, NAB, and the
processor time of a row. Options: ``--only PART...``, ``--hosts N --days N --seed N``,
``--nab DIR``, ``--traces DIR``, ``--json FILE``.

* fleet: all at one rate of false alarms, trained on the first half.
* traces: as configured by default; trained on the first half of each entity, counted after it.
* nab: as configured by default, and at each variant's best threshold. The series are divided in
  two, and each half is judged with a model that was trained on the other one. Models of values know
  the entities of their training alone, so they are left out.
* cost: the rows of the fleet's second half, all variants in turn in one run.

Invariant: no model is trained on rows that it is judged by.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alternating import times_of
from benchmarks.builds import Build, BuildError, cores, this_build
from benchmarks.detecting import fold_with, rarity_of
from benchmarks.fleet.comparing import (
    Variant,
    compare,
    host_names,
    train_model,
    variants,
)
from benchmarks.fleet.hosts import KINDS, METRICS, Fleet, generate
from benchmarks.histories import read_series
from benchmarks.nab.corpus import Series, read_corpus
from benchmarks.nab.detection import DETECTION, as_scores
from benchmarks.nab.figures import figures_of
from benchmarks.nab.scoring import Ruler, measure
from benchmarks.others import cost_child
from benchmarks.traces.judging import Trace
from benchmarks.traces.running import HOSTS, SERIES, find_folder, run_sets
from consumer_training.training import train
from shared.ensemble.fold import EnsembleState, fold, limits_for, params_for
from shared.errors import LapwingError
from shared.models.model import Model
from shared.settings import Settings, TrainSettings

Figures = dict[str, float]
Table = dict[str, Figures]
"""Variant -> figures."""

FALSE_PER_DAY = 0.05
SPLIT = 0.5
"""Share of each entity's rows in the traces that models are trained on."""

NAB_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0)
METRIC = "value"
COST_REPEATS = 5


class Skipped(Exception):
    """A part has no data; says which."""


def compared() -> list[Variant]:
    """Return the ensemble without a model, with each, and each model alone."""
    return [one for one in variants() if one.trained or one.detector == "ensemble"]


def fleet(options: argparse.Namespace) -> Table:
    """Judge on the generated fleet."""
    made = generate(options.hosts, options.days, options.seed)
    found = compare(made, FALSE_PER_DAY, compared())
    return {
        name: {"recall": one.recall()} | {kind: one.recall(kind) for kind in KINDS}
        for name, one in found.items()
    }


def traces(options: argparse.Namespace) -> Table:
    """Judge on the labelled traces, by the command line."""
    folder, why_not = find_folder(options.traces)
    if folder is None:
        raise Skipped(why_not)
    return {one.name: _traces_of(this_build(), folder, one, options.jobs) for one in compared()}


def _traces_of(build: Build, folder: Path, variant: Variant, jobs: int) -> Figures:
    began_s = time.monotonic()
    words = ["--detector", variant.detector.value]
    settings = [f"train.split={SPLIT}"]
    if variant.trained is not None:
        words.append("--train")
        settings.append(f"train.member={variant.trained.value}")
    found: Figures = {}
    for group, sets in (("hosts", HOSTS), ("ms", SERIES)):
        try:
            judged = run_sets(build, folder, sets, words, jobs, settings, after_training)[group]
        except BuildError as refusal:  # a reconstruction of single metrics
            _say(f"traces, {variant.name}, {group}: {refusal}", time.monotonic() - began_s)
            continue
        found |= {f"{group}: F1": judged.f1, f"{group}: false a day": judged.false_per_day}
    _say(f"traces, {variant.name}: {found}", time.monotonic() - began_s)
    return found


def after_training(trace: Trace) -> Trace:
    """Return the trace with nothing counted in the part that models are trained on."""
    return replace(trace, begin=max(trace.begin, trace.first + SPLIT * (trace.end - trace.first)))


def nab(options: argparse.Namespace) -> Table:
    """Judge on NAB, with the product's warm-up."""
    if options.nab is None or not options.nab.is_dir():
        raise Skipped("no folder of NAB: --nab DIR, or set LAPWING_NAB_DIR")
    corpus = read_corpus(options.nab)
    ruler, found = measure(corpus), {}
    models: dict[Any, tuple[Model | None, Model | None]] = {None: (None, None)}
    for variant in compared():
        if variant.trained is not None and variant.trained.sees_values:
            continue
        began_s = time.monotonic()
        if variant.trained not in models:
            of_odd, of_even = _nab_model(corpus[1::2], variant), _nab_model(corpus[::2], variant)
            models[variant.trained] = of_odd, of_even
        found[variant.name] = _nab_figures(corpus, ruler, variant, models[variant.trained])
        _say(f"nab, {variant.name}", time.monotonic() - began_s)
    return found


def _nab_model(series: Sequence[Series], variant: Variant) -> Model:
    """Train on whole series, one entity each; nobody has said what is anomalous in them."""
    history = read_series(
        {one.key: one.time_ms for one in series},
        {one.key: one.values[:, None] for one in series},
        (METRIC,),
        Settings(),
    )
    settings = TrainSettings(split=0.99)
    assert variant.trained is not None
    return train(history.rows(), variant.trained, Settings().features, settings).model


def _nab_figures(
    corpus: Sequence[Series],
    ruler: Ruler,
    variant: Variant,
    models: tuple[Model | None, Model | None],
) -> Figures:
    """Return F1 and false alarms by default, and the standard score at the best threshold.

    models : of the series at even places, and at odd ones
    """
    by_default, best = None, -math.inf
    for threshold in dict.fromkeys((DETECTION.threshold, *NAB_THRESHOLDS)):
        limits = limits_for(1, variant.detector, cold_start=DETECTION.cold_start)
        params = params_for(threshold, variant.detector)._replace(ready_days=DETECTION.warmup_days)
        scores = []
        for place, one in enumerate(corpus):
            values = one.values[:, None]
            verdicts = fold_with(
                models[place % 2], one.key, one.time_ms, values, (METRIC,), limits, params
            )
            severity = np.nan_to_num(verdicts.severity, nan=0.0)
            scores.append(as_scores(verdicts.is_anomaly, severity))
        figures = figures_of(corpus, ruler, scores)
        by_default = by_default or figures
        best = max(best, figures.standard)
    assert by_default is not None
    return {
        "F1": by_default.f1,
        "false a day": by_default.false_per_day,
        "standard, best threshold": best,
    }


def cost_of_rows(options: argparse.Namespace) -> Table:
    """Measure the processor time of a row, scoring by the model included."""
    made = generate(options.hosts, options.days, options.seed)
    sides = {one.name: _folding(made, one) for one in compared()}
    rows = len(made.values) * (len(made.time_ms) - len(made.time_ms) // 2)
    seconds = times_of(sides, COST_REPEATS)
    medians = {name: float(np.median(times)) / rows * 1e6 for name, times in seconds.items()}
    plain = medians["ensemble, no model"]
    return {
        name: {"us a row": us, "more than the ensemble": us - plain} for name, us in medians.items()
    }


def _folding(made: Fleet, variant: Variant) -> Callable[[], object]:
    """Return what folds the fleet's second half from a copy of the state after the first."""
    hosts, metrics = len(made.values), len(METRICS)
    border = len(made.time_ms) // 2
    model = None if variant.trained is None else train_model(made, variant.trained)
    state = EnsembleState()
    state.reserve(hosts, hosts * metrics)
    limits = limits_for(metrics, variant.detector, cold_start=False)
    series = cost_child.Series(made.time_ms, made.values)
    fold(state, cost_child.rows_of(series, hosts, metrics, 0, border), limits)
    given = cost_child.rows_of(series, hosts, metrics, border, len(made.time_ms))
    arrays = state.to_arrays(hosts, hosts * metrics)
    sees_values = model is not None and model.sees_values

    def run() -> object:
        copy = EnsembleState.from_arrays(arrays)
        if model is None or not sees_values:
            return fold(copy, given, limits, model=None if model is None else model.arrays)
        times = made.time_ms[border:]
        by_host = [
            rarity_of(model, name, times, values[border:], METRICS)
            for name, values in zip(host_names(made), made.values, strict=True)
        ]
        return fold(copy, given._replace(trained=np.stack(by_host, axis=1).ravel()), limits)

    return run


PARTS: Mapping[str, Callable[[argparse.Namespace], Table]] = {
    "fleet": fleet,
    "traces": traces,
    "nab": nab,
    "cost": cost_of_rows,
}


def table(part: str, found: Table) -> str:
    """Write a part's figures, one line for each variant."""
    heads = list(dict.fromkeys(label for figures in found.values() for label in figures))
    wide = max(map(len, found))
    widths = [max(len(head), 6) for head in heads]
    columns = list(zip(heads, widths, strict=True))
    lines = [f"{part:<{wide}}  " + "  ".join(f"{head:>{width}}" for head, width in columns)]
    for name, figures in found.items():
        cells = [f"{figures.get(head, math.nan):>{width}.3g}" for head, width in columns]
        lines.append(f"{name:<{wide}}  " + "  ".join(cells))
    return "\n".join(lines)


def _say(what: str, seconds: float) -> None:
    print(f"{seconds:6.1f} s  {what}", file=sys.stderr, flush=True)


def main() -> int:
    options = _options()
    document: dict[str, Table] = {}
    for part in options.only or list(PARTS):
        try:
            document[part] = PARTS[part](options)
        except Skipped as reason:
            print(f"{part}: SKIPPED, {reason}", flush=True)
            continue
        except (BuildError, LapwingError) as error:
            print(f"benchmarks.members: {part}: {error}", file=sys.stderr)
            return 2
        print(table(part, document[part]) + "\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.members", description=__doc__.splitlines()[0]
    )
    folder = os.environ.get("LAPWING_NAB_DIR")
    add = parser.add_argument
    add("--only", nargs="+", choices=list(PARTS), help="these parts; default: all")
    add("--hosts", type=int, default=20, help="hosts of the fleet")
    add("--days", type=int, default=28, help="days of the fleet")
    add("--seed", type=int, default=0)
    add("--nab", type=Path, metavar="DIR", default=Path(folder) if folder else None,
        help="default: $LAPWING_NAB_DIR")  # fmt: skip
    add("--traces", type=Path, metavar="DIR", help="default: $LAPWING_TRACES_DIR")
    add("--jobs", type=int, default=cores(), metavar="N", help="sets of traces at the same time")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
