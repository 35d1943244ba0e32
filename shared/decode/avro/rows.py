"""Decodes records by the plan of each record's writer schema.

Invariant: a rejected record has no effect; decoding a batch gives the same columns, names and
metrics as decoding it row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns, layouts_of
from shared.decode.avro.framing import Framing, frames_of
from shared.decode.avro.plan import WriterPlan
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.gates import columns_of, empty_rows, limits_of
from shared.decode.kernels import avro_rows as kernel
from shared.decode.kernels.gate_checks import FOUND
from shared.directory import Directory
from shared.events import Reason
from shared.schema_ids import SchemaKey
from shared.settings import InputSettings

Plans = Mapping[SchemaKey, WriterPlan | UnsupportedSchema | None]
"""Schema -> plan; None = unknown to the registry, UnsupportedSchema = cannot be used."""

Readable = Mapping[int, WriterPlan]
"""Number of a schema within the batch -> its plan."""


def schema_keys(batch: Batch, input: InputSettings) -> list[SchemaKey]:  # noqa: A002 - the section's name
    """Return the distinct schemas that the records of a batch name, in order of appearance."""
    return list(frames_of(batch, input.schema_ids).keys().values())


def decode(
    batch: Batch,
    plans: Plans,
    input: InputSettings,  # noqa: A002 - the section's name
    entities: Directory,
    metrics: list[str],
    framing: Framing | None = None,
) -> Columns:
    """Decode a batch, and add new entities and metrics.

    plans    : for every schema of ``schema_keys(batch, input)``
    input    : limits of size and event time, and where schema ids are
    entities : the partition's; gets the names of accepted records, in log order
    metrics  : the partition's; gets new names, in order of the first accepted row whose schema has
               them
    framing  : the batch's frames, where they are known already
    raises   : KeyError where a schema has no entry in plans
    """
    framing = framing or frames_of(batch, input.schema_ids)
    by_number = {number: plans[key] for number, key in framing.keys().items()}
    readable = {number: plan for number, plan in by_number.items() if isinstance(plan, WriterPlan)}
    names = dict.fromkeys(metrics)
    for plan in readable.values():
        names |= dict.fromkeys(plan.metrics)
    rows = empty_rows(len(batch), len(names))
    known = _known_plans(by_number, list(readable.values()), tuple(names))
    good, bad = kernel.decode_rows(
        np.frombuffer(batch.values.data, np.uint8),
        batch.values.bounds,
        framing.rows,
        known,
        limits_of(input),
        rows,
        _scratch(readable.values()),
    )
    columns = columns_of(rows, good, bad, entities)
    numbers = framing.rows.numbers[columns.accepted]
    columns = _order_metrics(columns, numbers, readable, list(names), metrics)
    return _with_layouts(columns, numbers, readable, metrics)


def _order_metrics(
    columns: Columns,
    numbers: npt.NDArray[np.int64],
    readable: Readable,
    names: Sequence[str],
    metrics: list[str],
) -> Columns:
    """Append new metrics in order of appearance, and reorder the columns of values.

    numbers : int64 (n,)  schema of each accepted row
    """
    if len(names) == len(metrics):
        return columns
    found, firsts = np.unique(numbers, return_index=True)
    for number in found[np.argsort(firsts)].tolist():
        metrics += [name for name in readable[number].metrics if name not in metrics]
    if metrics == names:
        return columns
    values = np.ascontiguousarray(columns.values[:, [names.index(name) for name in metrics]])
    return replace(columns, values=values)


def _with_layouts(
    columns: Columns,
    numbers: npt.NDArray[np.int64],
    readable: Readable,
    metrics: Sequence[str],
) -> Columns:
    """Add the order of the fields of each schema; numbers as in ``_order_metrics``."""
    layout = np.zeros(len(columns), np.int32)
    if len(readable) > 1:
        layout = np.searchsorted(sorted(readable), numbers).astype(np.int32)
    fields = tuple(plan.metrics for _, plan in sorted(readable.items()))
    return columns.with_layouts(layout, _layouts(fields, tuple(metrics)))


@lru_cache(64)
def _layouts(
    fields: tuple[tuple[str, ...], ...], metrics: tuple[str, ...]
) -> npt.NDArray[np.int32]:
    """Return ``Columns.layouts``, which kernels only read.

    fields : the metrics of each schema, in its order
    """
    column_of = {name: column for column, name in enumerate(metrics)}
    return layouts_of([[column_of[name] for name in own if name in column_of] for own in fields])


_MOST_KNOWN = 64
_KNOWN: dict[tuple[Any, ...], tuple[kernel.Plans, Sequence[object]]] = {}
"""Plans in the kernel's form, by the numbers and addresses of plans and the metrics; and the plans,
which keep their addresses as long as they are here."""


def _known_plans(
    by_number: Mapping[int, WriterPlan | UnsupportedSchema | None],
    readable: Sequence[WriterPlan],
    names: tuple[str, ...],
) -> kernel.Plans:
    """Return what ``_kernel_plans`` does; few records cost less than their plans."""
    key = (*((number, id(plan)) for number, plan in by_number.items()), names)
    known = _KNOWN.get(key)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _kernel_plans(by_number, readable, names), list(by_number.values())
        _KNOWN[key] = known
    return known[0]


def _kernel_plans(
    by_number: Mapping[int, WriterPlan | UnsupportedSchema | None],
    readable: Sequence[WriterPlan],
    names: Sequence[str],
) -> kernel.Plans:
    """Return the plans of a batch in the kernel's form.

    readable : the plans in by_number, in the same order
    names    : the metrics known so far, then those that the plans add
    """
    column_of = {name: column for column, name in enumerate(names)}
    rows: list[tuple[int, ...]] = []
    columns: list[int] = []
    first_step = 0
    first_symbol = 0
    for plan in readable:
        rows.append((first_step, len(columns), first_symbol, plan.entity_parts, plan.depth))
        columns += [column_of[name] for name in plan.metrics]
        first_step += len(plan.steps)
        first_symbol += len(plan.symbol_bounds) - 1
    plan_rows = iter(range(len(readable)))
    row_of = {
        number: next(plan_rows) if isinstance(found, WriterPlan) else _NO_PLAN[type(found)]
        for number, found in by_number.items()
    }
    numbers = sorted(row_of)
    return kernel.Plans(
        np.array(numbers, np.int64),
        np.array([row_of[number] for number in numbers], np.int64),
        np.array(rows, np.int64).reshape(-1, 5),
        *_joined(readable),
        np.array(columns, np.int64),
    )


def _joined(
    plans: Sequence[WriterPlan],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the steps, symbols and symbol bounds of all plans; usually there is one."""
    if len(plans) == 1:
        (plan,) = plans
        return plan.steps, np.frombuffer(plan.symbols, np.uint8), plan.symbol_bounds
    sizes = [np.diff(plan.symbol_bounds) for plan in plans]
    return (
        np.concatenate([_NO_STEPS, *(plan.steps for plan in plans)]),
        np.frombuffer(b"".join(plan.symbols for plan in plans), np.uint8),
        np.concatenate([[0], *sizes]).cumsum().astype(np.int64),
    )


def _scratch(plans: Collection[WriterPlan]) -> kernel.Scratch:
    parts = max((plan.entity_parts for plan in plans), default=0)
    depth = max((plan.depth for plan in plans), default=0)
    return kernel.Scratch(
        np.empty((parts, 3), np.int64),
        np.empty((depth, 2), np.int64),
        np.empty(FOUND, np.int64),
        np.empty(1, np.uint64),
    )


_NO_STEPS = np.zeros((0, 4), np.int64)
_NO_PLAN: dict[type, int] = {
    type(None): -Reason.UNKNOWN_SCHEMA,
    UnsupportedSchema: -Reason.SCHEMA_UNFIT,
}
