"""Signals of the data-quality checks: how a kernel adds them and limits their repetition.

Invariant: a kind is reported of an entity at most once in ``repeat_ms``; disorder that goes on is
           reported once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.quality.kernels.quality_arguments import Floats, Ints, Record
from shared.quality.kernels.quality_layout import (
    AMOUNT,
    DISORDER_QUIET,
    ENTITY,
    FLOATS,
    INTEGERS,
    KIND,
    METRIC,
    OTHERS,
    ROW,
    SINCE_MS,
    USUAL_MS,
)

FIRST_ROOM = 16


class Table(NamedTuple):
    """The signals of a batch so far.

    integers : int64 (>= n, INTEGERS), floats : float64 (>= n, FLOATS)
    used     : int64 (1,)  n
    """

    integers: Ints
    floats: Floats
    used: Ints


class Signal(NamedTuple):
    """One signal; see ``shared.quality.checks.Signals``."""

    row: int
    kind: int
    entity: int
    metric: int
    since_ms: int
    amount: float
    usual_ms: float
    others: int


@njit(cache=True)
def new_table() -> Table:
    """Return a table without signals."""
    integers = np.empty((FIRST_ROOM, INTEGERS), np.int64)
    return Table(integers, np.empty((FIRST_ROOM, FLOATS)), np.zeros(1, np.int64))


@njit(cache=True)
def _grow(array: npt.NDArray[Any], used: int, extra: int) -> npt.NDArray[Any]:
    grown = np.empty((max(2 * array.shape[0], used + extra), array.shape[1]), array.dtype)
    grown[:used] = array[:used]
    return grown


@njit(cache=True)
def with_room(table: Table, extra: int) -> Table:
    """Return the table with space for ``extra`` more signals."""
    used = table.used[0]
    if used + extra <= table.integers.shape[0]:
        return table
    return Table(_grow(table.integers, used, extra), _grow(table.floats, used, extra), table.used)


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
    may_report = claim(state, kind, now_ms, DISORDER_QUIET * repeat_ms)
    state["reported_ms"][kind] = now_ms
    return may_report


@njit(cache=True)
def add_signal(table: Table, signal: Signal) -> None:
    """Write a signal into the table, which has space for it."""
    at = table.used[0]
    integers, floats = table.integers[at], table.floats[at]
    integers[ROW] = signal.row
    integers[KIND] = signal.kind
    integers[ENTITY] = signal.entity
    integers[METRIC] = signal.metric
    integers[SINCE_MS] = signal.since_ms
    floats[AMOUNT] = signal.amount
    floats[USUAL_MS] = signal.usual_ms
    floats[OTHERS] = signal.others
    table.used[0] = at + 1
