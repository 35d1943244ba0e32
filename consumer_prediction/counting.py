"""What the predictor counts of each outcome, per batch and never per event.

Law: counting changes nothing; only what was committed is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.counters import (
    ANOMALIES,
    DEAD_LETTERS,
    END_TO_END_SECONDS,
    EVENTS_CONSUMED,
    EVENTS_SCORED,
    Counters,
)
from shared.events import Reason, State, severity_class
from shared.scoring import Outcome


def count_committed(counters: Counters, outcomes: Sequence[Outcome], now_ms: int) -> None:
    """Count the outcomes of one committed transaction.

    now_ms : wall clock, ms since 1970 UTC; the end-to-end time is measured against Kafka's record timestamps
    """
    for outcome in outcomes:
        batch, columns, verdicts = outcome.batch, outcome.columns, outcome.verdicts
        counters.add(EVENTS_CONSUMED, len(batch), batch.topic, batch.partition)
        for state, count in zip(*np.unique(verdicts.state, return_counts=True), strict=True):
            counters.add(EVENTS_SCORED, int(count), outcome.detector_id, State(int(state)).name)
        for reason, count in zip(*np.unique(columns.reasons, return_counts=True), strict=True):
            counters.add(DEAD_LETTERS, int(count), Reason(int(reason)).code)
        for anomaly in outcome.anomalies:
            counters.add(ANOMALIES, 1, outcome.detector_id, severity_class(anomaly.severity).value)
        stamped = batch.broker_ms[batch.broker_ms > 0]
        if len(stamped):
            counters.observe(END_TO_END_SECONDS, np.maximum(now_ms - stamped, 0) / 1000.0)
