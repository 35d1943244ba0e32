"""The protocol: which alarm hits a labelled window, and which is false.

  * A *window* is a labelled stretch of time, as stored in labels.json.
  * *Counted* is the labelled period of a series, but nothing before its fourth day.
  * Alarms of a series at most an hour and six usual intervals apart are one *event*.
  * A window is *hit* when an alarm lies in it; an event that touches no window is *false*.

Invariant: the counts depend only on times of rows, labels and alarms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.builds import seconds
from shared.errors import DataError

HOUR_S, DAY_S = 3600.0, 86_400.0
LEARN_DAYS = 3
EVENT_INTERVALS = 6

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Trace:
    """One series or host of a set; all times in seconds since 1970 UTC.

    first, interval : time of the first row, and the median time between rows
    begin, end      : the labelled period
    windows         : (start, end), both included
    """

    name: str
    first: float
    interval: float
    begin: float
    end: float
    windows: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Figures:
    """Counts of one or several series.

    delays_min : of each hit, minutes from the window's start to its first alarm
    """

    windows: int
    hits: int
    false_events: int
    days: float
    delays_min: tuple[float, ...] = ()

    @property
    def precision(self) -> float:
        """Share of hits among hits and false events."""
        return self.hits / max(1, self.hits + self.false_events)

    @property
    def recall(self) -> float:
        """Share of the windows that are hit."""
        return self.hits / max(1, self.windows)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / max(1e-9, total)

    @property
    def false_per_day(self) -> float:
        """False events per series and day."""
        return self.false_events / max(1e-9, self.days)

    @property
    def delay_min(self) -> float | None:
        """The median delay; None without hits."""
        return sorted(self.delays_min)[len(self.delays_min) // 2] if self.delays_min else None

    def __str__(self) -> str:
        return (
            f"hit {self.hits:>3} of {self.windows:<3}  false {self.false_events:>3} in"
            f" {self.days:>7.1f} days = {self.false_per_day:.3f} a day  P {self.precision:.2f} "
            f" R {self.recall:.2f}  F1 {self.f1:.2f}"
        )


def read_set(folder: Path) -> list[Trace]:
    """Read labels and times of a set: data/*.csv, labels.json, period.json.

    raises : DataError that names the file
    """
    labels = _read_json(folder / "labels.json")
    periods = _read_json(folder / "period.json")
    paths = sorted((folder / "data").glob("*.csv"))
    if not paths:
        raise DataError(f"{folder / 'data'}: there is no CSV file")
    traces = []
    for path in paths:
        times = _read_times(path)
        period = periods.get(path.stem)
        bounds = [seconds(text) for text in period] if period else [times[0], times[-1]]
        windows = tuple((seconds(start), seconds(end)) for start, end in labels.get(path.stem, []))
        interval = float(np.sort(np.diff(times))[(len(times) - 1) // 2])
        traces.append(
            Trace(path.stem, float(times[0]), interval, float(bounds[0]), float(bounds[1]), windows)
        )
    return traces


def judge(trace: Trace, alarms: Iterable[float]) -> Figures:
    """Count hits and false events of one series; alarms are times in seconds."""
    begin = max(trace.begin, trace.first + LEARN_DAYS * DAY_S)
    windows = [(max(start, begin), end) for start, end in trace.windows]
    windows = [(start, end) for start, end in windows if end >= begin and start <= trace.end]
    counted = sorted(moment for moment in alarms if begin <= moment <= trace.end)
    delays = []
    for start, end in windows:
        inside = [moment for moment in counted if start <= moment <= end]
        delays += [(inside[0] - start) / 60] if inside else []
    events = _events(counted, max(HOUR_S, EVENT_INTERVALS * trace.interval))
    false = sum(
        not any(start <= last and end >= first for start, end in windows) for first, last in events
    )
    days = (trace.end - begin) / DAY_S
    return Figures(len(windows), len(delays), false, days, tuple(delays))


def add(parts: Sequence[Figures]) -> Figures:
    """Add the counts of several series."""
    return Figures(
        sum(part.windows for part in parts),
        sum(part.hits for part in parts),
        sum(part.false_events for part in parts),
        sum(part.days for part in parts),
        tuple(delay for part in parts for delay in part.delays_min),
    )


def judge_set(traces: Sequence[Trace], alarms: Mapping[str, Sequence[float]]) -> Figures:
    """Judge every series of a set and add the counts.

    alarms : series -> times
    """
    return add([judge(trace, alarms.get(trace.name, ())) for trace in traces])


def _events(alarms: Sequence[float], apart_s: float) -> list[tuple[float, float]]:
    """Join alarms at most so far apart; return first and last of each event."""
    events: list[tuple[float, float]] = []
    for moment in alarms:
        if events and moment - events[-1][1] <= apart_s:
            events[-1] = (events[-1][0], moment)
        else:
            events.append((moment, moment))
    return events


def _read_json(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with a list for each series")
    return content


def _read_times(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    with path.open(encoding="utf-8") as lines:
        next(lines)
        try:
            times = np.array([seconds(line.split(",", 1)[0]) for line in lines])
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
    if len(times) < 2:
        raise DataError(f"{path}: fewer than two rows")
    return times
