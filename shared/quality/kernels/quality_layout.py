"""State of the data-quality checks: records per (entity, metric) and per entity, and a clock.

Invariant: a record has a fixed size; all zero bytes are the state before the first row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MISSING, GAP, LATE, OUT_OF_ORDER, DUPLICATE, REPEATED_TIME, FLAT_LINE, STOPPED = KINDS = range(8)

MIN_INTERVALS = 10
"""Intervals after which an entity's usual one is known; before, only disorder is reported."""

MIN_COVERED_MS = 600_000
"""Time that those intervals must cover: a fast first minute does not show what is usual."""

CLIP = 3.0
"""Most usual intervals for which a row without a value counts as the absence of that value."""

USUAL_TWICE = 2.0
"""What has happened before is usual: only what lasts more than twice as long is reported."""

GAP_DAYS = 14
"""Days with rows of which the longest reporting gap is remembered."""

DAYS_A_RANK = 4
"""A reporting gap is usual if it came on more than one in this many of them."""

LONGER, LONGER_ROWS = 2.5, 5
"""Intervals that much longer than the usual one, that many in a row, are the new usual one."""

FLAT_MEMORY_MS = 28.0 * 86_400_000
"""Time constant with which the longest stretch of one value is forgotten."""

DISORDER_QUIET = 3
"""Repeat times without disorder after which it is reported again."""

MIN_CHANGES = 10
"""A metric that has changed less often never varied, so that it is not flat."""

BINS, METRIC_BINS, DAYS = 288, 48, 28
"""Bins of a local day, of an entity and of a metric, and days, of which presence is remembered."""

FAR_MS = 1 << 62
LONGEST_MS = 1e18

RHYTHM_DTYPE = np.dtype(
    [
        ("interval_ms", "f8"),  # usual interval
        ("covered_ms", "f8"),  # sum of all intervals
        ("longer_ms", "f8"),  # shortest of the newest intervals in a row that are much longer
        ("usual_gap", "f8"),  # longest usual reporting gap, in usual intervals
        ("longest", "f8"),  # longest reporting gap of the newest day, in usual intervals
        ("longest_before", "f4", (GAP_DAYS,)),  # the same of the days with rows before
        ("newest_ms", "f4", (MIN_INTERVALS,)),  # newest intervals until the usual one is known
        ("intervals", "i4"),  # until it is known
        ("longer", "i4"),  # number of the newest intervals in a row that are much longer
        ("day", "i4"),  # newest day with an interval, + 1
        ("days", "i4"),  # days before it that are remembered
    ],
    align=True,
)
"""How often rows of an entity, or values of a metric, come."""


def _presence_of(bins: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("rows", "u4", (bins,)),  # bit per day: rows came in this bin of the local day
            ("day", "i4", (bins,)),  # newest day with a row in the bin, + 1
        ],
        align=True,
    )


PRESENCE_DTYPE = _presence_of(BINS)
"""When an entity has reported; only its own rows change it."""

METRIC_PRESENCE_DTYPE = _presence_of(METRIC_BINS)
"""When a metric has had values."""

SERIES_DTYPE = np.dtype(
    [
        ("seen", "i8"),  # 1 once the entity has reported the metric
        ("value", "f8"),  # newest value
        ("sample_ms", "i8"),  # when it was measured
        ("since_ms", "i8"),  # since when the metric has had this value
        ("longest_ms", "f8"),  # longest earlier stretch of one value, fading
        ("changes", "i8"),
        ("absent_ms", "f8"),  # time that rows cover since the newest value
        ("missing_reported", "u1"),  # of the present absence
        ("flat_reported", "u1"),  # of the present stretch
        ("first_ms", "i8"),  # local time of the first value
        ("rhythm", RHYTHM_DTYPE),
        ("presence", METRIC_PRESENCE_DTYPE),
    ],
    align=True,
)
"""State of one (entity, metric)."""

ENTITY_DTYPE = np.dtype(
    [
        ("seen", "i8"),  # 1 once a row was folded
        ("newest_ms", "i8"),
        ("clock_ms", "i8"),  # the partition's clock when the entity last reported
        ("repeats", "i8"),  # 1 once two rows gave different values for one time
        ("repeated_ms", "i8"),  # the newest of them
        ("stop_reported", "i8"),  # of the present silence
        ("reported", "i8"),  # bit k is set once kind k was reported
        ("reported_ms", "i8", (len(KINDS),)),  # disorder: when it last came
        ("first_ms", "i8"),  # local time of the first row
        ("due_ms", "i8"),  # when the present silence has lasted too long; 0 = not computed yet
        ("rhythm", RHYTHM_DTYPE),
    ],
    align=True,
)
"""State of one entity."""

CLOCK_DTYPE = np.dtype(
    [
        ("reporting", "i8"),  # entities that ever reported
        ("entities", "i8"),  # the largest index among them, and one
        ("first_ms", "i8"),  # the newest event time of all
        ("first_entity", "i8"),
        ("second_ms", "i8"),  # the newest of the other entities: the partition's clock
        ("resumed_ms", "i8"),  # the clock after the newest silence of the whole partition
        ("due_ms", "i8"),  # no entity becomes overdue earlier
        ("rows", "i8"),  # since all entities were last checked
        ("stopped_intervals", "f8"),  # what due_ms was computed with
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


INTEGERS = 5
ROW, KIND, ENTITY, METRIC, SINCE_MS = range(INTEGERS)
"""Columns of the integers of a signal."""

FLOATS = 3
AMOUNT, USUAL_MS, OTHERS = range(FLOATS)
"""Columns of its floats: see ``shared.quality.checks.Signals``."""
