"""Scores of a forest and a One-Class SVM by several scorers: ``python -m benchmarks.scorers``.

All score the same rows, all different from one another, of a generated fleet's feature vectors, on
one thread: scikit-learn in this process; onnxruntime and treelite (compiled to C) in an environment
of their own, which pip makes on first use. A row is correct if the scores agree with
scikit-learn's, and the flags at training's contamination are equal. The kernels must agree within
1e-8. The others compute in float32; their rows say the largest difference in ``difference``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from benchmarks.alternating import rows_of, times_of
from benchmarks.documents import PACKAGES, report
from benchmarks.environments import python_with
from benchmarks.scoring import Floats, feature_vectors
from consumer_training.fitting.estimators import fit
from shared.events import Detector
from shared.settings import TrainSettings

PINNED = ("onnxruntime==1.32.0", "skl2onnx==1.20.0", "treelite==4.8.1", "tl2cgen==1.0.0")
SAME = ("scikit-learn", "numpy", "joblib")
BATCH, SINGLES = 4_096, 300
EXACT, FLOAT32 = 1e-8, 1e-5
"""Largest difference to scikit-learn's scores, of the kernels and of scorers in float32."""

OTHERS = {
    Detector.ISOLATION_FOREST: ("onnxruntime", "treelite"),
    Detector.ONE_CLASS_SVM: ("onnxruntime",),
}
"""treelite has no support vector machines."""

Score = Callable[[Floats], Any]


class Child:
    """Another scorer in its own process; it scores rows of a file and answers with the seconds."""

    def __init__(self, python: Path, name: str, folder: Path) -> None:
        program = Path(__file__).with_name("others") / "scorers_child.py"
        command = [str(python), str(program), name, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._folder = folder
        self._name = name
        self._ask("ready")

    def scores(self) -> Floats:
        """Return the scores of all rows."""
        self._ask("scores")
        scores: Floats = np.load(self._folder / f"{self._name}.npy")
        return scores

    def seconds(self, kind: str) -> float:
        """Return the processor time of one measurement: singles or batch."""
        return float(self._ask(kind))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, what: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return answer.strip()


def compare(detector: Detector, training: Floats, X: Floats, repeats: int) -> list[dict[str, Any]]:
    """Fit once; measure all scorers in turn."""
    settings = TrainSettings()
    estimator, member = fit(detector, training, settings)
    reference = _theirs(detector, estimator)(X)
    cut = float(np.quantile(_theirs(detector, estimator)(training), 1.0 - settings.contamination))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        children = _children(stack, detector, estimator, X, folder)
        scores = {"kernel": member.score(X), "scikit_learn": reference}
        scores |= {name: child.scores() for name, child in children.items()}
        rows = []
        for kind, count in (("single", SINGLES), ("batch", BATCH)):
            found = _times(kind, member.score, _theirs(detector, estimator), X, repeats, children)
            prefix = f"scorers.{detector.value}.{kind}"
            rows += rows_of(prefix, found, "scikit_learn", "us/row", 1e6 / count)
    for row in rows:
        name = row["id"].rsplit(".", 1)[1]
        difference = float(np.abs(scores[name] - reference).max())
        same_flags = np.array_equal(scores[name] > cut, reference > cut)
        row["difference"] = difference
        allowed = EXACT if name in ("kernel", "scikit_learn") else FLOAT32
        row["correct"] = difference <= allowed and (same_flags or name in children)
        row["flags_differ"] = int(((scores[name] > cut) != (reference > cut)).sum())
    return rows


def _children(
    stack: ExitStack, detector: Detector, estimator: Any, X: Floats, folder: Path
) -> dict[str, Child]:
    """Start the other scorers on the estimator."""
    joblib.dump(estimator, folder / "estimator.joblib")
    np.save(folder / "rows.npy", X)
    (folder / "sizes.json").write_text(json.dumps({"batch": BATCH, "singles": SINGLES}))
    versions = tuple(f"{name}=={_version(name)}" for name in SAME)
    python = python_with("scorers", (*PINNED, *versions))
    children = {name: Child(python, name, folder) for name in OTHERS[detector]}
    for child in children.values():
        stack.callback(child.close)
    return children


def _times(
    kind: str, ours: Score, theirs: Score, X: Floats, repeats: int, children: Mapping[str, Child]
) -> dict[str, list[float]]:
    """Return the seconds of each side in each repeat, all sides in turn."""

    def singles(score: Score) -> None:
        for row in range(SINGLES):
            score(X[row : row + 1])

    def batch(score: Score) -> None:
        score(X[:BATCH])

    run = singles if kind == "single" else batch
    sides = {"scikit_learn": lambda: run(theirs), "kernel": lambda: run(ours)}
    found: dict[str, list[float]] = {name: [] for name in (*sides, *children)}
    for _ in range(repeats):
        for name, seconds in times_of(sides, 1).items():
            found[name] += seconds
        for name, child in children.items():
            found[name].append(child.seconds(kind))
    return found


def _theirs(detector: Detector, estimator: Any) -> Score:
    if detector is Detector.ISOLATION_FOREST:
        return lambda X: -estimator.score_samples(X.astype(np.float32))
    return lambda X: -estimator.decision_function(X)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def main() -> int:
    options = _options()
    training, X = feature_vectors(options.hosts, options.days)
    rows: list[dict[str, Any]] = []
    for detector in OTHERS:
        rows += compare(detector, training, X, options.repeats)
    return report(rows, options.repeats, options.json, ("scikit-learn", *PACKAGES))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
