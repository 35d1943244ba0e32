"""The memory of a metric: the mean of each bin of the day, on each of the last days.

Invariant: a bin's days that were left out are missing, whenever it is read.
"""

from __future__ import annotations

from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.codes import MISSING, encode
from shared.ensemble.kernels.layout import BIN_MS, BINS, DAYS, NEAR
from shared.kernels.clock import is_weekend
from shared.kernels.units import DAY_MS

WRITTEN = 65_535
"""Days that a bin's newest day can be told apart from."""


@njit(cache=True, error_model="numpy")
def width_of(interval_ms: float) -> int:
    """Bins per sample: a divisor of the day."""
    bins = interval_ms / 300_000.0
    for width in (288, 144, 96, 72, 48, 36, 24, 18, 12, 9, 8, 6, 4, 3, 2):
        if bins >= 0.8 * width:
            return width
    return 1


@njit(cache=True, error_model="numpy")
def near_of(width: int) -> int:
    """Samples on either side that count as about the same time."""
    if width == 1:
        return NEAR
    if width == 2:
        return 2
    return 1


@njit(cache=True, error_model="numpy")
def first_day_of(m: Record, shift_ms: int) -> int:
    """Return a metric's first local day; one that began after noon does not count.

    shift_ms : local time minus UTC
    """
    return int((m["origin_ms"] + shift_ms + DAY_MS // 2) // DAY_MS)


@njit(cache=True, error_model="numpy")
def is_new_kind(first_day: int, day: int) -> bool:
    """Whether a day is of a kind, working day or weekend, that fewer than two before it were of.

    At least two days of the other kind came before.

    first_day : of the metric, local
    """
    first = max(first_day, day - 7)
    seen = 0
    for before in range(first, day):
        seen += 1 if is_weekend(before) == is_weekend(day) else 0
    return seen < 2 and day - first - seen >= 2


@njit(cache=True, error_model="numpy")
def bin_of(local_ms: int, width: int) -> int:
    """Return the first bin of a sample that is ``width`` bins wide, at a local time."""
    bin_ = int((local_ms % DAY_MS) // BIN_MS)
    return bin_ - bin_ % width


@njit(cache=True, error_model="numpy")
def on_its_day(day: int, bin_: int) -> tuple[int, int]:
    """Return day and bin of a bin that may lie up to a day before or after a day."""
    if bin_ < 0:
        return day - 1, bin_ + BINS
    if bin_ >= BINS:
        return day + 1, bin_ - BINS
    return day, bin_


@njit(cache=True, error_model="numpy")
def newest_day(m: Record, bin_: int, day: int) -> int:
    """Return the day that a bin was last written, -1 = never; it is kept in two bytes.

    day : any within 32,767 days of it
    """
    kept = int(m["written"][bin_])
    if kept == 0:
        return -1
    return kept - 1 + (day - kept + 1 + WRITTEN // 2) // WRITTEN * WRITTEN


@njit(cache=True, error_model="numpy")
def write(m: Record, bin_: int, day: int, mean: float) -> None:
    """Remember the mean of a bin so far; days left out since the bin's last one are missing."""
    row = m["memory"][bin_]
    last = newest_day(m, bin_, day)
    if last < 0 or day - last >= DAYS:
        for k in range(DAYS):
            row[k] = MISSING
    else:
        for d in range(last + 1, day):
            row[d % DAYS] = MISSING
    if last <= day or last < 0:
        m["written"][bin_] = day % WRITTEN + 1
        row[day % DAYS] = encode(mean)
    elif last - day < DAYS:
        row[day % DAYS] = encode(mean)  # a late row


@njit(cache=True, error_model="numpy")
def read(m: Record, bin_: int, day: int) -> int:
    """Code of a bin on a day; MISSING where there is none."""
    last = newest_day(m, bin_, day)
    if last < 0 or day > last or last - day >= DAYS:
        return MISSING
    code: int = m["memory"][bin_, day % DAYS]
    return code
