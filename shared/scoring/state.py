"""The state of a partition, as arrays; a fold over its log.

Invariant: the state is a pure function of the partition's log prefix, of the activations in it and
           of STATE_VERSION: no clock, random number, capacity or batch boundary enters its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.columns import Columns
from shared.directory import Directory
from shared.ensemble.fold import EnsembleState
from shared.events import Activation
from shared.features.kernels import places as kernel
from shared.features.kernels.places import NEVER_MS, Places, Releases
from shared.features.kernels.rolling import RING, Inputs, Outputs, fold_rows
from shared.quality.checks import QualityState

__all__ = ["NEVER_MS", "Folded", "PartitionState", "Releases", "fold"]

_PLACE_ARRAYS: dict[str, type[np.generic]] = {
    "first_ms": np.int64,
    "newest_ms": np.int64,
    "events": np.int64,
    "moves": np.int64,
    "interval_ms": np.float64,
    "pause_ms": np.float64,
    "ahead_ms": np.int64,
    "ahead_rows": np.int64,
    "seen_at": np.int64,
    "seen_clock_ms": np.int64,
    "reported": np.int64,
    "surplus": np.int64,
}
_SLOT_ARRAYS: dict[str, type[np.generic]] = {
    "slot_moves": np.int64,
    "rank": np.int64,
    "pushed": np.int64,
    "newest": np.float64,
}
_ROOM = 64
_SPARSE = 4
"""Arrays shrink when they have this many times the space that is needed."""

_FORGOTTEN_NAMES = 1024
"""Names, or metrics, that may be known without being in use; then they are dropped."""


class PartitionState:
    """What is known about the series of one partition.

    Each entity has a place in the arrays while it is remembered, and each of its metrics a slot.

    entities    : Directory          names seen lately; their numbers are not part of the state
    metrics     : list of str        metric names seen lately, by column of ``slots``; as entities
    places      : Places             what is remembered by place (first P) and slot (first S)
    judged_by   : uint8 (8,)         digest of the detection settings of the newest row, 0 = none
    ensemble    : what the online members remember; takes memory only while they score
    quality     : what the data-quality verdicts remember
    base        : first offset that was folded
    next_offset : first offset that was not
    activation  : the model and settings in force from its offset on; None before the first
    """

    places: Places

    def __init__(self, base: int) -> None:
        self.base = base
        self.next_offset = base
        self.activation: Activation | None = None
        self.entities = Directory()
        self.metrics: list[str] = []
        self.ensemble = EnsembleState()
        self.quality = QualityState()
        self.judged_by = np.zeros(8, np.uint8)
        self._allocate(0, 0, 0, 0)

    @property
    def places_used(self) -> int:
        """Return P: the places up to the last one that is taken."""
        return int(self.places.used[kernel.USED_PLACES])

    @property
    def slots_used(self) -> int:
        """Return S: the slots up to the last one that is taken."""
        return int(self.places.used[kernel.USED_SLOTS])

    @property
    def live(self) -> int:
        """Return how many entities are remembered."""
        return int(self.places.clock[kernel.LIVE])

    def owners(self) -> npt.NDArray[np.int32]:
        """Return the number of the name at each place, -1 = the place is free; int32 (P,)."""
        return self.places.owner[: self.places_used]

    def metric_columns(self) -> npt.NDArray[np.int64]:
        """Return the columns of metrics that an entity has, sorted by name; int64 (m,)."""
        used = (self.places.slots[: self.places_used, : len(self.metrics)] >= 0).any(axis=0)
        columns = sorted(np.flatnonzero(used).tolist(), key=self.metrics.__getitem__)
        return np.array(columns, np.int64)

    def metric_names(self) -> list[str]:
        """Return the names of metrics that an entity has, sorted."""
        return [self.metrics[column] for column in self.metric_columns().tolist()]

    def reserve(self, names: int, places: int, metrics: int, slots: int) -> None:
        """Reserve space for this many names, places, metrics and slots.

        Capacity grows ahead of need and never enters the bytes.
        """
        known = len(self.places.place_of)
        rows, columns = self.places.slots.shape
        room = len(self.places.ring)
        if names > known or places > rows or metrics > columns or slots > room:
            self._allocate(
                max(names, 2 * known) if names > known else known,
                max(places, 2 * rows) if places > rows else rows,
                max(metrics, columns),
                max(slots, 2 * room) if slots > room else room,
            )

    def tidy(self) -> bool:
        """Drop names and metrics that are no longer in use, once there are many of them.

        returns : whether the numbers of names and metrics have changed
        """
        names = len(self.entities) > 2 * self.live + _FORGOTTEN_NAMES
        columns = self.metric_columns() if len(self.metrics) > _FORGOTTEN_NAMES else None
        metrics = columns is not None and 2 * len(columns) < len(self.metrics)
        if names:
            owners = self.owners()
            taken = np.flatnonzero(owners >= 0)
            kept = [self.entities.name(owner) for owner in owners[taken].tolist()]
            self.entities = Directory()
            place_of = np.full(max(len(kept), _ROOM), kernel.NONE, np.int32)
            for number, (place, name) in enumerate(zip(taken.tolist(), kept, strict=True)):
                place_of[self.entities.add(name)] = place
                self.places.owner[place] = number
            self.places = self.places._replace(place_of=place_of)
        if metrics and columns is not None:
            self.metrics = [self.metrics[column] for column in columns.tolist()]
            slots = np.ascontiguousarray(self.places.slots[:, columns])
            self.places = self.places._replace(slots=slots)
        return names or metrics

    def settle(self) -> None:
        """Release the space behind the last place and slot, after a batch."""
        used, places = self.places.used, self.places
        while used[kernel.USED_PLACES] and places.owner[used[kernel.USED_PLACES] - 1] < 0:
            used[kernel.USED_PLACES] -= 1
            places.moves[used[kernel.USED_PLACES]] = 0
        while used[kernel.USED_SLOTS] and places.slot_place[used[kernel.USED_SLOTS] - 1] < 0:
            used[kernel.USED_SLOTS] -= 1
            places.slot_moves[used[kernel.USED_SLOTS]] = 0
        place_count, slot_count = self.places_used, self.slots_used
        self.ensemble.shrink(place_count, slot_count)
        self.quality.shrink(place_count, slot_count)
        rows, room = len(places.owner), len(places.ring)
        is_sparse = rows > _SPARSE * max(place_count, _ROOM)
        has_room = room > _SPARSE * max(slot_count, _ROOM)
        if is_sparse or has_room:
            self._allocate(
                len(places.place_of),
                2 * place_count if is_sparse else rows,
                places.slots.shape[1],
                2 * slot_count if has_room else room,
            )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is in use; equal states give equal bytes."""
        places, slots, arrays = self.places_used, self.slots_used, self.places._asdict()
        kept = {name: arrays[name][:places] for name in _PLACE_ARRAYS}
        kept |= {name: arrays[name][:slots] for name in (*_SLOT_ARRAYS, "ring")}
        kept["clock"] = self.places.clock
        kept["judged_by"] = self.judged_by
        kept["slots"] = self.places.slots[:places, self.metric_columns()]
        kept |= self.ensemble.to_arrays(places, slots) | self.quality.to_arrays(places, slots)
        kept |= self.entities.select(self.owners())
        return {name: np.ascontiguousarray(array) for name, array in kept.items()}

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

        metrics : ``metric_names`` of the state
        raises  : ValueError when the arrays do not fit together
        """
        state = cls(base)
        state.next_offset, state.activation, state.metrics = next_offset, activation, list(metrics)
        places, slots = len(arrays["bounds"]) - 1, len(arrays["ring"])
        _check_shapes(arrays, max(places, 0), slots, len(metrics))
        owner = state._read_names(arrays)
        _check_slots(arrays, owner)
        state.reserve(len(state.entities), places, len(metrics), slots)
        state._fill(arrays, owner)
        state.judged_by = np.array(arrays["judged_by"], np.uint8)
        state.ensemble = EnsembleState.from_arrays(arrays)
        if len(state.ensemble.entities) > places or len(state.ensemble.metrics) > slots:
            raise ValueError("the ensemble remembers more entities or metrics than there are")
        state.quality = QualityState.from_arrays(arrays)
        if len(state.quality.entities) != places or len(state.quality.series) != slots:
            raise ValueError("the quality arrays do not have a row for each entity and slot")
        return state

    def _read_names(self, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int32]:
        """Read the names by place; return each place's owner.

        raises : ValueError when they are not names
        """
        bounds = arrays["bounds"]
        if bounds.ndim != 1:
            raise ValueError(f"bounds has {bounds.ndim} dimensions, not one")
        is_named = np.diff(bounds) > 0
        kept = np.concatenate([bounds[:1], bounds[1:][is_named]])
        self.entities = Directory.from_arrays({"arena": arrays["arena"], "bounds": kept})
        if (np.diff(bounds) < 0).any():
            raise ValueError("the directory's bounds do not divide its arena into names")
        owner = np.full(len(is_named), kernel.NONE, np.int32)
        owner[is_named] = np.arange(len(self.entities))
        if len(owner) and owner[-1] < 0:
            raise ValueError("the last place is not in use")
        return owner

    def _fill(self, arrays: Mapping[str, npt.NDArray[Any]], owner: npt.NDArray[np.int32]) -> None:
        """Copy what ``to_arrays`` returned, and derive the rest."""
        places, table = self.places, arrays["slots"]
        for name in (*_PLACE_ARRAYS, *_SLOT_ARRAYS, "ring"):
            getattr(places, name)[: len(arrays[name])] = arrays[name]
        places.clock[:] = arrays["clock"]
        if int(places.clock[kernel.LIVE]) != int((owner >= 0).sum()):
            raise ValueError("the clock counts other entities than there are")
        places.owner[: len(owner)] = owner
        if len(owner):
            self._order_records(np.flatnonzero(owner >= 0))
        places.place_of[owner[owner >= 0]] = np.flatnonzero(owner >= 0)
        places.slots[: len(owner), : table.shape[1]] = table
        rows, _ = np.nonzero(table >= 0)
        places.slot_place[table[table >= 0]] = rows
        places.used[kernel.USED_PLACES] = len(owner)
        places.used[kernel.USED_SLOTS] = len(arrays["ring"])
        places.used[kernel.TAKEN_SLOTS] = int((table >= 0).sum())
        if len(arrays["ring"]) and places.slot_place[len(arrays["ring"]) - 1] < 0:
            raise ValueError("the last slot is not in use")

    def _order_records(self, taken: npt.NDArray[np.int64]) -> None:
        """Derive the order of the places' newest records.

        taken : places that have an owner, at least one
        """
        places = self.places
        order = taken[np.argsort(places.seen_at[taken], kind="stable")]
        places.newer[order[:-1]] = order[1:]
        places.older[order[1:]] = order[:-1]
        places.used[kernel.OLDEST] = order[0]
        places.used[kernel.NEWEST] = order[-1]

    def _allocate(self, names: int, places: int, metrics: int, slots: int) -> None:
        names, places = max(names, _ROOM), max(places, _ROOM)
        metrics, slots = max(metrics, 1), max(slots, _ROOM)
        old = self.places._asdict() if hasattr(self, "places") else {}
        numbers: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            **{name: ((places,), dtype) for name, dtype in _PLACE_ARRAYS.items()},
            **{name: ((slots,), dtype) for name, dtype in _SLOT_ARRAYS.items()},
            "ring": ((slots, RING), np.float64),
            "clock": ((kernel.CLOCK,), np.int64),
            "used": ((kernel.USED,), np.int64),
        }
        indices: dict[str, tuple[int, ...]] = {
            "place_of": (names,),
            "owner": (places,),
            "slot_place": (slots,),
            "slots": (places, metrics),
            "older": (places,),
            "newer": (places,),
        }
        new = {
            name: _resized(old.get(name), shape, dtype) for name, (shape, dtype) in numbers.items()
        }
        for name, shape in indices.items():
            new[name] = _resized(old.get(name), shape, np.int32, kernel.NONE)
        if not old:
            new["used"][[kernel.OLDEST, kernel.NEWEST]] = kernel.NONE
        self.places = Places(**new)


def _check_shapes(
    arrays: Mapping[str, npt.NDArray[Any]], places: int, slots: int, metrics: int
) -> None:
    """Check dtype and shape of all arrays; raises ValueError that names the array."""
    shapes: dict[str, tuple[int, ...]] = {
        "ring": (slots, RING),
        "slots": (places, metrics),
        "judged_by": (8,),
        "clock": (kernel.CLOCK,),
    }
    shapes |= dict.fromkeys(_PLACE_ARRAYS, (places,)) | dict.fromkeys(_SLOT_ARRAYS, (slots,))
    dtypes: dict[str, type[np.generic]] = {
        "ring": np.float64, "slots": np.int32, "judged_by": np.uint8, "clock": np.int64,
        **_PLACE_ARRAYS, **_SLOT_ARRAYS
    }  # fmt: skip
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtypes[name]:
            raise ValueError(
                f"{name} is {arrays[name].dtype} {arrays[name].shape}, not"
                f" {np.dtype(dtypes[name])} {shape}"
            )


def _check_slots(arrays: Mapping[str, npt.NDArray[Any]], owner: npt.NDArray[np.int32]) -> None:
    """Check that slots and ranks number what they should; raises ValueError."""
    table, slots = arrays["slots"], len(arrays["ring"])
    is_taken = table >= 0
    is_unique = len(np.unique(table[is_taken])) == int(is_taken.sum())
    if not is_unique or (table >= slots).any() or (table < -1).any():
        raise ValueError("slots do not number each (entity, metric) once")
    if is_taken[owner < 0].any() or not is_taken.any(axis=0).all():
        raise ValueError("slots belong to a place or a metric that is not in use")
    counts = is_taken.sum(axis=1)
    if (arrays["reported"] != counts).any():
        raise ValueError("reported does not count the metrics of each entity")
    ranks = arrays["rank"][table[is_taken]]
    most = np.repeat(counts, counts)
    if (ranks < 0).any() or (ranks >= most).any():
        raise ValueError("rank does not number the metrics of each entity")


@dataclass(frozen=True, slots=True)
class Folded:
    """What the fold computed for each row; metric columns follow ``PartitionState.metrics``.

    expected ... surplus_metric : as ``rolling.Outputs``
    releases : the entities that were dropped, in the order of the rows
    """

    expected: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    late_by_ms: npt.NDArray[np.int64]
    ahead: npt.NDArray[np.bool_]
    duplicate: npt.NDArray[np.bool_]
    imputed: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    forgotten: npt.NDArray[np.bool_]
    step_ms: npt.NDArray[np.int64]
    place: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    listed: npt.NDArray[np.int32]
    surplus: npt.NDArray[np.int32]
    surplus_metric: npt.NDArray[np.int32]
    releases: Releases

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Rows that moved the series: neither late nor ahead nor duplicate."""
        moved: npt.NDArray[np.bool_] = (self.late_by_ms == 0) & ~self.duplicate & ~self.ahead
        return moved


