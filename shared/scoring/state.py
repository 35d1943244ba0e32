"""The state of a partition, as arrays; a fold over its log.

Invariant: the state is a pure function of the partition's log prefix, of the activations in it and
           of STATE_VERSION: no clock, random number, capacity or batch boundary enters its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.columns import Columns
from shared.directory import Directory
from shared.ensemble.fold import EnsembleState
from shared.events import Activation
from shared.features.kernels.rolling import (
    RING,
    Folded,
    SeriesState,
    count_new_slots,
    empty_rows,
    fold_rows,
)
from shared.quality.checks import QualityState

_ENTITY_ARRAYS: dict[str, type[np.generic]] = {
    "newest_ms": np.int64,
    "events": np.int64,
    "moves": np.int64,
    "interval_ms": np.float64,
    "pause_ms": np.float64,
    "ahead_ms": np.int64,
    "ahead_rows": np.int64,
}
_SLOT_ARRAYS: dict[str, type[np.generic]] = {"pushed": np.int64, "newest": np.float64}
_ROOM = 64
NEVER_MS = 1 << 62


class PartitionState:
    """What is known about the series of one partition.

    entities    : Directory          name -> entity index
    metrics     : list of str        metric index -> name, in order of first appearance
    slots       : int32 (E, M)       slot of each (entity, metric), -1 = never reported
    newest_ms   : int64 (E,)         newest event time
    events      : int64 (E,)         rows folded
    moves       : int64 (E,)         rows that may have moved anything of the entity
    interval_ms, pause_ms : float64 (E,)   usual interval and longest usual pause
    ahead_ms, ahead_rows  : int64 (E,)     newest row too far ahead, and how many agree with it
    judged_by   : uint8 (8,)         digest of the detection settings of the newest row, 0 = none
    ring        : float64 (S, RING)  newest samples of each slot
    pushed      : int64 (S,)         samples ever pushed into each slot
    newest      : float64 (S,)       value in the entity's newest event, NaN = missing there
    ensemble    : what the online members remember; takes memory only while they score
    quality     : what the data-quality verdicts remember
    base        : first offset that was folded
    next_offset : first offset that was not
    activation  : the model and settings in force from its offset on; None before the first
    """

    newest_ms: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    moves: npt.NDArray[np.int64]
    interval_ms: npt.NDArray[np.float64]
    pause_ms: npt.NDArray[np.float64]
    ahead_ms: npt.NDArray[np.int64]
    ahead_rows: npt.NDArray[np.int64]
    pushed: npt.NDArray[np.int64]
    newest: npt.NDArray[np.float64]

    def __init__(self, base: int) -> None:
        self.base = base
        self.next_offset = base
        self.activation: Activation | None = None
        self.entities = Directory()
        self.metrics: list[str] = []
        self.ensemble = EnsembleState()
        self.quality = QualityState()
        self.judged_by = np.zeros(8, np.uint8)
        self._used = np.zeros(1, np.int64)
        self._allocate(0, 0, 0)

    @property
    def slots_used(self) -> int:
        """How many (entity, metric) pairs have a slot."""
        return int(self._used[0])

    def reserve(self, entities: int, metrics: int, slots: int) -> None:
        """Reserve space for this many entities, metrics and slots.

        Capacity grows ahead of need and never enters the bytes.
        """
        rows, columns = self.slots.shape
        if entities > rows or metrics > columns or slots > len(self.ring):
            self._allocate(
                max(entities, 2 * rows if entities > rows else rows),
                max(metrics, columns),
                max(slots, 2 * len(self.ring) if slots > len(self.ring) else len(self.ring)),
            )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is in use; equal states give equal bytes."""
        entities, slots = len(self.entities), self.slots_used
        arrays = {name: getattr(self, name)[:entities] for name in _ENTITY_ARRAYS}
        arrays |= {name: getattr(self, name)[:slots] for name in (*_SLOT_ARRAYS, "ring")}
        arrays["judged_by"] = self.judged_by
        arrays["slots"] = self.slots[:entities, : len(self.metrics)]
        arrays |= self.ensemble.to_arrays(entities, slots) | self.quality.to_arrays(entities, slots)
        return {
            name: np.ascontiguousarray(a)
            for name, a in (arrays | self.entities.to_arrays()).items()
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        metrics: list[str],
        base: int,
        next_offset: int,
        activation: Activation | None,
    ) -> PartitionState:
        """Rebuild a state from ``to_arrays``.

        raises : ValueError when the arrays do not fit together
        """
        state = cls(base)
        state.next_offset, state.activation, state.metrics = next_offset, activation, list(metrics)
        state.entities = Directory.from_arrays({name: arrays[name] for name in ("arena", "bounds")})
        entities, slots = len(state.entities), len(arrays["ring"])
        shapes: dict[str, tuple[int, ...]] = {
            "ring": (slots, RING),
            "slots": (entities, len(metrics)),
            "judged_by": (8,),
        }
        shapes.update(dict.fromkeys(_ENTITY_ARRAYS, (entities,)))
        shapes.update(dict.fromkeys(_SLOT_ARRAYS, (slots,)))
        dtypes = {
            **_ENTITY_ARRAYS, **_SLOT_ARRAYS, "ring": np.float64, "slots": np.int32,
            "judged_by": np.uint8,
        }  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != dtypes[name]:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}, not"
                    f" {np.dtype(dtypes[name])} {shape}"
                )
        table = arrays["slots"]
        if not np.array_equal(np.sort(table[table >= 0]), np.arange(slots)) or (table < -1).any():
            raise ValueError("slots do not number each (entity, metric) once")
        state._used[0] = slots
        state.reserve(entities, len(metrics), slots)
        for name in (*_ENTITY_ARRAYS, *_SLOT_ARRAYS, "ring"):
            getattr(state, name)[: len(arrays[name])] = arrays[name]
        state.slots[:entities, : len(metrics)] = table
        state.judged_by = np.array(arrays["judged_by"], np.uint8)
        state.ensemble = EnsembleState.from_arrays(arrays)
        if len(state.ensemble.entities) > entities or len(state.ensemble.metrics) > slots:
            raise ValueError("the ensemble remembers more entities or metrics than there are")
        state.quality = QualityState.from_arrays(arrays)
        if len(state.quality.entities) != entities or len(state.quality.series) != slots:
            raise ValueError("the quality arrays do not have a row for each entity and slot")
        return state

    def _allocate(self, entities: int, metrics: int, slots: int) -> None:
        entities, metrics, slots = max(entities, _ROOM), max(metrics, 1), max(slots, _ROOM)
        for name, dtype in _ENTITY_ARRAYS.items():
            setattr(self, name, _grown(getattr(self, name, None), (entities,), dtype, 0))
        for name, dtype in _SLOT_ARRAYS.items():
            setattr(self, name, _grown(getattr(self, name, None), (slots,), dtype, 0))
        self.ring = _grown(getattr(self, "ring", None), (slots, RING), np.float64, 0)
        self.slots = _grown(getattr(self, "slots", None), (entities, metrics), np.int32, -1)


