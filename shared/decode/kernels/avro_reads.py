"""Single values of Avro: lengths, numbers of branches, times and decimals, compiled.

Invariant: a value that is cut off or not as Avro encodes it is an error as the next position.
"""

from __future__ import annotations

import math

import numpy as np

from shared.decode.kernels.gate_checks import HAS_NO_TIME, HAS_TIME, TIME
from shared.decode.kernels.iso import NO_TIME, read_iso
from shared.kernels.text import is_text
from shared.kernels.wire import MALFORMED, TRUNCATED, Bytes, Int, Int64s, helper, read_long

_FAR = 2**53
"""A larger number of time units is outside every range of event times, in any unit."""


@helper
def read_size(data: Bytes, at: Int, stop: int) -> tuple[Int, Int]:
    """Read a length; return it and the next position, or an error as the position.

    It is an error if fewer bytes follow before ``stop``.
    """
    size, at = read_long(data, at, stop)
    if at < 0:
        return size, at
    if size < 0:
        return size, MALFORMED
    return (size, at) if size <= stop - at else (size, TRUNCATED)


@helper
def read_index(data: Bytes, at: Int, stop: int, count: int) -> tuple[Int, Int]:
    """Read a number below ``count``; return it and the next position, or an error there."""
    index, at = read_long(data, at, stop)
    return (index, at) if at < 0 or 0 <= index < count else (index, MALFORMED)


@helper
def to_ms(value: Int, per_ms: Int) -> Int:
    """Convert an integer time to ms.

    per_ms : units per millisecond; negative = minus the milliseconds per unit
    """
    if per_ms > 0:
        return value // per_ms
    return min(max(value, -_FAR), _FAR) * -per_ms


@helper
def fraction_to_ms(value: float, per_ms: Int) -> Int:
    """Convert a finite fractional time to ms, rounded; per_ms as in ``_to_ms``."""
    exact = value / per_ms if per_ms > 0 else value * -per_ms
    return np.int64(math.floor(min(max(exact, -1e18), 1e18) + 0.5))


@helper
def read_text_time(data: Bytes, at: Int, stop: int, found: Int64s) -> Int:
    """Read a text time into ``found``; return the next position or an error."""
    size, at = read_size(data, at, stop)
    if at < 0:
        return at
    time_ms = read_iso(data, at, at + size)
    if time_ms == NO_TIME and not is_text(data, at, at + size):
        return MALFORMED
    found[TIME] = time_ms
    found[HAS_TIME] = 1
    found[HAS_NO_TIME] = time_ms == NO_TIME
    return at + size


@helper
def decimal(data: Bytes, at: Int, stop: Int, unit: float) -> float:
    """Return the number of a decimal: two's complement, big-endian, divided by its unit.

    unit : 10**scale

    Up to 2**53 units it is the nearest double, beyond it may differ in the last digits.
    """
    value = float(data[at]) - 256.0 * (data[at] > 127)
    for i in range(at + 1, stop):
        value = value * 256.0 + float(data[i])
    return float(value / unit)
