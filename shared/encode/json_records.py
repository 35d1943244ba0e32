"""Single results as JSON: the fields of an Avro schema, in its order, without a registry.

Invariant: reading a record back gives what reading the same record in Avro gives. Times are
integers (ms since 1970 UTC), doubles have a point or an exponent, a map is an object, null is null.
A double that JSON does not know (infinite, not a number) is null where the field may be null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from shared.batch import Blob

Fit = Callable[[Any], Any]
"""Returns a value as it is written; raises ValueError where it does not fit the schema."""

_INTEGERS = {"int": 31, "long": 63}
_ABSENT = object()
FIRST = b"{"
"""First byte of every record in JSON; records in Avro begin with 0."""


def encode_json_records(schema_text: str, records: Sequence[Mapping[str, Any]]) -> Blob:
    """Encode records as JSON: no spaces, UTF-8.

    schema_text : Avro schema
    records     : with every field that has no default; times are integers as in the schema
    raises      : ValueError where a record does not fit the schema
    """
    fit = _fit_of(schema_text)
    values = []
    for row, record in enumerate(records):
        try:
            values.append(orjson.dumps(fit(record)))
        except (ValueError, TypeError) as error:
            name = json.loads(schema_text).get("name", "the schema")
            raise ValueError(f"record {row} does not fit {name}: {error}") from error
    return Blob.join(values)


def decode_json_record(value: bytes) -> dict[str, Any]:
    """Decode one record.

    raises : ValueError that says why it is not a JSON object
    """
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"it is not a JSON object but a {type(record).__name__}")
    return record


@lru_cache(maxsize=64)
def _fit_of(schema_text: str) -> Fit:
    return _fit(json.loads(schema_text))


def _fit(schema: Any) -> Fit:
    if isinstance(schema, list):
        return _union(schema)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return _record(schema)
    if kind == "array":
        return _array(_fit(schema["items"]))
    if kind == "map":
        return _map(_fit(schema["values"]))
    return _SCALARS[kind] if isinstance(kind, str) else _fit(kind)


def _record(schema: Mapping[str, Any]) -> Fit:
    fields = [
        (field["name"], field.get("default", _ABSENT), _fit(field["type"]))
        for field in schema["fields"]
    ]
    names = {name for name, _, _ in fields}

    def fit(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} is not a record")
        if unknown := value.keys() - names:
            raise ValueError(f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
        out = {}
        for name, default, fitted in fields:
            given = value.get(name, default)
            if given is _ABSENT:
                raise ValueError(f"{name} is missing")
            try:
                out[name] = fitted(given)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return out

    return fit


def _union(branches: Sequence[Any]) -> Fit:
    others = [branch for branch in branches if branch != "null"]
    if len(others) != 1 or len(branches) != 2:
        raise ValueError(f"{branches} is not a union of null and one type")
    fitted = _fit(others[0])

    def fit(value: Any) -> Any:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        return fitted(value)

    return fit


def _array(fitted: Fit) -> Fit:
    def fit(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{value!r} is not a list")
        return [fitted(one) for one in value]

    return fit


def _map(fitted: Fit) -> Fit:
    def fit(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"{value!r} is not a map with texts as keys")
        return {key: fitted(one) for key, one in value.items()}

    return fit


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return float(value)


def _float(value: Any) -> float:
    return _double(float(np.float32(_double(value))))


def _integer(bits: int) -> Fit:
    def fit(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise ValueError(f"{value!r} is not an integer")
        if not -(1 << bits) <= value < 1 << bits:
            raise ValueError(f"{value} does not fit {bits + 1} bits")
        return int(value)

    return fit


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _null(value: Any) -> None:
    if value is not None:
        raise ValueError(f"{value!r} is not null")


_SCALARS: dict[str, Fit] = {
    "null": _null,
    "boolean": _boolean,
    "int": _integer(_INTEGERS["int"]),
    "long": _integer(_INTEGERS["long"]),
    "float": _float,
    "double": _double,
    "string": _string,
}
