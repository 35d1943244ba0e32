"""What goes into the ensemble beside the rows, and what comes out: columns, one entry per row or
per row and metric.

Law: every entry is written for every row; what is not known is NaN, 0, -1 or False as its line
     says, never a leftover.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from shared.ensemble.kernels.layout import MEMBERS, PARTS, Floats, Record

Flags = npt.NDArray[np.bool_]
Ints32 = npt.NDArray[np.int32]


class Verdicts(NamedTuple):
    """What comes out, one entry per row.

    joint       : float64 (n,)        S, the strongest metric's weighted mean of rarities
    score       : float64 (n,)        Z; NaN before the first metric is ready, and where every value
                  is missing
    effective   : float64 (n,)        Z less habituation, what the threshold is compared with
    severity    : float64 (n,)        0..1, .5 at the threshold; NaN where score is
    threshold   : float64 (n,)        in force for the row
    is_anomaly  : bool (n,)           an alarm
    cold_start  : bool (n,)           an alarm of the robust band, before the warm-up has ended
    warmup      : float64 (n,)        share of the warm-up done, 1 = ready (the metric that is
                  farthest)
    rarity      : float64 (n, M, 4)   calibrated score of each member; NaN = not judged
    combination : float64 (n,)        rarity of the cross-metric residual, smoothed; 0 = none
    shares      : float64 (n, M, 6)   of the four members, absence and combination; with `trained`
                  they sum to 1
    trained     : float64 (n,)        share of the trained member
    expected, lower, upper : float64 (n, M)   in the metric's unit; NaN = not known
    level       : float64 (n, M)      expected value of the season alone, in the metric's unit; NaN
                  = not known
    weekly      : bool (n, M)         the expected value and the level are those of the time of the
                  week
    unseen      : uint8 (n, M, 4)     1 = the member remembers no score as high
    history_ms  : float64 (n, M)      time since the metric's first value; NaN = it never reported
    quiet_ms    : float64 (n, M)      present silence, at the usual interval; 0 = none, or it was
                  never active
    longest_ms  : float64 (n, M)      longest silence before, fading; 0 = none
    metric_severity : float64 (n, M)  severity of the metric's own Z without habituation, on the
                      scale of ``severity``; 0 where it deviates less than asked; NaN while it warms
                      up or is missing
    warmup_minutes_left : float64 (n,)  until the metric that is farthest is ready; 0 = ready,
                          NaN = not known yet
    top_metric  : int32 (n,)          column with the largest sum of shares, of a cold alarm the
                  extreme one; -1 = none
    """

    joint: Floats
    score: Floats
    effective: Floats
    severity: Floats
    threshold: Floats
    is_anomaly: Flags
    cold_start: Flags
    warmup: Floats
    rarity: Floats
    combination: Floats
    shares: Floats
    trained: Floats
    expected: Floats
    lower: Floats
    upper: Floats
    level: Floats
    weekly: Flags
    unseen: npt.NDArray[np.uint8]
    history_ms: Floats
    quiet_ms: Floats
    longest_ms: Floats
    metric_severity: Floats
    warmup_minutes_left: Floats
    top_metric: Ints32


class Limits(NamedTuple):
    """What a user asks for.

    warmup       : samples; 0 = three days, 150 to 1024
    per_day      : alarm budget, alarms per entity and day; 0 = the fixed threshold of the knobs
    cold_start   : whether extreme values raise alarms before the warm-up has ended
    direction    : float64 (M,)  +1 up only, -1 down only, 0 both
    min_absolute : float64 (M,)  least deviation from the expected value, in the metric's unit
    min_relative : float64 (M,)  the same as a share of |expected|
    """

    warmup: int
    per_day: float
    cold_start: bool
    direction: Floats
    min_absolute: Floats
    min_relative: Floats


ROW_DTYPE = np.dtype(
    [
        *(
            (name, "f8")
            for name in (
                "joint",
                "score",
                "effective",
                "severity",
                "threshold",
                "warmup",
                "combination",
                "trained",
            )
        ),
        ("warmup_minutes_left", "f8"),
        ("top_metric", "i4"),
        ("is_anomaly", "?"),
        ("cold_start", "?"),
    ],
    align=True,
)
CELL_DTYPE = np.dtype(
    [
        *(
            (name, "f8")
            for name in (
                "expected",
                "lower",
                "upper",
                "level",
                "history_ms",
                "quiet_ms",
                "longest_ms",
            )
        ),
        ("metric_severity", "f8"),
        ("rarity", "f8", (MEMBERS,)),
        ("shares", "f8", (PARTS,)),
        ("weekly", "?"),
        ("unseen", "u1", (MEMBERS,)),
    ],
    align=True,
)
"""What kernels write, under the names of Verdicts: one record per row, and one per row and metric.
Records, because an array that is passed on costs compiled code two atomic operations at every call.
"""


@njit(cache=True)
def clear_cell(cell: Record) -> None:
    """Write what a metric says that never reported."""
    for k in range(MEMBERS):
        cell["rarity"][k] = math.nan
        cell["unseen"][k] = 0
    for k in range(PARTS):
        cell["shares"][k] = 0.0
    cell["expected"] = cell["lower"] = cell["upper"] = cell["level"] = math.nan
    cell["history_ms"] = cell["metric_severity"] = math.nan
    cell["quiet_ms"] = cell["longest_ms"] = 0.0
    cell["weekly"] = False


def to_verdicts(rows: Record, cells: Record) -> Verdicts:
    """Copy records into columns.

    rows, cells : ROW_DTYPE (n,), CELL_DTYPE (n, M)
    """
    taken = {
        name: rows[name] if name in (ROW_DTYPE.names or ()) else cells[name]
        for name in Verdicts._fields
    }
    return Verdicts(**{name: np.ascontiguousarray(column) for name, column in taken.items()})
