"""Compares recomputed results with those of the topics, byte for byte.

Invariant: pure; results are called identical only where key, value and headers are equal. The
schema id in a value's first bytes is left out: it names the registry's version of the schema, and
the rest of the value is compared in full. Where ``output.format`` has changed since, the fields
are compared instead, and the headers are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.batch import Headers
from shared.encode.records import HEADER_BYTES
from shared.encode.results import Schema, decode_result, is_json


class Agreement(StrEnum):
    """How a recomputed result compares with the written one."""

    IDENTICAL = "identical"
    DIFFERS = "differs"
    GONE = "no longer in the topic"
    MISSING = "not in the topic"
    UNEXPECTED = "in the topic, but not recomputed"


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """One result: recomputed, or as it lies in a topic (then with its coordinates)."""

    key: bytes
    value: bytes
    headers: Headers = ()
    coordinates: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """One result of the record and how it compares.

    name        : ``score``, or kind and metric of an anomaly record
    differences : (field, written, recomputed)
    """

    name: str
    event_id: str
    agreement: Agreement
    coordinates: str = ""
    size_bytes: int = 0
    differences: list[tuple[str, Any, Any]] = field(default_factory=list)


def compare(
    name: str,
    event_id: str,
    recomputed: ResultRecord,
    written: ResultRecord | None,
    schema: Schema,
    *,
    may_be_gone: bool,
) -> Compared:
    """Compare one recomputed result with the written one.

    written     : None = it is not in the topic
    schema      : text of a schema by its id
    may_be_gone : whether retention may have removed it
    """
    if written is None:
        agreement = Agreement.GONE if may_be_gone else Agreement.MISSING
        return Compared(name, event_id, agreement, size_bytes=len(recomputed.value))
    differences = _differences(written, recomputed, schema)
    agreement = Agreement.DIFFERS if differences else Agreement.IDENTICAL
    return Compared(name, event_id, agreement, written.coordinates, len(written.value), differences)


def verdict_of(compared: Sequence[Compared]) -> str:
    """Return ``identical``, ``differs`` or ``not compared`` (nothing left to compare with)."""
    agreements = {one.agreement for one in compared}
    if agreements & {Agreement.DIFFERS, Agreement.MISSING, Agreement.UNEXPECTED}:
        return "differs"
    return "identical" if Agreement.IDENTICAL in agreements else "not compared"


def _differences(
    written: ResultRecord, recomputed: ResultRecord, schema: Schema
) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    if written.key != recomputed.key:
        found.append(("key", _text(written.key), _text(recomputed.key)))
    if _body(written.value) != _body(recomputed.value):
        found += _fields(written.value, recomputed.value, schema)
    in_one_format = is_json(written.value) == is_json(recomputed.value)
    if in_one_format and list(written.headers) != list(recomputed.headers):
        before, after = dict(written.headers), dict(recomputed.headers)
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        found += [
            (f"header {name}", _text(before.get(name)), _text(after.get(name))) for name in names
        ] or [("headers", "other order", "")]
    return found


def _body(value: bytes) -> bytes:
    return value if is_json(value) else value[HEADER_BYTES:]


def _fields(written: bytes, recomputed: bytes, schema: Schema) -> list[tuple[str, Any, Any]]:
    """Return the fields that differ; the bytes themselves where a value cannot be decoded."""
    try:
        before, after = (_flat(decode_result(value, schema)) for value in (written, recomputed))
    except ValueError as error:
        return [("value", f"{written.hex()} ({error})", recomputed.hex())]
    found = [
        (name, before.get(name), after.get(name))
        for name in {**before, **after}
        if not _equal(before.get(name), after.get(name))
    ]
    if not found and is_json(written) != is_json(recomputed):
        return []  # output.format has changed since
    return found or [("value", written.hex(), recomputed.hex())]


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its metrics as fields of their own."""
    flat = {name: value for name, value in record.items() if name != "metrics"}
    for metric in record.get("metrics", ()):
        for name, value in metric.items():
            if name != "name":
                flat[f"{metric['name']}.{name}"] = value
    return flat


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
