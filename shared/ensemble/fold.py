"""The default detector: online members, calibration, policy, all of it arrays.

Law: a pure fold over each entity's rows in log order; equal logs give equal bytes, however they are
     cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.ensemble.kernels.ensemble_rows import fold_ensemble
from shared.ensemble.kernels.layout import ENTITY_DTYPE, METRIC_DTYPE, Knobs
from shared.ensemble.kernels.outputs import CELL_DTYPE, ROW_DTYPE, Limits, Verdicts, to_verdicts

__all__ = [
    "MEMBER_NAMES",
    "PART_NAMES",
    "EnsembleState",
    "Knobs",
    "Limits",
    "Verdicts",
    "fold",
    "knobs_for",
    "limits_for",
]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MEMBER_NAMES = ("novelty", "neighbours", "time_of_day", "burst")
PART_NAMES = (*MEMBER_NAMES, "absence", "combination")
_WEIGHTS = {
    "novelty": "weight_long",
    "burst": "weight_short",
    "neighbours": "weight_neighbours",
    "time_of_day": "weight_time",
}


class EnsembleState:
    """What the ensemble remembers of a partition; indices are those of the partition's entities and
    slots.

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
        """Return what is in use as bytes, (n, record size) each: views, which the next row changes."""
        return {
            "ensemble_entities": _as_bytes(self.entities)[:entities],
            "ensemble_metrics": _as_bytes(self.metrics)[:slots],
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
                raise ValueError(
                    f"ensemble_{name} is {found.dtype} {found.shape}, not uint8 (n,"
                    f" {dtype.itemsize})"
                )
            setattr(state, name, np.ascontiguousarray(found).copy().reshape(-1).view(dtype))
        return state


def knobs_for(detector: str, threshold: float) -> Knobs:
    """Build the knobs of a detector: all parts together, or one of them alone.

    detector  : ensemble, one of MEMBER_NAMES, or combination; a part alone has neither absence nor
                a trained member
    threshold : finite, > 0; compared with Z as ever: that of a member alone is its own rarity,
                smoothed; that of the combination its rarity times the weight that it has in the
                ensemble, as without it a tenth of all rows is above
    raises    : ValueError naming what is allowed
    """
    if not (np.isfinite(threshold) and threshold > 0.0):
        raise ValueError(f"threshold is {threshold}, not finite and > 0")
    knobs = Knobs(threshold=float(threshold))
    if detector == "ensemble":
        return knobs
    alone = knobs._replace(
        **dict.fromkeys(_WEIGHTS.values(), 0.0), absence=0.0, weight_cross=0.0, weight_trained=0.0
    )
    if detector == "combination":
        return alone._replace(weight_cross=knobs.weight_cross, cross_floor=0.0, choice=0.0)
    if detector in _WEIGHTS:
        return alone._replace(**{_WEIGHTS[detector]: 1.0})
    raise ValueError(
        f"detector is {str(detector)!r}, not one of"
        f" {', '.join(('ensemble', *_WEIGHTS, 'combination'))}"
    )


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
    columns = [
        np.array(np.broadcast_to(np.asarray(x, float), metrics))
        for x in (direction, min_absolute, min_relative)
    ]
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
    order: npt.NDArray[np.int32] | None = None,
    forgotten: Flags | None = None,
) -> Verdicts:
    """Fold rows into the state and judge them; see ``kernels.ensemble.fold_ensemble``.

    slots     : int32 (E, M)  the state has room for all slots and entities that occur
    values    : float64 (n, M)
    trained   : float64 (n,)  default: NaN, no trained member
    counts    : bool (n,)     default: every row moves the state
    order     : int32 (M,)    default: columns from left to right; columns sorted by the metrics'
                names make an entity's verdicts independent of the places of the columns
    forgotten : bool (n,)     default: no entity starts anew

    raises : ValueError when order is not a permutation of the columns
    """
    rows, metrics = values.shape
    places = np.arange(metrics, dtype=np.int32) if order is None else _plain(order, np.int32)
    if not np.array_equal(np.sort(places), np.arange(metrics)):
        raise ValueError(f"order is {places.tolist()}, not each of the {metrics} columns once")
    verdicts, cells = np.zeros(rows, ROW_DTYPE), np.zeros((rows, metrics), CELL_DTYPE)
    fold_ensemble(
        _plain(entity, np.int32),
        _plain(time_ms, np.int64),
        _plain(values, np.float64),
        np.full(rows, np.nan) if trained is None else _plain(trained, np.float64),
        np.ones(rows, np.bool_) if counts is None else _plain(counts, np.bool_),
        np.zeros(rows, np.bool_) if forgotten is None else _plain(forgotten, np.bool_),
        _plain(slots, np.int32),
        places,
        state.entities,
        state.metrics,
        Knobs(*map(float, knobs or Knobs())),
        Limits(
            int(limits[0]),
            float(limits[1]),
            bool(limits[2]),
            *(_plain(column, np.float64) for column in limits[3:]),
        ),
        verdicts,
        cells,
    )
    return to_verdicts(verdicts, cells)


def _plain(array: npt.ArrayLike, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the array as the kernel's one signature takes it; a copy only where it is not so
    already.
    """
    return np.require(array, dtype, ("C", "A", "W"))


def _grown(records: npt.NDArray[np.void], size: int) -> npt.NDArray[np.void]:
    grown = np.zeros(size, records.dtype)
    _as_bytes(grown)[: len(records)] = _as_bytes(records)
    return grown


def _as_bytes(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """View records as rows of bytes: their fields overlap, so they are never copied field by field."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
