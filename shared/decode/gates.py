"""From decoded records to columns, for the decoders of all formats.

Invariant: a rejected record has no effect: it adds no entity and no metric.
"""

from __future__ import annotations

import numpy as np

from shared.columns import Columns
from shared.decode.kernels.gate_checks import GatedRows, GateLimits
from shared.directory import Directory
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


def columns_of(rows: GatedRows, accepted: int, rejected: int, entities: Directory) -> Columns:
    """Return rows as columns.

    accepted, rejected : number of each in rows
    entities           : gets the names of accepted records, in log order
    """
    bounds = rows.name_bounds[: accepted + 1]
    entity = entities.intern(rows.names, bounds)
    return Columns(
        rows.accepted[:accepted],
        entity,
        rows.time_ms[:accepted],
        rows.values[:accepted],
        rows.rejected[:rejected],
        rows.reasons[:rejected],
    )
