"""Validation of UTF-8 (RFC 3629), and of names without control characters.

Invariant: exactly the bytes that Python's ``bytes.decode`` accepts are valid.
"""

from __future__ import annotations

import numpy as np

from shared.kernels.wire import Bytes, helper, load_tail, load_word

MAX_NAME_BYTES = 256
"""Longest entity name, in UTF-8 bytes."""

_HIGH_BITS = np.uint64(0x8080808080808080)
_SPACES = np.uint64(0x2020202020202020)
_ONES = np.uint64(0x0101010101010101)


@helper
def character_bytes(data: Bytes, at: int, stop: int) -> int:
    """Return the length of the UTF-8 character at ``at``, 1 to 4 bytes; 0 if it is invalid."""
    lead = data[at]
    if lead < 0x80:
        return 1
    if lead < 0xC2 or lead > 0xF4:
        return 0
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if at + size > stop:
        return 0
    # Below, a shorter encoding exists.
    lowest = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
    # Above are surrogates, or code points beyond U+10FFFF.
    highest = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
    if data[at + 1] < lowest or data[at + 1] > highest:
        return 0
    for i in range(2, size):
        if data[at + i] & 0xC0 != 0x80:
            return 0
    return size


@helper
def is_text(data: Bytes, start: int, stop: int) -> bool:
    """Return whether data[start:stop] is valid UTF-8."""
    at = start
    while at + 8 <= stop and load_word(data, at) & _HIGH_BITS == 0:
        at += 8
    while at < stop:
        size = character_bytes(data, at, stop)
        if size == 0:
            return False
        at += size
    return True


@helper
def is_name(data: Bytes, start: int, stop: int) -> bool:
    """Return whether data[start:stop] is 1 to 256 bytes of UTF-8 without control characters.

    Control characters are those of Unicode's category Cc.
    """
    if stop <= start or stop - start > MAX_NAME_BYTES:
        return False
    at = start
    unusual = np.uint64(0)
    while at + 8 <= stop:
        unusual |= _unusual(load_word(data, at))
        at += 8
    unusual |= _unusual(load_tail(data, at, stop - at) | _SPACES << np.uint64(8 * (stop - at)))
    return unusual == 0 or _is_printable(data, start, stop)


@helper
def _unusual(word: np.uint64) -> np.uint64:
    """Return nonzero if any of 8 bytes is below 0x20 or above 0x7e."""
    return (((word - _SPACES) & ~word) | (word + _ONES) | word) & _HIGH_BITS


@helper
def _is_printable(data: Bytes, start: int, stop: int) -> bool:
    at = start
    while at < stop:
        size = character_bytes(data, at, stop)
        first_control = size == 1 and (data[at] < 0x20 or data[at] == 0x7F)
        second_control = size == 2 and data[at] == 0xC2 and data[at + 1] < 0xA0
        if size == 0 or first_control or second_control:
            return False
        at += size
    return True
