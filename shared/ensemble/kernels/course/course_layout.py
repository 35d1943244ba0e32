"""What the course remembers of one metric.

Invariant: fixed size; all zero bytes is the state before the first sample. The warm-up's samples
lie where the members' memory
will be: both are never needed at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.ensemble.kernels.array_types import Floats, Floats32, Ints, Record  # noqa: F401

BLOCKS = 4
SHAPE = 3 * BLOCKS
LIBRARY = 64
LONG_RING = 256
SHORT_RING = 128
LONG_BLOCK = 32
SHORT_BLOCK = 16
MEDIAN = 127
WARMUP = 1024
DAY_BINS = 288
SEASON_DAYS = 16
"""Days of block means, a power of two: the last 14 are compared with, with room for a window."""

SEASON_BLOCK = 8
SEASON_WINDOW = 8
SLACK = 4
"""Blocks by which a window may be shifted at most."""

SHIFTS = 2 * SLACK + 1
WINDOWS = (SHIFTS + SEASON_WINDOW + SHIFTS - 1) * SEASON_DAYS
"""Scratch of ``score_neighbours``: a distance to each window, and the block means of all."""

TIME_BINS = 48
SKETCH = 64
EXACT = 24
MEMBERS = 4
LONG, NEIGHBOURS, TIME_OF_DAY, SHORT = range(MEMBERS)

SKETCH_DTYPE = np.dtype(
    [
        ("size", "i8"),
        ("gain", "f8"),
        ("total", "f8"),
        ("low", "f4", (SKETCH,)),
        ("high", "f4", (SKETCH,)),
        ("weight", "f4", (SKETCH,)),
    ],
    align=True,
)


def _novelty(ring: int, block: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("count", "i8"),
            ("size", "i8"),
            ("values", "f4", (block, 3)),
            ("stats", "f4", (ring, 3)),
            ("library", "f4", (SHAPE, LIBRARY)),
            ("apart", "f4", (LIBRARY,)),
        ],
        align=True,
    )


LONG_DTYPE, SHORT_DTYPE = _novelty(LONG_RING, LONG_BLOCK), _novelty(SHORT_RING, SHORT_BLOCK)
MEDIAN_DTYPE = np.dtype(
    [("size", "i8"), ("next", "i8"), ("ring", "f4", (MEDIAN,)), ("sorted", "f4", (MEDIAN,))],
    align=True,
)
SEASON_DTYPE = np.dtype(
    [
        ("bin", "i8"),
        ("bins", "i8"),
        ("in_bin", "i8"),
        ("sum", "f8"),
        ("recent", "f4", (SEASON_BLOCK,)),
        ("means", "f4", (DAY_BINS, SEASON_DAYS)),  # a row: the same time of day
    ],
    align=True,
)
BINS_DTYPE = np.dtype([("level", "f4", (TIME_BINS,)), ("seen", "f4", (TIME_BINS,))], align=True)

_SCALARS = (
    ("phase", "i8"),
    ("seen", "i8"),
    ("count", "i8"),
    ("warmup", "i8"),
    ("fold", "i8"),
    ("in_fold", "i8"),
    ("origin_ms", "i8"),
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
    ("quiet", "i8"),
    ("gaps", "i8"),
    ("longest", "f8"),
    ("mean_log", "f8"),
    ("last_active", "i8"),
    ("joint", "f8"),
    ("absence", "f8"),
    ("alarm_ms", "i8"),
    ("alarm_z", "f8"),
    ("habit", "f8"),
    ("gate", "f8"),
    ("row_ms", "i8"),
)
_fields: dict[str, tuple[Any, int]] = {
    name: (kind, 8 * k) for k, (name, kind) in enumerate(_SCALARS)
}
_at = 8 * len(_SCALARS)
_fields["rarity"] = (("f8", (MEMBERS,)), _at)
_at += 8 * MEMBERS
_MEMORY = _at
for _name, _dtype in (
    ("long", LONG_DTYPE),
    ("short", SHORT_DTYPE),
    ("season", SEASON_DTYPE),
    ("bins", BINS_DTYPE),
    ("median", MEDIAN_DTYPE),
):
    _fields[_name] = (_dtype, _at)
    _at += _dtype.itemsize
_fields["sketch"] = ((SKETCH_DTYPE, (MEMBERS,)), _at)
_at += MEMBERS * SKETCH_DTYPE.itemsize
_fields["warm_ms"] = (("i8", (WARMUP,)), _MEMORY)
_fields["warm"] = (("f8", (WARMUP, 3)), _MEMORY + 8 * WARMUP)
COURSE_DTYPE = np.dtype(
    {
        "names": list(_fields),
        "formats": [kind for kind, _ in _fields.values()],
        "offsets": [offset for _, offset in _fields.values()],
        "itemsize": max(_at, _MEMORY + 32 * WARMUP),
    }
)
