"""The detector of episodes: state as arrays, rows in, verdicts and episodes out.

Invariant: a pure fold over each entity's rows in log order; equal logs give equal bytes, however
           they are cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.ensemble.kernels.closing import close_episodes
from shared.ensemble.kernels.course.course_layout import WARMUP
from shared.ensemble.kernels.ensemble_rows import fold_rows
from shared.ensemble.kernels.entity.row import Reported, Row
from shared.ensemble.kernels.fold_arguments import Config, Inputs, Outputs, Scratch, State
from shared.ensemble.kernels.layout import (
    COURSE,
    CROSS,
    DECIDE,
    ENTITY_DTYPE,
    JUMP,
    KEYS,
    METRIC_DTYPE,
    TRAINED,
    VALUE,
    VIEW_NAMES,
    EnsembleParams,
    Settings,
    as_record,
)
from shared.ensemble.kernels.outputs import CELL_DTYPE, EVENT_DTYPE, ROW_DTYPE, SILENT
from shared.kernels.clock import UTC, Zone
from shared.kernels.trained.trained_rows import FEATURES, WITHOUT_MODEL, TrainedModel
from shared.kernels.units import DAY_MS

__all__ = [
    "VIEW_NAMES",
    "Deviations",
    "EnsembleParams",
    "EnsembleState",
    "Interruption",
    "Limits",
    "Rows",
    "Verdicts",
    "fold",
    "limits_for",
    "params_for",
    "views_of",
]

VIEWS_OF = {
    "ensemble": (1 << (TRAINED + 1)) - 1,
    "time_of_day": 1 << VALUE,
    "jump": 1 << JUMP,
    "course": 1 << COURSE,
    "combination": 1 << CROSS,
    "isolation_forest": 1 << TRAINED,
    "one_class_svm": 1 << TRAINED,
    "peer_groups": 1 << TRAINED,
    "reconstruction": 1 << TRAINED,
}
"""Detectors, and the views that they alarm on: a bit each."""

SPARSE, LEAST_CAPACITY = 4, 64
"""Arrays shrink when they have this many times the space that is needed, or of the least."""


class EnsembleState:
    """The detector's state of a partition; indices are the partition's entities and slots.

    entities : ENTITY_DTYPE (E,)
    metrics  : METRIC_DTYPE (S,)
    """

    def __init__(self, entities: int = 0, slots: int = 0) -> None:
        self.entities = np.zeros(entities, ENTITY_DTYPE)
        self.metrics = np.zeros(slots, METRIC_DTYPE)
        self._scratch = Scratch.of(0)

    def scratch(self, metrics: int) -> Scratch:
        """Return scratch for rows of this many metrics; kernels take what an earlier call left."""
        if len(self._scratch.slots) != metrics:
            self._scratch = Scratch.of(metrics)
        return self._scratch

    def reserve(self, entities: int, slots: int) -> None:
        """Make room for so many entities and slots in all; capacity doubles."""
        if entities > len(self.entities):
            self.entities = _resized(self.entities, max(entities, 2 * len(self.entities)))
        if slots > len(self.metrics):
            self.metrics = _resized(self.metrics, max(slots, 2 * len(self.metrics)))

    def shrink(self, entities: int, slots: int) -> None:
        """Release memory where there is much more than these entities and slots need."""
        if len(self.entities) > SPARSE * max(entities, LEAST_CAPACITY):
            self.entities = _resized(self.entities, 2 * max(entities, LEAST_CAPACITY))
        if len(self.metrics) > SPARSE * max(slots, LEAST_CAPACITY):
            self.metrics = _resized(self.metrics, 2 * max(slots, LEAST_CAPACITY))

    def to_arrays(self, entities: int, slots: int) -> dict[str, npt.NDArray[np.uint8]]:
        """Return what is in use as bytes, (n, record size) each: the next row changes them."""
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


class Limits(NamedTuple):
    """What a user asks for.

    settings : budget, cold start, lateness, views
    metrics  : float64 (M, 3)  direction (1 up only, -1 down only, 0 both), least deviation from the
               expected value in the metric's unit, and the same as a share of |expected|
    """

    settings: Settings
    metrics: npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Rows of one partition in log order.

    entity  : int32 (n,)      index of each row's entity
    time_ms : int64 (n,)      event time
    values  : float64 (n, M)  NaN = missing
    slots   : int32 (n, M)    slots of each row's entity, -1 = not reported
    order   : int32 (M,)      columns in the order in which they are judged; None = from left to
              right. Columns sorted by the metrics' names make an entity's verdicts independent of
              the positions of the columns
    marks   : uint8 (n,)      layout.DECIDE, IN_ORDER, LATE, DUPLICATE or AHEAD; None = DECIDE
    trained : float64 (n,)    rarity by a trained model, NaN = none; None = no model
    offsets : int64 (n,)      in the log; None = 0, 1, ...
    names   : int32 (n,)      what events call each row's entity; None = entity
    """

    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    slots: npt.NDArray[np.int32]
    order: npt.NDArray[np.int32] | None = None
    marks: npt.NDArray[np.uint8] | None = None
    trained: npt.NDArray[np.float64] | None = None
    offsets: npt.NDArray[np.int64] | None = None
    names: npt.NDArray[np.int32] | None = None


