"""Runs one entity's rows through the ensemble and returns its results."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import pytest

from shared.ensemble.fold import EnsembleState, Rows, fold, limits_for
from shared.ensemble.kernels.outputs import OPEN, WORSE
from shared.kernels.clock import UTC
from tests.support.noise import clock, daily, days_of, noise


class FoldResult(NamedTuple):
    """Results of a fold and the state behind it."""

    rows: Any
    cells: Any
    events: Any
    state: EnsembleState

    @property
    def alarms(self) -> Any:
        """Events that are anomalies."""
        return self.events[np.isin(self.events["phase"], (OPEN, WORSE))]

    @property
    def alarm_days(self) -> Any:
        """Days since the first Monday of each anomaly."""
        return days_of(self.alarms["time_ms"])

    def says(self, phase: int) -> Any:
        """Events of one phase."""
        return self.events[self.events["phase"] == phase]


def one_slot_each(entities: int, metrics: int) -> Any:
    """Return the slots of entities that report every metric."""
    return np.arange(entities * metrics, dtype=np.int32).reshape(entities, metrics)


def new_state(entities: int, metrics: int) -> EnsembleState:
    """Return the state before the first row."""
    return EnsembleState(entities, entities * metrics)


def bytes_of(state: EnsembleState) -> bytes:
    """Return all that a snapshot holds."""
    arrays = state.to_arrays(len(state.entities), len(state.metrics))
    return b"".join(array.tobytes() for array in arrays.values())


def judge(
    time_ms: Any,
    values: Any,
    zone: Any = UTC,
    params: Any = None,
    trained: Any = None,
    views: int | None = None,
    **asked: Any,
) -> FoldResult:
    """Fold one entity's rows in the order given.

    values : float64 (n,) or (n, M)
    views  : those that may alarm, a bit each, without the joint one; asked: as limits_for
    """
    values = np.asarray(values, float)
    values = values[:, None] if values.ndim == 1 else values
    metrics = values.shape[1]
    limits = limits_for(metrics, **asked)
    if views is not None:
        limits = limits._replace(settings=limits.settings._replace(use=views, joint=False))
    state = new_state(1, metrics)
    entity = np.zeros(len(values), np.int32)
    rows = Rows(entity, time_ms, values, one_slot_each(1, metrics)[entity], trained=trained)
    out = fold(state, rows, limits, params, zone)
    return FoldResult(out.rows, out.cells, out.events, state)


def series(
    days: float,
    step_s: float = 300,
    family: str = "gauss",
    seed: int = 0,
    swing: float = 20.0,
    spread: float = 2.0,
) -> tuple[Any, Any]:
    """Return times and values of a metric with a daily curve and noise."""
    time_ms = clock(days, step_s)
    return time_ms, daily(time_ms, swing=swing) + spread * noise(family, len(time_ms), seed)


def host(
    seed: int, days: float = 9, metrics: int = 3, family: str = "gauss", step_s: float = 300
) -> tuple[Any, Any]:
    """Return times and rows of an entity with missing cells, an incident and an absurd value."""
    time_ms = clock(days, step_s)
    n = len(time_ms)
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [
            daily(time_ms + k * 3_600_000) + 3 * noise(family, n, seed + 100 * k)
            for k in range(metrics)
        ]
    )
    values[rng.random(values.shape) < 0.02] = np.nan
    values[3 * n // 4 : 3 * n // 4 + 24, 0] *= 2
    values[n // 3, -1] = 1e18
    return time_ms, values


def is_found(days: Any, day: float, hours: float = 2.5) -> bool:
    """Whether one of the days lies within so many hours after a day."""
    return bool(((days >= day) & (days <= day + hours / 24)).any())


def count(days: Any, first: float, last: float) -> int:
    """How many of the days lie in [first, last)."""
    return int(((days >= first) & (days < last)).sum())


SLOW = os.environ.get("NUMBA_DISABLE_JIT") == "1"
needs_speed = pytest.mark.skipif(SLOW, reason="long series, compiled only")
