"""Another system's scorer, run by the Python of its own environment; see ``benchmarks.scorers``.

Reads a line for each request: ready, scores, single or batch; answers with a line. It imports
nothing of the product.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np


def onnxruntime_scorer(estimator: Any, rows: Any) -> Callable[[Any], Any]:
    """Return a scorer by onnxruntime, on one thread; it computes in float32."""
    import onnxruntime
    from skl2onnx import to_onnx

    model = to_onnx(estimator, rows[:1].astype(np.float32), target_opset={"": 15, "ai.onnx.ml": 3})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    output = session.get_outputs()[1].name
    # Converted forests give decision_function, which is score_samples without the offset.
    offset = float(estimator.offset_) if hasattr(estimator, "estimators_") else 0.0

    def score(X: Any) -> Any:
        found = session.run([output], {given.name: X.astype(np.float32)})[0]
        return -(found.reshape(-1).astype(np.float64) + offset)

    return score


def treelite_scorer(estimator: Any, rows: Any) -> Callable[[Any], Any]:
    """Return a scorer by treelite, compiled to C, on one thread."""
    import tl2cgen
    import treelite

    folder = Path(sys.argv[2])
    model = treelite.sklearn.import_model(estimator)
    library = str(folder / "forest.so")
    tl2cgen.export_lib(model, toolchain="gcc", libpath=library, params={"parallel_comp": 8})
    predictor = tl2cgen.Predictor(library, nthread=1)

    def score(X: Any) -> Any:
        single = X.astype(np.float32).astype(np.float64)  # scikit-learn compares so, too
        found = predictor.predict(tl2cgen.DMatrix(single, dtype="float64"))
        return np.asarray(found, np.float64).reshape(-1)

    return score


SCORERS = {"onnxruntime": onnxruntime_scorer, "treelite": treelite_scorer}


def main() -> None:
    """Answer requests until there are no more."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries and compilers print is no answer
    rows = np.load(folder / "rows.npy")
    sizes = json.loads((folder / "sizes.json").read_text())
    score = SCORERS[name](joblib.load(folder / "estimator.joblib"), rows)
    score(rows[:1])
    for line in sys.stdin:
        what, answer = line.strip(), "done"
        if what == "scores":
            np.save(folder / f"{name}.npy", score(rows))
        elif what in ("single", "batch"):
            began_s = time.process_time()
            if what == "batch":
                score(rows[: sizes["batch"]])
            else:
                for row in range(sizes["singles"]):
                    score(rows[row : row + 1])
            answer = str(time.process_time() - began_s)
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
