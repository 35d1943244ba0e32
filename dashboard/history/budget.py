"""The alarm budget: episodes that were opened per entity and day, beside what was requested.

Invariant: as in ``lapwing backtest``, days count after the warm-up, and alarms before its end do
           not count.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from shared.kernels.units import DAY_MS

DAYS = 7.0
"""Newest days of each entity, by its own clock, over which the budget is measured."""

WARMUP_DAYS = 2.0
"""Where no activation says it: the default of detection.warmup_days."""


def budget(db: sqlite3.Connection, activations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return requested and achieved alarms per entity and day.

    activations : what scores each partition now; their settings are the predictors'
    requested   : None = no budget is set, a fixed threshold decides
    achieved    : None = no entity has finished its warm-up
    """
    detection: Mapping[str, Any] = {}
    for activation in activations:
        detection = activation["settings"].get("detection") or detection
    warmup_ms = float(detection.get("warmup_days") or WARMUP_DAYS) * DAY_MS
    given = {"warmup": warmup_ms, "span": DAYS * DAY_MS}
    (ready_ms,) = db.execute(
        "SELECT coalesce(sum(max(0, last_ms - max(first_ms + :warmup, last_ms - :span))), 0)"
        " FROM entities",
        given,
    ).fetchone()
    (opened,) = db.execute(
        "SELECT count(*) FROM episodes JOIN entities ON entities.id = episodes.entity"
        " JOIN anomalies ON anomalies.event_id = episodes.id"
        " WHERE anomalies.time_ms >= max(first_ms + :warmup, last_ms - :span)"
        " AND NOT json_extract(anomalies.document, '$.cold_start')",
        given,
    ).fetchone()
    days = ready_ms / DAY_MS
    return {
        "requested": detection.get("alarms_per_day"),
        "threshold": detection.get("threshold"),
        "achieved": opened / days if days > 0 else None,
        "episodes": opened,
        "entity_days": days,
        "days": DAYS,
    }
