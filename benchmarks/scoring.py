"""The scoring kernels against scikit-learn in one run: ``python -m benchmarks.scoring``.

Both sides score the same rows, all different from one another, of a generated fleet's feature
vectors. A figure is the best of several alternating rounds; only the ratios mean anything beyond
this machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import sklearn

from benchmarks.histories import read_series
from consumer_training.fitting.estimators import fit
from consumer_training.training import TEST, TRAIN, split
from producer.generated.fleet import generate
from shared.events import Detector
from shared.models.model import Forest, Member, Svm
from shared.settings import Settings, TrainSettings

ROWS = 10_000
BATCH = 4_096
SINGLES = 300
ROUNDS = 7

Floats = npt.NDArray[np.float64]


def feature_vectors(hosts: int, days: float) -> tuple[Floats, Floats]:
    """Return feature vectors of a generated fleet for training, and ROWS vectors to score.

    The vectors to score are drawn from the test part with a fixed seed.
    """
    fleet, _ = generate(hosts, days)
    owned = [fleet.entity == number for number in range(len(fleet.entities))]
    history = read_series(
        {name: fleet.time_ms[own] for name, own in zip(fleet.entities, owned, strict=True)},
        {name: fleet.values[own] for name, own in zip(fleet.entities, owned, strict=True)},
        tuple(fleet.metrics),
        Settings(),
    )
    rows = history.rows()
    part = split(rows, TrainSettings())
    test = rows.features[part == TEST]
    random = np.random.default_rng(0)
    return rows.features[part == TRAIN], test[random.choice(len(test), ROWS, replace=False)]


def compare(
    detector: Detector, training: Floats, X: Floats, settings: TrainSettings
) -> dict[str, Any]:
    """Fit once; compare scores, flags and times of both sides."""
    estimator, member = fit(detector, training, settings)
    theirs = _their_score(detector, estimator)
    ours, reference = member.score(X), theirs(X)
    cut = -float(np.percentile(-theirs(training), 100.0 * settings.contamination))
    flags = {"at_contamination": bool(np.array_equal(ours > cut, reference > cut))}
    if detector is Detector.ONE_CLASS_SVM:
        flags["predict"] = bool(np.array_equal(ours > 0.0, estimator.predict(X) == -1))
    else:
        estimator.offset_ = -cut
        flags["predict"] = bool(np.array_equal(ours > cut, estimator.predict(X) == -1))
    single = _alternating(
        lambda: _one_by_one(member.score, X), lambda: _one_by_one(theirs, X), SINGLES
    )
    batch = _alternating(lambda: member.score(X[:BATCH]), lambda: theirs(X[:BATCH]), BATCH)
    return {
        "detector": detector.value,
        "size": _size(member),
        "rows": len(X),
        "largest_difference": float(np.abs(ours - reference).max()),
        "flags_equal": flags,
        "flagged": int((reference > cut).sum()),
        "single_row_us": single,
        f"batch_of_{BATCH}_us_per_row": batch,
    }


def _their_score(detector: Detector, estimator: Any) -> Callable[[Floats], Floats]:
    if detector is Detector.ISOLATION_FOREST:
        return lambda X: -estimator.score_samples(X.astype(np.float32))
    return lambda X: -estimator.decision_function(X)


def _size(member: Member) -> str:
    if isinstance(member, Forest):
        return (
            f"{len(member.offsets) - 1} trees, {len(member.feature):,} nodes, {member.features}"
            " features"
        )
    if not isinstance(member, Svm):
        return f"{member.features} features"
    return f"{len(member.coefficients)} support vectors, {member.features} features"


def _one_by_one(score: Callable[[Floats], Floats], X: Floats) -> None:
    for row in range(SINGLES):
        score(X[row : row + 1])


def _alternating(
    ours: Callable[[], object], theirs: Callable[[], object], rows: int
) -> dict[str, float]:
    """Best time of each side per row, in microseconds, and their ratio."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for side, call in enumerate((ours, theirs)):
            began_s = time.perf_counter()
            call()
            best[side] = min(best[side], (time.perf_counter() - began_s) / rows * 1e6)
    return {
        "kernel": round(best[0], 3),
        "scikit_learn": round(best[1], 3),
        "ratio": round(best[1] / best[0], 1),
    }


def main() -> None:
    """Print the comparison of each detector."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object per detector")
    given = parser.parse_args()
    training, X = feature_vectors(given.hosts, given.days)
    versions = {
        "numpy": np.__version__,
        "numba": numba.__version__,
        "scikit-learn": sklearn.__version__,
    }
    where = ", ".join(
        [
            f"Python {platform.python_version()}",
            *(f"{name} {version}" for name, version in versions.items()),
        ]
    )
    if not given.json:
        print(f"{len(training):,} training rows, {len(X):,} rows scored; {where}, one thread")
    for detector in (Detector.ISOLATION_FOREST, Detector.ONE_CLASS_SVM):
        result = compare(detector, training, X, TrainSettings())
        if given.json:
            print(json.dumps(result))
            continue
        print(f"\n{detector.value}: {result['size']}")
        print(
            f"  largest difference   {result['largest_difference']:.1e} on {result['rows']:,} rows"
        )
        print(
            f"  flags equal          {all(result['flags_equal'].values())} ({result['flagged']}"
            " flagged)"
        )
        for name, label in (
            ("single_row_us", "single row"),
            (f"batch_of_{BATCH}_us_per_row", f"batch of {BATCH:,}"),
        ):
            times = result[name]
            message = (
                f"{times['kernel']:9.2f} us a row, scikit-learn {times['scikit_learn']:9.2f} us:"
                f" {times['ratio']:,.0f}x"
            )
            print(f"  {label:<18} {message}")


if __name__ == "__main__":
    main()
