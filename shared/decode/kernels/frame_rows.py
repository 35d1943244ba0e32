"""The schema ids in front of values, compiled.

Invariant: a frame depends on the first bytes of a value only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from shared.kernels.wire import BOUNDS, BYTES, Bytes, Int, Int64s, group, helper, kernel

NONE = -1
"""In place of a number: there is none."""

HEADER_BYTES = 5
"""Magic byte 0 and the schema id, 4 bytes big-endian."""

_I8S = types.int64[::1]


class Frames(NamedTuple):
    """Where the schema and the Avro of each record are.

    numbers : int64 (n,)   schema of each record, as in ``Plans.ids``; NONE in another wire format
    begins  : int64 (n,)   first byte of its Avro in the batch's data
    """

    numbers: Int64s
    begins: Int64s


FRAMES = group(Frames, _I8S, _I8S)
"""numba type, for the signatures of kernels."""


@helper
def schema_id_of(data: Bytes, start: Int, stop: Int) -> Int:
    """Return the schema id (0 to 2**32 - 1) of a record; NONE in another wire format."""
    if stop - start < HEADER_BYTES or data[start] != 0:
        return NONE
    schema_id = np.int64(0)
    for i in range(1, HEADER_BYTES):
        schema_id = schema_id * 256 + np.int64(data[start + i])
    return schema_id


@kernel(BYTES, BOUNDS, FRAMES)
def read_frames(data: Bytes, bounds: Int64s, frames: Frames) -> None:
    """Write the frame of each record, from the schema id in front of its value.

    data, bounds : uint8, int64 (n + 1,)  record i is data[bounds[i]:bounds[i + 1]]
    frames       : written
    """
    for row in range(len(bounds) - 1):
        frames.numbers[row] = schema_id_of(data, bounds[row], bounds[row + 1])
        frames.begins[row] = bounds[row] + HEADER_BYTES


@kernel(_I8S, _I8S)
def number_runs(numbers: Int64s, runs: Int64s) -> int:
    """Write the numbers in log order, one for each run of equal ones; return how many.

    numbers : int64 (n,)  NONE is left out
    runs    : int64 (n,)  written
    """
    count = 0
    for number in numbers:
        if number != NONE and (count == 0 or runs[count - 1] != number):
            runs[count] = number
            count += 1
    return count
