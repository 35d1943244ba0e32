#!/usr/bin/env bash
# An isolation forest scores an all-NaN row as more normal than every training row.
#
# Software: scikit-learn 1.9.1 (numpy 2.4.6).
#
# Expected: a forest that was fitted to complete rows refuses NaN, as LocalOutlierFactor and
#   OneClassSVM do ("Input contains NaN"), or at least finds a row without any value unusual: a
#   dead sensor should be reported.
# Instead: IsolationForest takes NaN silently. At a split that met no missing value in training it
#   goes where most training rows went, each time, so it ends in the most crowded leaf: the path
#   is longer, the row less anomalous, than that of any real one; missing values also make a row
#   with a real outlier look better than average values would.
#
# Seen:
#   complete rows in training: 2000; more normal than a row of three NaN: 0
#   score_samples: [nan nan nan] -0.369, middle of the training rows -0.397, median row -0.445
#   predict: [nan nan nan] 1; others that raise ValueError: 2 of 2
#   row (4, 0, 0): -0.556; row (4, nan, nan): -0.539
#
# Source: scikit-learn/scikit-learn pull request 30955 (a missing value goes to the child with the
#   most samples); sklearn/ensemble/_iforest.py (ensure_all_finite=False).

source "$(dirname "$0")/lib/setup.sh"

python_packages scikit-learn==1.9.1 numpy==2.4.6
py - <<'PY'
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

random = np.random.default_rng(7)
X = random.normal(size=(2000, 3))
nothing = np.full((1, 3), np.nan)
forest = IsolationForest(random_state=0, contamination=0.05).fit(X)
scores = forest.score_samples(X)
score = lambda *row: forest.score_samples([row])[0]
more_normal = int((scores > score(*nothing[0])).sum())
print(f"complete rows in training: {len(X)}; more normal than a row of three NaN: {more_normal}")
print(f"score_samples: [nan nan nan] {score(*nothing[0]):.3f}, middle of the training rows",
      f"{score(0, 0, 0):.3f}, median row {np.median(scores):.3f}")
refuse = 0
for other in (LocalOutlierFactor(novelty=True), OneClassSVM()):
    try:
        other.fit(X).predict(nothing)
    except ValueError:
        refuse += 1
label = forest.predict(nothing)[0]
print(f"predict: [nan nan nan] {label}; others that raise ValueError: {refuse} of 2")
print(f"row (4, 0, 0): {score(4, 0, 0):.3f}; row (4, nan, nan): {score(4, np.nan, np.nan):.3f}")
assert more_normal == 0 and label == 1 and refuse == 2, "changed"
assert score(4, np.nan, np.nan) > score(4, 0, 0)
PY
