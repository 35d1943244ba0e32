"""Maps names to dense indices, in order of first appearance.

Invariant: the arrays of ``to_arrays`` depend on the names and their order alone, never on capacity,
batches or hashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shared.kernels.interning import EMPTY, NameTable, fill_table, find_name, intern_names

Scalar = TypeVar("Scalar", bound=np.generic)

UNKNOWN = EMPTY
"""Index of an unknown name."""


class Directory:
    """A growing set of names (any text), with indices in order of first appearance.

    A byte arena and its bounds contain the names, and an open-addressing table finds them. All
    arrays grow by doubling, only between two runs of a kernel.
    """

    def __init__(self) -> None:
        self._count = 0
        self._table = np.full(16, EMPTY, np.int32)
        self._hashes = np.zeros(7, np.uint64)
        self._bounds = np.zeros(8, np.int64)
        self._arena = np.zeros(256, np.uint8)
        self._decoded: list[str] = []

    def __len__(self) -> int:
        return self._count

    @property
    def arena(self) -> npt.NDArray[np.uint8]:
        """All names joined, UTF-8; a view that is valid until the next name is added."""
        return self._arena[: self._bounds[self._count]]

    @property
    def bounds(self) -> npt.NDArray[np.int64]:
        """int64 (len + 1,): name i is arena[bounds[i]:bounds[i + 1]]; a view like ``arena``."""
        return self._bounds[: self._count + 1]

    def name(self, index: int) -> str:
        """Return the name at an index; raises IndexError."""
        if not 0 <= index < self._count:
            raise IndexError(f"no name has index {index}; there are {self._count}")
        return self._decode()[index]

    def names(self) -> list[str]:
        """Return all names by index."""
        return list(self._decode())

    def find(self, name: str) -> int:
        """Return the index of a name; UNKNOWN (-1) if it has none."""
        data = np.frombuffer(name.encode(), np.uint8)
        return int(find_name(data, 0, len(data), self._known()))

    def add(self, name: str) -> int:
        """Return the index of a name, which is added if it is new."""
        data = np.frombuffer(name.encode(), np.uint8)
        return int(self.intern(data, np.array([0, len(data)], np.int64))[0])

    def intern(
        self, data: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        """Return the index of each name; new names are added in their order.

        data, bounds : uint8, int64 (n + 1,)  name i is data[bounds[i]:bounds[i + 1]], UTF-8
        returns      : int32 (n,)
        """
        indices = np.empty(len(bounds) - 1, np.int32)
        done = 0
        while True:
            self._count, done = intern_names(
                data, bounds, done, self._count, self._known(), indices
            )
            if done == len(indices):
                return indices
            self.reserve(1, int(bounds[done + 1] - bounds[done]))

    def reserve(self, names: int, size_bytes: int) -> None:
        """Reserve capacity for this many additional names and bytes of names."""
        wanted = self._count + names
        if wanted > len(self._hashes):
            capacity = _doubled(len(self._hashes), wanted)
            self._hashes = _grown(self._hashes, capacity)
            self._bounds = _grown(self._bounds, capacity + 1)
            self._table = np.full(_doubled(len(self._table), 2 * capacity + 1), EMPTY, np.int32)
            fill_table(self._hashes, self._count, self._table)
        wanted_bytes = int(self._bounds[self._count]) + size_bytes
        if wanted_bytes > len(self._arena):
            self._arena = _grown(self._arena, _doubled(len(self._arena), wanted_bytes))

    def select(self, indices: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
        """Return names as ``to_arrays`` does: those at ``indices`` (n,), empty where one is < 0."""
        if not self._count:
            return {"arena": np.zeros(0, np.uint8), "bounds": np.zeros(len(indices) + 1, np.int64)}
        starts = self._bounds[:-1][np.maximum(indices, 0)]
        sizes = np.where(indices < 0, 0, self._bounds[1:][np.maximum(indices, 0)] - starts)
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        at = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], sizes)
        return {"arena": self._arena[at], "bounds": bounds}

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of ``arena`` (uint8) and ``bounds`` (int64 (len + 1,)), without spare."""
        return {"arena": self.arena.copy(), "bounds": self.bounds.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Directory:
        """Build a directory from ``to_arrays``.

        raises : ValueError where the arrays cannot be those of a directory
        """
        arena = arrays["arena"]
        bounds = arrays["bounds"]
        has_dtypes = arena.dtype == np.uint8 and bounds.dtype == np.int64
        if not has_dtypes or arena.ndim != 1 or bounds.ndim != 1:
            raise ValueError(
                "a directory is an arena of uint8 and bounds of int64, one dimension each"
            )
        bounds = np.ascontiguousarray(bounds, np.int64)
        spans_arena = len(bounds) > 0 and bounds[0] == 0 and bounds[-1] == len(arena)
        if not spans_arena or (np.diff(bounds) < 0).any():
            raise ValueError("the directory's bounds do not divide its arena into names")
        directory = cls()
        directory.intern(np.ascontiguousarray(arena, np.uint8), bounds)
        if len(directory) != len(bounds) - 1:
            raise ValueError("the directory contains a duplicate name")
        try:
            directory._decode()
        except UnicodeDecodeError as error:
            raise ValueError("the directory contains a name that is not UTF-8") from error
        return directory

    def _known(self) -> NameTable:
        return NameTable(self._table, self._hashes, self._arena, self._bounds)

    def _decode(self) -> list[str]:
        """Decode the names that were added since the last call."""
        known = len(self._decoded)
        if known < self._count:
            data = self.arena.tobytes()
            bounds = self._bounds[known : self._count + 1].tolist()
            self._decoded += [data[low:high].decode() for low, high in pairwise(bounds)]
        return self._decoded


def _doubled(capacity: int, wanted: int) -> int:
    while capacity < wanted:
        capacity *= 2
    return capacity


def _grown(array: npt.NDArray[Scalar], capacity: int) -> npt.NDArray[Scalar]:
    grown = np.zeros(capacity, array.dtype)
    grown[: len(array)] = array
    return grown
