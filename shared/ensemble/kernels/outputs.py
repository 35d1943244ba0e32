"""What comes out: one record per row, one per row and metric, one per episode event.

Invariant: every entry is written for every row; what is not known is NaN, 0 or -1 as its comment
says, never a leftover.
"""

from __future__ import annotations

import numpy as np

ROW_DTYPE = np.dtype(
    [
        ("score", "f8"),  # largest ratio of any view to its level, 1 = level; NaN = not judged
        ("severity", "f8"),  # 1 - .5 / score at or above the threshold, .5 there
        ("threshold", "f8"),
        ("warmup", "f8"),  # share done, 1 = ready
        ("warmup_minutes_left", "f8"),
        ("top_metric", "i4"),  # column, -1 = none or joint
        ("state", "u1"),  # 0 warming, 1 ready
        ("late", "u1"),
        ("ahead", "u1"),
        ("duplicate", "u1"),
        ("is_anomaly", "u1"),
        (
            "cold_start",
            "u1",
        ),  # the anomaly is that of an extreme value before the warm-up has ended
        ("in_episode", "u1"),  # an episode with a record is open
        ("episode_key", "u1"),
        ("episode_column", "i4"),  # -1 = of the entity
        ("episode_at", "i8"),  # offset of the record that opened it
    ],
    align=True,
)
CELL_DTYPE = np.dtype(
    [("expected", "f8"), ("lower", "f8"), ("upper", "f8"), ("metric_severity", "f8")],
    align=True,
)
OPEN, WORSE, CLOSED = range(3)
RECOVERED, ACCEPTED, SILENT, RESTARTED = range(4)
"""Why an episode closed."""

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
        ("cold_start", "u1"),
        ("measure", "u1"),  # what is judged: layout.AS_IT_IS ...
        ("peak_view", "u1"),
        ("episode_at", "i8"),  # offset of the record that opened it
        ("episode_ms", "i8"),  # time of the record that opened it
        ("seen_ms", "i8"),  # newest evidence
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
        ("usual", "f8"),  # at this time of day, on days before
        ("lately", "f8"),  # how far the last 24 hours are from it; 0 = within its spread
        ("amount", "f8"),  # of the view, as the sentence prints it; NaN = none
        ("usual_amount", "f8"),
        ("rarest_days", "i4"),  # days before without a value as extreme about this time of day
        ("watched_days", "i4"),  # days before with a value about this time of day
        ("crowded", "i8"),  # whether bins of the memory are means of several values
        ("width_ms", "i8"),  # of a bin of the memory
        ("span_ms", "i8"),  # that the view looks at: of a mean, or of what did not come
        ("since_ms", "i8"),  # start of a stretch of equal values
        ("moved_ms", "i8"),  # since when a new level or unit is the memory's own; 0 = never
        ("history_ms", "f8"),
    ],
    align=True,
)
