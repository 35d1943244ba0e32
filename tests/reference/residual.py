"""Slow and obviously right: each metric regressed on the others by weighted ridge least squares
over the whole past.
"""

from __future__ import annotations

import numpy as np


def residuals(rows, weights, memory, ridge):
    """Residuals of the newest row, fitted on the rows before it.

    rows : (n, m); weights : (n - 1,) how much each earlier row counts
    """
    older = np.c_[rows[:-1], np.ones(len(rows) - 1)]
    decay = (1 - 1 / memory) ** np.arange(len(older) - 1, -1, -1) * weights
    gram = (older * decay[:, None]).T @ older
    gram += np.diag(np.diag(gram) * ridge + 0.01)
    newest = np.append(rows[-1], 1.0)
    out = []
    for j in range(rows.shape[1]):
        others = np.delete(np.arange(len(newest)), j)
        slopes = np.linalg.solve(gram[np.ix_(others, others)], gram[others, j])
        out.append(newest[j] - newest[others] @ slopes)
    return np.array(out)
