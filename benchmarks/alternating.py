"""Times of several sides of one job, measured in turn, so that load from outside meets them all.

Invariant: a ratio is the median of the ratios within a repeat, never one of two medians.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def times_of(
    sides: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Return the seconds of each side in each repeat.

    sides : run once before they are measured, in this order, without garbage collection
    clock : seconds; the default is the processor time of this process
    """
    for call in sides.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            gc.collect()
            gc.disable()
            began_s = clock()
            call()
            found[name].append(clock() - began_s)
            gc.enable()
    return found


def rows_of(
    prefix: str, found: Mapping[str, list[float]], base: str, unit: str, scale: float
) -> list[dict[str, Any]]:
    """Return a row for each side.

    base  : the side that the others are compared with; ratio = its time / theirs
    scale : from seconds to the unit
    """
    rows = []
    for name, seconds in found.items():
        ratios = [theirs / ours for theirs, ours in zip(found[base], seconds, strict=True)]
        rows.append(
            {
                "id": f"{prefix}.{name}",
                "value": scale * statistics.median(seconds),
                "unit": unit,
                "base": f"{prefix}.{base}",
                "ratio": statistics.median(ratios),
            }
        )
    return rows
