"""What the course remembers of one metric.

Invariant: fixed size; all zero bytes is the state before the first sample. The warm-up's samples
lie where the members' memory will be: both are never needed at once.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from shared.ensemble.kernels.array_types import Floats, Floats32, Ints, Record  # noqa: F401

BLOCKS = 4
SHAPE = 3 * BLOCKS
REACH = 2 * BLOCKS - 1
"""Blocks that a settled shape reaches back."""

LIBRARY = 64
LONG_BLOCK = 18
SHORT_BLOCK = 14
MEDIAN = 127
WARMUP = 896
SEASON_DAYS = 14
"""Days before that the newest window is compared with, at most."""

COLUMNS = 16
"""Places of a row of block means: the newest window, the days before, and one that is not used."""

SEASON_BLOCK = 4
SEASON_WINDOW = 8
SLACK = 2
"""Blocks by which a window may be shifted at most."""

SHIFTS = 2 * SLACK + 1
WINDOWS = (SHIFTS + SEASON_WINDOW + SHIFTS - 1) * COLUMNS
"""Scratch of ``score_neighbours``: a distance to each window, and the block means of all."""

ROWS = (SEASON_WINDOW - 1 + 2 * SLACK) * SEASON_BLOCK + 1
"""Bins around now, the newest SLACK blocks of which are ahead of it."""

TIME_BINS = 48
SKETCH = 64
EXACT = 24
MEMBERS = 4
LONG, NEIGHBOURS, TIME_OF_DAY, SHORT = range(MEMBERS)

SKETCH_DTYPE = np.dtype(
    [
        ("gain", "f8"),  # weight of the newest score
        ("size", "i4"),
        ("low", "i2", (SKETCH,)),  # halves
        ("high", "i2", (SKETCH,)),
        ("upward", "f4", (SKETCH + 1,)),  # weight of an entry and of all above it; then 0
    ],
    align=True,
)


def _novelty(block: int) -> np.dtype[np.void]:
    """Return the memory of a novelty member whose blocks have at most this many samples."""
    return np.dtype(
        [
            ("count", "i4"),
            ("size", "i4"),
            ("unit", "f4"),  # of codes; 0 = all values so far were equal
            ("apart", "f4", (LIBRARY,)),
            ("values", "f4", (block, 3)),
            ("stats", "i2", (REACH * block + 1, 3)),  # codes
            ("library", "i2", (SHAPE, LIBRARY)),  # codes
        ],
        align=True,
    )


LONG_DTYPE, SHORT_DTYPE = _novelty(LONG_BLOCK), _novelty(SHORT_BLOCK)
MEDIAN_DTYPE = np.dtype(
    [
        ("size", "i4"),
        ("next", "i4"),
        ("ring", "f4", (MEDIAN,)),
        ("order", "u1", (MEDIAN,)),  # places in the ring, of the smallest value first
    ],
    align=True,
)
SEASON_DTYPE = np.dtype(
    [
        ("newest", "i8"),  # bin, counted from local 1970
        ("sum", "f8"),
        ("in_bin", "i4"),
        ("bins", "i4"),  # that the series has had
        ("width", "i4"),  # of a bin, in bins of the memory
        ("block", "i4"),  # bins of a mean
        ("recent", "f4", (SEASON_BLOCK,)),  # newest bins
        ("ahead", "f4", (SEASON_BLOCK, COLUMNS)),  # bins of days before, up to the one furthest on
        ("means", "f4", (ROWS, COLUMNS)),  # of a block that ends in a bin, and the days before
    ],
    align=True,
)
BINS_DTYPE = np.dtype([("level", "f4", (TIME_BINS,)), ("seen", "u1", (TIME_BINS,))], align=True)
WARM_DTYPE = np.dtype(
    [
        ("gap_ms", "u4"),  # since the sample before
        ("mean", "f4"),  # (value - centre) / spread
        ("above", "i2"),  # half: how far the highest value lies above the mean
        ("below", "i2"),
    ],
    align=True,
)

_SCALARS = (
    ("phase", "i4"),
    ("warmup", "i4"),
    ("fold", "i4"),
    ("in_fold", "i4"),
    ("seen", "i4"),
    ("count", "i4"),
    ("origin_ms", "i8"),
    ("buffered_ms", "i8"),  # newest sample of the warm-up
    ("interval_ms", "f8"),
    ("centre", "f8"),
    ("spread", "f8"),
    ("low", "f8"),
    ("high", "f8"),
    ("open_sum", "f8"),
    ("open_high", "f8"),
    ("open_low", "f8"),
    ("smooth", "f8"),
    ("score", "f8"),
    ("quiet", "i4"),
    ("gaps", "i4"),
    ("longest", "f8"),
    ("mean_log", "f8"),
    ("last_active", "i8"),
    ("absence", "f8"),
    ("alarm_ms", "i8"),
    ("alarm_z", "f8"),
    ("habit", "f8"),
    ("gate", "f8"),
    ("row_ms", "i8"),
    ("rarity", "f4", (MEMBERS,)),
)
_MEMORY = (
    ("long", LONG_DTYPE),
    ("short", SHORT_DTYPE),
    ("season", SEASON_DTYPE),
    ("bins", BINS_DTYPE),
    ("median", MEDIAN_DTYPE),
    ("sketch", SKETCH_DTYPE, (MEMBERS,)),
)


def _joined(*parts: np.dtype[np.void]) -> np.dtype[np.void]:
    """Return a record that starts with the first part; all others lie in one place behind it."""
    head = parts[0]
    fields: dict[str, tuple[Any, int]] = {}
    for part in parts:
        begin = 0 if part is head else head.itemsize
        for name, (kind, offset, *_) in (part.fields or {}).items():
            fields[name] = (kind, begin + offset)
    layout: Any = {
        "names": list(fields),
        "formats": [kind for kind, _ in fields.values()],
        "offsets": [offset for _, offset in fields.values()],
        "itemsize": head.itemsize + max(part.itemsize for part in parts[1:]),
    }
    return cast("np.dtype[np.void]", np.dtype(layout, align=True))


COURSE_DTYPE = _joined(
    np.dtype(list(_SCALARS), align=True),
    np.dtype(list(_MEMORY), align=True),
    np.dtype([("warm", WARM_DTYPE, (WARMUP,))]),
)
