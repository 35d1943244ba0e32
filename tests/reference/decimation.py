"""M4 said as plainly as possible: one pixel column after the other."""

from __future__ import annotations

import math


def m4(time_ms, values, bounds_ms, columns):
    """Choose first, last, smallest and largest of each pixel column."""
    if len(time_ms) <= 4 * columns:
        return list(range(len(time_ms)))
    start_ms, end_ms = bounds_ms
    members = {}
    for index, time in enumerate(time_ms):
        column = (int(time) - start_ms) * columns // max(1, end_ms - start_ms + 1)
        members.setdefault(min(max(column, 0), columns - 1), []).append(index)
    chosen = set()
    for indices in members.values():
        chosen |= {indices[0], indices[-1]}
        known = [index for index in indices if not math.isnan(values[index])]
        if known:
            chosen.add(min(known, key=lambda index: values[index]))
            chosen.add(max(known, key=lambda index: values[index]))
    return sorted(chosen)
