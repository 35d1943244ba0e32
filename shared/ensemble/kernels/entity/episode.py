"""One episode: how it starts, what it keeps, when it is reported again and when it ends.

Invariant: it ends after a time without evidence and not before; at most three records in ten days.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from shared.ensemble.kernels.array_types import Record
from shared.ensemble.kernels.codes import fade
from shared.ensemble.kernels.entity.evidence import class_of
from shared.ensemble.kernels.layout import (
    EnsembleParams,
)
from shared.kernels.units import DAY_MS, HOUR_MS

CLOSED_STATE, REPORTED, JOINED_ANOTHER = range(3)
"""States of an episode; one that joined another has no record of its own."""

RECORDS = 3
RECORDS_MS = 10 * DAY_MS


@njit(cache=True, error_model="numpy")
def habit_of(ep: Record, t: int, habit_days: float) -> float:
    """Return how often an episode has opened lately; openings fade with ``habit_days``."""
    return np.float64(ep["habit"]) * math.exp(-(t - ep["opened_ms"]) / (habit_days * DAY_MS))


@njit(cache=True, error_model="numpy")
def start_episode(
    ep: Record,
    ratio: float,
    view: int,
    t: int,
    value: float,
    expected: float,
    state: int,
    params: EnsembleParams,
) -> None:
    """Start an episode at a value; its peak is that value.

    state : REPORTED or JOINED_ANOTHER
    """
    habit = habit_of(ep, t, params.habit_days)
    ep["habit"] = 1.0 + (habit if ep["opened_ms"] > 0 else 0.0)
    ep["start_ms"] = t
    ep["seen_ms"] = t
    ep["opened_ms"] = t
    ep["peak_ms"] = t
    ep["peak_value"] = value
    ep["peak_expected"] = expected
    ep["peak"] = ratio
    ep["recent"] = ratio
    ep["state"] = state
    ep["records"] = 1
    ep["view"] = view
    ep["peak_view"] = view
    ep["level"] = class_of(ratio)


@njit(cache=True, error_model="numpy")
def follow_peak(
    ep: Record, ratio: float, view: int, t: int, dt: float, value: float, expected: float
) -> None:
    """Keep the peak of an open episode and its ratio lately."""
    if ratio > ep["peak"]:
        ep["peak"] = ratio
        ep["peak_ms"] = t
        ep["peak_value"] = value
        ep["peak_expected"] = expected
        ep["peak_view"] = view
    near = np.float64(ep["recent"])
    ep["recent"] = ratio if ratio > near else near + (ratio - near) * fade(dt, HOUR_MS)


@njit(cache=True, error_model="numpy")
def is_worse(ep: Record, ratio: float, params: EnsembleParams) -> bool:
    """Whether an open episode is so much worse than lately that it is reported again."""
    return bool(
        ratio > params.worse * np.float64(ep["recent"]) and ratio >= 1.0 and ep["records"] < RECORDS
    )


@njit(cache=True, error_model="numpy")
def forget_records(ep: Record, t: int) -> None:
    """Let a long episode be reported again."""
    if t - ep["opened_ms"] > RECORDS_MS:
        ep["records"] = 0


@njit(cache=True, error_model="numpy")
def count_opening(e: Record, t: int, ratio: float) -> None:
    """Remember the entity's newest opening, and count it against the budget."""
    e["opened_ms"] = t
    e["opened_level"] = class_of(ratio)
    e["surplus"] += 1.0
