"""Chooses rows by seed.

Invariant: pure; the same numbers give the same rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def seeded_rows(rows: int, max_rows: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose up to max_rows row numbers by seed, in increasing order."""
    if rows <= max_rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, max_rows, replace=False))