def fold(
    state: PartitionState,
    columns: Columns,
    window: int,
    forget_ms: int = NEVER_MS,
    max_entities: int = NEVER_MS,
    offsets: npt.NDArray[np.int64] | None = None,
) -> Folded:
    """Fold decoded rows into the state and return what is known of each.

    window       : 2..RING, samples in the band of an entity that is warming up
    forget_ms    : longest silence after which an entity is forgotten, see ``forget_after_ms``;
                   NEVER_MS = entities are never forgotten
    max_entities : entities that are remembered
    offsets      : int64 (n,)  place of the rows in the log; None = next_offset, ...
    Cost         : O(n M window) time
    """
    n, metrics = columns.values.shape
    if offsets is None:
        offsets = np.arange(state.next_offset, state.next_offset + n)
    layout, layouts = columns.field_order()
    given = Inputs(
        np.ascontiguousarray(columns.entity, np.int32),
        np.ascontiguousarray(columns.time_ms, np.int64),
        np.ascontiguousarray(columns.values, np.float64),
        np.ascontiguousarray(offsets, np.int64),
        layout,
        layouts,
    )
    state.reserve(len(state.entities), 0, metrics, 0)
    width = state.places.slots.shape[1]
    out = _outputs(n, metrics)
    log = _releases(_ROOM, width)
    row = 0
    while True:
        row = fold_rows(given, row, window, forget_ms, max_entities, state.places, log, out)
        if row == n:
            count = int(log.used[0])
            return Folded(*out, _first(log, count, metrics))
        if log.used[0] == len(log.row):
            log = _releases(2 * len(log.row), width, log)
        taken = int(state.places.used[kernel.TAKEN_SLOTS])
        state.reserve(0, state.places_used + 1, 0, taken + metrics)


