"""The newest points, which are in no block yet: one array that grows, and where a series is in it.

Invariant: an array that a reader holds is never changed; points are only added behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dashboard.history import points as forms

FIRST_POINTS = 16_384
"""Points for which memory is reserved at first; it doubles."""

Tail = npt.NDArray[np.void]
Numbers = npt.NDArray[np.int32]


class GrowingTail:
    """Points of all series in the order in which they came.

    The numbers of their series lie in an array of their own: looking for a series reads four bytes
    of each point instead of a whole one.
    """

    def __init__(self) -> None:
        self.count = 0
        self._points = np.empty(FIRST_POINTS, forms.TAIL)
        self._numbers = np.empty(FIRST_POINTS, np.int32)

    def extend(self, new: Tail) -> None:
        """Add points behind the others."""
        end = self.count + len(new)
        if end > len(self._points):
            size = max(end, 2 * len(self._points))
            points, numbers = np.empty(size, forms.TAIL), np.empty(size, np.int32)
            points[: self.count] = self._points[: self.count]
            numbers[: self.count] = self._numbers[: self.count]
            self._points, self._numbers = points, numbers
        self._points[self.count : end] = new
        self._numbers[self.count : end] = new["series"]
        self.count = end

    def held(self) -> tuple[Tail, Numbers]:
        """Return the points so far, and the numbers of their series."""
        return self._points[: self.count], self._numbers[: self.count]


@dataclass(slots=True)
class Sealing:
    """A frozen tail on its way into blocks.

    tail    : TAIL (n,)  ordered by series
    numbers : int32 (n,) their series
    starts  : first row of each series, then n
    last_id : of the rows of the table ``tail`` that hold these points
    next    : index of the next series
    """

    tail: Tail
    numbers: Numbers
    starts: Sequence[int]
    last_id: int
    next: int = 0

    def rows_of(self, series: int) -> Tail:
        """Return the rows of one series."""
        start, end = np.searchsorted(self.numbers, [series, series + 1])
        return self.tail[start:end]


def rows_by_series(points: Tail, numbers: Numbers, series: Sequence[int]) -> dict[int, Tail]:
    """Return the points of some series, each in the order in which they came.

    points, numbers : from ``GrowingTail.held``

    Cost: O(n) time, one byte of memory for each point.
    """
    if not len(series):
        return {}
    is_wanted = np.zeros(1 + max(max(series), int(numbers.max(initial=0))), np.bool_)
    is_wanted[list(series)] = True
    rows = np.flatnonzero(is_wanted[numbers])
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    found = numbers[rows]
    bounds = np.searchsorted(found, np.array([series, np.array(series) + 1])).T
    return {
        int(number): points[rows[start:end]]
        for number, (start, end) in zip(series, bounds.tolist(), strict=True)
    }
