"""Score Lapwing's ensemble on NAB: ``python -m benchmarks.nab --data DIR --out OUT``.

One configuration, the product's default, for every series; measured with the benchmark's probation
as warm-up and with the product's own. Result files and the head of summary.json are those of the
probation at the default threshold.

Invariant: all figures of a run come from one corpus and one version of the detector; a step that
           takes long reports its progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.nab import ablation, robustness
from benchmarks.nab.corpus import Series, read_corpus
from benchmarks.nab.detection import ALARM, DETECTOR, Scored, Warmup, default_params, score_corpus
from benchmarks.nab.figures import line, plain, summarise
from benchmarks.nab.results import write_results
from benchmarks.nab.scoring import Ruler, measure
from benchmarks.nab.windows import list_windows, show_windows
from shared.errors import LapwingError


def main() -> int:
    options = _options()
    try:
        corpus = read_corpus(options.data)
    except LapwingError as error:
        print(f"benchmarks.nab: {error}", file=sys.stderr)
        return error.exit_code
    unlabelled = [one.key for one in corpus if not one.labelled]
    if unlabelled:
        _progress(f"no entry in combined_windows.json, so no anomalies: {', '.join(unlabelled)}")
    ruler, params = measure(corpus), default_params()
    score_corpus(corpus[:1], params)  # compiles
    scored = {warmup: score_corpus(corpus, params, warmup) for warmup in Warmup}
    runs = {warmup: summarise(corpus, ruler, scored[warmup], params, warmup) for warmup in Warmup}
    for summary in runs.values():
        print(line(summary), flush=True)
    summary = {**runs[Warmup.PROBATION], "product_warmup": runs[Warmup.PRODUCT]}
    summary |= _other_thresholds(corpus, ruler, options.threshold)
    summary |= _studies(corpus, ruler, scored, options)
    paths = write_results(options.out, DETECTOR, corpus, scored[Warmup.PROBATION].scores)
    (options.out / "summary.json").write_text(json.dumps(plain(summary), indent=1) + "\n", "utf-8")
    print(f"{len(paths)} result files and summary.json are in {options.out}")
    return 0


def _other_thresholds(
    corpus: Sequence[Series], ruler: Ruler, thresholds: Sequence[float]
) -> dict[str, Any]:
    """Measure at thresholds that are not the default, with both warm-ups."""
    found = []
    for threshold in thresholds:
        params = default_params()._replace(threshold=threshold)
        for warmup in Warmup:
            found.append(
                summarise(corpus, ruler, score_corpus(corpus, params, warmup), params, warmup)
            )
            print(line(found[-1]), flush=True)
    return {"other_thresholds": found} if found else {}


def _studies(
    corpus: Sequence[Series],
    ruler: Ruler,
    scored: dict[Warmup, Scored],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Compute, print and return the studies that the options request."""
    found: dict[str, Any] = {}
    params = default_params()
    default = f"the default threshold, {params.threshold:g}"
    if options.windows:
        found["windows"] = {
            warmup: list_windows(corpus, scored[warmup].scores, ALARM) for warmup in Warmup
        }
        for warmup in Warmup:
            print(
                f"\n{default}, {warmup} warm-up\n{show_windows(found['windows'][warmup])}",
                flush=True,
            )
    if options.ablation:
        parts = ablation.ablate(corpus, ruler, params, _progress)
        print(f"\n{ablation.show('parts', parts, default, 'threshold')}", flush=True)
        found |= {"ablation": ablation.plain(parts)}
    if options.perturb:
        found["perturbation"] = {"draws": options.perturb}
        for warmup in Warmup:
            drawn = robustness.perturb(corpus, ruler, params, options.perturb, warmup, _progress)
            found["perturbation"][warmup] = spread = robustness.spread_of(drawn)
            print(
                f"\n{robustness.show_spread(spread, options.perturb, params.threshold, warmup)}",
                flush=True,
            )
    if options.leave_one_out:
        for warmup in Warmup:
            left_out = robustness.leave_one_out(corpus, ruler, params, warmup, _progress)
            print(f"\n{robustness.show_left_out(left_out, warmup)}", flush=True)
            found.setdefault("leave_one_category_out", {})[warmup] = robustness.plain(left_out)
    return found


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} draws; 1 or more are allowed")
    return count


def _threshold(text: str) -> float:
    threshold = float(text)
    if not 0.0 < threshold <= 10.0:
        raise argparse.ArgumentTypeError(
            f"a threshold of {text}; above 0 and at most 10 is allowed"
        )
    return threshold


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nab", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="a NAB checkout, or its data folder with labels",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="where result files and summary.json go",
    )
    parser.add_argument(
        "--threshold",
        type=_threshold,
        nargs="+",
        default=[],
        metavar="T",
        help="measure at these as well; the detector is rerun",
    )
    parser.add_argument(
        "--windows",
        action="store_true",
        help="list every labelled window, hit or missed, and every false alarm",
    )
    parser.add_argument(
        "--ablation",
        action="store_true",
        help="what each view is worth",
    )
    parser.add_argument(
        "--perturb",
        type=_count,
        metavar="N",
        help="rerun with every parameter perturbed by up to 25 %%, N draws",
    )
    parser.add_argument(
        "--leave-one-out",
        action="store_true",
        help="judge each category at the threshold that is best for all others",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
