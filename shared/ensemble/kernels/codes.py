"""Codes: a value in two bytes whose order is that of the values, and small sorted arrays.

Invariant: decode(encode(x)) is within 2**-11 of x for 1e-4 <= |x| <= 65000; larger ones are
clipped, MISSING is no value.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Floats
from shared.kernels.steps import step

MISSING = -32768
LARGEST = 65000.0
LARGEST_VALUE = 1e150
_DOWN, _UP = 2.0**-112, 2.0**112
LARGEST_HALF = 4e9
_HALF_DOWN, _HALF_UP = 2.0**-96, np.float32(2.0**96)

SORTED_AT_ONCE = 32
"""So many numbers at most are sorted without a branch that depends on them."""


UNROLLED = 12
"""Comparisons of a loop that LLVM unrolls, after which the numbers are in registers."""


def _comparisons(n: int) -> list[tuple[int, int]]:
    """Return the comparisons that sort n numbers, in order: those of Batcher's odd-even merge.

    Source: Knuth, "The Art of Computer Programming" 3, 5.3.4. A network for more numbers sorts n of
    them without the comparisons behind the n-th, because what lies there would be the largest.
    """
    pairs = []
    part = 1
    while part < n:
        step = part
        while step >= 1:
            for first in range(step % part, n - step, 2 * step):
                pairs += [
                    (low, low + step)
                    for low in range(first, min(first + step, n - step))
                    if low // (2 * part) == (low + step) // (2 * part)
                ]
            step //= 2
        part *= 2
    return pairs


_NETWORKS = [_comparisons(n) for n in range(SORTED_AT_ONCE + 1)]
_FIRST = np.cumsum([0, *map(len, _NETWORKS)])
_LOW, _HIGH = np.array([pair for pairs in _NETWORKS for pair in pairs], np.uint8).T.copy()
"""The comparisons for n numbers are those from _FIRST[n] to _FIRST[n + 1]."""


@njit(cache=True, error_model="numpy")
def encode(x: float) -> int:
    """Return the code of a finite number: sign and half-float bits, ordered as the numbers are."""
    bits = np.float32(min(abs(x), LARGEST) * _DOWN).view(np.int32)
    half = (bits + 0x1000) >> 13
    return int(half) if x >= 0.0 else -int(half)


@njit(cache=True, error_model="numpy")
def decode(code: int) -> float:
    """Return the number that a code stands for."""
    half = abs(np.int32(code))
    x = np.float64(np.int32(half << 13).view(np.float32)) * _UP
    return x if code >= 0 else -x


@njit(cache=True, error_model="numpy")
def shorten(x: float) -> int:
    """Return a finite number in two bytes, a half: within 2**-10 of it for 1e-9 <= |x| <= 4e9.

    Halves of numbers >= 0 are ordered as the numbers are. Larger numbers are clipped.
    """
    bits = np.float32(min(abs(x), LARGEST_HALF) * _HALF_DOWN).view(np.int32)
    half = (bits + 0x2000) >> 14
    return int(half) if x >= 0.0 else int(half) - 32768


@njit(cache=True, error_model="numpy")
def lengthen(half: int) -> np.float32:
    """Return the number that a half stands for."""
    bits = (np.int32(half) << 14) & ~0x60000000
    return np.int32(bits).view(np.float32) * _HALF_UP


@step
def _exchange(a: Floats, first: int, stop: int) -> None:
    """Do the comparisons of a network from one to before another."""
    for p in range(first, stop):
        low, high = _LOW[p], _HIGH[p]
        x, y = a[low], a[high]
        a[low] = min(x, y)
        a[high] = max(x, y)


@njit(cache=True, error_model="numpy")
def _sort_four(a: Floats) -> None:
    _exchange(a, _FIRST[4], _FIRST[5])


@njit(cache=True, error_model="numpy")
def _sort_ten(a: Floats) -> None:
    """Sort ten numbers in loops that are short enough to be unrolled."""
    _exchange(a, _FIRST[10], _FIRST[10] + UNROLLED)
    _exchange(a, _FIRST[10] + UNROLLED, _FIRST[10] + 2 * UNROLLED)
    _exchange(a, _FIRST[10] + 2 * UNROLLED, _FIRST[11])


@njit(cache=True, error_model="numpy")
def _sort_fourteen(a: Floats) -> None:
    """Sort fourteen numbers in loops that are short enough to be unrolled."""
    _exchange(a, _FIRST[14], _FIRST[14] + UNROLLED)
    _exchange(a, _FIRST[14] + UNROLLED, _FIRST[14] + 2 * UNROLLED)
    _exchange(a, _FIRST[14] + 2 * UNROLLED, _FIRST[14] + 3 * UNROLLED)
    _exchange(a, _FIRST[14] + 3 * UNROLLED, _FIRST[14] + 4 * UNROLLED)
    _exchange(a, _FIRST[14] + 4 * UNROLLED, _FIRST[15])


@njit(cache=True, error_model="numpy")
def sort_first(a: Floats, n: int) -> None:
    """Sort the first n numbers in place; n is small.

    A network of comparisons takes as long for any order of the numbers; a branch for each of them,
    taken or not at random, costs more than the comparisons that it saves. For as many as the
    seasons have as a rule, four, ten and fourteen days, it is straight-line code on registers, a
    third of the time of the loop over the comparisons.
    """
    if n == 14:
        _sort_fourteen(a)
    elif n == 10:
        _sort_ten(a)
    elif n == 4:
        _sort_four(a)
    elif n <= SORTED_AT_ONCE:
        _exchange(a, _FIRST[n], _FIRST[n + 1])
    else:
        _insert_in_order(a, n)


@njit(cache=True, error_model="numpy")
def _insert_in_order(a: Floats, n: int) -> None:
    """Sort the first n numbers by insertion."""
    for i in range(1, n):
        x = a[i]
        at = i
        while at > 0 and a[at - 1] > x:
            a[at] = a[at - 1]
            at -= 1
        a[at] = x


@njit(cache=True, error_model="numpy")
def median(a: Floats, n: int) -> float:
    """Median of the first n numbers, n >= 1; sorts them."""
    sort_first(a, n)
    return float(0.5 * (a[(n - 1) // 2] + a[n // 2]))


@njit(cache=True, error_model="numpy")
def clip(x: float, most: float) -> float:
    """Limit a number to +-most."""
    return min(max(x, -most), most)


@njit(cache=True, error_model="numpy")
def bounded(x: float) -> float:
    """Limit a finite value to +-LARGEST_VALUE: sums, squares and ratios of values stay finite."""
    return min(max(x, -LARGEST_VALUE), LARGEST_VALUE)


@njit(cache=True, error_model="numpy")
def fade(dt: float, tau: float) -> float:
    """Share that a running mean of time constant tau learns in dt."""
    return 1.0 - math.exp(-dt / tau)
