"""The detector of episodes: state as arrays, rows in, verdicts and episodes out.

Invariant: a pure fold over each entity's rows in log order; equal logs give equal bytes, however they are cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.ensemble.kernels.ensemble_rows import fold_rows
from shared.ensemble.kernels.layout import ENTITY_DTYPE, KEYS, METRIC_DTYPE, Knobs, Settings
from shared.ensemble.kernels.outputs import CELL_DTYPE, EVENT_DTYPE, ROW_DTYPE

UTC = (np.zeros(1, np.int64), np.zeros(1, np.int64))
"""Time zone without changes: (UTC ms from which on, offset in ms)."""


class State:
    """What a partition remembers; indices are those of its entities and slots."""

    def __init__(self, entities: int = 0, metrics: int = 0) -> None:
        self.entities = np.zeros(entities, ENTITY_DTYPE)
        self.metrics = np.zeros(metrics, METRIC_DTYPE)

    def copy(self) -> State:
        """Return a state of the same bytes."""
        other = State()
        other.entities = self.entities.view(np.uint8).copy().view(ENTITY_DTYPE)
        other.metrics = self.metrics.view(np.uint8).copy().view(METRIC_DTYPE)
        return other

    def to_bytes(self) -> bytes:
        """Return the bytes of a snapshot."""
        return self.entities.tobytes() + self.metrics.tobytes()


class Verdicts(NamedTuple):
    """rows: ROW_DTYPE (n,), cells: CELL_DTYPE (n, M), events: EVENT_DTYPE (k,) in the order of their rows."""

    rows: npt.NDArray[Any]
    cells: npt.NDArray[Any]
    events: npt.NDArray[Any]


def fold(
    state: State,
    entity: Any,
    time_ms: Any,
    values: Any,
    slots: Any = None,
    settings: Settings | None = None,
    knobs: Knobs | None = None,
    zone: Any = UTC,
    order: Any = None,
) -> Verdicts:
    """Fold rows into the state and judge them; see ``kernels.fold.fold_rows``."""
    values = np.require(values, np.float64, "C")
    n, width = values.shape
    entity = np.require(entity, np.int32, "C")
    time_ms = np.require(time_ms, np.int64, "C")
    slots = (
        np.arange(len(state.entities) * width, dtype=np.int32).reshape(-1, width)
        if slots is None
        else np.require(slots, np.int32, "C")
    )
    order = np.arange(width, dtype=np.int32) if order is None else np.require(order, np.int32, "C")
    given = settings or Settings()
    given = Settings(
        float(given.per_day),
        bool(given.cold_start),
        int(given.lateness_ms),
        int(given.use),
        bool(given.joint),
        bool(given.season),
        int(given.warmup),
    )
    knobs = Knobs(*map(float, knobs or Knobs()))
    rows, cells = np.zeros(n, ROW_DTYPE), np.zeros((n, width), CELL_DTYPE)
    room = 4 * KEYS * width + 64
    start, parts = 0, []
    while start < n:
        events = np.zeros(room, EVENT_DTYPE)
        start, at = fold_rows(
            entity,
            time_ms,
            values,
            slots,
            order,
            state.entities,
            state.metrics,
            zone[0],
            zone[1],
            given,
            knobs,
            start,
            rows,
            cells,
            events,
            0,
        )
        parts.append(events[:at])
        room = max(room, min(2 * room, 65536))
    return Verdicts(rows, cells, np.concatenate(parts) if parts else np.zeros(0, EVENT_DTYPE))
