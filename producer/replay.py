"""Merges series into one stream ordered by event time, and schedules its events.

Invariant: pure; the same series and arguments give the same stream and schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from producer.files.series import Series
from shared.kernels.units import WEEK_MS

DEFAULT_METRICS = ("cpu", "network_in", "disk_write")
"""Metrics of the default schema, in its order; other metrics follow by name."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Events ordered by time.

    entity  : int32 (n,)       index into entities
    time_ms : int64 (n,)       never decreasing
    values  : float64 (n, M)   in the order of metrics; NaN = null
    """

    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time_ms)

    def rows(self, start: int, stop: int) -> Stream:
        """Return events start..stop; after its end the stream repeats, later by whole weeks.

        start and stop - 1 must lie in the same round.
        """
        cycle, low = divmod(start, len(self))
        high = low + stop - start
        time_ms = self.time_ms[low:high] + cycle * self.period_ms
        return Stream(
            self.entities, self.metrics, self.entity[low:high], time_ms, self.values[low:high]
        )

    @property
    def period_ms(self) -> int:
        """Shift from one round to the next: the fewest whole weeks that keep times increasing."""
        span = int(self.time_ms[-1] - self.time_ms[0])
        return (span // WEEK_MS + 1) * WEEK_MS


def metric_order(metrics: Sequence[str]) -> tuple[str, ...]:
    """Order metrics as in the schema: the default three if any is present, then others by name."""
    distinct = set(metrics)
    default = DEFAULT_METRICS if distinct & set(DEFAULT_METRICS) else ()
    return default + tuple(sorted(distinct - set(DEFAULT_METRICS)))


def align(series: Sequence[Series]) -> tuple[list[Series], list[int]]:
    """Shift each series by whole weeks so that all begin within one week.

    The week ends at the latest beginning. Hour of day and weekday (in UTC) do not change.

    returns : shifted series; int weeks of each
    """
    starts = [int(part.time_ms.min()) for part in series]
    weeks = [(max(starts) - start) // WEEK_MS for start in starts]
    shifted = [
        replace(part, time_ms=part.time_ms + week * WEEK_MS) if week else part
        for part, week in zip(series, weeks, strict=True)
    ]
    return shifted, weeks


def merge(series: Sequence[Series], *, by_arrival: bool = False) -> Stream:
    """Merge series into one stream; events of equal time keep the order of series and rows.

    by_arrival : keep the order of each file's rows, and merge files by the newest time so far in
                 each

    Twin: tests/reference/replay.py::merge.  Cost: O(n log n) time, O(n M) memory.
    """
    metrics = metric_order([metric for part in series for metric in part.metrics])
    codes: dict[str, int] = {}
    entity = []
    values = []
    for part in series:
        own = np.array([codes.setdefault(name, len(codes)) for name in part.entities], np.int32)
        entity.append(own[part.entity])
        block = np.full((len(part), len(metrics)), np.nan)
        block[:, [metrics.index(metric) for metric in part.metrics]] = part.values
        values.append(block)
    time_ms = np.concatenate([part.time_ms for part in series])
    arrived_ms = time_ms
    if by_arrival:
        arrived_ms = np.concatenate([np.maximum.accumulate(part.time_ms) for part in series])
    order = np.argsort(arrived_ms, kind="stable")
    return Stream(
        tuple(codes),
        metrics,
        np.concatenate(entity)[order],
        time_ms[order],
        np.concatenate(values)[order],
    )


def rebase(stream: Stream, last_ms: int) -> Stream:
    """Shift all times by the same amount, so that the last event is at last_ms."""
    return replace(stream, time_ms=stream.time_ms + (last_ms - int(stream.time_ms[-1])))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Due times of the positions of a (possibly endless) replay.

    time_ms    : int64 (n,)  the stream's times
    start      : first position
    stop       : position after the last; None = endless, position p is event p % n of round p // n
    paced_from : earlier positions are due at once
    speed      : event seconds per second; inf = all are due at once
    round_ms   : paced length of one round: its span plus one median step, without the gap up to
                 the next whole week
    """

    time_ms: npt.NDArray[np.int64]
    start: int
    stop: int | None
    paced_from: int
    speed: float
    round_ms: int

    def due_s(self, position: int) -> float:
        """Return when a position is due, in seconds since the paced part began, 0 before it.

        Twin: tests/reference/replay.py::due_s.
        """
        if position < self.paced_from or self.speed == float("inf"):
            return 0.0
        origin = self._paced_ms(self.paced_from)
        return (self._paced_ms(position) - origin) / 1000 / self.speed

    def next_stop(self, position: int, elapsed_s: float, max_rows: int) -> int:
        """Return the end of the due positions that start at ``position``.

        The result is at most max_rows further, and in the same round.

        elapsed_s : seconds since the paced part began; ignored before paced_from
        returns   : position itself when it is not due yet
        """
        n = len(self.time_ms)
        cycle = position // n
        limit = min(position + max_rows, (cycle + 1) * n)
        limit = limit if self.stop is None else min(limit, self.stop)
        if position < self.paced_from:
            return min(limit, self.paced_from)
        if self.speed == float("inf"):
            return limit
        latest_ms = (
            self._paced_ms(self.paced_from)
            + elapsed_s * 1000 * self.speed
            - cycle * self.round_ms
            + int(self.time_ms[0])
        )
        due = int(np.searchsorted(self.time_ms, latest_ms, side="right"))
        return max(position, min(limit, cycle * n + due))

    def _paced_ms(self, position: int) -> int:
        cycle, row = divmod(position, len(self.time_ms))
        return cycle * self.round_ms + int(self.time_ms[row] - self.time_ms[0])


def plan(
    stream: Stream,
    *,
    start: float = 0.0,
    stop: float = 1.0,
    backfill: float = 0.0,
    speed: float = 300.0,
    loop: bool = False,
    sent_before: int = 0,
) -> Schedule:
    """Return the schedule of a replay.

    start, stop, backfill : shares of the events, 0..1, rounded to whole events the same way, so
                            that consecutive parts fit together; events before backfill are due at
                            once
    speed                 : event seconds per second, inf = at once
    loop                  : repeat for ever; stop is then ignored
    sent_before           : number of events to skip, because an earlier replay of the same stream
                            sent them
    """
    n = len(stream)
    first, last, paced = (round(share * n) for share in (start, stop, backfill))
    first = max(first, sent_before if loop else min(sent_before, last))
    steps = np.diff(stream.time_ms)
    steps = steps[steps > 0]
    round_ms = int(stream.time_ms[-1] - stream.time_ms[0]) + (
        int(np.median(steps)) if len(steps) else 1000
    )
    return Schedule(
        stream.time_ms, first, None if loop else last, max(first, paced), speed, round_ms
    )
