"""Hits and false alarms at the lowest threshold that keeps to a given rate of false alarms.

Invariant: an alarm hits an event from the event's first row until AFTER_ROWS after its last; every
           other alarm is false, and every one counts.

Only rows after the fleet's border are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.fleet.hosts import DAY_ROWS, KINDS, STEP_MS, Fleet

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Alarms = Callable[[float], list[Flags]]
"""Threshold -> alarms of each host, bool (n,)."""

AFTER_ROWS = 12
"""An hour: what a change leaves behind in a rolling window is still that change."""


@dataclass(frozen=True)
class Judgement:
    """Hits and false alarms of one detector at one threshold.

    hits          : per kind, events hit
    events        : per kind, all of them
    false_per_day : false alarms per judged day and host
    delay_min     : median time from an event's first row to its first alarm, minutes; NaN = no hit
    """

    threshold: float
    hits: dict[str, int]
    events: dict[str, int]
    false_per_day: float
    delay_min: float

    def recall(self, *kinds: str) -> float:
        """Share of the events of these kinds (all by default) that were hit."""
        chosen = kinds or KINDS
        return sum(self.hits[kind] for kind in chosen) / max(
            sum(self.events[kind] for kind in chosen), 1
        )


def judge(fleet: Fleet, alarms: list[Flags], threshold: float) -> Judgement:
    """Count hits and false alarms; no alarm during an event, or shortly after it, is false."""
    hits, events = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    wrong = np.stack(alarms)[:, fleet.border :].copy()
    delays = []
    for event in fleet.events:
        low, high = event.first - fleet.border, event.last + 1 + AFTER_ROWS - fleet.border
        found = np.flatnonzero(alarms[event.host][fleet.border :][low:high])
        events[event.kind] += 1
        hits[event.kind] += len(found) > 0
        delays += [float(found[0]) * STEP_MS / 60_000] if len(found) else []
        wrong[event.host, low:high] = False
    days = len(fleet.values) * (len(fleet.time_ms) - fleet.border) / DAY_ROWS
    return Judgement(
        threshold,
        hits,
        events,
        float(wrong.sum()) / days,
        float(np.median(delays)) if delays else np.nan,
    )


def sweep(fleet: Fleet, alarms: Alarms, thresholds: Floats, allowed: float) -> Judgement:
    """Return the result at the lowest threshold that keeps the budget of false alarms.

    thresholds : increasing
    allowed    : false alarms per day and host, kept at this threshold and at all higher ones
    """
    best = judge(fleet, alarms(float(thresholds[-1])), float(thresholds[-1]))
    for threshold in thresholds[-2::-1].tolist():
        found = judge(fleet, alarms(threshold), threshold)
        if found.false_per_day > allowed:
            break
        best = found
    return best


def each_row(scores: list[Floats]) -> Alarms:
    """Every row above the threshold is an alarm."""
    return lambda threshold: [score > threshold for score in scores]


def row_threshold(fleet: Fleet, scores: list[Floats], allowed: float) -> float:
    """Return the lowest threshold for ``each_row`` with at most ``allowed`` false alarms.

    allowed : per judged day and host
    """
    quiet = np.stack(scores)[:, fleet.border :].copy()
    for event in fleet.events:
        quiet[
            event.host, event.first - fleet.border : event.last + 1 + AFTER_ROWS - fleet.border
        ] = -np.inf
    days = len(fleet.values) * (len(fleet.time_ms) - fleet.border) / DAY_ROWS
    ordered = np.sort(np.where(np.isnan(quiet), -np.inf, quiet).ravel())
    return float(ordered[-1 - int(allowed * days)])
