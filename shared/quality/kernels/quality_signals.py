"""Signals of the data-quality checks: how a kernel adds them and limits their repetition.

Invariant: a kind is reported of an entity at most once in ``repeat_ms``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.quality.kernels.quality_layout import (
    AMOUNT,
    ENTITY,
    KIND,
    METRIC,
    OTHERS,
    ROW,
    SINCE_MS,
    USUAL_MS,
)

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Record = Any
"""One element of a structured array: ``numpy.void`` in Python, a record in numba."""


@njit(cache=True)
def grow(table: npt.NDArray[Any], used: int, extra: int) -> npt.NDArray[Any]:
    """Return the table with space for ``extra`` more rows."""
    if used + extra <= table.shape[0]:
        return table
    grown = np.empty((max(2 * table.shape[0], used + extra), table.shape[1]), table.dtype)
    grown[:used] = table[:used]
    return grown


@njit(cache=True)
def claim(state: Record, kind: int, now_ms: int, repeat_ms: int) -> bool:
    """Whether a kind may be reported of an entity now; if so it counts as reported."""
    bit = 1 << kind
    if state["said"] & bit and now_ms - state["said_ms"][kind] < repeat_ms:
        return False
    state["said"] |= bit
    state["said_ms"][kind] = now_ms
    return True


@njit(cache=True)
def add_signal(
    n_signals: int,
    places: Ints,
    amounts: Floats,
    row: int,
    kind: int,
    entity: int,
    metric: int,
    since_ms: int,
    amount: float,
    usual_ms: float,
    others: int,
) -> int:
    """Write a signal into the tables, which have space for it; return the new number of signals.

    Parameters from row on: see ``shared.quality.checks.Signals``.
    """
    places[n_signals, ROW] = row
    places[n_signals, KIND] = kind
    places[n_signals, ENTITY] = entity
    places[n_signals, METRIC] = metric
    places[n_signals, SINCE_MS] = since_ms
    amounts[n_signals, AMOUNT] = amount
    amounts[n_signals, USUAL_MS] = usual_ms
    amounts[n_signals, OTHERS] = others
    return n_signals + 1
