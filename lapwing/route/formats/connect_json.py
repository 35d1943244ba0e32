"""Kafka Connect's JSON (``JsonConverter``), with and without schema.

Invariant: a record's struct is a row, and so is each struct of an array. Columns that a template
names are labels, the event time is route.time_field, and the other numbers are metrics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lapwing.route.formats.event_time import TimeReader, time_reader, time_refusal
from lapwing.route.formats.json_text import parse_json
from lapwing.route.rows import RecordRefused, Refusal, Refused, Row, Sample, shown
from shared.decode.field_names import says_time
from shared.decode.json.document import kind_of

DEEPEST = 16
"""Most levels of nested structs."""

_UNITS = {
    "org.apache.kafka.connect.data.Timestamp": "ms",
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
    "io.debezium.time.ZonedTimestamp": "iso",
}
"""Names of schemas that say what a time is."""


class ConnectJson:
    """A ``RowDecoder`` of JsonConverter's records.

    time_field : column of the event time, dotted where it is nested
    unit       : of it; empty = the schema says it
    labels     : columns that are labels
    """

    format = "connect"

    def __init__(self, time_field: str, unit: str, labels: Collection[str]) -> None:
        self._time_field = time_field
        self._unit = unit
        self._labels = frozenset(labels)
        self._readers: dict[str, TimeReader] = {}

    def where(self, row: int) -> str:
        """See RowDecoder."""
        return f"row {row}"

    def rows(self, value: bytes) -> Iterator[Row]:
        """See RowDecoder."""
        document = parse_json(value)
        schema = None
        if type(document) is dict and document.keys() == {"schema", "payload"}:
            schema, document = document["schema"], document["payload"]
        structs = document if type(document) is list else [document]
        if type(document) is list and type(schema) is dict:
            schema = schema.get("items")
        if document is not None and type(document) not in (dict, list):
            detail = f"it is {kind_of(document)}; it must be a struct, or an array of structs"
            raise RecordRefused(Refused.MALFORMED, detail)
        names: dict[str, str] = {}
        _add_names(schema, "", 1, names)
        return (self._row(struct, names) for struct in structs)

    def _row(self, struct: object, names: Mapping[str, str]) -> Row:
        if struct is None:
            return None
        if type(struct) is not dict:
            return Refusal(Refused.ROW_UNFIT, f"it is {kind_of(struct)}, not a struct")
        columns: dict[str, Any] = {}
        if not _add_columns(struct, "", 1, columns):
            detail = f"its structs are nested more than {DEEPEST} levels deep"
            return Refusal(Refused.ROW_UNFIT, detail)
        time = columns.pop(self._time_field, None)
        unit = _UNITS.get(names.get(self._time_field, ""), self._unit)
        if not unit:
            return Refusal(
                Refused.TIME_INVALID,
                f"no schema says the unit of {self._time_field} (route.time_field): set"
                " route.time_unit",
            )
        time_ms = self._reader(unit)(time)
        if time_ms is None:
            detail = time_refusal(self._time_field, time, unit)
            return Refusal(Refused.TIME_INVALID, detail)
        labels = {name: _label(columns.pop(name, None)) for name in self._labels}
        labels |= {name: value for name, value in columns.items() if type(value) is str}
        fields = {name: one for name, one in columns.items() if _is_metric(name, names, one)}
        return Sample("", labels, time_ms, fields)

    def _reader(self, unit: str) -> TimeReader:
        if unit not in self._readers:
            self._readers[unit] = time_reader(unit)
        return self._readers[unit]


def _is_metric(name: str, names: Mapping[str, str], value: object) -> bool:
    if value is not None and type(value) not in (int, float):
        return False
    kind = names.get(name)
    if kind is None:
        return not says_time(name)
    return kind in _NUMBERS


_NUMBERS = frozenset({"int8", "int16", "int32", "int64", "float", "double"})


def _label(value: object) -> str | None:
    if type(value) is str:
        return value
    return str(value) if type(value) is int else None


def _add_columns(
    struct: Mapping[str, Any], prefix: str, depth: int, columns: dict[str, Any]
) -> bool:
    """Add a struct's values by dotted names; return whether it is not nested too deeply."""
    if depth > DEEPEST:
        return False
    for key, value in struct.items():
        if type(value) is not dict:
            columns[prefix + key] = value
        elif not _add_columns(value, f"{prefix}{key}.", depth + 1, columns):
            return False
    return True


def _add_names(schema: object, prefix: str, depth: int, names: dict[str, str]) -> None:
    """Add what a schema says of columns: its name, such as Timestamp, else its type."""
    fields = schema.get("fields") if type(schema) is dict else None
    if type(fields) is not list or depth > DEEPEST:
        return
    for field in fields:
        if type(field) is not dict or type(field.get("field")) is not str:
            continue
        name, kind = prefix + field["field"], field.get("type")
        if kind == "struct":
            _add_names(field, f"{name}.", depth + 1, names)
        else:
            names[name] = shown(field.get("name") or kind)
