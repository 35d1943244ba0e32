"""From decoded records to columns, for the decoders of all formats.

Invariant: a rejected record has no effect: it adds no entity and no metric.
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
"""Extra bytes after the names, which are written eight bytes at a time."""


def limits_of(settings: InputSettings) -> GateLimits:
    """Return the limits that the settings impose on every record."""
    return GateLimits(settings.max_record_bytes, settings.min_time_ms, settings.max_time_ms)


def empty_rows(n: int, metrics: int) -> GatedRows:
    """Allocate arrays for n records with this number of metrics, accepted or rejected."""
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
    """Return rows as columns; reject records whose entity exceeds max_entities.

    accepted, rejected : number of each in rows
    entities           : gets the names of accepted records, in log order
    max_entities       : records of additional entities are rejected
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
    """Move rows whose entity was not added to the rejected ones."""
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
