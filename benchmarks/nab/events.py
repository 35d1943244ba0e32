"""Alarms counted as an operator does: hits, misses, false alarms and delays.

  * An *alarm* is a judged row (after the probation) whose score is at or above the threshold.
  * A *hit* is a labelled window with at least one alarm; however many alarms lie in it, it counts
    once.
  * A *false event* is an unbroken run of alarms in consecutive rows outside every window. Runs are
    cut at the edges of windows, so an alarm that never ends is one false event per stretch between
    windows, not one event that hits everything. Its rows are counted as well (*false rows*): a
    detector that merges its false alarms into long ones shows there.
  * precision = hits / (hits + false events), 0 when nothing was alarmed; recall = hits / windows, 0
    without windows; F1 = 2 hits / (hits + false events + windows), their harmonic mean.
  * *False events per day and series* = false events / days from the first to the last judged row,
    summed over the series.
  * The *delay* of a hit is the time of its first alarm less the time of the window's label
    (negative: before the label, for NAB's windows begin before theirs): the first label inside, or,
    where NAB has moved a window off its label, the last one between it and the window before. The
    *wait* is counted from the window's first judged row.

Invariant: the counts depend only on rows, windows and the threshold.

Twin: tests/reference/nab.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.nab.corpus import Flags, Floats, Ints, Series, check_scores

MS_PER_MINUTE = 60_000.0
MS_PER_DAY = 86_400_000.0


@dataclass(frozen=True)
class WindowOutcome:
    """Result of one labelled window.

    alarm_row : first alarmed row, None if the window was missed
    delay_min, wait_min : NaN if the window was missed; delay_min also where no label is known
    """

    series: str
    window: int
    first_row: int
    last_row: int
    alarm_row: int | None
    delay_min: float
    wait_min: float


@dataclass(frozen=True)
class Events:
    """Figures at one threshold, counted as the module describes.

    Tuples by series are in the corpus's order.
    """

    threshold: float
    windows: int
    hits: int
    false_events: int
    false_rows: int
    days: float
    outcomes: tuple[WindowOutcome, ...]
    false_events_by_series: tuple[int, ...]
    days_by_series: tuple[float, ...]

    @property
    def precision(self) -> float:
        """Share of hits among hits and false events."""
        return _ratio(self.hits, self.hits + self.false_events)

    @property
    def recall(self) -> float:
        """Share of windows that were hit."""
        return _ratio(self.hits, self.windows)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, self.hits + self.false_events + self.windows)

    @property
    def false_events_per_day(self) -> float:
        """False events per day and series."""
        return _ratio(self.false_events, self.days)

    @property
    def median_delay_min(self) -> float:
        """Minutes from the label to the first alarm, median over the hits; NaN without any."""
        return _median([outcome.delay_min for outcome in self.outcomes])

    @property
    def median_wait_min(self) -> float:
        """Median minutes from a window's first judged row to its first alarm; NaN without a hit."""
        return _median([outcome.wait_min for outcome in self.outcomes])


@dataclass(frozen=True, eq=False)
class EventSweep:
    """Hits and false events at every threshold, each array (k,).

    The thresholds fall from inf (no alarm) through every judged score.
    """

    thresholds: Floats
    hits: Ints
    false_events: Ints
    windows: int
    days: float

    @property
    def precision(self) -> Floats:
        """float64 (k,)."""
        return np.asarray(self.hits / np.maximum(self.hits + self.false_events, 1), np.float64)

    @property
    def recall(self) -> Floats:
        """float64 (k,)."""
        return np.asarray(self.hits / max(self.windows, 1), np.float64)

    @property
    def f1(self) -> Floats:
        """float64 (k,)."""
        return np.asarray(
            2.0 * self.hits / np.maximum(self.hits + self.false_events + self.windows, 1),
            np.float64,
        )

    def best_threshold(self, max_false_per_day: float = math.inf) -> float:
        """Return the highest threshold of the best F1 within a budget of false events.

        max_false_per_day : per day and series
        """
        allowed = self.false_events <= max_false_per_day * self.days
        return float(self.thresholds[int(np.argmax(np.where(allowed, self.f1, -1.0)))])


