"""Reading and writing of words, varints and decimal digits; all kernels on bytes use these.

Invariant: arrays are indexed, without pointers, so that compiled and plain Python give the same
bytes. Positions are converted to unsigned before indexing: a possibly negative index costs a check
for each byte, and prevents that the bytes of a word are loaded at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import config, njit, types

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Int = Any
"""An int64 when compiled, int or np.int64 in plain Python."""
Kernel = TypeVar("Kernel", bound=Callable[..., object])

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
BOUNDS = types.Array(types.int64, 1, "C", readonly=True)
I8, U4 = types.int64, types.uint32
"""numba types of read-only arguments; writable arrays and arrays over ``bytes`` match them."""


def group(cls: type[Any], *fields: types.Type) -> types.Type:
    """Return the numba type of a NamedTuple, as which a kernel takes several arrays."""
    make: Any = types
    if len(set(fields)) == 1:
        return cast("types.Type", make.NamedUniTuple(fields[0], len(fields), cls))
    return cast("types.Type", make.NamedTuple(fields, cls))


TRUNCATED, MALFORMED = -6, -8
"""Errors that a reader returns as the position: minus the value of ``events.Reason``."""

MAX_VARINT_BYTES = 10
_MINUS, _ZERO = 45, 48


_UNCOUNTED: dict[str, Any] = {"_nrt": False}


def kernel(*arguments: types.Type) -> Callable[[Kernel], Kernel]:
    """Compile a function that Python calls, for these argument types, without reference counting.

    It runs without the GIL, so that the partitions of a predictor can be folded on several threads.
    Reference counting of array arguments takes four fifths of the time of a decoder of small
    functions. Without it a kernel cannot allocate, so arrays come from the caller.
    """
    compiler: Any = njit([arguments], cache=True, nogil=True, **_UNCOUNTED)
    return cast("Callable[[Kernel], Kernel]", compiler)


def helper(function: Kernel) -> Kernel:
    """Compile a function that only kernels call: inlined, without reference counting."""
    compiler: Any = njit(cache=True, forceinline=True, **_UNCOUNTED)
    return cast("Kernel", compiler(function))


def wrapping(kernel: Kernel) -> Kernel:
    """Let integers overflow silently in plain Python, as in a compiled kernel."""
    if not config.DISABLE_JIT:  # type: ignore[attr-defined]
        return kernel
    return np.errstate(over="ignore")(kernel)


@helper
def load_half(data: Bytes, at: int) -> np.uint64:
    """Return the 4 bytes from ``at`` as a little-endian number."""
    i = np.uint64(at)
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
    )


@helper
def load_word(data: Bytes, at: int) -> np.uint64:
    """Return the 8 bytes from ``at`` as a little-endian number."""
    return load_half(data, at) | load_half(data, at + 4) << np.uint64(32)


@helper
def load_tail(data: Bytes, at: int, size: int) -> np.uint64:
    """Return 0 to 7 bytes from ``at`` as a little-endian number."""
    i = np.uint64(at)
    word = shift = np.uint64(0)
    if size & 4:
        word = load_half(data, at)
        i += np.uint64(4)
        shift = np.uint64(32)
    if size & 2:
        word |= (np.uint64(data[i]) | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)) << shift
        i += np.uint64(2)
        shift += np.uint64(16)
    if size & 1:
        word |= np.uint64(data[i]) << shift
    return word


@helper
def store_word(out: Bytes, at: int, word: np.uint64) -> int:
    """Write a number as 8 little-endian bytes; return the position after them."""
    i = np.uint64(at)
    out[i] = np.uint8(word)
    out[i + np.uint64(1)] = np.uint8(word >> np.uint64(8))
    out[i + np.uint64(2)] = np.uint8(word >> np.uint64(16))
    out[i + np.uint64(3)] = np.uint8(word >> np.uint64(24))
    out[i + np.uint64(4)] = np.uint8(word >> np.uint64(32))
    out[i + np.uint64(5)] = np.uint8(word >> np.uint64(40))
    out[i + np.uint64(6)] = np.uint8(word >> np.uint64(48))
    out[i + np.uint64(7)] = np.uint8(word >> np.uint64(56))
    return at + 8


@helper
def copy_bytes(source: Bytes, start: int, stop: int, out: Bytes, at: int) -> int:
    """Copy source[start:stop] to out[at:]; return the position after the copy."""
    while start + 8 <= stop:
        at = store_word(out, at, load_word(source, start))
        start += 8
    for i in range(stop - start):
        out[np.uint64(at + i)] = source[np.uint64(start + i)]
    return at + stop - start


@helper
def equal_bytes(a: Bytes, a_start: int, b: Bytes, b_start: int, size: int) -> bool:
    """Return whether two spans of the same size hold the same bytes."""
    i = 0
    while i + 8 <= size:
        if load_word(a, a_start + i) != load_word(b, b_start + i):
            return False
        i += 8
    same: bool = load_tail(a, a_start + i, size - i) == load_tail(b, b_start + i, size - i)
    return same


@helper
def read_long(data: Bytes, at: int, stop: int) -> tuple[Int, Int]:
    """Read an Avro long: a zigzag varint of at most 10 bytes that fits 64 bits.

    returns : (value, next position), or (0, TRUNCATED or MALFORMED)
    """
    word = np.uint64(0)
    for i in range(MAX_VARINT_BYTES):
        if at + i >= stop:
            return np.int64(0), TRUNCATED
        byte = data[np.uint64(at + i)]
        word |= np.uint64(byte & np.uint8(127)) << np.uint64(7 * i)
        if byte < 128:
            if i == MAX_VARINT_BYTES - 1 and byte > 1:
                break
            return np.int64(word >> np.uint64(1)) ^ -np.int64(word & np.uint64(1)), at + i + 1
    return np.int64(0), MALFORMED


@helper
def write_long(value: int, out: Bytes, at: int) -> int:
    """Write an Avro long (1 to 10 bytes); return the position after it."""
    word = np.uint64(value if value >= 0 else ~value) << np.uint64(1) | np.uint64(value < 0)
    while word > np.uint64(127):
        out[at] = np.uint8((word & np.uint64(127)) | np.uint64(128))
        word >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(word)
    return at + 1


@helper
def write_digits(value: int, out: Bytes, at: int) -> int:
    """Write an integer in decimal (1 to 20 bytes); return the position after it."""
    rest = np.uint64(value if value >= 0 else ~value) + np.uint64(value < 0)
    if value < 0:
        out[at] = _MINUS
        at += 1
    digits = 1
    power = rest // np.uint64(10)
    while power > np.uint64(0):
        digits += 1
        power //= np.uint64(10)
    for i in range(digits - 1, -1, -1):
        out[at + i] = np.uint8(rest % np.uint64(10)) + np.uint8(_ZERO)
        rest //= np.uint64(10)
    return at + digits
