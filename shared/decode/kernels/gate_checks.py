"""The gates: checks of one record that the decoders of all formats share, compiled.

Invariant: a gate depends on what was read from one record and on the limits. The first gate that a
record fails is its reason.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from shared.kernels.text import is_name
from shared.kernels.wire import (
    BOUNDS,
    BYTES,
    I8,
    Bytes,
    Int,
    Int64s,
    group,
    helper,
    kernel,
    wrapping,
)

Floats = npt.NDArray[np.float64]

# why a record is rejected: shared.events.Reason
ACCEPTED, EMPTY, TOO_LARGE = 0, 1, 2
NOT_FINITE, TIME_OUT_OF_RANGE, ENTITY_INVALID, TIME_INVALID = 9, 10, 11, 13

FOUND = 4
TIME, HAS_TIME, HAS_NOT_FINITE, HAS_NO_TIME = range(FOUND)
"""Cells of what was read from a record.

TIME: event time in ms; HAS_TIME: there is one; HAS_NOT_FINITE: a metric is NaN or infinite;
HAS_NO_TIME: the time field has a value that is not a time.
"""


class GateLimits(NamedTuple):
    """The limits of every record: sizes in bytes, times in ms since 1970 UTC."""

    max_bytes: int
    min_time_ms: int
    max_time_ms: int


class GatedRows(NamedTuple):
    """Preallocated arrays for the accepted and the rejected records of a batch.

    accepted    : int64 (n,)       row in the batch
    time_ms     : int64 (n,)       event time
    values      : float64 (n, M)   metrics, NaN = missing
    names       : uint8            the entities' names, joined
    name_bounds : int64 (n + 1,)   name i is names[name_bounds[i]:name_bounds[i + 1]]
    rejected    : int64 (n,)       row in the batch
    reasons     : uint8 (n,)       why
    """

    accepted: Int64s
    time_ms: Int64s
    values: Floats
    names: Bytes
    name_bounds: Int64s
    rejected: Int64s
    reasons: Bytes


_I8S, _U1S = types.int64[::1], types.uint8[::1]
LIMITS = group(GateLimits, I8, I8, I8)
ROWS = group(GatedRows, _I8S, _I8S, types.float64[:, ::1], _U1S, _I8S, _I8S, _U1S)
"""numba types, for the signatures of kernels."""


@helper
def check_size(size: Int, limits: GateLimits) -> int:
    """Return EMPTY or TOO_LARGE for a record that must not be read, else ACCEPTED."""
    if size == 0:
        return EMPTY
    return TOO_LARGE if size > limits.max_bytes else ACCEPTED


@helper
def check_found(found: Int64s, limits: GateLimits) -> int:
    """Return the reason why a record's numbers or its time cannot be used, else ACCEPTED.

    found : int64 (4,)  see TIME ... HAS_NO_TIME
    """
    if found[HAS_NOT_FINITE]:
        return NOT_FINITE
    if found[HAS_NO_TIME]:
        return TIME_INVALID
    outside = found[TIME] < limits.min_time_ms or found[TIME] > limits.max_time_ms
    return TIME_OUT_OF_RANGE if not found[HAS_TIME] or outside else ACCEPTED


@helper
def check_entity(names: Bytes, start: Int, stop: Int) -> int:
    """Return ACCEPTED if names[start:stop] is a valid name, else ENTITY_INVALID."""
    return ACCEPTED if is_name(names, start, stop) else ENTITY_INVALID


@kernel(BOUNDS, LIMITS, _U1S)
def check_sizes(bounds: Int64s, limits: GateLimits, reasons: Bytes) -> None:
    """Check the size of each record.

    bounds  : int64 (n + 1,)  record i is bytes bounds[i]:bounds[i + 1]
    reasons : uint8 (n,)      written: ACCEPTED, EMPTY or TOO_LARGE
    """
    for row in range(len(reasons)):
        reasons[row] = check_size(bounds[row + 1] - bounds[row], limits)


@wrapping
@kernel(types.int64[:, ::1], BYTES, BOUNDS, LIMITS, _U1S)
def check_rows(
    found: npt.NDArray[np.int64],
    names: Bytes,
    name_bounds: Int64s,
    limits: GateLimits,
    reasons: Bytes,
) -> None:
    """Check records that a function has read, as a compiled decoder does.

    found              : int64 (n, 4)            what was read from each record, see TIME ...
    names, name_bounds : uint8, int64 (n + 1,)   their entities
    reasons            : uint8 (n,)              written where it is ACCEPTED, otherwise unchanged
    """
    for row in range(len(reasons)):
        if reasons[row] == ACCEPTED:
            reasons[row] = check_found(found[row], limits)
        if reasons[row] == ACCEPTED:
            reasons[row] = check_entity(names, name_bounds[row], name_bounds[row + 1])