def count_events(corpus: Sequence[Series], scores: Sequence[Floats], threshold: float) -> Events:
    """Count events at one threshold.

    scores : per series float64 (n,), higher = more anomalous, finite; the probation is ignored

    Twin: tests/reference/nab.py::count_events.  Cost: O(rows).
    """
    check_scores(corpus, scores)
    outcomes: list[WindowOutcome] = []
    false_by_series: list[int] = []
    false_rows = 0
    for one, mine in zip(corpus, scores, strict=True):
        alarm = mine >= threshold
        alarm[: one.probation] = False
        outcomes += [_outcome(one, alarm, int(window)) for window in one.judged_windows]
        outside = alarm & (one.window_of < 0)
        false_by_series.append(len(false_starts(one, alarm)))
        false_rows += int(np.count_nonzero(outside))
    days = tuple(map(judged_days, corpus))
    return Events(
        threshold=threshold,
        windows=len(outcomes),
        hits=sum(outcome.alarm_row is not None for outcome in outcomes),
        false_events=sum(false_by_series),
        false_rows=false_rows,
        days=sum(days),
        outcomes=tuple(outcomes),
        false_events_by_series=tuple(false_by_series),
        days_by_series=days,
    )


def false_starts(series: Series, alarm: Flags) -> Ints:
    """Return the first row of each false event, int64 (f,); alarms of the probation are ignored."""
    outside = alarm & (series.window_of < 0)
    outside[: series.probation] = False
    starts: Ints = np.flatnonzero(outside & ~np.append(False, outside[:-1])).astype(np.int64)
    return starts


def sweep_events(corpus: Sequence[Series], scores: Sequence[Floats]) -> EventSweep:
    """Count events at every threshold at once.

    The runs of a row set are its rows less its pairs of neighbours; a pair is alarmed when the
    lower of its two scores is.
    Cost: a few sorts of all rows, O(r log r).
    """
    check_scores(corpus, scores)
    peaks: list[float] = []
    rows, pairs, judged = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for one, mine in zip(corpus, scores, strict=True):
        free = one.window_of < 0
        free[: one.probation] = False
        judged.append(mine[one.probation :])
        rows.append(mine[free])
        pairs.append(np.minimum(mine[1:], mine[:-1])[free[1:] & free[:-1]])
        for first, last in one.windows[one.judged_windows].tolist():
            peaks.append(float(mine[max(first, one.probation) : last + 1].max()))
    thresholds = np.concatenate([[math.inf], np.unique(np.concatenate(judged))[::-1]])
    false_events = _at_or_above(np.concatenate(rows), thresholds) - _at_or_above(
        np.concatenate(pairs), thresholds
    )
    hits = _at_or_above(np.array(peaks), thresholds)
    return EventSweep(thresholds, hits, false_events, len(peaks), sum(map(judged_days, corpus)))


def judged_days(series: Series) -> float:
    """Return the days between the earliest and the latest judged row."""
    judged = series.time_ms[series.probation :]
    return float(judged.max() - judged.min()) / MS_PER_DAY if len(judged) else 0.0


def _outcome(series: Series, alarm: Flags, window: int) -> WindowOutcome:
    first, last = series.windows[window].tolist()
    alarms = first + np.flatnonzero(alarm[first : last + 1])
    if not len(alarms):
        return WindowOutcome(series.key, window, first, last, None, math.nan, math.nan)
    row = int(alarms[0])
    label = _label_of(series, window)
    delay = math.nan if label is None else _minutes(series, label, row)
    return WindowOutcome(
        series.key,
        window,
        first,
        last,
        row,
        delay,
        _minutes(series, max(first, series.probation), row),
    )


def _label_of(series: Series, window: int) -> int | None:
    first, last = series.windows[window].tolist()
    before = int(series.windows[window - 1, 1]) if window else -1
    labels = [label for label in series.labels.tolist() if before < label <= last]
    inside = [label for label in labels if label >= first]
    return next(iter(inside or labels[-1:]), None)


def _minutes(series: Series, start: int, end: int) -> float:
    return float(series.time_ms[end] - series.time_ms[start]) / MS_PER_MINUTE


def _at_or_above(numbers: Floats, thresholds: Floats) -> Ints:
    counts: Ints = len(numbers) - np.searchsorted(np.sort(numbers), thresholds, side="left")
    return counts


def _median(numbers: list[float]) -> float:
    known = [number for number in numbers if not math.isnan(number)]
    return float(np.median(known)) if known else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
