"""What comes out: one record per row, one per row and metric, one per episode event.

Invariant: every entry is written for every row; what is not known is NaN, 0 or -1 as its line says, never a leftover.
"""

from __future__ import annotations

import numpy as np

ROW_DTYPE = np.dtype(
    [
        (
            "score",
            "f8",
        ),  # largest ratio of any view of any metric to its level; 1 = level; NaN while nothing is judged
        ("severity", "f8"),  # 1 - .5 / score at or above the threshold, .5 there
        ("threshold", "f8"),
        ("warmup", "f8"),  # share done, 1 = ready
        ("minutes_left", "f8"),
        ("top", "i4"),  # column, -1 = none or joint
        ("state", "u1"),  # 0 warming, 1 ready
        ("late", "u1"),
        ("ahead", "u1"),
        ("duplicate", "u1"),
        ("is_anomaly", "u1"),
    ],
    align=True,
)
CELL_DTYPE = np.dtype(
    [("expected", "f8"), ("lower", "f8"), ("upper", "f8"), ("severity", "f8")],
    align=True,
)
OPEN, WORSE, CLOSED, GAP, ABSENT, FLAT = range(6)
RECOVERED, ACCEPTED = range(2)
EVENT_DTYPE = np.dtype(
    [
        ("row", "i8"),
        ("entity", "i4"),
        ("metric", "i4"),  # column, -1 = joint
        ("phase", "u1"),
        ("direction", "i1"),
        ("view", "u1"),
        ("reason", "u1"),  # why it closed
        ("key", "u1"),
        ("cold", "u1"),
        ("episode_ms", "i8"),  # time of the record that opened it
        ("start_ms", "i8"),
        ("time_ms", "i8"),
        ("peak_ms", "i8"),
        ("value", "f8"),
        ("expected", "f8"),
        ("lower", "f8"),
        ("upper", "f8"),
        ("peak_value", "f8"),
        ("peak_expected", "f8"),
        ("score", "f8"),
        ("severity", "f8"),
        ("peak_severity", "f8"),
        ("threshold", "f8"),
        ("usual", "f8"),
        ("history_ms", "f8"),
    ],
    align=True,
)
