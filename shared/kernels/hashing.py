"""MurmurHash3 128 bits for event ids, and Kafka's murmur2 for the partition of a key.

Invariant: a hash is a function of the bytes alone, equal on every machine and without the compiler.
"""

from __future__ import annotations

import numpy as np
from numba import types

from shared.kernels.wire import (
    BOUNDS,
    BYTES,
    I8,
    U4,
    Bytes,
    Int64s,
    helper,
    kernel,
    load_half,
    load_tail,
    load_word,
    wrapping,
)

_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_MIX1, _MIX2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_M2, _SEED2, _LOW_HALF = np.uint64(0x5BD1E995), np.uint64(0x9747B28C), np.uint64(0xFFFFFFFF)
_POSITIVE = np.uint64(0x7FFFFFFF)


@helper
def _rotate(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@helper
def _finish(word: np.uint64) -> np.uint64:
    word = (word ^ (word >> np.uint64(33))) * _MIX1
    word = (word ^ (word >> np.uint64(33))) * _MIX2
    return word ^ (word >> np.uint64(33))


@wrapping
@kernel(BYTES, I8, I8, U4)
def murmur3_128(data: Bytes, start: int, stop: int, seed: int) -> tuple[np.uint64, np.uint64]:
    """Hash data[start:stop] with MurmurHash3 x64 128; the digest is both words, each little-endian.

    Source: A. Appleby, SMHasher, MurmurHash3_x64_128.
    Twin: tests/reference/hashing.py::murmur3_128.  Cost: O(n).
    """
    size = stop - start
    h1 = h2 = np.uint64(seed)
    at = start
    while at + 16 <= stop:
        h1 ^= _rotate(load_word(data, at) * _C1, 31) * _C2
        h1 = (_rotate(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 ^= _rotate(load_word(data, at + 8) * _C2, 33) * _C1
        h2 = (_rotate(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
        at += 16
    if stop - at >= 8:
        h2 ^= _rotate(load_tail(data, at + 8, stop - at - 8) * _C2, 33) * _C1
        h1 ^= _rotate(load_word(data, at) * _C1, 31) * _C2
    else:
        h1 ^= _rotate(load_tail(data, at, stop - at) * _C1, 31) * _C2
    h1 ^= np.uint64(size)
    h2 ^= np.uint64(size)
    h1 += h2
    h2 += h1
    h1 = _finish(h1)
    h2 = _finish(h2)
    h1 += h2
    h2 += h1
    return h1, h2


@kernel(BYTES, I8, I8)
def murmur2(data: Bytes, start: int, stop: int) -> np.uint64:
    """Hash data[start:stop] with Kafka's murmur2: MurmurHash2, 32 bits, seed 0x9747b28c.

    returns : uint64 below 2**32; Java's int is its low half as int32

    Source: Apache Kafka, Utils.murmur2.  Twin: tests/reference/hashing.py::murmur2.  Cost: O(n).
    """
    h = _SEED2 ^ np.uint64(stop - start)
    at = start
    while at + 4 <= stop:
        k = (load_half(data, at) * _M2) & _LOW_HALF
        k = ((k ^ (k >> np.uint64(24))) * _M2) & _LOW_HALF
        h = ((h * _M2) & _LOW_HALF) ^ k
        at += 4
    if at < stop:
        h = ((h ^ load_tail(data, at, stop - at)) * _M2) & _LOW_HALF
    h = ((h ^ (h >> np.uint64(13))) * _M2) & _LOW_HALF
    return h ^ (h >> np.uint64(15))


@kernel(BYTES, BOUNDS, I8, types.int64[::1])
def murmur2_partitions(data: Bytes, bounds: Int64s, count: int, partitions: Int64s) -> None:
    """Compute the partition of each key, as Kafka clients with murmur2 do.

    data, bounds : uint8, int64 (n + 1,)  key i is data[bounds[i]:bounds[i + 1]]
    count        : number of partitions
    partitions   : int64 (n,)             written: (murmur2 & 0x7fffffff) % count
    """
    for i in range(len(partitions)):
        partitions[i] = np.int64(murmur2(data, bounds[i], bounds[i + 1]) & _POSITIVE) % count
