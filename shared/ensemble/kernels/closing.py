"""Closes an entity's open episodes for a reason that lies outside of its values.

Invariant: each open episode that has a record writes one event; after it none is open.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.entity.episode import CLOSED_STATE, REPORTED
from shared.ensemble.kernels.entity.event_rows import About, write_event
from shared.ensemble.kernels.entity.row import Reported, Row
from shared.ensemble.kernels.fold_arguments import ENTITY, EVENT, REPORTED_METRICS, ROW
from shared.ensemble.kernels.layout import JOINED, KEYS, NO_METRIC, TRAINED, TRAINED_KEY
from shared.ensemble.kernels.outputs import CLOSED


@njit(cache=True, error_model="numpy")
def _close(
    ep: Record, about: About, row: Row, reason: int, threshold: float, events: Record, at: int
) -> int:
    """Close an episode if it is open; return the events written so far."""
    if ep["state"] == REPORTED:
        write_event(events[at], row, about, CLOSED, math.nan, 0.0, threshold, ep)
        events[at]["reason"] = reason
        at += 1
    ep["state"] = CLOSED_STATE
    return at


@njit(
    types.int64(ENTITY, REPORTED_METRICS, ROW, types.int64, types.float64, EVENT[::1]),
    cache=True,
    error_model="numpy",
)
def close_episodes(
    e: Record, reported: Reported, row: Row, reason: int, threshold: float, events: Record
) -> int:
    """Close all open episodes of an entity for a reason that lies outside of its values.

    reported : all its metrics
    row      : before which they end
    events   : EVENT_DTYPE (>= KEYS n + 2,)  out
    returns  : events written
    """
    at = 0
    for j in range(reported.n):
        m = reported.metrics[reported.slots[j]]
        for key in range(KEYS):
            ep = m["episodes"][key]
            view: int = np.int64(ep["view"])  # type: ignore[assignment]
            about = About(reported.columns[j], key, view)
            at = _close(ep, about, row, reason, threshold, events, at)
    at = _close(e["joint"], About(-1, NO_METRIC, JOINED), row, reason, threshold, events, at)
    about = About(-1, TRAINED_KEY, TRAINED)
    return _close(e["trained"], about, row, reason, threshold, events, at)