class Verdicts(NamedTuple):
    """What comes out.

    rows   : ROW_DTYPE (n,)
    cells  : CELL_DTYPE (n, M)
    events : EVENT_DTYPE (k,)  in the order of their rows
    ratios : float64 (k, M)    largest ratio to its level of each metric in the event's row; NaN =
             not judged
    views  : uint8 (k, M)      the view that has it
    features : float64 (n, FEATURES)  what a trained model sees of each row; NaN = nothing; empty
               unless wanted
    sources  : int32 (n, FEATURES)    the column that each comes from, -1 = none
    """

    rows: npt.NDArray[Any]
    cells: npt.NDArray[Any]
    events: npt.NDArray[Any]
    ratios: npt.NDArray[np.float64]
    views: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float64]
    sources: npt.NDArray[np.int32]


class Interruption(NamedTuple):
    """An entity's episodes end for a reason that lies outside of its values.

    row    : rows before it are folded before
    entity : index of its record
    slots  : int32 (M,)  its slots then, -1 = not reported
    name   : what events call it
    reason : outputs.SILENT or RESTARTED
    forget : whether the entity starts anew
    """

    row: int
    entity: int
    slots: npt.NDArray[np.int32]
    name: int
    reason: int = SILENT
    forget: bool = False


class Deviations(NamedTuple):
    """Deviations that a user asks for: a number for each metric, or one for all.

    direction    : 1 = up only, -1 = down only, 0 = both
    min_absolute : >= 0  least deviation from the expected value, in the metric's unit
    min_relative : >= 0  the same as a share of |expected|
    """

    direction: npt.ArrayLike = 0.0
    min_absolute: npt.ArrayLike = 0.0
    min_relative: npt.ArrayLike = 0.0


ALL_DEVIATIONS = Deviations()

_record_of = lru_cache(16)(as_record)
"""Kernels only read it."""


def params_for(threshold: float, detector: str = "ensemble") -> EnsembleParams:
    """Build the params of a threshold; for the course alone no other view has to be ready.

    threshold : finite, > 0; the ratio to its usual level at which a view opens an episode
    raises    : ValueError naming what is allowed
    """
    if not (np.isfinite(threshold) and threshold > 0.0):
        raise ValueError(f"threshold is {threshold}, not finite and > 0")
    params = EnsembleParams(threshold=float(threshold))
    return params._replace(gate=0.0) if detector == "course" else params


