"""Decimation of a series for a chart: M4, after Jugel et al., VLDB 2014.

Invariant: the chosen points draw the same pixels as all points would: of each pixel column the
           first, the last, the smallest and the largest value stay.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GAP_INTERVALS = 3.0
"""A pause longer than this many usual intervals is a gap in a chart."""

MOST_GAPS = 200


def m4(
    time_ms: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    bounds_ms: tuple[int, int],
    columns: int,
) -> npt.NDArray[np.int64]:
    """Choose the points that a chart of ``columns`` pixels needs.

    time_ms   : int64 (n,)    strictly increasing, ms
    values    : float64 (n,)  NaN = missing; a missing value stays where it is first or last of its
                column, so that a line is not drawn across it
    bounds_ms : (from, to)    the time range of the chart; both ends belong to it
    columns   : >= 1          pixel columns
    returns   : int64 (k,)    increasing indices, k <= 4 columns

    Twin: tests/reference/decimation.py::m4.  Cost: O(n) time and memory.
    """
    count = len(time_ms)
    if count <= 4 * columns:
        return np.arange(count, dtype=np.int64)
    start_ms, end_ms = bounds_ms
    width_ms = max(1, end_ms - start_ms + 1)
    column = np.clip((time_ms - start_ms) * columns // width_ms, 0, columns - 1)
    first = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
    last = np.append(first[1:] - 1, count - 1)
    missing = np.isnan(values)
    lowest = _first_equal(np.where(missing, np.inf, values), np.minimum, first, last)
    highest = _first_equal(np.where(missing, -np.inf, values), np.maximum, first, last)
    return np.unique(np.concatenate([first, last, lowest, highest]))


def _first_equal(
    values: npt.NDArray[np.float64],
    extreme: np.ufunc,
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return of each column the first index whose value is the column's extreme."""
    per_point = np.repeat(extreme.reduceat(values, first), last - first + 1)
    hits = np.flatnonzero(values == per_point)
    return hits[np.searchsorted(hits, first)]


def usual_interval_ms(time_ms: npt.NDArray[np.int64]) -> int | None:
    """Return the median distance of successive points, ms; None with fewer than three points."""
    count = len(time_ms) - 1
    if count < 2:
        return None
    middle = [(count - 1) // 2, count // 2]  # np.median does the same, ten times as slowly
    return int(np.partition(np.diff(time_ms), middle)[middle].mean())


def gaps(time_ms: npt.NDArray[np.int64], interval_ms: int | None) -> list[tuple[int, int]]:
    """Return pauses of more than GAP_INTERVALS usual intervals, the MOST_GAPS longest, by time.

    returns : (last point before, first point after) of each, ms
    """
    if interval_ms is None:
        return []
    pauses = np.diff(time_ms)
    found = np.flatnonzero(pauses > GAP_INTERVALS * max(1, interval_ms))
    if len(found) > MOST_GAPS:
        found = np.sort(found[np.argsort(pauses[found])[-MOST_GAPS:]])
    return [(int(time_ms[row]), int(time_ms[row + 1])) for row in found]
