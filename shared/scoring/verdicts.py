"""The verdicts on a batch, one per accepted row.

Invariant: a verdict is a value; who made it and its sentence are elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict per accepted row; metric columns follow ``PartitionState.metrics``.

    score, severity, threshold : float64 (n,)   NaN while WARMING
    is_anomaly          : bool (n,)             an episode opens here, or has become worse
    cold_start          : bool (n,)             an alarm of the robust band, before the warm-up has
                          ended
    state               : uint8 (n,)            events.State
    warmup_percent      : float64 (n,)          0..100, NaN = not tracked
    warmup_minutes_left : float64 (n,)          NaN = not known
    top_metric          : int32 (n,)            metric that deviates most, -1 = none known
    episode_id          : 32 hex digits or "" by row  of the open episode that the row belongs to
    expected, lower, upper : float64 (n, M)     NaN = not known yet
    metric_severity     : float64 (n, M)        NaN = nothing to score
    """

    score: Floats
    severity: Floats
    threshold: Floats
    is_anomaly: Flags
    cold_start: Flags
    state: npt.NDArray[np.uint8]
    warmup_percent: Floats
    warmup_minutes_left: Floats
    top_metric: npt.NDArray[np.int32]
    episode_id: npt.NDArray[np.str_]
    expected: Floats
    lower: Floats
    upper: Floats
    metric_severity: Floats
