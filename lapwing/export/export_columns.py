"""The columns of an export, from the schema of its records, and the rows of a record.

Invariant: pure; columns are a function of the schema alone, and each row has every column. A field
that an older record lacks is null; one that this version does not know is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import schemas
from shared.wording import iso

Record = Mapping[str, Any]
Row = dict[str, Any]


class ColumnType(StrEnum):
    """The type of a column; TIME is ms since 1970 UTC, JSON is text."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    JSON = "json"


class Column(NamedTuple):
    """One column."""

    name: str
    type: ColumnType


_BY_AVRO = {
    "string": ColumnType.TEXT,
    "boolean": ColumnType.BOOLEAN,
    "int": ColumnType.INTEGER,
    "long": ColumnType.INTEGER,
    "float": ColumnType.NUMBER,
    "double": ColumnType.NUMBER,
}
WRITTEN = (
    Column("topic_partition", ColumnType.INTEGER),
    Column("topic_offset", ColumnType.INTEGER),
    Column("written_at", ColumnType.TIME),
)
"""Where a record lies in its topic, and its Kafka timestamp."""

METRICS, METRIC_PREFIX = "metrics", "metric_"
"""The list of a score event whose items become rows, and what their columns begin with."""


class Kind(NamedTuple):
    """What can be exported.

    schema     : name of the schema of its records
    time       : the field that --since and --until compare with
    per_metric : one row for each metric of a record
    """

    schema: str
    time: str
    per_metric: bool = False


KINDS = {
    "anomalies": Kind(schemas.ANOMALY_EVENT, "event_time"),
    "scores": Kind(schemas.SCORE_EVENT, "event_time", per_metric=True),
    "incidents": Kind(schemas.INCIDENT, "start"),
}


def columns_of(kind: Kind) -> list[Column]:
    """Return the columns of an export, in the order of the schema's fields."""
    columns = []
    for field in _fields(schemas.text(kind.schema)):
        if kind.per_metric and field["name"] == METRICS:
            columns += [
                Column(_metric_column(part["name"]), _type_of(part["type"]))
                for part in field["type"]["items"]["fields"]
            ]
        else:
            columns.append(Column(field["name"], _type_of(field["type"])))
    return [*columns, *WRITTEN]


def rows_of(kind: Kind, columns: Sequence[Column], record: Record) -> Iterator[Row]:
    """Yield the rows of a record: one, or one for each metric.

    record : with the fields of WRITTEN as well; times in ms
    """
    plain = {column.name: _value(column, record.get(column.name)) for column in columns}
    if not kind.per_metric:
        yield plain
        return
    for metric in record.get(METRICS) or [{}]:
        named = {_metric_column(name): value for name, value in metric.items()}
        yield plain | {name: named.get(name) for name in plain if name.startswith(METRIC_PREFIX)}


def csv_value(column: Column, value: Any) -> Any:
    """Return a value as CSV writes it: times in ISO 8601 UTC, booleans as true and false."""
    if value is None:
        return ""
    if column.type is ColumnType.TIME:
        return iso(value)
    if column.type is ColumnType.BOOLEAN:
        return "true" if value else "false"
    return repr(value) if column.type is ColumnType.NUMBER else value


def _metric_column(name: str) -> str:
    return METRIC_PREFIX + name


def _value(column: Column, value: Any) -> Any:
    if value is None or column.type is not ColumnType.JSON:
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _fields(schema_text: str) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = json.loads(schema_text)["fields"]
    return fields


def _type_of(avro: Any) -> ColumnType:
    """Return the column type of an Avro type; what is nested becomes JSON."""
    if isinstance(avro, list):
        [inner] = [branch for branch in avro if branch != "null"]
        return _type_of(inner)
    if isinstance(avro, dict):
        if avro.get("logicalType") == "timestamp-millis":
            return ColumnType.TIME
        return _BY_AVRO.get(avro["type"], ColumnType.JSON)
    return _BY_AVRO[avro]
