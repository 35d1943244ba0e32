"""List of every labelled window with its outcome, and of every false alarm with its time.

Invariant: the lists add up to the counts of ``events``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.nab.corpus import Floats, Series
from benchmarks.nab.events import WindowOutcome, count_events, false_starts


def list_windows(
    corpus: Sequence[Series], scores: Sequence[Floats], threshold: float
) -> list[dict[str, Any]]:
    """Return the judged windows and the false alarms of each series.

    A window has its hit or miss and its delays in minutes; a false alarm has its row and its time.
    """
    outcomes = count_events(corpus, scores, threshold).outcomes
    found = []
    for one, mine in zip(corpus, scores, strict=True):
        starts = false_starts(one, mine >= threshold).tolist()
        own = [outcome for outcome in outcomes if outcome.series == one.key]
        found.append(
            {
                "series": one.key,
                "windows": [_window(one, outcome) for outcome in own],
                "in_probation": len(one.windows) - len(own),
                "false_alarms": [{"row": row, "time": one.timestamps[row]} for row in starts],
            }
        )
    return found


def show_windows(listed: Sequence[dict[str, Any]]) -> str:
    """Write the list for a reader, a line per window and per false alarm."""
    lines = []
    for one in listed:
        hits = sum(window["hit"] for window in one["windows"])
        lines.append(
            f"{one['series']}: {hits} of {len(one['windows'])} windows hit, false alarms:"
            f" {len(one['false_alarms'])}"
        )
        lines += [f"  {_line(window)}" for window in one["windows"]]
        lines += [f"  false   {alarm['time']}" for alarm in one["false_alarms"]]
    windows = [window for one in listed for window in one["windows"]]
    false_alarms = sum(len(one["false_alarms"]) for one in listed)
    lines.append(
        f"{sum(window['hit'] for window in windows)} of {len(windows)} windows hit, false alarms:"
        f" {false_alarms}"
    )
    return "\n".join(lines)


def _window(series: Series, outcome: WindowOutcome) -> dict[str, Any]:
    return {
        "first": series.timestamps[outcome.first_row],
        "last": series.timestamps[outcome.last_row],
        "hit": outcome.alarm_row is not None,
        "alarm": None if outcome.alarm_row is None else series.timestamps[outcome.alarm_row],
        "delay_min": outcome.delay_min,
        "wait_min": outcome.wait_min,
    }


def _line(window: dict[str, Any]) -> str:
    span = f"{window['first']} to {window['last']}"
    if not window["hit"]:
        return f"missed  {span}"
    label = (
        ""
        if math.isnan(window["delay_min"])
        else f", {window['delay_min']:+.0f} min from its label"
    )
    return (
        f"hit     {span}  at {window['alarm']}{label}, {window['wait_min']:.0f} min into the window"
    )
