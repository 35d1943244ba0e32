"""Decoding Avro in tests: alone, and beside its plain twin."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.columns import Columns
from shared.decode.avro.plan import compile_plan
from shared.decode.avro.rows import decode, schema_keys
from shared.decode.field_choice import UnsupportedSchema
from shared.directory import Directory
from shared.events import Reason
from shared.settings import InputSettings
from tests.reference.avro import Decoded, decode_rows
from tests.reference.records import METRIC_EVENT, batch_of

INPUT = InputSettings()


def decoded(
    values: list[bytes], input_: InputSettings = INPUT
) -> tuple[Columns, list[str], list[str]]:
    entities, metrics = Directory(), []
    plans = {1: compile_plan(METRIC_EVENT, input_), 2: UnsupportedSchema("unfit"), 3: None}
    columns = decode(batch_of(values), plans, input_, entities, metrics)
    return columns, entities.names(), metrics


def reasons(values: list[bytes], **options: Any) -> list[Reason]:
    columns, _, _ = decoded(values, **options)
    assert sorted([*columns.accepted, *columns.rejected]) == list(range(len(values)))
    found = dict(zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True))
    return [Reason(found.get(row, Reason.ACCEPTED)) for row in range(len(values))]


def compare(columns: Columns, twin: Decoded, metrics: list[str]) -> None:
    assert columns.accepted.tolist() == twin.accepted
    assert columns.entity.tolist() == twin.entity
    assert columns.time_ms.tolist() == twin.time_ms
    expected = [[row.get(name, np.nan) for name in metrics] for row in twin.values]
    np.testing.assert_array_equal(columns.values, np.array(expected).reshape(columns.values.shape))
    assert (columns.rejected.tolist(), columns.reasons.tolist()) == (twin.rejected, twin.reasons)


def run_both(values: list[bytes], text: str, input_: InputSettings) -> None:
    plan = compile_plan(text, input_)
    entities, metrics = Directory(), []
    plans = {
        schema_id: plan if schema_id == 1 else None
        for schema_id in schema_keys(batch_of(values), input_)
    }
    columns = decode(batch_of(values), plans, input_, entities, metrics)
    names, known = [], []
    twin = decode_rows(
        values,
        {1: text},
        {1: plan.time_field},
        {1: plan.metrics},
        input_,
        names,
        known,
    )
    assert (entities.names(), metrics) == (names, known)
    compare(columns, twin, metrics)
