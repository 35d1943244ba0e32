"""A hash table from names to dense indices: look up names, add new ones, rebuild the table.

Invariant: the index of a name is its rank in the order of first appearance. Table size and hash
function only affect the speed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from shared.kernels.wire import (
    BOUNDS,
    BYTES,
    I8,
    Bytes,
    Int,
    Int64s,
    copy_bytes,
    equal_bytes,
    group,
    helper,
    kernel,
    load_tail,
    load_word,
    wrapping,
)

Int32s = npt.NDArray[np.int32]
Uint64s = npt.NDArray[np.uint64]

EMPTY = -1
"""An empty cell of the table; as a result: the name is unknown."""


class NameTable(NamedTuple):
    """The known names, an open-addressing table that finds them, and space for more.

    cells  : int32 (2**k,)      index of a name or EMPTY; more than twice as many cells as names
    hashes : uint64 (c,)        hash of each name; c = names that there is space for
    arena  : uint8              the names, joined
    bounds : int64 (c + 1,)     name i is arena[bounds[i]:bounds[i + 1]]
    """

    cells: Int32s
    hashes: Uint64s
    arena: Bytes
    bounds: Int64s


_I4S, _I8S, _U8S, _U1S = types.int32[::1], types.int64[::1], types.uint64[::1], types.uint8[::1]
_TABLE = group(NameTable, _I4S, _U8S, _U1S, _I8S)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@helper
def _hash_name(data: Bytes, start: int, stop: int) -> np.uint64:
    """Hash a name by multiplication, 8 bytes at a time; not resistant to crafted collisions."""
    h = np.uint64(stop - start) * _GOLDEN
    at = start
    while at + 8 <= stop:
        h = (h ^ load_word(data, at)) * _GOLDEN
        h ^= h >> np.uint64(29)
        at += 8
    h = (h ^ load_tail(data, at, stop - at)) * _GOLDEN
    return h ^ (h >> np.uint64(32))


@helper
def _cell_of(data: Bytes, start: int, stop: int, name_hash: np.uint64, known: NameTable) -> Int:
    """Return the cell of the table with the name, or the empty cell where it belongs."""
    mask = len(known.cells) - 1
    cell = np.int64(name_hash & np.uint64(mask))
    while known.cells[cell] != EMPTY:
        index = known.cells[cell]
        low = known.bounds[index]
        same_size = known.bounds[index + 1] - low == stop - start
        if (
            known.hashes[index] == name_hash
            and same_size
            and equal_bytes(known.arena, low, data, start, stop - start)
        ):
            break
        cell = (cell + 1) & mask
    return cell


@wrapping
@kernel(BYTES, I8, I8, _TABLE)
def find_name(data: Bytes, start: int, stop: int, known: NameTable) -> int:
    """Return the index of the name data[start:stop], EMPTY if it is unknown."""
    cell = _cell_of(data, start, stop, _hash_name(data, start, stop), known)
    return int(known.cells[cell])


@wrapping
@kernel(BYTES, BOUNDS, I8, I8, _TABLE, _I4S)
def intern_names(
    data: Bytes, bounds: Int64s, first: int, count: int, known: NameTable, indices: Int32s
) -> tuple[int, int]:
    """Look up each name from ``first`` on; add new ones.

    data, bounds : uint8, int64 (n + 1,)   name i is data[bounds[i]:bounds[i + 1]]
    count        : number of known names
    known        : gets the new names
    indices      : int32 (n,)              written: index of each name
    returns      : number of known names; first name that was not processed: below n where the
                   arrays are full

    Twin: tests/reference/directory.py::intern_names.  Cost: O(bytes), ~10 ns for a short known
          name.
    """
    for i in range(first, len(bounds) - 1):
        start = bounds[i]
        stop = bounds[i + 1]
        name_hash = _hash_name(data, start, stop)
        cell = _cell_of(data, start, stop, name_hash, known)
        if known.cells[cell] == EMPTY:
            end = known.bounds[count]
            if count == len(known.hashes) or end + stop - start > len(known.arena):
                return count, i
            known.cells[cell] = count
            known.hashes[count] = name_hash
            known.bounds[count + 1] = copy_bytes(data, start, stop, known.arena, end)
            count += 1
        indices[i] = known.cells[cell]
    return count, len(bounds) - 1


@kernel(_U8S, I8, _I4S)
def fill_table(hashes: Uint64s, count: int, table: Int32s) -> None:
    """Insert names 0..count - 1 into an empty table."""
    mask = len(table) - 1
    for index in range(count):
        cell = np.int64(hashes[index] & np.uint64(mask))
        while table[cell] != EMPTY:
            cell = (cell + 1) & mask
        table[cell] = index
