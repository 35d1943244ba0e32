"""From records that were read to columns: what every decoder does, whatever the input's format.

Invariant: a rejected record changes nothing: it adds no entity and no metric.
"""

from __future__ import annotations

import numpy as np

from shared.columns import Columns
from shared.decode.kernels.gate_checks import GatedRows, GateLimits
from shared.directory import UNKNOWN, Directory
from shared.events import Reason
from shared.kernels.text import MAX_NAME_BYTES
from shared.settings import InputSettings

_NAME_SLACK = 64
"""Names are written eight bytes at a time."""


def limits_of(settings: InputSettings) -> GateLimits:
    """Return what the settings ask of every record."""
    return GateLimits(settings.max_record_bytes, settings.min_time_ms, settings.max_time_ms)


def room_for(n: int, metrics: int) -> GatedRows:
    """Return room for n records of so many metrics, whether they are accepted or rejected."""
    return GatedRows(
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty((n, metrics)),
        np.empty(n * MAX_NAME_BYTES + _NAME_SLACK, np.uint8),
        np.empty(n + 1, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.uint8),
    )


def columns_of(
    rows: GatedRows, accepted: int, rejected: int, entities: Directory, max_entities: int
) -> Columns:
    """Return rows that passed the gates as columns; one whose entity is one too many is rejected.

    accepted, rejected : how many of each lie in rows
    entities           : names of accepted records are added, in log order
    max_entities       : a record of a further entity is rejected
    """
    bounds = rows.name_bounds[: accepted + 1]
    entity = entities.intern(rows.names, bounds, max_entities)
    columns = Columns(
        rows.accepted[:accepted],
        entity,
        rows.time_ms[:accepted],
        rows.values[:accepted],
        rows.rejected[:rejected],
        rows.reasons[:rejected],
    )
    return _reject_surplus(columns) if (entity == UNKNOWN).any() else columns


def _reject_surplus(columns: Columns) -> Columns:
    """Move the rows whose entity found no room from the accepted to the rejected ones."""
    kept = columns.entity != UNKNOWN
    surplus = columns.accepted[~kept]
    rejected = np.concatenate([columns.rejected, surplus])
    reasons = np.concatenate(
        [columns.reasons, np.full(len(surplus), Reason.TOO_MANY_ENTITIES, np.uint8)]
    )
    order = np.argsort(rejected)
    return Columns(
        columns.accepted[kept],
        columns.entity[kept],
        columns.time_ms[kept],
        columns.values[kept],
        rejected[order],
        reasons[order],
    )
