"""What the data-quality fold takes, in groups, and their numba types.

Invariant: the kernel writes to ``Memory`` and to its table of signals only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from shared.kernels.wire import group
from shared.quality.kernels.quality_layout import (
    CLOCK_DTYPE,
    ENTITY_DTYPE,
    PRESENCE_DTYPE,
    SERIES_DTYPE,
    Limits,
)

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Record = Any
"""One element of a structured array: ``numpy.void`` in Python, a record in numba."""


class Rows(NamedTuple):
    """Rows of one partition in log order.

    entity     : int32 (n,)      index of each row's entity, any order
    time_ms    : int64 (n,)      event time
    values     : float64 (n, M)  finite or NaN = missing
    slots      : int32 (n, M)    slots of each row's entity, -1 = not reported
    listed     : int32 (n, M)    its metrics in order of their first appearance, then -1
    late_by_ms : int64 (n,)      behind the entity's newest event, 0 = not late
    ahead      : bool (n,)       too far ahead of its entity: no signal, no change of state
    duplicate  : bool (n,)       same time and values as the entity's newest event
    forgotten  : bool (n,)       the entity's state is reset before the row
    """

    entity: Indices
    time_ms: Ints
    values: Floats
    slots: Indices
    listed: Indices
    late_by_ms: Ints
    ahead: Flags
    duplicate: Flags
    forgotten: Flags


class Dropped(NamedTuple):
    """Entities whose memory is dropped, in the order of the rows.

    row    : int64 (k,)    before this row
    entity : int32 (k,)
    slots  : int32 (k, M)  its slots, -1 = not reported
    """

    row: Ints
    entity: Indices
    slots: Indices


class Memory(NamedTuple):
    """What is remembered of a partition.

    entities : ENTITY_DTYPE (E,)
    presence : PRESENCE_DTYPE (E,)
    series   : SERIES_DTYPE (S,)
    clock    : CLOCK_DTYPE (1,)
    """

    entities: Record
    presence: Record
    series: Record
    clock: Record


_I8, _F8 = types.int64, types.float64
_I4S, _I4SS, _I8S, _B1S = types.int32[::1], types.int32[:, ::1], _I8[::1], types.boolean[::1]
FLAGS = _B1S
LIMITS = group(Limits, _F8, _F8, _I8, _I8)
ROWS = group(Rows, _I4S, _I8S, _F8[:, ::1], _I4SS, _I4SS, _I8S, _B1S, _B1S, _B1S)
DROPPED = group(Dropped, _I8S, _I4S, _I4SS)
MEMORY = group(
    Memory,
    *(
        from_dtype(dtype)[::1]
        for dtype in (ENTITY_DTYPE, PRESENCE_DTYPE, SERIES_DTYPE, CLOCK_DTYPE)
    ),
)
