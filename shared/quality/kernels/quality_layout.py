"""State of the data-quality checks: one record per (entity, metric), one per entity, one clock.

Invariant: a record has a fixed size; all zero bytes are the state before the first row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MISSING, GAP, LATE, OUT_OF_ORDER, DUPLICATE, REPEATED_TIME, FLAT_LINE, STOPPED = KINDS = range(8)

MIN_INTERVALS = 10
"""Intervals after which an entity's usual one is known; before, only disorder is reported."""

MEMORY = 64
"""Intervals in the running mean."""

CLIP = 3.0
"""Most usual intervals that one interval counts as."""

USUAL_TWICE = 2.0
"""What has happened before is usual: only what lasts more than twice as long is reported."""

FADE = 1.0 - 1.0 / 1024.0
"""Per row, how the longest absence is forgotten."""

PAUSE_MEMORY_MS = 3.0 * 86_400_000
"""Time that rows cover in which the longest pause is forgotten."""

MIN_CHANGES = 10
"""A metric that has changed less often never varied, so that it is not flat."""

BINS, DAYS = 288, 28
"""Bins of a local day, and days, of which it is remembered whether rows came."""

FAR_MS = 1 << 62
LONGEST_MS = 1e18

SERIES_DTYPE = np.dtype(
    [
        ("seen", "i8"),  # 1 once the entity has reported the metric
        ("value", "f8"),  # newest value
        ("sample_ms", "i8"),  # when it was measured
        ("since_ms", "i8"),  # since when the metric has had this value
        ("longest_ms", "i8"),  # longest earlier stretch of one value
        ("changes", "i8"),
        ("absent", "i4"),  # rows in a row without a value
        ("missing_said", "u1"),  # of the present absence
        ("flat_said", "u1"),  # of the present stretch
        ("longest_absent", "f8"),  # longest earlier absence, rows, fading
    ],
    align=True,
)
"""State of one (entity, metric)."""

ENTITY_DTYPE = np.dtype(
    [
        ("seen", "i8"),  # 1 once a row was folded
        ("newest_ms", "i8"),
        ("clock_ms", "i8"),  # the partition's clock when the entity last reported
        ("intervals", "i8"),  # in the mean, at most MEMORY
        ("interval_ms", "f8"),  # usual interval
        ("pause_ms", "f8"),  # longest usual interval, fading
        ("repeats", "i8"),  # 1 once two rows gave different values for one time
        ("repeated_ms", "i8"),  # the newest of them
        ("stop_said", "i8"),  # of the present silence
        ("said", "i8"),  # bit k is set once kind k was reported
        ("said_ms", "i8", (len(KINDS),)),
        ("first_ms", "i8"),  # local time of the first row
        ("due_ms", "i8"),  # when the present silence has lasted too long; 0 = not computed yet
        ("present", "u4", (BINS,)),  # bit per day: rows came in this bin of the local day
        ("present_day", "i4", (BINS,)),  # newest day with a row in the bin, + 1
    ],
    align=True,
)

CLOCK_DTYPE = np.dtype(
    [
        ("reporting", "i8"),  # entities that ever reported
        ("entities", "i8"),  # the largest index among them, and one
        ("first_ms", "i8"),  # the newest event time of all
        ("first_entity", "i8"),
        ("second_ms", "i8"),  # the newest of the other entities: the partition's clock
        ("due_ms", "i8"),  # no entity becomes overdue before
        ("rows", "i8"),  # since all entities were last checked
        ("stopped_intervals", "f8"),  # what due_ms was reckoned with
        ("repeat_ms", "i8"),
    ],
    align=True,
)


class Limits(NamedTuple):
    """What a user asks for.

    gap_intervals     : a silence of more is a gap
    stopped_intervals : nothing for more: stopped
    flat_ms           : one value for longer is a flat line
    repeat_ms         : the same kind about the same entity comes at most once in
    """

    gap_intervals: float
    stopped_intervals: float
    flat_ms: int
    repeat_ms: int


PLACES = 5
ROW, KIND, ENTITY, METRIC, SINCE_MS = range(PLACES)
"""Columns of the whole numbers of a signal."""

AMOUNTS = 3
AMOUNT, USUAL_MS, OTHERS = range(AMOUNTS)
"""Columns of its floats: see ``shared.quality.checks.Signals``."""
