"""Records in Confluent's wire format to columns, by the plan of each record's writer schema.

Invariant: a rejected record changes nothing; decoding a batch gives the same columns, names and
metrics as decoding it row by row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.decode.avro.plan import WriterPlan
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.gates import columns_of, limits_of, room_for
from shared.decode.kernels import avro_rows as kernel
from shared.decode.kernels.gate_checks import FOUND
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings

Plans = Mapping[int, WriterPlan | UnsupportedSchema | None]
"""How to read each schema id.

None = the registry does not know it, UnsupportedSchema = its records cannot be used.
"""


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
    max_entities: int,
) -> Columns:
    """Decode a batch; the entities and metrics that are new are added.

    plans        : for every id of ``schema_ids(batch)``
    input        : limits of size and event time
    entities     : the partition's; names of accepted records are added in log order
    metrics      : the partition's; names unseen so far are appended, in order of the first accepted
                   row whose schema has them
    max_entities : a record of a further entity is rejected
    raises       : KeyError where an id has no entry in plans
    """
    ids = schema_ids(batch)
    readable = {
        schema_id: plan for schema_id in ids if isinstance(plan := plans[schema_id], WriterPlan)
    }
    names = list(
        dict.fromkeys([*metrics, *(name for plan in readable.values() for name in plan.metrics)])
    )
    rows = room_for(len(batch), len(names))
    good, bad = kernel.decode_rows(
        np.frombuffer(batch.values.data, np.uint8),
        batch.values.bounds,
        _side_by_side(ids, plans, list(readable.values()), names),
        limits_of(input),
        rows,
        _scratch(readable.values()),
    )
    columns = columns_of(rows, good, bad, entities, max_entities)
    return _order_metrics(columns, batch, readable, names, metrics)


def _order_metrics(
    columns: Columns,
    batch: Batch,
    readable: Mapping[int, WriterPlan],
    names: Sequence[str],
    metrics: list[str],
) -> Columns:
    """Append the new metrics as they first appear, and bring the columns of values into order."""
    if len(names) == len(metrics):
        return columns
    ids, firsts = np.unique(_ids_of(batch, columns.accepted), return_index=True)
    for schema_id in ids[np.argsort(firsts)].tolist():
        metrics += [name for name in readable[schema_id].metrics if name not in metrics]
    if metrics == names:
        return columns
    values = np.ascontiguousarray(columns.values[:, [names.index(name) for name in metrics]])
    return Columns(
        columns.accepted, columns.entity, columns.time_ms, values, columns.rejected, columns.reasons
    )


def _ids_of(batch: Batch, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    data = np.frombuffer(batch.values.data, np.uint8)
    headers = data[batch.values.bounds[rows][:, None] + np.arange(1, kernel.HEADER_BYTES)]
    ids: npt.NDArray[np.int64] = headers.view(">u4")[:, 0].astype(np.int64)
    return ids


def _side_by_side(
    ids: Sequence[int], plans: Plans, readable: Sequence[WriterPlan], names: Sequence[str]
) -> kernel.Plans:
    """Return the plans of a batch as the kernel takes them.

    names : the metrics known so far, then those that the plans add
    """
    column_of = {name: column for column, name in enumerate(names)}
    rows, first_step, first_column, first_symbol = [], 0, 0, 0
    for plan in readable:
        rows.append((first_step, first_column, first_symbol, plan.entity_parts, plan.depth))
        first_step += len(plan.steps)
        first_column += len(plan.metrics)
        first_symbol += len(plan.symbol_bounds) - 1
    order = iter(range(len(readable)))
    found = {
        i: next(order) if isinstance(plans[i], WriterPlan) else _NO_PLAN[type(plans[i])]
        for i in ids
    }
    return kernel.Plans(
        np.array(sorted(found), np.int64),
        np.array([found[i] for i in sorted(found)], np.int64),
        np.array(rows, np.int64).reshape(-1, 5),
        *_joined(readable),
        np.array([column_of[name] for plan in readable for name in plan.metrics], np.int64),
    )


def _joined(
    plans: Sequence[WriterPlan],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the steps, symbols and symbols' bounds of all plans; mostly there is one."""
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
