"""Metrics and log lines for committed outcomes, per batch and never per event.

Invariant: counting changes no result; only committed outcomes are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import structlog

from consumer_prediction.ownership import Owned
from shared.events import Phase, Reason, State, severity_class
from shared.features.kernels.places import EVICTED, EVICTED_QUIETLY, EXPIRED, FORGOTTEN
from shared.kernels.units import DAY_MS
from shared.operations.counters import (
    ALARM_BUDGET,
    ANOMALIES,
    DATA_QUALITY,
    DEAD_LETTERS,
    END_TO_END_SECONDS,
    ENTITIES_DROPPED,
    EPISODES_CLOSED,
    EVENTS_CONSUMED,
    EVENTS_SCORED,
    METRICS_IGNORED,
    Counters,
)
from shared.scoring.scorer import Outcome
from shared.wording import moment

log = structlog.get_logger()

DROPPED = {
    EXPIRED: "expired",
    EVICTED: "evicted",
    EVICTED_QUIETLY: "evicted",
    FORGOTTEN: "forgotten",
}
"""Why an entity was dropped, as the metric calls it."""

LONGEST_STEP_MS = DAY_MS
"""A longer gap between two records of an entity counts as this much monitored time."""


def count_committed(counters: Counters, outcomes: Sequence[Outcome], now_ms: int) -> None:
    """Count the outcomes of one committed transaction.

    now_ms : wall clock, ms since 1970 UTC; the end-to-end time is measured against Kafka's record
             timestamps
    """
    if not outcomes:
        return
    for outcome in outcomes:
        batch = outcome.batch
        counters.add(EVENTS_CONSUMED, len(batch), batch.topic, batch.partition)
        for state, count in _counts(outcome.verdicts.state):
            counters.add(EVENTS_SCORED, count, outcome.detector_id, State(state).name)
        for reason, count in _counts(outcome.columns.reasons):
            counters.add(DEAD_LETTERS, count, Reason(reason).code)
        for anomaly in outcome.anomalies:
            if anomaly.is_anomaly and anomaly.severity is not None:
                counters.add(
                    ANOMALIES, 1, outcome.detector_id, severity_class(anomaly.severity).value
                )
            elif anomaly.closed_because is not None:
                counters.add(EPISODES_CLOSED, 1, anomaly.closed_because.value)
            else:
                counters.add(DATA_QUALITY, 1, anomaly.kind.value)
    dropped = np.zeros(len(DROPPED), np.int64)
    for releases in (outcome.folded.releases for outcome in outcomes):
        if len(releases.reason):
            dropped += np.bincount(releases.reason, minlength=len(DROPPED))
    for reason, name in DROPPED.items():
        counters.add(ENTITIES_DROPPED, int(dropped[reason]), name)
    surplus = np.concatenate([outcome.folded.surplus for outcome in outcomes])
    counters.add(METRICS_IGNORED, int(surplus.sum()))
    broker_ms = np.concatenate([outcome.batch.broker_ms for outcome in outcomes])
    stamped = broker_ms[broker_ms > 0]
    if len(stamped):
        counters.observe(END_TO_END_SECONDS, np.maximum(now_ms - stamped, 0) / 1000.0)


def _counts(codes: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Iterate over the codes that occur, and how often each does."""
    for code, count in enumerate(np.bincount(codes).tolist() if len(codes) else ()):
        if count:
            yield code, count


def measure_budget(
    counters: Counters,
    owned: Mapping[int, Owned],
    outcomes: Sequence[Outcome],
    requested: float | None,
) -> None:
    """Compare the alarms per entity and day since the take-over with the configured budget."""
    for outcome in outcomes:
        if budget := owned.get(outcome.batch.partition):
            budget.alarms += sum(anomaly.phase is Phase.OPEN for anomaly in outcome.anomalies)
            budget.entity_days += (
                float(np.minimum(outcome.folded.step_ms, LONGEST_STEP_MS).sum()) / DAY_MS
            )
    days = sum(budget.entity_days for budget in owned.values())
    if days > 0:
        counters.set(
            ALARM_BUDGET, sum(budget.alarms for budget in owned.values()) / days, "achieved"
        )
        counters.set(ALARM_BUDGET, math.nan if requested is None else requested, "asked")


def report(counters: Counters, outcomes: Sequence[Outcome], now_ms: int, entity_field: str) -> None:
    """Count and log what has just been committed; now_ms as for ``count_committed``."""
    count_committed(counters, outcomes, now_ms)
    for outcome in outcomes:
        for anomaly in outcome.anomalies:
            severity = (
                {}
                if anomaly.severity is None
                else {"severity": severity_class(anomaly.severity).value}
            )
            log.info(
                anomaly.kind.value,
                at=moment(anomaly.event_time),
                **{entity_field: anomaly.entity},
                **severity,
                because=anomaly.reason,
            )
