"""A sample of each series' rows, spread evenly over time, in bounded memory.

Invariant: what is kept follows from the rows and the seed alone, whatever the batches and the order
           in which partitions are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.features.vectors import FEATURES
from shared.kernels.units import MINUTE_MS

BUDGET_BYTES = 64 << 20
"""Memory of all samples; with more series, each has fewer rows."""

MOST_ROWS, LEAST_ROWS = 1 << 15, 1 << 5
"""Rows kept of a series; a power of two."""

_RESTACKED = 1 << 17
"""Rows that are copied at once when strata become longer."""

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

    @property
    def is_overfull(self) -> bool:
        """Whether even the fewest rows of each of several series exceed the budget.

        It happens where hundreds of series have different metrics: each row has all of them.
        """
        least = LEAST_ROWS * self.count * _row_bytes(self.metrics)
        return self.count > 1 and least > self.budget_bytes

    def reserve(self, salts: npt.NDArray[np.uint64], metrics: int) -> None:
        """Make room for the series with these salts, old ones first, and this many metrics."""
        if len(salts) == self.count and metrics == self.metrics:
            return
        fresh = len(salts) - self.count
        self.width_ms = np.concatenate([self.width_ms, np.full(fresh, MINUTE_MS, np.int64)])
        self.first_ms = np.concatenate([self.first_ms, np.full(fresh, EMPTY, np.int64)])
        self.salt = salts
        self.count, self.metrics = len(salts), metrics
        if self.is_overfull:  # nothing is added any more; room for it might be tens of GB
            return
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

    def saved(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is kept as arrays, with the number of its series."""
        series, column = np.nonzero(self._arrays["stratum"] != EMPTY)
        kept = {name: array[series, column] for name, array in self._arrays.items()}
        return kept | {
            "series": series.astype(np.int64),
            "width_ms": self.width_ms,
            "first_ms": self.first_ms,
        }

    def resume(self, rows: int, salts: npt.NDArray[np.uint64], saved: dict[str, Any]) -> None:
        """Continue from ``saved``; the reservoir is empty before.

        rows   : that were kept of a series
        salts  : of the series in their order
        raises : ValueError, KeyError where the arrays do not fit together
        """
        series, stratum = saved["series"], saved["stratum"]
        count, metrics = len(salts), saved["values"].shape[1]
        if rows & (rows - 1) or not LEAST_ROWS <= rows <= MOST_ROWS:
            raise ValueError(f"{rows} rows of a series are no power of two")
        if len(saved["width_ms"]) != count or len(saved["first_ms"]) != count:
            raise ValueError(f"the sample is of other than {count} series")
        if len(series) and (series.min() < 0 or series.max() >= count):
            raise ValueError("the sample has rows of unknown series")
        if count and saved["width_ms"].min() < MINUTE_MS:
            raise ValueError("a stratum is shorter than a minute")
        self.rows, self.count, self.metrics, self.salt = rows, count, metrics, salts
        self.width_ms, self.first_ms = saved["width_ms"], saved["first_ms"]
        self._allocate(count, metrics)
        for name, (dtype, shape) in _shapes(metrics).items():
            if saved[name].dtype != dtype or saved[name].shape != (len(series), *shape):
                raise ValueError(f"{name} of the sample is {saved[name].dtype} {saved[name].shape}")
            self._arrays[name][series, stratum % rows] = saved[name]

    def kept_rows(self, series: int) -> int:
        """Return how many rows of a series are kept."""
        return int(np.count_nonzero(self._arrays["stratum"][series] != EMPTY))

    def _widen(self, chosen: Chosen) -> None:
        """Make strata longer where a series no longer fits."""
        starts = np.flatnonzero(np.diff(chosen.series, prepend=-1))
        series = chosen.series[starts]
        is_new = self.first_ms[series] == EMPTY
        self.first_ms[series[is_new]] = chosen.time_ms[starts[is_new]]
        last_ms = chosen.time_ms[np.append(starts[1:], len(chosen.series)) - 1]
        before = self.width_ms[series]
        after = _widths(self.first_ms[series], last_ms, before, self.rows)
        self.width_ms[series] = after
        self._restack(series[after != before])

    def _restack(self, series: npt.NDArray[np.int64]) -> None:
        """Move rows to the strata of their series' present widths."""
        block = max(_RESTACKED // self.rows, 1)
        for low in range(0, len(series), block):
            own = series[low : low + block]
            row, column, stratum = self._best(self._arrays, own)
            held = {name: array[own[row], column] for name, array in self._arrays.items()}
            self._arrays["stratum"][own] = EMPTY
            self._arrays["priority"][own] = 0
            at = (own[row], stratum % self.rows)
            for name, rows in held.items():
                self._arrays[name][at] = rows
            self._arrays["stratum"][at] = stratum

    def _shrink(self, rows: int) -> None:
        """Keep fewer rows of each series from now on."""
        old, self.rows = self._arrays, rows
        had = min(len(old["stratum"]), len(self.width_ms))
        last_ms = old["time_ms"].max(axis=1, where=old["stratum"] != EMPTY, initial=EMPTY)[:had]
        self.width_ms[:had] = _widths(self.first_ms[:had], last_ms, self.width_ms[:had], rows)
        row, column, stratum = self._best(old, np.arange(had))
        at = (row, stratum % rows)
        room, metrics = len(old["stratum"]), old["values"].shape[2]
        self._arrays = {}
        for name, (dtype, shape) in _shapes(metrics).items():
            array = np.zeros((room, rows, *shape), dtype)
            array[at] = old.pop(name)[row, column]
            self._arrays[name] = array
        self._arrays["stratum"][at] = stratum

    def _best(
        self, arrays: Mapping[str, npt.NDArray[Any]], own: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Find the row of the highest priority in each stratum of the present widths.

        own     : int64 (k,)  series
        returns : int64 (m,) each: place in own, column in the arrays, stratum
        """
        row, column = np.nonzero(arrays["stratum"][own] != EMPTY)
        stratum = arrays["time_ms"][own[row], column] // self.width_ms[own[row]]
        order = np.lexsort((arrays["priority"][own[row], column], stratum, row))
        row, column, stratum = row[order], column[order], stratum[order]
        is_last = np.ones(len(row), np.bool_)
        is_last[:-1] = (np.diff(row) != 0) | (np.diff(stratum) != 0)
        return row[is_last], column[is_last], stratum[is_last]

    def _allocate(self, series: int, metrics: int) -> None:
        """Make the arrays this large and keep what is in them."""
        old = self._arrays
        room = 1 << max(series - 1, 0).bit_length() if series else 0
        for name, (dtype, shape) in _shapes(metrics).items():
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


def _shapes(metrics: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Return dtype and shape of what is kept of a row."""
    return {
        "stratum": (np.int64, ()),
        "priority": (np.uint64, ()),
        "time_ms": (np.int64, ()),
        "use": (np.uint8, ()),
        "features": (np.float32, (FEATURES,)),
        "values": (np.float64, (metrics,)),
        "bands": (np.float32, (metrics, BANDS)),
    }


def salt_of(name: str, partition: int) -> int:
    """Return what tells a series apart in the hash of its rows."""
    text = f"{partition}|{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _widths(
    first_ms: npt.NDArray[np.int64],
    last_ms: npt.NDArray[np.int64],
    width_ms: npt.NDArray[np.int64],
    rows: int,
) -> npt.NDArray[np.int64]:
    """Return the least widths of at least ``width_ms`` of which so many strata hold both times."""
    while True:
        is_short = last_ms // width_ms - first_ms // width_ms >= rows
        if not is_short.any():
            return width_ms
        width_ms = np.where(is_short, 2 * width_ms, width_ms)


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
