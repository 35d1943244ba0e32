"""Decodes records in Confluent's wire format by the plan of each record's writer schema.

Invariant: a rejected record has no effect; decoding a batch gives the same columns, names and
metrics as decoding it row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns, layouts_of
from shared.decode.avro.plan import WriterPlan
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.gates import columns_of, empty_rows, limits_of
from shared.decode.kernels import avro_rows as kernel
from shared.decode.kernels.gate_checks import FOUND
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

Plans = Mapping[int, WriterPlan | UnsupportedSchema | None]
"""Schema id -> plan; None = unknown to the registry, UnsupportedSchema = cannot be used."""


def schema_ids(batch: Batch) -> list[int]:
    """Return the distinct schema ids of a batch, in order of appearance."""
    runs = np.empty(len(batch), np.int64)
    count = kernel.schema_id_runs(
        np.frombuffer(batch.values.data, np.uint8), batch.values.bounds, runs
    )
    return list(dict.fromkeys(runs[:count].tolist()))


def decode(
    batch: Batch,
    plans: Plans,
    input: InputSettings,  # noqa: A002 - the section's name
    entities: Directory,
    metrics: list[str],
) -> Columns:
    """Decode a batch, and add new entities and metrics.

    plans    : for every id of ``schema_ids(batch)``
    input    : limits of size and event time
    entities : the partition's; gets the names of accepted records, in log order
    metrics  : the partition's; gets new names, in order of the first accepted row whose schema has
               them
    raises   : KeyError where an id has no entry in plans
    """
    ids = schema_ids(batch)
    readable: dict[int, WriterPlan] = {}
    names = dict.fromkeys(metrics)
    for schema_id in ids:
        plan = plans[schema_id]
        if isinstance(plan, WriterPlan):
            readable[schema_id] = plan
            names |= dict.fromkeys(plan.metrics)
    rows = empty_rows(len(batch), len(names))
    good, bad = kernel.decode_rows(
        np.frombuffer(batch.values.data, np.uint8),
        batch.values.bounds,
        _kernel_plans(ids, plans, list(readable.values()), list(names)),
        limits_of(input),
        rows,
        _scratch(readable.values()),
    )
    columns = columns_of(rows, good, bad, entities)
    columns = _order_metrics(columns, batch, readable, list(names), metrics)
    return _with_layouts(columns, batch, readable, metrics)


def _order_metrics(
    columns: Columns,
    batch: Batch,
    readable: Mapping[int, WriterPlan],
    names: Sequence[str],
    metrics: list[str],
) -> Columns:
    """Append new metrics in order of appearance, and reorder the columns of values."""
    if len(names) == len(metrics):
        return columns
    ids, firsts = np.unique(_ids_of(batch, columns.accepted), return_index=True)
    for schema_id in ids[np.argsort(firsts)].tolist():
        metrics += [name for name in readable[schema_id].metrics if name not in metrics]
    if metrics == names:
        return columns
    values = np.ascontiguousarray(columns.values[:, [names.index(name) for name in metrics]])
    return replace(columns, values=values)


def _with_layouts(
    columns: Columns, batch: Batch, readable: Mapping[int, WriterPlan], metrics: Sequence[str]
) -> Columns:
    """Add the order of the fields of each schema."""
    column_of = {name: column for column, name in enumerate(metrics)}
    orders = [
        [column_of[name] for name in plan.metrics if name in column_of]
        for _, plan in sorted(readable.items())
    ]
    layout = np.zeros(len(columns), np.int32)
    if len(orders) > 1:
        ids = _ids_of(batch, columns.accepted)
        layout = np.searchsorted(sorted(readable), ids).astype(np.int32)
    return replace(columns, layout=layout, layouts=layouts_of(orders))


def _ids_of(batch: Batch, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    data = np.frombuffer(batch.values.data, np.uint8)
    headers = data[batch.values.bounds[rows][:, None] + np.arange(1, kernel.HEADER_BYTES)]
    ids: npt.NDArray[np.int64] = headers.view(">u4")[:, 0].astype(np.int64)
    return ids


def _kernel_plans(
    ids: Sequence[int], plans: Plans, readable: Sequence[WriterPlan], names: Sequence[str]
) -> kernel.Plans:
    """Return the plans of a batch in the kernel's form.

    readable : the plans among those of ids, in the same order
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
    plan_of_id: dict[int, int] = {}
    for schema_id in ids:
        is_readable = isinstance(plans[schema_id], WriterPlan)
        plan_of_id[schema_id] = next(plan_rows) if is_readable else _NO_PLAN[type(plans[schema_id])]
    sorted_ids = sorted(plan_of_id)
    return kernel.Plans(
        np.array(sorted_ids, np.int64),
        np.array([plan_of_id[schema_id] for schema_id in sorted_ids], np.int64),
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
