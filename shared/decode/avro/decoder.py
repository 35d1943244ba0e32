"""Records in Confluent's wire format to columns: decoded, gated, and their entities named once.

Law: a rejected record changes nothing; decoding a batch gives the same columns, names and metrics
     as decoding it row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.decode.avro.plan import WriterPlan, compile_plan
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.kernels.avro_rows import HEADER_BYTES, decode_rows, schema_id_runs
from shared.directory import UNKNOWN, Directory
from shared.events import Reason
from shared.kernels.text import MAX_NAME_BYTES
from shared.settings import InputSettings

__all__ = ["Plans", "WriterPlan", "compile_plan", "decode", "schema_ids"]

Plans = Mapping[int, WriterPlan | UnsupportedSchema | None]
"""How to read each schema id: None = the registry does not know it, UnsupportedSchema = its records
cannot be used.
"""

_NAME_SLACK = 64


def schema_ids(batch: Batch) -> list[int]:
    """Return the distinct schema ids of a batch in the order of first appearance; records without
    one have none.
    """
    runs = np.empty(len(batch), np.int64)
    count = schema_id_runs(np.frombuffer(batch.values.data, np.uint8), batch.values.bounds, runs)
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
    tables = _Tables.join(ids, plans, list(readable.values()), metrics)
    n, limits = len(batch), (input.max_record_bytes, input.min_time_ms, input.max_time_ms)
    accepted, rejected, reasons = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.uint8),
    )
    time_ms, values = np.empty(n, np.int64), np.empty((n, len(tables.names)))
    names, name_bounds = (
        np.empty(n * MAX_NAME_BYTES + _NAME_SLACK, np.uint8),
        np.empty(n + 1, np.int64),
    )
    good, bad = decode_rows(
        np.frombuffer(batch.values.data, np.uint8), batch.values.bounds,
        tables.ids, tables.plan_of_id, tables.plans, tables.steps, tables.columns, tables.symbols, tables.symbol_bounds,
        *limits, accepted, time_ms, values, names, name_bounds, rejected, reasons, *tables.scratch(),
    )  # fmt: skip
    entity = entities.intern(names, name_bounds[: good + 1], max_entities)
    columns = Columns(
        accepted[:good], entity, time_ms[:good], values[:good], rejected[:bad], reasons[:bad]
    )
    if (entity == UNKNOWN).any():
        columns = _reject_surplus(columns)
    return _order_metrics(columns, batch, readable, tables.names, metrics)


def _reject_surplus(columns: Columns) -> Columns:
    """Move the rows whose entity found no room from the accepted to the rejected ones."""
    kept = columns.entity != UNKNOWN
    surplus = columns.accepted[~kept]
    rejected = np.concatenate([columns.rejected, surplus])
    reasons = np.concatenate(
        [columns.reasons, np.full(len(surplus), Reason.TOO_MANY_ENTITIES, np.uint8)]
    )
    order = np.argsort(rejected)
    return Columns(
        columns.accepted[kept],
        columns.entity[kept],
        columns.time_ms[kept],
        columns.values[kept],
        rejected[order],
        reasons[order],
    )


def _order_metrics(
    columns: Columns,
    batch: Batch,
    readable: Mapping[int, WriterPlan],
    names: Sequence[str],
    metrics: list[str],
) -> Columns:
    """Append the new metrics in their order of first appearance, and bring the columns of values
    into that order.
    """
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
    headers = data[batch.values.bounds[rows][:, None] + np.arange(1, HEADER_BYTES)]
    ids: npt.NDArray[np.int64] = headers.view(">u4")[:, 0].astype(np.int64)
    return ids


@dataclass(frozen=True, slots=True)
class _Tables:
    """The plans of a batch side by side, as ``decode_rows`` takes them.

    names : the metrics known so far, then those that the plans add, in any order
    """

    ids: npt.NDArray[np.int64]
    plan_of_id: npt.NDArray[np.int64]
    plans: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    symbols: npt.NDArray[np.uint8]
    symbol_bounds: npt.NDArray[np.int64]
    names: list[str]

    @classmethod
    def join(
        cls,
        ids: Sequence[int],
        plans: Plans,
        readable: Sequence[WriterPlan],
        metrics: Sequence[str],
    ) -> _Tables:
        names = list(
            dict.fromkeys([*metrics, *(name for plan in readable for name in plan.metrics)])
        )
        column_of = {name: column for column, name in enumerate(names)}
        rows, first_step, first_column, first_symbol = [], 0, 0, 0
        symbol_sizes: list[npt.NDArray[np.int64]] = []
        for plan in readable:
            rows.append((first_step, first_column, first_symbol, plan.entity_parts, plan.depth))
            first_step += len(plan.steps)
            first_column += len(plan.metrics)
            first_symbol += len(plan.symbol_bounds) - 1
            symbol_sizes.append(np.diff(plan.symbol_bounds))
        order = iter(range(len(readable)))
        found = {
            i: next(order) if isinstance(plans[i], WriterPlan) else _NO_PLAN[type(plans[i])]
            for i in ids
        }
        return cls(
            np.array(sorted(found), np.int64),
            np.array([found[i] for i in sorted(found)], np.int64),
            np.array(rows, np.int64).reshape(-1, 5),
            np.concatenate([_NO_STEPS, *(plan.steps for plan in readable)]),
            np.array([column_of[name] for plan in readable for name in plan.metrics], np.int64),
            np.frombuffer(b"".join(plan.symbols for plan in readable), np.uint8),
            np.concatenate([[0], *symbol_sizes]).cumsum().astype(np.int64),
            names,
        )

    def scratch(self) -> tuple[npt.NDArray[Any], ...]:
        """Return what ``decode_rows`` needs for entity parts, open loops, findings and a float's
        bytes.
        """
        parts, depth = (int(self.plans[:, column].max(initial=0)) for column in (3, 4))
        return (
            np.empty((parts, 3), np.int64),
            np.empty((depth, 2), np.int64),
            np.empty(4, np.int64),
            np.empty(1, np.uint64),
        )


_NO_STEPS = np.zeros((0, 4), np.int64)
_NO_PLAN: dict[type, int] = {
    type(None): -Reason.UNKNOWN_SCHEMA,
    UnsupportedSchema: -Reason.SCHEMA_UNFIT,
}
