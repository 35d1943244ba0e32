"""The default detector: online members, calibration, policy, all of it arrays.

Law: a pure fold over each entity's rows in log order; equal logs give equal bytes, however they are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.kernels.ensemble import Limits, Verdicts, fold_ensemble
from shared.kernels.layout import ENTITY_DTYPE, MEMBERS, METRIC_DTYPE, PARTS, Knobs

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MEMBER_NAMES = ("novelty", "neighbours", "time_of_day", "burst")
PART_NAMES = (*MEMBER_NAMES, "absence", "combination")


class EnsembleState:
    """What the ensemble remembers of a partition; indices are those of the partition's entities and slots.

    entities : ENTITY_DTYPE (E,)
    metrics  : METRIC_DTYPE (S,)
    """

    def __init__(self) -> None:
        self.entities = np.zeros(0, ENTITY_DTYPE)
        self.metrics = np.zeros(0, METRIC_DTYPE)

    def reserve(self, entities: int, slots: int) -> None:
        """Make room for so many entities and slots in all; capacity doubles."""
        if entities > len(self.entities):
            self.entities = _grown(self.entities, max(entities, 2 * len(self.entities)))
        if slots > len(self.metrics):
            self.metrics = _grown(self.metrics, max(slots, 2 * len(self.metrics)))

    def to_arrays(self, entities: int, slots: int) -> dict[str, npt.NDArray[np.uint8]]:
        """Return what is in use as bytes, (n, record size) each."""
        return {
            "ensemble_entities": _as_bytes(self.entities)[:entities].copy(),
            "ensemble_metrics": _as_bytes(self.metrics)[:slots].copy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> EnsembleState:
        """Rebuild a state from ``to_arrays``.

        raises : ValueError when an array has another record size
        """
        state = cls()
        for name, dtype in (("entities", ENTITY_DTYPE), ("metrics", METRIC_DTYPE)):
            found = arrays[f"ensemble_{name}"]
            if found.dtype != np.uint8 or found.ndim != 2 or found.shape[1] != dtype.itemsize:
                raise ValueError(f"ensemble_{name} is {found.dtype} {found.shape}, not uint8 (n, {dtype.itemsize})")
            setattr(state, name, np.ascontiguousarray(found).copy().reshape(-1).view(dtype))
        return state


def limits_for(
    metrics: int,
    warmup: int = 0,
    per_day: float = 0.0,
    cold_start: bool = True,
    direction: npt.ArrayLike = 0.0,
    min_absolute: npt.ArrayLike = 0.0,
    min_relative: npt.ArrayLike = 0.0,
) -> Limits:
    """Build Limits for so many metrics; single numbers hold for all.

    raises : ValueError naming what is outside its range
    """
    if warmup != 0 and not 2 <= warmup <= 1024:
        raise ValueError(f"warmup is {warmup}, not 0 or 2..1024")
    if not (per_day >= 0.0 and np.isfinite(per_day)):
        raise ValueError(f"per_day is {per_day}, not finite and >= 0")
    columns = [np.array(np.broadcast_to(np.asarray(x, float), metrics)) for x in (direction, min_absolute, min_relative)]
    if not np.isin(columns[0], (-1.0, 0.0, 1.0)).all():
        raise ValueError("direction is not -1, 0 or 1")
    if not all((np.isfinite(x) & (x >= 0)).all() for x in columns[1:]):
        raise ValueError("min_absolute or min_relative is not finite and >= 0")
    return Limits(int(warmup), float(per_day), bool(cold_start), *columns)


def fold(
    state: EnsembleState,
    slots: npt.NDArray[np.int32],
    entity: npt.NDArray[np.int32],
    time_ms: npt.NDArray[np.int64],
    values: Floats,
    limits: Limits,
    knobs: Knobs | None = None,
    trained: Floats | None = None,
    counts: Flags | None = None,
) -> Verdicts:
    """Fold rows into the state and judge them; see ``kernels.ensemble.fold_ensemble``.

    slots : int32 (E, M); the state has room for all slots and entities that occur
    """
    rows, metrics = values.shape
    out = _verdicts(rows, metrics)
    fold_ensemble(
        entity,
        time_ms,
        np.ascontiguousarray(values),
        np.full(rows, np.nan) if trained is None else trained,
        np.ones(rows, np.bool_) if counts is None else counts,
        slots,
        state.entities,
        state.metrics,
        knobs or Knobs(),
        limits,
        out,
    )
    return out


def _verdicts(rows: int, metrics: int) -> Verdicts:
    row = {name: np.zeros(rows) for name in ("joint", "score", "effective", "severity", "threshold", "warmup")}
    cells = {name: np.zeros((rows, metrics)) for name in ("expected", "lower", "upper")}
    return Verdicts(
        **row,
        **cells,
        alarm=np.zeros(rows, np.bool_),
        cold=np.zeros(rows, np.bool_),
        rarity=np.zeros((rows, metrics, MEMBERS)),
        combination=np.zeros(rows),
        shares=np.zeros((rows, metrics, PARTS)),
        trained=np.zeros(rows),
    )


def _grown(records: npt.NDArray[np.void], size: int) -> npt.NDArray[np.void]:
    grown = np.zeros(size, records.dtype)
    _as_bytes(grown)[: len(records)] = _as_bytes(records)
    return grown


def _as_bytes(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """View records as rows of bytes: their fields overlap, so they are never copied field by field."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
