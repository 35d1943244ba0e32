"""The slow truth of the replay: events one by one as tuples."""

from __future__ import annotations

import math
from itertools import pairwise


def merge(series):
    """Return (time_ms, entity, {metric: value}) of every row, by time.

    Equal times keep the order of series and rows.
    """
    events = []
    for one in series:
        for row in range(len(one.time_ms)):
            cells = {
                metric: float(one.values[row, column]) for column, metric in enumerate(one.metrics)
            }
            present = {metric: value for metric, value in cells.items() if not math.isnan(value)}
            events.append((int(one.time_ms[row]), one.entities[one.entity[row]], present))
    return sorted(events, key=lambda event: event[0])


def due_s(times, paced_from, speed, positions):
    """Return when each position is due, walking through the rounds and adding up the waits."""
    steps = sorted(b - a for a, b in pairwise(times) if b > a)
    middle = len(steps) // 2
    step = (
        (steps[middle] if len(steps) % 2 else int((steps[middle - 1] + steps[middle]) / 2))
        if steps
        else 1000
    )
    due, elapsed_ms = [], 0
    for position in range(positions):
        if position > paced_from:
            row = position % len(times)
            elapsed_ms += step if row == 0 else times[row] - times[row - 1]
        due.append(elapsed_ms / 1000 / speed if position >= paced_from else 0.0)
    return due
