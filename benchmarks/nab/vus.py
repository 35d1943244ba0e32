"""Volume under the surface (VUS-PR, VUS-ROC): mean area under range-aware curves.

For every buffer length b = 0, 1, ..., B each labelled window is widened on both sides by b // 2
rows; there the label falls with the distance d as sqrt(1 - d / b), and where flanks meet they add
up, at most to 1. At each of T thresholds, taken at ranks evenly spaced over the sorted scores, with
labels l in [0, 1] and alarms p in {0, 1}:
  * TP = sum l p, FP = sum p - TP, N = n - P;
  * TPR = min(TP / P, 1) x share of the widened windows (those that meet are one) with an alarm; FPR
    = FP / N; precision = TP / sum p;
  * the area under ROC is that of trapezoids from (0, 0) to (1, 1); PR begins at recall 0 and
    precision 1.
The authors have published two editions:
  * ``2022``, the paper's (their package vus up to 0.0.5): P = mean of the labels' sums with and
    without flanks; PR is of trapezoids too: a jump from few alarms to all earns the straight line
    between, which flatters sparse scores;
  * ``revised``, their package since (vus 0.0.6) and their benchmark TSB-AD: a flank counts in P
    only where it is alarmed (P = labelled rows + half the sum of l p in the flanks), and each step
    of PR is a rectangle as high as the precision at its end.
VUS is the mean of the areas over b. Unless told otherwise B = 100 rows and T = 250, as in the
authors' examples. NAB's windows are wide already (all those of a file together are a tenth of it),
so B blurs their edges by a fraction of their width.

Invariant: scores count only by their order.

Source: Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin, "Volume Under the Surface: A New
Accuracy Evaluation Measure for Time-Series Anomaly Detection", PVLDB 15 (11), 2022, and
github.com/TheDatumOrg/VUS. Twin: tests/reference/nab.py::vus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.nab.corpus import Floats, Ints, Series, check_scores

Edition = Literal["2022", "revised"]

BUFFER_ROWS = 100
THRESHOLDS = 250


@dataclass(frozen=True)
class Vus:
    """Volumes under the precision-recall and the ROC surface; 1 = perfect."""

    pr: float
    roc: float


def mean_vus(corpus: Sequence[Series], scores: Sequence[Floats], edition: Edition = "2022") -> Vus:
    """Return the mean over the series that have a window after their probation; NaN if none has.

    scores : per series float64 (n,), higher = more anomalous, finite; the probation is cut off
    """
    found = [one for one in vus_by_series(corpus, scores, edition) if one is not None]
    if not found:
        return Vus(math.nan, math.nan)
    return Vus(
        math.fsum(one.pr for one in found) / len(found),
        math.fsum(one.roc for one in found) / len(found),
    )


def vus_by_series(
    corpus: Sequence[Series], scores: Sequence[Floats], edition: Edition = "2022"
) -> list[Vus | None]:
    """Return the volumes of each series, in order.

    None where no judged row lies in a window, or every judged row does.
    """
    check_scores(corpus, scores)
    volumes: list[Vus | None] = []
    for one, mine in zip(corpus, scores, strict=True):
        windows = np.maximum(one.windows[one.judged_windows] - one.probation, 0)
        labelled = int((windows[:, 1] - windows[:, 0] + 1).sum())
        both = 0 < labelled < len(one) - one.probation
        volumes.append(vus(windows, mine[one.probation :], edition=edition) if both else None)
    return volumes


def vus(
    windows: Ints,
    scores: Floats,
    buffer_rows: int = BUFFER_ROWS,
    thresholds: int = THRESHOLDS,
    edition: Edition = "2022",
) -> Vus:
    """Return the volumes of one series.

    windows : int64 (w, 2)  first and last labelled row of each window, in order, w >= 1, not all
              rows
    scores  : float64 (n,)  higher = more anomalous, finite

    Windows without a row between them are one, as in the authors' code, which sees labels row by
    row.
    Twin: tests/reference/nab.py::vus.  Cost: O(B n + n log n).
    """
    windows = _merge(windows, 0)
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ranks = np.linspace(0, len(scores) - 1, thresholds).astype(np.int64)
    chosen = falling[ranks]
    alarms = np.searchsorted(-falling, -chosen, side="right")
    pr = np.empty(buffer_rows + 1)
    roc = np.empty(buffer_rows + 1)
    core = blurred_labels(windows, len(scores), 0)
    for buffer in range(buffer_rows + 1):
        labels = blurred_labels(windows, len(scores), buffer)
        true = np.cumsum(labels[order])[alarms - 1]
        if edition == "2022":
            positives = np.asarray((core.sum() + labels.sum()) / 2.0)
        else:
            positives = core.sum() + np.cumsum((labels - core)[order])[alarms - 1] / 2.0
        recall = np.minimum(true / positives, 1.0) * _share_hit(
            windows, scores, buffer // 2, chosen
        )
        precision = true / alarms
        before = np.append(1.0, precision[:-1]) if edition == "2022" else precision
        pr[buffer] = (np.diff(recall, prepend=0.0) * (before + precision)).sum() / 2.0
        false_rate = (alarms - true) / (len(scores) - positives)
        heights = np.append(0.0, recall) + np.append(recall, 1.0)
        roc[buffer] = (np.diff(false_rate, prepend=0.0, append=1.0) * heights).sum() / 2.0
    return Vus(float(pr.mean()), float(roc.mean()))


def blurred_labels(windows: Ints, rows: int, buffer: int) -> Floats:
    """Return labels in [0, 1] that fade out beside each window, float64 (rows,).

    A label is 1 in a window and sqrt(1 - d / buffer) at a distance of d <= buffer // 2 rows.
    """
    labels = np.zeros(rows)
    distance = np.arange(1, buffer // 2 + 1)
    flank = np.sqrt(1.0 - distance / max(buffer, 1))
    for first, last in windows.tolist():
        labels[first : last + 1] += 1.0
        right = flank[: rows - 1 - last]
        labels[last + 1 : last + 1 + len(right)] += right
        left = flank[:first]
        labels[first - len(left) : first] += left[::-1]
    return np.minimum(labels, 1.0)


def _share_hit(windows: Ints, scores: Floats, flank_rows: int, thresholds: Floats) -> Floats:
    """Return for each threshold the share of widened windows with a score at or above it."""
    wide = [
        (max(first - flank_rows, 0), last + flank_rows)
        for first, last in _merge(windows, flank_rows).tolist()
    ]
    peaks = np.sort([scores[first : last + 1].max() for first, last in wide])
    return (len(peaks) - np.searchsorted(peaks, thresholds, side="left")) / len(peaks)


def _merge(windows: Ints, flank_rows: int) -> Ints:
    """Join windows that share a row once widened on both sides; with 0, those that touch."""
    gap = 2 * flank_rows if flank_rows else 1
    apart = windows[1:, 0] - windows[:-1, 1] > gap
    return np.column_stack([windows[np.append(True, apart), 0], windows[np.append(apart, True), 1]])
