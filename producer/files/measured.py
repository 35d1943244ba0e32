"""Finds the columns of numbers that are no metrics: further times, and identifiers.

Invariant: pure; all cells of a column decide, its name only where the cells prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from producer.files.columns import names_a_moment
from producer.files.identity import Clock, repeated
from producer.files.time_forms import DATES, Digits, read_digits, scan_digits
from producer.files.times import Times
from shared.events import DEFAULT_MAX_TIME_MS, DEFAULT_MIN_TIME_MS
from shared.kernels.units import DAY_MS
from shared.wording import second

Values = npt.NDArray[np.float64]

_UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_NEAR_MS = 31 * DAY_MS
_MOSTLY = 0.9
_NAMED_MOSTLY = 0.5
_CROWDED = 0.5
_FEWEST_ROWS = 6
_FIRST_ROWS = 1000


def further_times(names: Sequence[str], values: Values, time_ms: Times) -> dict[int, str]:
    """Return {column: reason} of the columns of epochs or dates.

    names  : names of the columns
    values : float64 (n, M)  NaN = empty

    Nearly all cells of such a column are times from 2000 to 2100 (zero may mean none), and either
    its name suggests times or the cells advance with the time of the row.
    """
    found = {}
    for index, name in enumerate(names):
        column = values[:, index]
        filled = np.flatnonzero(np.isfinite(column) & (column > 0))
        if not len(filled):
            continue
        named, first = names_a_moment(name), float(column[filled[0]])
        read = _dates(column, first) if named else None
        read = _epochs(column, first) if read is None else read
        if read is None:
            continue
        unit, read_ms, share = read
        if (named and share >= _NAMED_MOSTLY) or (
            share >= _MOSTLY and _keeps_pace(read_ms, time_ms)
        ):
            when = second(int(read_ms[filled[0]]))
            found[index] = f"a second column of times ({first:.0f} is {when}, {unit})"
    return found


def _epochs(column: Values, first: float) -> tuple[str, Values, float] | None:
    """Return the unit, ms since 1970 (NaN where a cell is no time), and the share of times."""
    for unit, factor in _UNITS.items():
        if DEFAULT_MIN_TIME_MS <= first * factor <= DEFAULT_MAX_TIME_MS:
            read_ms = column * factor
            inside = (read_ms >= DEFAULT_MIN_TIME_MS) & (read_ms <= DEFAULT_MAX_TIME_MS)
            return f"epoch {unit}", np.where(inside, read_ms, np.nan), _share(inside, column)
    return None


def _dates(column: Values, first: float) -> tuple[str, Values, float] | None:
    """Return the same as ``_epochs`` for dates written as digits with a four-digit year."""
    digits = scan_digits([f"{first:.0f}"])
    for form in DATES:
        if form.parts[0] == "YYYY" and read_digits(digits, form)[1][0]:
            whole = np.where(np.isfinite(column) & (column > 0) & (column < 2**53), column, 0)
            n, width = len(column), form.widths[0]
            long = (whole >= 10 ** (width - 1)) & (whole < 10**width) & (whole == np.floor(whole))
            read_ms, valid = read_digits(
                Digits(
                    whole.astype(np.int64),
                    np.zeros(n, np.int64),
                    np.where(long, width, 0).astype(np.int8),
                    np.ones(n, np.bool_),
                ),
                form,
            )
            return form.name, np.where(valid, read_ms, np.nan), _share(valid, column)
    return None


def _share(inside: npt.NDArray[np.bool_], column: Values) -> float:
    return float(inside.sum() / max(1, np.isfinite(column).sum()))


def _keeps_pace(read_ms: Values, time_ms: Times) -> bool:
    """Whether times stay near those of the rows and advance with them."""
    rows = np.flatnonzero(np.isfinite(read_ms))
    if len(rows) < _FEWEST_ROWS:
        return False
    own = time_ms[rows].astype(np.float64)
    apart = read_ms[rows] - own
    return bool(np.abs(apart).max() <= _NEAR_MS and 2 * np.ptp(apart) <= np.ptp(own))


# -- numbers that separate rows --------------------------------------------------------------------


def in_order(time_ms: Times, entity: npt.NDArray[np.int32]) -> bool:
    """Whether times strictly increase within each entity, so that rows need no separation."""
    if np.all(time_ms[1:] > time_ms[:-1]):
        return True
    if not len(entity) or entity.max() == 0:
        return False
    small = entity.astype(np.uint16) if entity.max() < 2**16 else entity
    order = np.argsort(small, kind="stable")
    times, owner = time_ms[order], entity[order]
    return bool(np.all((times[1:] > times[:-1]) | (owner[1:] != owner[:-1])))


def distinguishing_numbers(
    values: Values, time_ms: Times, entity: npt.NDArray[np.int32]
) -> list[int]:
    """Return columns of few whole numbers that each remove repeated times or backward steps.

    values : float64 (n, M)
    entity : int32 (n,)  entity of each row so far

    Half of the rows must share their time with others, in groups about as large as the count of
    distinct numbers; or the file has one block per number, each beginning before the previous end.
    """
    whole = [index for index in range(values.shape[1]) if _whole(values[:, index])]
    if not whole or len(values) < _FEWEST_ROWS:
        return []
    clock = Clock.of(time_ms, entity.astype(np.int64))
    found = []
    for index in whole:
        distinct, codes = np.unique(values[:, index], return_inverse=True)
        if len(distinct) < 2 or 3 * len(distinct) > len(values):
            continue
        crowded = clock.repeated >= _CROWDED * len(values) and len(distinct) <= 2 * _largest_group(
            clock
        )
        if (crowded or _in_blocks(codes, clock)) and clock.resolved_by(codes):
            found.append(index)
    return found


def alternating_numbers(values: Values, time_ms: Times, entity: npt.NDArray[np.int32]) -> list[int]:
    """Return columns of few whole numbers where each number comes at regular steps.

    Only the first rows are read, because the result is only used for a note.
    """
    top = slice(_FIRST_ROWS)
    values, time_ms, entity = values[top], time_ms[top], entity[top]
    clock = Clock(time_ms, entity.astype(np.int64), 0, 0)
    found = []
    for index in range(values.shape[1]):
        distinct, codes = np.unique(values[:, index], return_inverse=True)
        few = len(distinct) > 1 and 3 * len(distinct) <= len(values)
        if few and _whole(values[:, index]) and clock.is_regular_within(codes):
            found.append(index)
    return found


def _whole(column: Values) -> bool:
    top = column[:_FIRST_ROWS]
    if not np.all((top >= 0) & (top == np.floor(top))):
        return False
    return bool(np.all((column >= 0) & (column == np.floor(column)) & (column < 2**53)))


def _largest_group(clock: Clock) -> int:
    """Return the largest number of rows of one entity with the same time."""
    pairs = np.stack([clock.base, clock.time_ms], axis=1)
    return int(np.unique(pairs, axis=0, return_counts=True)[1].max(initial=0))


def _in_blocks(codes: npt.NDArray[np.integer], clock: Clock) -> bool:
    changes = int((codes[1:] != codes[:-1]).sum())
    return not clock.repeated and clock.backward == changes == int(codes.max()) > 0


def crowded_rows(time_ms: Times, entity: npt.NDArray[np.int32]) -> int:
    """Return how many rows share their time with another of the entity; 0 if less than half."""
    count = repeated(time_ms, entity.astype(np.int64))
    return count if count >= _CROWDED * len(time_ms) else 0
