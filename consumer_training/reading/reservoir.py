"""A sample of each series' rows, spread evenly over time, in bounded memory.

Invariant: what is kept follows from the rows and the seed alone, whatever the batches and the order
           in which partitions are read.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.features.vectors import FEATURES
from shared.kernels.units import MINUTE_MS

BUDGET_BYTES = 128 << 20
"""Memory of all samples; with more series, each has fewer rows."""

MOST_ROWS, LEAST_ROWS = 1 << 15, 1 << 5
"""Rows kept of a series; a power of two."""

BANDS = 3
"""Expected value, lower and upper end of the usual range."""

EMPTY = 0
"""No stratum: times begin long after 1970."""

USABLE, ALARMED, LABELLED = range(3)
"""Whether a row may be trained on, or why not."""

_USABLE_BIT = np.uint64(1 << 63)


class Chosen(NamedTuple):
    """Rows of a batch that may be kept.

    series   : int64 (n,)        number of the series
    time_ms  : int64 (n,)
    values   : float64 (n, M)    columns of the reservoir
    features : float64 (n, FEATURES)
    bands    : float64 (n, M, BANDS)
    use      : uint8 (n,)        USABLE, ALARMED or LABELLED
    """

    series: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    features: npt.NDArray[np.float64]
    bands: npt.NDArray[np.float64]
    use: npt.NDArray[np.uint8]


class Reservoir:
    """One row of each stratum of time of each series: a usable one where there is one, by seed.

    Strata are a minute long at first; where a series spans more of them than it may keep rows, they
    become twice as long, and so on. A row's priority is a hash of seed, series and time.
    """

    def __init__(self, seed: int, budget_bytes: int = BUDGET_BYTES) -> None:
        self.seed = np.uint64(seed)
        self.budget_bytes = budget_bytes
        self.count = 0
        self.metrics = 0
        self.rows = MOST_ROWS
        self.width_ms = np.empty(0, np.int64)
        self.first_ms = np.empty(0, np.int64)
        self.salt = np.empty(0, np.uint64)
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._allocate(0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, used or not."""
        return sum(array.nbytes for array in self._arrays.values())

    def reserve(self, salts: npt.NDArray[np.uint64], metrics: int) -> None:
        """Make room for the series with these salts, old ones first, and this many metrics."""
        if len(salts) == self.count and metrics == self.metrics:
            return
        fresh = len(salts) - self.count
        self.width_ms = np.concatenate([self.width_ms, np.full(fresh, MINUTE_MS, np.int64)])
        self.first_ms = np.concatenate([self.first_ms, np.full(fresh, EMPTY, np.int64)])
        self.salt = salts
        self.count, self.metrics = len(salts), metrics
        rows = self.rows
        while rows > LEAST_ROWS and rows * self.count * _row_bytes(metrics) > self.budget_bytes:
            rows //= 2
        if rows < self.rows:
            self._shrink(rows)
        self._allocate(self.count, metrics)

    def add(self, chosen: Chosen) -> None:
        """Offer rows; those of a series are in order of time."""
        if not len(chosen.series):
            return
        self._widen(chosen)
        series = chosen.series
        stratum = chosen.time_ms // self.width_ms[series]
        priority = _priority(self.seed, self.salt[series], chosen.time_ms)
        priority = np.where(chosen.use == USABLE, priority | _USABLE_BIT, priority)
        place = series * self.rows + stratum % self.rows
        order = np.lexsort((priority, stratum, place))
        is_last = np.ones(len(order), np.bool_)
        is_last[:-1] = place[order[1:]] != place[order[:-1]]
        best = order[is_last]
        flat = {name: _flat(array) for name, array in self._arrays.items()}
        at = place[best]
        wins = (flat["stratum"][at] < stratum[best]) | (flat["priority"][at] < priority[best])
        best, at = best[wins], at[wins]
        flat["stratum"][at] = stratum[best]
        flat["priority"][at] = priority[best]
        for name in ("time_ms", "values", "features", "bands", "use"):
            flat[name][at] = getattr(chosen, name)[best]

    def kept(self, series: int) -> dict[str, npt.NDArray[Any]]:
        """Return what is kept of a series by name of ``Chosen``, in order of time."""
        there = np.flatnonzero(self._arrays["stratum"][series] != EMPTY)
        there = there[np.argsort(self._arrays["time_ms"][series, there], kind="stable")]
        names = ("time_ms", "values", "features", "bands", "use")
        return {name: self._arrays[name][series, there] for name in names}

    def _widen(self, chosen: Chosen) -> None:
        """Make strata longer where a series no longer fits."""
        starts = np.flatnonzero(np.diff(chosen.series, prepend=-1))
        new = self.first_ms[chosen.series[starts]] == EMPTY
        self.first_ms[chosen.series[starts[new]]] = chosen.time_ms[starts[new]]
        ends = np.append(starts[1:], len(chosen.series)) - 1
        for series, last_ms in zip(
            chosen.series[ends].tolist(), chosen.time_ms[ends].tolist(), strict=True
        ):
            first_ms, width_ms = int(self.first_ms[series]), int(self.width_ms[series])
            width_ms = _width_for(first_ms, last_ms, width_ms, self.rows)
            if width_ms != self.width_ms[series]:
                self.width_ms[series] = width_ms
                self._restack(series)

    def _restack(self, series: int) -> None:
        """Move a series' rows to the strata of its present width; the highest priority stays."""
        own = {name: array[series] for name, array in self._arrays.items()}
        there = np.flatnonzero(own["stratum"] != EMPTY)
        stratum = own["time_ms"][there] // self.width_ms[series]
        order = np.lexsort((own["priority"][there], stratum))
        is_last = np.append(np.diff(stratum[order]) != 0, True)[: len(order)]
        best = there[order[is_last]]
        kept = {name: array[best].copy() for name, array in own.items()}
        kept["stratum"] = stratum[order[is_last]]
        own["stratum"][:] = EMPTY
        own["priority"][:] = 0
        for name, array in kept.items():
            own[name][kept["stratum"] % self.rows] = array

    def _shrink(self, rows: int) -> None:
        """Keep fewer rows of each series from now on."""
        old, self.rows = self._arrays, rows
        self._arrays = {}
        had = len(old["stratum"])
        self._allocate(had, old["values"].shape[2])
        for series in range(had):
            there = np.flatnonzero(old["stratum"][series] != EMPTY)
            if not len(there):
                continue
            time_ms = old["time_ms"][series, there]
            width_ms = int(self.width_ms[series])
            last_ms = int(time_ms.max())
            width_ms = _width_for(int(self.first_ms[series]), last_ms, width_ms, rows)
            self.width_ms[series] = width_ms
            stratum = time_ms // width_ms
            order = np.lexsort((old["priority"][series, there], stratum))
            best = order[np.append(np.diff(stratum[order]) != 0, True)]
            at = stratum[best] % rows
            for name, array in self._arrays.items():
                array[series, at] = old[name][series, there[best]]
            self._arrays["stratum"][series, at] = stratum[best]

    def _allocate(self, series: int, metrics: int) -> None:
        """Make the arrays this large and keep what is in them."""
        old = self._arrays
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "stratum": (np.int64, ()),
            "priority": (np.uint64, ()),
            "time_ms": (np.int64, ()),
            "use": (np.uint8, ()),
            "features": (np.float32, (FEATURES,)),
            "values": (np.float64, (metrics,)),
            "bands": (np.float32, (metrics, BANDS)),
        }
        room = 1 << max(series - 1, 0).bit_length() if series else 0
        for name, (dtype, shape) in shapes.items():
            found = old.get(name)
            if found is not None and found.shape == (max(room, len(found)), self.rows, *shape):
                continue
            array = np.zeros((room, self.rows, *shape), dtype)
            if found is not None and len(found):
                had = array[: len(found)]
                if name in ("values", "bands"):
                    had[:, :, found.shape[2] :] = np.nan
                had[:, :, *(slice(0, size) for size in found.shape[2:])] = found
            self._arrays[name] = array


def salt_of(name: str, partition: int) -> int:
    """Return what tells a series apart in the hash of its rows."""
    text = f"{partition}|{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _width_for(first_ms: int, last_ms: int, width_ms: int, rows: int) -> int:
    """Return the least width of at least ``width_ms`` of which so many strata hold both times."""
    while last_ms // width_ms - first_ms // width_ms >= rows:
        width_ms *= 2
    return width_ms


def _row_bytes(metrics: int) -> int:
    return 8 + 8 + 8 + 1 + 4 * FEATURES + metrics * (8 + 4 * BANDS)


def _flat(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(-1, *array.shape[2:])


def _priority(
    seed: np.uint64, salt: npt.NDArray[np.uint64], time_ms: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Return 63 bits of a hash: splitmix64 of seed, series and time."""
    with np.errstate(over="ignore"):
        x = time_ms.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x ^= salt + seed * np.uint64(0xD1B54A32D192ED03)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(1)
