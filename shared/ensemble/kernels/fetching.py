"""Reading ahead: what a value needs of its metric's record comes while the value before is folded.

Invariant: no result depends on it.

A value needs about half of a record of 32 KiB. With thousands of series nothing of it is in the
processor's cache any more when the series' next value comes, and a row would wait for it piece by
piece. A processor fetches some twenty lines at a time, so the record is asked for in four parts.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.course.course_layout import COURSE_DTYPE
from shared.ensemble.kernels.layout import (
    BIN_MS,
    BINS,
    COMBINED,
    DAYS,
    ENTITY_DTYPE,
    METRIC_DTYPE,
)
from shared.kernels.prefetching import prefetch
from shared.kernels.steps import step
from shared.kernels.units import DAY_MS


class Ahead(NamedTuple):
    """The metric whose value comes next.

    metrics : METRIC_DTYPE (S,)
    slot    : -1 = none
    """

    metrics: Record
    slot: int


def _offsets(dtype: object, *names: str) -> list[int]:
    """Return the places of a record's fields, in bytes."""
    fields = getattr(dtype, "fields", None) or {}
    return [int(fields[name][1]) for name in names]


HOURS_AT, WRITTEN_AT, MEMORY_AT, COURSE_AT = _offsets(
    METRIC_DTYPE, "hours", "written", "memory", "course"
)
"""What lies before the hours is read by each value; the hours themselves once an hour."""

BINS_BEFORE, BINS_AROUND = 7, 16
"""Bins that a value reads: from some before its own on."""

WRITTEN_SIZE, MEMORY_SIZE = 2, 2 * DAYS
"""Bytes of a bin."""

COURSE_SIZE = COURSE_DTYPE.itemsize
COURSE_HALF = COURSE_SIZE // 2

PAIRS_AT, INVERSE_AT = _offsets(ENTITY_DTYPE, "pairs", "inverse")
PAIRS_ROW = 4 * COMBINED


@step
def fetch_entity(entities: Record, entity: int, metrics: int) -> None:
    """Begin to read an entity of so many metrics.

    entities : ENTITY_DTYPE (E,)
    """
    prefetch(entities, entity, 0, PAIRS_AT)
    if metrics > 1:
        size = PAIRS_ROW * min(metrics, COMBINED)
        prefetch(entities, entity, PAIRS_AT, size)
        prefetch(entities, entity, INVERSE_AT, size)


@step
def fetch_head(ahead: Ahead, local_ms: int) -> None:
    """Begin to read a metric but for its course.

    local_ms : about the time of its value
    """
    if ahead.slot >= 0:
        bin_ = int((local_ms % DAY_MS) // BIN_MS)
        first = min(max(bin_ - BINS_BEFORE, 0), BINS - BINS_AROUND)
        prefetch(ahead.metrics, ahead.slot, 0, HOURS_AT)
        written, memory = WRITTEN_AT + WRITTEN_SIZE * first, MEMORY_AT + MEMORY_SIZE * first
        prefetch(ahead.metrics, ahead.slot, written, WRITTEN_SIZE * BINS_AROUND)
        prefetch(ahead.metrics, ahead.slot, memory, MEMORY_SIZE * BINS_AROUND)


@step
def fetch_course(ahead: Ahead, half: int) -> None:
    """Begin to read one half, 0 or 1, of a metric's course."""
    if ahead.slot >= 0:
        first = COURSE_AT + half * COURSE_HALF
        prefetch(ahead.metrics, ahead.slot, first, COURSE_SIZE - COURSE_HALF)
