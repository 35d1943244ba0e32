"""What the ensemble remembers, byte by byte: one record per (entity, metric), one per entity.

Law: a record has a fixed size, whatever the length of the history; all zero bytes is the state
     before the first row.
Kernels widen its float32 with np.float64(), because float() leaves a float32 as it is once
compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Record = Any
"""One element of a structured array: ``numpy.void`` in Python, a record in numba."""

BLOCKS = 4
"""Blocks in a novelty vector."""

SHAPE = 3 * BLOCKS
"""Numbers in a novelty vector: mean, maximum and minimum of each block."""

LIBRARY = 256
"""Vectors that a novelty member remembers."""

LONG_RING = 256
SHORT_RING = 128
LONG_BLOCK = 32
SHORT_BLOCK = 16
MEDIAN = 255
"""Values in the running median, odd."""

WARMUP = 1024
"""Longest warm-up, samples."""

DAY_BINS = 288
"""Most neighbour bins in a day."""

SEASON_RING = 14 * DAY_BINS + 128
SEASON_BLOCK = 8
SEASON_WINDOW = 8
TIME_BINS = 48
WEEK_BINS = 7 * TIME_BINS
SKETCH = 160
EXACT = 64
"""Largest scores that a rank sketch keeps one by one."""

CROSS = 16
"""Metrics of an entity that enter its cross-metric fit."""

WIDTH = CROSS + 1
PACKED = WIDTH * (WIDTH + 1) // 2
PEAKS = 96
MEMBERS = 4
PARTS = MEMBERS + 2
"""Where an alarm comes from: the members, the absence of a usual event, the combination of metrics.
"""

FORECASTS = 4
"""Recent level, time of day, time of day with the recent offset, time of the week."""

ABSENCE, COMBINATION = MEMBERS, MEMBERS + 1
LONG, NEIGHBOURS, TIME_OF_DAY, SHORT = range(MEMBERS)

_SKETCH = [
    ("size", "i8"),
    ("gain", "f8"),
    ("total", "f8"),
    ("low", "f4", (SKETCH,)),
    ("high", "f4", (SKETCH,)),
    ("weight", "f4", (SKETCH,)),
]
SKETCH_DTYPE = np.dtype(_SKETCH, align=True)
"""A decayed rank sketch: ``size`` entries, increasing; an entry is a point (low == high) or an
interval with its weight.
"""


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


LONG_DTYPE = _novelty(LONG_RING, LONG_BLOCK)
SHORT_DTYPE = _novelty(SHORT_RING, SHORT_BLOCK)

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
        ("means", "f4", (SEASON_RING,)),
    ],
    align=True,
)

BINS_DTYPE = np.dtype(
    [
        ("level", "f4", (TIME_BINS,)),
        ("seen", "f4", (TIME_BINS,)),
        ("week_level", "f4", (WEEK_BINS,)),
        ("week_seen", "f4", (WEEK_BINS,)),
        ("plain", "f4", (TIME_BINS,)),
        ("plain_seen", "f4", (TIME_BINS,)),
        ("week_plain", "f4", (WEEK_BINS,)),
        ("week_plain_seen", "f4", (WEEK_BINS,)),
    ],
    align=True,
)

_LONG_AT = 512
_SHORT_AT = _LONG_AT + LONG_DTYPE.itemsize
_SEASON_AT = _SHORT_AT + SHORT_DTYPE.itemsize
_BINS_AT = _SEASON_AT + SEASON_DTYPE.itemsize
_MEDIAN_AT = _BINS_AT + BINS_DTYPE.itemsize
_SKETCH_AT = _MEDIAN_AT + MEDIAN_DTYPE.itemsize
_APART_AT = _SKETCH_AT + MEMBERS * SKETCH_DTYPE.itemsize

METRIC_FIELDS: dict[str, tuple[Any, int]] = {
    "phase": ("i8", 0),  # 0 = measuring the interval, 1 = warming up, 2 = ready
    "seen": ("i8", 8),  # values folded
    "count": ("i8", 16),  # samples (groups of `fold` values) folded into the members
    "warmup": ("i8", 24),  # samples in the warm-up
    "fold": ("i8", 32),  # values per sample of the slow members
    "in_fold": ("i8", 40),  # values in the open sample
    "origin_ms": ("i8", 48),  # time of the first value
    "interval_ms": ("f8", 56),
    "centre": ("f8", 64),
    "spread": ("f8", 72),
    "low": ("f8", 80),  # running range of the scaled values
    "high": ("f8", 88),
    "open_sum": ("f8", 96),
    "open_high": ("f8", 104),
    "open_low": ("f8", 112),
    "smooth": ("f8", 120),  # EWMA of the joint score
    "score": ("f8", 128),  # newest Z of the metric
    "level": ("f8", 144),  # recent level, scaled
    "rarity": (("f8", (MEMBERS,)), 176),  # newest -log10 tail rank per member
    "offset": ("f8", 208),  # recent distance from the level of the time of day, scaled
    "run_up": ("f8", 216),  # largest recent deviations upward and downward
    "run_down": ("f8", 224),
    "quiet": ("i8", 232),  # values since the last activity
    "gaps": ("i8", 240),  # silences that ended
    "longest": ("f8", 248),  # the longest of them, fading
    "mean_log": ("f8", 256),  # mean of their logarithms
    "last_active": ("i8", 272),  # 1 once the series was active
    "learned": ("f8", 280),  # values that the errors have seen
    "joint": ("f8", 288),  # S
    "joined": ("i8", 296),  # 1 once the entity knows that the metric is ready
    "raw": (("f8", (MEMBERS,)), 304),  # newest score of each member before calibration
    "absence": ("f8", 264),  # Z of the silence
    "error": (("f8", (FORECASTS,)), 336),  # running absolute error of each forecast
    # whether the newest score of each member is higher than all that it remembers
    "unseen": (("u1", (MEMBERS,)), 376),
    "week_learned": ("f8", 368),  # values that the error of the time of the week has seen
    "long": (LONG_DTYPE, _LONG_AT),
    "short": (SHORT_DTYPE, _SHORT_AT),
    "season": (SEASON_DTYPE, _SEASON_AT),
    "bins": (BINS_DTYPE, _BINS_AT),
    "median": (MEDIAN_DTYPE, _MEDIAN_AT),
    "sketch": ((SKETCH_DTYPE, (MEMBERS,)), _SKETCH_AT),
    # usual size of the cross-metric residual at each time of day
    "apart": (("f4", (TIME_BINS,)), _APART_AT),
    # while warming up, the members' room holds the samples
    "warm_ms": (("i8", (WARMUP,)), _LONG_AT),
    "warm": (("f8", (WARMUP, 3)), _LONG_AT + 8 * WARMUP),
}

METRIC_DTYPE = np.dtype(
    {
        "names": list(METRIC_FIELDS),
        "formats": [kind for kind, _ in METRIC_FIELDS.values()],
        "offsets": [offset for _, offset in METRIC_FIELDS.values()],
        "itemsize": _APART_AT + 4 * TIME_BINS,
    }
)
"""State of one (entity, metric): what the warm-up buffers and what the members remember share the
same bytes.
"""

ENTITY_DTYPE = np.dtype(
    [
        ("rows", "i8"),  # rows folded
        ("warmup", "i8"),  # rows of the longest warm-up among its metrics, 0 = none is ready
        ("alarm", "i8"),  # row of the last alarm, counted from 1; 0 = never
        ("habit", "f8"),
        ("alarm_z", "f8"),  # Z of the last alarm
        ("score", "f8"),  # newest Z
        ("threshold", "f8"),  # in force now
        ("metrics", "i8"),  # metrics in the cross-metric fit
        ("fitted", "i8"),  # rows it has learned
        ("cross", "f8"),  # rarity of the newest cross-metric residual
        ("cross_smooth", "f8"),
        ("cross_metric", "i8"),  # column with the largest one
        ("peak", "f8"),  # largest Z of the open period
        ("period", "i8"),  # rows in it
        ("surplus", "f8"),  # alarms given less alarms asked for, bounded
        ("effective", "f8"),  # newest Z less habituation
        ("trained_usual", "f8"),  # running mean of the trained member's rarity
        ("trained_seen", "i8"),  # rows in it, at most one warm-up
        ("columns", "i4", (CROSS,)),
        ("seen", "i8", (CROSS,)),  # row in which a metric of the fit was last there
        ("gram", "f8", (PACKED,)),
        ("precision", "f4", (WIDTH, WIDTH)),
        ("variance", "f4", (CROSS,)),
        ("before", "f4", (2, CROSS)),  # residuals of the two rows before
        ("sketch", SKETCH_DTYPE),
        ("peaks", SKETCH_DTYPE),
    ],
    align=True,
)
"""State of one entity: cross-metric fit, policy, budget."""


class Knobs(NamedTuple):
    """Everything that can be tuned; floats, so that all can be perturbed alike."""

    long_blocks: float = 50.0
    short_block: float = 12.0
    short_stride: float = 3.0
    season_blocks: float = 200.0
    slack: float = 2.0
    season_days: float = 14.0
    time_memory: float = 200.0
    chomp_long: float = 0.08
    chomp: float = 0.05
    weight_long: float = 1.0
    weight_neighbours: float = 0.5
    weight_time: float = 1.0
    weight_short: float = 0.5
    smoothing: float = 0.5
    interval_weight: float = 0.5
    habituation: float = 0.1
    habituation_memory: float = 3.0
    habit_often: float = 3.0
    refractory: float = 0.2
    break_through: float = 2.0
    rank_memory: float = 20.0
    range_memory: float = 20.0
    median_memory: float = 8.0
    floor: float = 0.025
    absence: float = 0.7
    absence_slope: float = 2.0
    weight_cross: float = 0.6
    cross_floor: float = 1.5
    weight_trained: float = 0.6
    threshold: float = 1.4
    cross_memory: float = 1000.0
    cross_ridge: float = 1e-3
    cross_usual: float = 2.0
    choice: float = 1.0