def views_of(detector: str) -> int:
    """Return the views that a detector alarms on, a bit each.

    raises : ValueError naming what is allowed
    """
    if detector not in VIEWS_OF:
        raise ValueError(f"detector is {str(detector)!r}, not one of {', '.join(VIEWS_OF)}")
    return VIEWS_OF[detector]


def limits_for(
    metrics: int,
    detector: str = "ensemble",
    per_day: float = 0.0,
    cold_start: bool = True,
    lateness_ms: int = DAY_MS,
    warmup: int = 0,
    deviations: Deviations = ALL_DEVIATIONS,
) -> Limits:
    """Build Limits for this many metrics.

    raises : ValueError naming what is outside its range
    """
    if warmup != 0 and not 2 <= warmup <= WARMUP:
        raise ValueError(f"warmup is {warmup}, not 0 or 2..{WARMUP}")
    if not (per_day >= 0.0 and np.isfinite(per_day)):
        raise ValueError(f"per_day is {per_day}, not finite and >= 0")
    if lateness_ms < 0:
        raise ValueError(f"lateness_ms is {lateness_ms}, not >= 0")
    columns = [np.array(np.broadcast_to(np.asarray(x, float), metrics)) for x in deviations]
    if not np.isin(columns[0], (-1.0, 0.0, 1.0)).all():
        raise ValueError("direction is not -1, 0 or 1")
    if not all((np.isfinite(x) & (x >= 0)).all() for x in columns[1:]):
        raise ValueError("min_absolute or min_relative is not finite and >= 0")
    use = views_of(detector)
    whole = detector == "ensemble"
    settings = Settings(
        float(per_day),
        bool(cold_start) and use != 1 << TRAINED,
        int(lateness_ms),
        use,
        whole,
        True,
        int(warmup),
    )
    return Limits(settings, np.ascontiguousarray(np.stack(columns, axis=-1)))


def fold(
    state: EnsembleState,
    given: Rows,
    limits: Limits,
    params: EnsembleParams | None = None,
    zone: Zone = UTC,
    interruptions: Sequence[Interruption] = (),
    model: TrainedModel | None = None,
) -> Verdicts:
    """Fold rows into the state and judge them; see ``kernels.ensemble_rows.fold_rows``.

    state         : has room for all slots and entities that occur
    interruptions : in the order of their rows
    model         : scores the rows; WITHOUT_MODEL = only their features are wanted, None = nothing

    raises : ValueError when given.order is not a permutation of the columns
    """
    inputs = _inputs(given)
    n, width = inputs.values.shape
    params = params or EnsembleParams()
    wanted = 0 if model is None else n
    trained = WITHOUT_MODEL if model is None else model
    config = Config(
        _plain(limits.metrics, np.float64), limits.settings, _record_of(params), trained
    )
    features = np.full((wanted, FEATURES), np.nan)
    sources = np.full((wanted, FEATURES), -1, np.int32)
    memory = State(state.entities, state.metrics)
    zone = Zone(*(_plain(array, np.int64) for array in zone))
    called = inputs.entity if given.names is None else given.names
    rows, cells = np.zeros(n, ROW_DTYPE), np.zeros((n, width), CELL_DTYPE)
    output, scratch = _Events(width), state.scratch(width)
    start = 0
    for stop, interruption in [*((i.row, i) for i in interruptions), (n, None)]:
        while start < stop:
            events, ratios, views = output.room()
            out = Outputs(rows, cells, events, ratios, views, features, sources)
            began = start
            start, count = fold_rows(inputs, zone, config, memory, out, start, stop, scratch)
            if start == began:
                output.grow()
            out.events["entity"][:count] = called[out.events["row"][:count]]
            output.keep(count)
        if interruption is not None:
            _interrupt(state, inputs, params, interruption, output)
    events, ratios, views = output.joined()
    return Verdicts(rows, cells, events, ratios, views, features, sources)


