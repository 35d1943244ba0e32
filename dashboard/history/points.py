"""Points of metrics as packed arrays: the form in which they are stored and in memory.

Invariant: unpacking returns the packed points bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

POINT = np.dtype(
    [
        ("time_ms", "<i8"),
        ("value", "<f8"),
        ("expected", "<f4"),
        ("lower", "<f4"),
        ("upper", "<f4"),
        ("severity", "<f4"),
        ("flags", "<u1"),
    ]
)
"""One value of one metric; NaN = missing or not known.

The value keeps all digits. Expected value, band and severity keep seven.
"""

TAIL = np.dtype([("series", "<i4"), *[(name, POINT[name]) for name in POINT.names or ()]])
"""A point together with the number of its series."""

IS_ANOMALY, IMPUTED, LATE, WARMING = 1, 2, 4, 8
"""Bits of ``flags``."""

Points = npt.NDArray[np.void]


def pack(points: Points) -> bytes:
    """Compress points column by column; times as differences, which compress best.

    points : POINT (n,)
    """
    times = points["time_ms"]
    steps = np.diff(times, prepend=times[:1] * 0)
    columns = [points[name].tobytes() for name in POINT.names[1:]]  # type: ignore[index]
    return zlib.compress(b"".join([steps.astype("<i8").tobytes(), *columns]), 1)


def unpack(packed: bytes) -> Points:
    """Return the points that ``pack`` compressed.

    raises : ValueError for bytes that ``pack`` did not write
    """
    try:
        raw = zlib.decompress(packed)
    except zlib.error as error:
        raise ValueError(f"a block of points cannot be read: {error}") from error
    count, rest = divmod(len(raw), POINT.itemsize)
    if rest:
        raise ValueError(f"a block of points has {rest} bytes too many")
    points = np.empty(count, POINT)
    start = 0
    for name in POINT.names or ():
        size_bytes = POINT[name].itemsize * count
        points[name] = np.frombuffer(raw[start : start + size_bytes], POINT[name])
        start += size_bytes
    points["time_ms"] = np.cumsum(points["time_ms"])
    return points


def ordered(parts: Sequence[Points]) -> Points:
    """Join points of one series in order of time; of equal times the one that came last stays."""
    points = _joined(parts)
    times = points["time_ms"]
    if len(times) < 2 or bool((np.diff(times) > 0).all()):
        return points
    points = points[np.argsort(times, kind="stable")]
    last = np.append(np.diff(points["time_ms"]) > 0, True)
    kept: Points = points[last]
    return kept


def _joined(parts: Sequence[Points]) -> Points:
    """Join points; copying into one array is much faster than ``concatenate`` of records."""
    if len(parts) == 1:
        return parts[0]
    points = np.empty(sum(map(len, parts)), POINT)
    end = 0
    for part in parts:
        points[end : end + len(part)] = part
        end += len(part)
    return points


def of_tail(tail: npt.NDArray[np.void]) -> Points:
    """Return rows of a tail as points, without the series."""
    points = np.empty(len(tail), POINT)
    for name in POINT.names or ():
        points[name] = tail[name]
    return points