def fold(state: PartitionState, columns: Columns, window: int, forget_ms: int = NEVER_MS) -> Folded:
    """Fold decoded rows into the state and return their features.

    window    : 2..RING, samples in the rolling mean and spread
    forget_ms : an entity that returns after longer is reset
    Cost      : O(n M window) time
    """
    n, metrics = columns.values.shape
    state.reserve(len(state.entities), metrics, 0)
    new = count_new_slots(columns.entity, columns.values, state.slots)
    state.reserve(len(state.entities), metrics, state.slots_used + int(new))
    folded = empty_rows(n, metrics)
    series = SeriesState(
        slots=state.slots,
        used=state._used,
        newest_ms=state.newest_ms,
        events=state.events,
        moves=state.moves,
        interval_ms=state.interval_ms,
        pause_ms=state.pause_ms,
        ahead_ms=state.ahead_ms,
        ahead_rows=state.ahead_rows,
        ring=state.ring,
        pushed=state.pushed,
        newest=state.newest,
    )
    fold_rows(columns.entity, columns.time_ms, columns.values, window, forget_ms, series, folded)
    return folded


def _grown(
    old: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: Any, fill: float
) -> npt.NDArray[Any]:
    new = np.full(shape, fill, dtype)
    if old is not None:
        new[tuple(slice(size) for size in old.shape)] = old
    return new