def _outputs(n: int, metrics: int) -> Outputs:
    cells = (n, metrics)
    return Outputs(
        expected=np.empty(cells),
        lower=np.empty(cells),
        upper=np.empty(cells),
        late_by_ms=np.empty(n, np.int64),
        ahead=np.empty(n, np.bool_),
        duplicate=np.empty(n, np.bool_),
        imputed=np.empty(n, np.bool_),
        known=np.empty(cells, np.bool_),
        forgotten=np.empty(n, np.bool_),
        step_ms=np.empty(n, np.int64),
        place=np.empty(n, np.int32),
        slots=np.empty(cells, np.int32),
        listed=np.empty(cells, np.int32),
        surplus=np.empty(n, np.int32),
        surplus_metric=np.empty(n, np.int32),
    )


def _releases(size: int, metrics: int, old: Releases | None = None) -> Releases:
    """Return room for this many releases, with the old ones."""
    new = Releases(
        np.zeros(1, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty((size, metrics), np.int32),
        np.empty((size, metrics), np.int64),
    )
    if old is not None:
        for name, array in old._asdict().items():
            getattr(new, name)[: len(array)] = array
    return new


def _first(log: Releases, count: int, metrics: int) -> Releases:
    """Return the releases that there are, with the columns that there are."""
    return Releases(
        log.used,
        log.row[:count],
        log.place[:count],
        log.owner[:count],
        log.reason[:count],
        log.newest_ms[:count],
        log.slots[:count, :metrics],
        log.slot_moves[:count, :metrics],
    )


def _resized(
    old: npt.NDArray[Any] | None, shape: tuple[int, ...], dtype: Any, fill: float = 0
) -> npt.NDArray[Any]:
    """Return an array of another size with as much of the old one as fits."""
    new = np.zeros(shape, dtype) if fill == 0 else np.full(shape, fill, dtype)
    if old is not None:
        both = tuple(slice(min(sizes)) for sizes in zip(old.shape, shape, strict=True))
        new[both] = old[both]
    return new
