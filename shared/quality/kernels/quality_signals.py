"""Signals of the data-quality checks: how a kernel adds them and limits their repetition.

Invariant: a kind is reported of an entity at most once in ``repeat_ms``; disorder that goes on is
           reported once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.quality.kernels.quality_layout import (
    AMOUNT,
    DISORDER_PAUSE,
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
    if state["reported"] & bit and now_ms - state["reported_ms"][kind] < repeat_ms:
        return False
    state["reported"] |= bit
    state["reported_ms"][kind] = now_ms
    return True


@njit(cache=True)
def claim_disorder(state: Record, kind: int, now_ms: int, repeat_ms: int) -> bool:
    """Whether disorder may be reported now: it is new, or has not come for some repeat times."""
    may_report = claim(state, kind, now_ms, DISORDER_PAUSE * repeat_ms)
    state["reported_ms"][kind] = now_ms
    return may_report


@njit(cache=True)
def add_signal(
    n_signals: int,
    integers: Ints,
    floats: Floats,
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
    integers[n_signals, ROW] = row
    integers[n_signals, KIND] = kind
    integers[n_signals, ENTITY] = entity
    integers[n_signals, METRIC] = metric
    integers[n_signals, SINCE_MS] = since_ms
    floats[n_signals, AMOUNT] = amount
    floats[n_signals, USUAL_MS] = usual_ms
    floats[n_signals, OTHERS] = others
    return n_signals + 1