def _inputs(given: Rows) -> Inputs:
    """Return rows as the kernel's signature requires them, with defaults for what is None."""
    n, width = given.values.shape
    order = _plain(np.arange(width) if given.order is None else given.order, np.int32)
    if not _is_permutation(order.tobytes(), width):
        raise ValueError(f"order is {order.tolist()}, not each of the {width} columns once")
    return Inputs(
        _plain(given.entity, np.int32),
        _plain(given.time_ms, np.int64),
        _plain(given.values, np.float64),
        _plain(given.slots, np.int32),
        order,
        _plain(np.full(n, DECIDE) if given.marks is None else given.marks, np.uint8),
        _plain(np.full(n, np.nan) if given.trained is None else given.trained, np.float64),
        _plain(np.arange(n) if given.offsets is None else given.offsets, np.int64),
    )


@lru_cache(64)
def _is_permutation(order: bytes, width: int) -> bool:
    """Return whether int32 numbers name each of the columns once."""
    return np.array_equal(np.sort(np.frombuffer(order, np.int32)), np.arange(width))


FEW_METRICS = 8
"""Of a row of more metrics, few have events as a rule; all columns are those of many entities."""


class _Events:
    """Room for events, as much as was lately needed."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.size = 4 * KEYS * min(width, FEW_METRICS) + 64
        self.parts: list[tuple[Any, ...]] = []
        self.open: tuple[Any, ...] = ()

    def room(self) -> tuple[Any, ...]:
        self.open = (
            np.zeros(self.size, EVENT_DTYPE),
            np.full((self.size, self.width), np.nan),
            np.zeros((self.size, self.width), np.uint8),
        )
        return self.open

    def keep(self, count: int) -> None:
        """Keep the first events; there is more room the next time."""
        if count:
            self.parts.append(tuple(array[:count] for array in self.open))
            self.size = max(self.size, min(2 * self.size, 65536))

    def grow(self) -> None:
        """Make room for a row that needs more than all there is."""
        self.size *= 2

    def joined(self) -> tuple[Any, ...]:
        if not self.parts:
            return tuple(array[:0] for array in self.open or self.room())
        if len(self.parts) == 1:
            return self.parts[0]
        return tuple(np.concatenate(arrays) for arrays in zip(*self.parts, strict=True))


def _interrupt(
    state: EnsembleState,
    inputs: Inputs,
    params: EnsembleParams,
    interruption: Interruption,
    output: _Events,
) -> None:
    """Close the open episodes of an entity, and forget it where it starts anew."""
    if interruption.entity >= len(state.entities):
        return
    order, known = inputs.order, interruption.slots < len(state.metrics)
    slots = np.where(known, interruption.slots, -1)[order]
    columns, slots = order[slots >= 0].astype(np.int64), slots[slots >= 0].astype(np.int64)
    entity = state.entities[interruption.entity]
    if entity["rows"] > 0:
        place = min(interruption.row, len(inputs.time_ms) - 1)
        row = Row(place, 0, interruption.name, int(inputs.time_ms[place]), 0, 0.0, 0.0)
        unused = np.zeros(len(slots), np.bool_)
        metrics = Reported(state.metrics, slots, columns, unused, np.zeros(0), len(slots))
        threshold = float(params.threshold * entity["threshold"])
        events, _, _ = output.room()
        output.keep(close_episodes(entity, metrics, row, interruption.reason, threshold, events))
    if interruption.forget:
        _as_bytes(state.entities)[interruption.entity] = 0
        _as_bytes(state.metrics)[slots] = 0


def _plain(array: npt.ArrayLike, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the array as the kernel's signature requires it; copy only where necessary."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ("C", "A", "W"))


def _resized(records: npt.NDArray[np.void], size: int) -> npt.NDArray[np.void]:
    resized = np.zeros(size, records.dtype)
    _as_bytes(resized)[: len(records)] = _as_bytes(records)[:size]
    return resized


def _as_bytes(records: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    """View records as rows of bytes; their fields overlap, so a copy by field would be wrong."""
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
