"""What the fold of rows takes and gives, in groups, and their numba types.

Invariant: the kernel writes to ``State`` and ``Outputs`` only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import from_dtype, types

from shared.ensemble.kernels.array_types import Array, Floats, Ints, Record
from shared.ensemble.kernels.course.course_layout import LIBRARY, WINDOWS
from shared.ensemble.kernels.course.course_layout import SHAPE as SHAPE_SIZE
from shared.ensemble.kernels.entity.row import Reported, Row
from shared.ensemble.kernels.fades import FADES
from shared.ensemble.kernels.layout import (
    ALL_VIEWS,
    COMBINED,
    ENTITY_DTYPE,
    METRIC_DTYPE,
    PARAMS_DTYPE,
    Settings,
)
from shared.ensemble.kernels.outputs import CELL_DTYPE, EVENT_DTYPE, ROW_DTYPE
from shared.ensemble.kernels.season.extremes import SCRATCH
from shared.kernels.trained.trained_rows import TRAINED_MODEL, TrainedModel
from shared.kernels.wire import group

WORK_DTYPE = np.dtype(
    [
        ("tmp", "f8", (SCRATCH,)),
        ("seen", "f8", (ALL_VIEWS,)),
        ("fades", "f8", (FADES,)),
        ("known", "f8", (2,)),
        ("shape", "f4", (SHAPE_SIZE,)),
        ("distances", "f4", (LIBRARY,)),
        ("windows", "f4", (WINDOWS,)),
        ("z", "f8", (COMBINED,)),
        ("a", "f8", (COMBINED, COMBINED)),
        ("b", "f8", (COMBINED, COMBINED)),
        ("c", "f8", (COMBINED, COMBINED)),
    ],
    align=True,
)
"""Scratch of the kernels, in one record."""


class Inputs(NamedTuple):
    """Rows of one partition in log order.

    entity  : int32 (n,)      index into ``State.entities``
    time_ms : int64 (n,)      event time
    values  : float64 (n, M)  NaN = missing
    slots   : int32 (n, M)    index of each metric into ``State.metrics``, -1 = not reported
    order   : int32 (M,)      columns in the order in which they are judged
    marks   : uint8 (n,)      layout.DECIDE, or what the row is
    trained : float64 (n,)    rarity by a model that is not ``Config.model``, -log10 of a share;
              NaN = none
    offsets : int64 (n,)      position of the rows in the log, which an episode remembers
    """

    entity: Array
    time_ms: Ints
    values: Floats
    slots: Array
    order: Array
    marks: Array
    trained: Floats
    offsets: Ints


class Config(NamedTuple):
    """What a user asks for, and the tunable parameters.

    limits : float64 (M, 3)  direction (-1, 0, 1), least deviation, least share of |expected|
    params : PARAMS_DTYPE
    model  : scores rows where ``Outputs.features`` has room for them
    """

    limits: Floats
    settings: Settings
    params: Record
    model: TrainedModel


class State(NamedTuple):
    """The memory of a partition.

    entities : ENTITY_DTYPE (E,)
    metrics  : METRIC_DTYPE (S,)
    """

    entities: Record
    metrics: Record


class Scratch(NamedTuple):
    """Scratch of a row, of a kernel's caller.

    records     : WORK_DTYPE (1,)   zeros, or what an earlier call left
    largest     : float64 (>= M,)   of ``join``, at least one
    slots, columns : int64 (M,)     of the entity's metrics, in the order in which they are judged
    judged      : bool (M,)         whether the row made a sample of a metric that was judged
    relevant    : bool (M,)         and this deviates as the user asks
    ratios      : float64 (M,)      largest ratio of a metric
    views       : uint8 (M,)        the view that has it
    """

    records: Record
    largest: Floats
    slots: Ints
    columns: Ints
    judged: Array
    relevant: Array
    ratios: Floats
    views: Array

    @classmethod
    def of(cls, metrics: int) -> Scratch:
        """Return scratch for rows of this many metrics."""
        return cls(
            np.zeros(1, WORK_DTYPE),
            np.zeros(max(metrics, 1)),
            np.zeros(metrics, np.int64),
            np.zeros(metrics, np.int64),
            np.zeros(metrics, np.bool_),
            np.zeros(metrics, np.bool_),
            np.zeros(metrics),
            np.zeros(metrics, np.uint8),
        )


class Outputs(NamedTuple):
    """What is written.

    rows   : ROW_DTYPE (n,)
    cells  : CELL_DTYPE (n, M)
    events : EVENT_DTYPE (k,)
    ratios : float64 (k, M)  of each metric in the row of an event, its largest ratio
    views  : uint8 (k, M)    and the view that has it
    features : float64 (n, FEATURES)  what a trained model sees; NaN = nothing; no rows = not wanted
    sources  : int32 (n, FEATURES)    the column that each comes from, -1 = none
    """

    rows: Record
    cells: Record
    events: Record
    ratios: Floats
    views: Array
    features: Floats
    sources: Array


ENTITY, METRIC, _VERDICT, _CELL, EVENT = (
    from_dtype(dtype) for dtype in (ENTITY_DTYPE, METRIC_DTYPE, ROW_DTYPE, CELL_DTYPE, EVENT_DTYPE)
)
_I8, _F8, _B1 = types.int64, types.float64, types.boolean
_I4S, _I8S, _U1S, _F8S = types.int32[::1], _I8[::1], types.uint8[::1], _F8[::1]
_I4SS, _F8SS = types.int32[:, ::1], _F8[:, ::1]

SETTINGS = group(Settings, _F8, _B1, _I8, _I8, _B1, _B1, _I8)
PARAMS = from_dtype(PARAMS_DTYPE)
INPUTS = group(Inputs, _I4S, _I8S, _F8SS, _I4SS, _I4S, _U1S, _F8S, _I8S)
CONFIG = group(Config, _F8SS, SETTINGS, PARAMS, TRAINED_MODEL)
STATE = group(State, ENTITY[::1], METRIC[::1])
OUTPUTS = group(
    Outputs, _VERDICT[::1], _CELL[:, ::1], EVENT[::1], _F8SS, types.uint8[:, ::1], _F8SS, _I4SS
)  # fmt: skip
WORK = from_dtype(WORK_DTYPE)
SCRATCHES = group(Scratch, WORK[::1], _F8S, _I8S, _I8S, _B1[::1], _B1[::1], _F8S, types.uint8[::1])
REPORTED_METRICS = group(Reported, METRIC[::1], _I8S, _I8S, _B1[::1], _F8S, _I8)
ROW = group(Row, _I8, _I8, _I8, _I8, _I8, _F8, _F8)
