#!/usr/bin/env bash
# A detector exported to ONNX gives other labels if a value is missing or a series is flat.
#
# Software: scikit-learn 1.9.1, skl2onnx 1.20.0, onnxruntime 1.32.0 (numpy 2.4.6).
#
# Expected: the exported model gives the same labels, but for float32 rounding near the threshold.
#   A check on thousands of complete rows confirms it: scores differ by less than 1e-6.
# Instead: skl2onnx leaves out where a tree sends a missing value. scikit-learn sends it with the
#   majority, ONNX always where a failed comparison goes. With one of three metrics missing, two
#   thirds of all rows get the other label. And where rows repeat, so that a OneClassSVM puts them
#   on its border, the two compare with 0 differently: scikit-learn flags all rows of a flat
#   gauge, ONNX none, from equal scores. Neither says a word; gaps and flat lines are what a
#   monitoring service sees every day.
#
# Seen: labels that differ
#   IsolationForest, complete rows   0 of 5000 (scores differ by 2e-07)
#   IsolationForest, one missing     3498 of 5000 (flagged: scikit-learn 1.6%, ONNX 71.6%)
#   OneClassSVM, flat gauge          500 of 500 (scores differ by 0e+00)
#
# Source: onnx/sklearn-onnx issue 1253 (missing_go_to_left is dropped); ONNX operator
#   TreeEnsembleRegressor, nodes_missing_value_tracks_true; scikit-learn's libsvm asks for > 0.

source "$(dirname "$0")/lib/setup.sh"

python_packages scikit-learn==1.9.1 skl2onnx==1.20.0 onnxruntime==1.32.0 numpy==2.4.6
py - <<'PY'
import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

random = np.random.default_rng(7)


def compare(name, model, X):
    """Print how the labels of the model and of its export differ; return the differing share."""
    exported = to_onnx(model, X[:1], target_opset={"": 15, "ai.onnx.ml": 3})
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    labels, scores = (output.ravel() for output in session.run(None, {"X": X}))
    own = model.predict(X)
    apart = abs(scores - model.decision_function(X)).max()
    more = f"scores differ by {apart:.0e}"
    if np.isnan(X).any():
        more = f"flagged: scikit-learn {np.mean(own < 0):.1%}, ONNX {np.mean(labels < 0):.1%}"
    print(f"{name:32} {np.sum(own != labels)} of {len(X)} ({more})")
    return np.mean(own != labels)


training = random.normal(size=(1000, 3)).astype(np.float32)
rows = random.normal(size=(5000, 3)).astype(np.float32)
gaps = rows.copy()
gaps[:, 0] = np.nan
flat = np.full((500, 1), 42, np.float32)
forest = IsolationForest(random_state=0, contamination=0.05).fit(training)
complete = compare("IsolationForest, complete rows", forest, rows)
missing = compare("IsolationForest, one missing", forest, gaps)
border = compare("OneClassSVM, flat gauge", OneClassSVM(nu=0.05).fit(flat), flat)
assert complete < 0.001, "even complete rows differ"
assert missing > 0.05, "changed: missing values are sent the same way"
assert border == 1, "changed: rows on the border are judged alike"
PY
