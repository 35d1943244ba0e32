"""Reference Avro reader, one record at a time, and score events as fastavro takes them."""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from shared.directory import Directory
from shared.encode.avro_columns import Scores
from shared.events import Reason, State
from shared.settings import InputSettings
from tests.reference.hashing import event_id

SIZES = {"null": 0, "float": 4, "double": 8}


class Rejected(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Cursor:
    """Bytes that are read from left to right."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size < 0:
            raise Rejected(Reason.MALFORMED)
        if self.at + size > len(self.data):
            raise Rejected(Reason.TRUNCATED)
        self.at += size
        return self.data[self.at - size : self.at]

    def long(self) -> int:
        word = 0
        for i in range(10):
            byte = self.take(1)[0]
            word |= (byte & 127) << 7 * i
            if byte < 128:
                break
        else:
            raise Rejected(Reason.MALFORMED)
        if word >= 1 << 64:
            raise Rejected(Reason.MALFORMED)
        return word >> 1 if word % 2 == 0 else -(word >> 1) - 1

    def index(self, count: int) -> int:
        found = self.long()
        if not 0 <= found < count:
            raise Rejected(Reason.MALFORMED)
        return found


class Text(bytes):
    """The bytes of a string, valid or not."""


class Labels(dict[str, Any]):
    """A map; its keys are compared exactly."""


class Reader:
    """Reads values of one schema.

    A value is None, a number (a decimal as well), Text, an enum's symbol as bytes, a dict of a
    record's or a map's values, or Ellipsis for all else. Text must be UTF-8, except in the fields
    of ``parts`` (dotted names), which the gates check. Bytes are numbers in the fields of
    ``metrics`` only.
    """

    def __init__(self, schema: Any, parts: Sequence[str], metrics: Sequence[str]) -> None:
        self.schema = schema
        self.parts = parts
        self.metrics = metrics
        self.named: dict[str, Any] = {}
        self.name_types(schema)

    def name_types(self, schema: Any) -> None:
        if isinstance(schema, list):
            for branch in schema:
                self.name_types(branch)
        elif isinstance(schema, dict):
            if "name" in schema and schema["type"] in ("record", "enum", "fixed"):
                self.named[schema["name"]] = schema
            for part in (schema["type"], schema.get("items"), schema.get("values")):
                self.name_types(part)
            self.name_types(schema.get("fields", []))

    def read(self, schema: Any, source: Cursor, path: str | None) -> Any:
        """Read a value; path is its dotted name, None within an array or a map."""
        if isinstance(schema, list):
            return self.read(schema[source.index(len(schema))], source, path)
        if isinstance(schema, str) and schema in self.named:
            return self.read(self.named[schema], source, path)
        kind = schema if isinstance(schema, str) else schema["type"]
        match kind:
            case "null":
                return None
            case "int" | "long":
                value = source.long()
                if kind == "int" and not -(2**31) <= value < 2**31:
                    raise Rejected(Reason.MALFORMED)
                return value
            case "float" | "double":
                return struct.unpack("<f" if kind == "float" else "<d", source.take(SIZES[kind]))[0]
            case "boolean":
                _check(source.take(1) in (b"\0", b"\1"))
            case "string":
                text = Text(source.take(source.long()))
                _check(path in self.parts or _is_utf8(text))
                return text
            case "bytes":
                data = source.take(source.long())
                return _number(data, schema) if path in self.metrics else ...
            case "fixed":
                data = source.take(schema["size"])
                return _number(data, schema) if path in self.metrics else ...
            case "enum":
                return schema["symbols"][source.index(len(schema["symbols"]))].encode()
            case "array":
                self.blocks(schema["items"], source, keyed=False)
            case "map":
                return self.blocks(schema["values"], source, keyed=True)
            case "record":
                below = "" if path == "" else f"{path}."
                return {
                    one["name"]: self.read(
                        one["type"], source, None if path is None else below + one["name"]
                    )
                    for one in schema["fields"]
                }
            case _:
                return self.read(kind, source, path)
        return ...

    def blocks(self, items: Any, source: Cursor, *, keyed: bool) -> Labels:
        found = Labels()
        while count := source.long():
            end = None
            if count < 0:
                size = source.long()
                _check(size >= 0)
                if size > len(source.data) - source.at:
                    raise Rejected(Reason.TRUNCATED)
                _check(count != -(2**63))
                count, end = -count, source.at + size
            for _ in range(count):
                start = source.at
                key = b""
                if keyed:
                    key = source.take(source.long())
                    _check(_is_utf8(key))
                found[key.decode()] = self.read(items, source, None)
                if source.at == start:
                    break  # items without bytes: however many there are, nothing more is read
            if end is not None and source.at != end:
                raise Rejected(Reason.MALFORMED)
        return found


def _number(data: bytes, schema: Any) -> float:
    """Return a decimal, byte by byte; an empty one is no number."""
    _check(len(data) > 0)
    value = float(int.from_bytes(data[:1], "big", signed=True))
    for byte in data[1:]:
        value = value * 256.0 + byte
    return value / float(10.0 ** schema["scale"])


def _at(record: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted name, of a record's fields ignoring case; None if absent."""
    if isinstance(record, Labels):
        return record.get(name)
    for field_name, value in record.items():
        if name == field_name or name.lower() == field_name.lower():
            return value
    for field_name, value in record.items():
        if name.lower().startswith(f"{field_name.lower()}.") and isinstance(value, dict):
            return _at(value, name[len(field_name) + 1 :])
    return None


def _check(holds: bool) -> None:
    if not holds:
        raise Rejected(Reason.MALFORMED)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class Decoded:
    """What ``decode`` should have made of a batch."""

    accepted: list[int] = field(default_factory=list)
    entity: list[int] = field(default_factory=list)
    time_ms: list[int] = field(default_factory=list)
    values: list[dict[str, float]] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)


def decode_rows(
    values: Sequence[bytes],
    schemas: Mapping[int, str],
    time_fields: Mapping[int, str],
    metric_names: Mapping[int, Sequence[str]],
    settings: InputSettings,
    entities: list[str],
    metrics: list[str],
) -> Decoded:
    """Decode records one by one; ids without a schema are unknown.

    ``entities`` and ``metrics`` grow as in the kernel.
    """
    out = Decoded()
    for row, value in enumerate(values):
        try:
            schema_id = _schema_id(value, settings, schemas)
            entity, time_ms, found = _decode(
                value[5:],
                schemas[schema_id],
                time_fields[schema_id],
                metric_names[schema_id],
                settings,
            )
        except Rejected as rejection:
            out.rejected.append(row)
            out.reasons.append(rejection.reason)
            continue
        if entity not in entities:
            entities.append(entity)
        metrics += [name for name in metric_names[schema_id] if name not in metrics]
        out.accepted.append(row)
        out.entity.append(entities.index(entity))
        out.time_ms.append(time_ms)
        out.values.append(found)
    return out


def decode_long_rows(
    values: Sequence[bytes],
    schema_text: str,
    settings: InputSettings,
    entities: list[str],
    metrics: list[str],
) -> Decoded:
    """Decode records of one metric each, of schema 1, as ``decode_rows`` does; twin of LongForm.

    The record is read with the metric's name as part of the entity, which is then split off.
    """
    out = Decoded()
    written = json.loads(schema_text)
    (time,) = (
        one["name"]
        for one in written["fields"]
        if isinstance(one["type"], dict) and "logicalType" in one["type"]
    )
    by_name = settings.model_copy(update={"entity_fields": (settings.metric_field,)})
    for row, value in enumerate(values):
        try:
            schema_id = _schema_id(value, settings, {1: schema_text})
            wanted = (value[5:], schema_text, time, (settings.value_field,))
            entity, time_ms, found = _decode(*wanted, settings)
            assert schema_id == 1
            try:
                metric, _, _ = _decode(*wanted, by_name)
            except Rejected as rejection:
                raise Rejected(Reason.METRIC_INVALID) from rejection
            if not metric.isprintable():
                raise Rejected(Reason.METRIC_INVALID)
        except Rejected as rejection:
            out.rejected.append(row)
            out.reasons.append(rejection.reason)
            continue
        if entity not in entities:
            entities.append(entity)
        if metric not in metrics:
            metrics.append(metric)
        out.accepted.append(row)
        out.entity.append(entities.index(entity))
        out.time_ms.append(time_ms)
        out.values.append(dict.fromkeys([metric][: len(found)], found.get(settings.value_field)))
    return out


def _schema_id(value: bytes, settings: InputSettings, schemas: Mapping[int, str]) -> int:
    if not value:
        raise Rejected(Reason.EMPTY)
    if len(value) > settings.max_record_bytes:
        raise Rejected(Reason.TOO_LARGE)
    if len(value) < 5 or value[0] != 0:
        raise Rejected(Reason.NOT_AVRO)
    schema_id = int.from_bytes(value[1:5], "big")
    if schema_id not in schemas:
        raise Rejected(Reason.UNKNOWN_SCHEMA)
    return schema_id


def _decode(
    body: bytes,
    schema_text: str,
    time_field: str,
    metric_names: Sequence[str],
    settings: InputSettings,
) -> tuple[str, int, dict[str, float]]:
    written = json.loads(schema_text)
    schema = next(one for one in written if one != "null") if isinstance(written, list) else written
    source = Cursor(body)
    reader = Reader(schema, _exact(schema, settings.entity_fields), metric_names)
    is_there = not isinstance(written, list) or written[source.index(len(written))] != "null"
    record: dict[str, Any] = {one["name"]: None for one in schema["fields"]}
    if is_there:
        record = reader.read(schema, source, "")
    if source.at < len(body):
        raise Rejected(Reason.TRAILING_BYTES)
    numbers = {name: _at(record, name) for name in metric_names}
    found = {name: float(value) for name, value in numbers.items() if value is not None}
    if not all(math.isfinite(value) for value in found.values()):
        raise Rejected(Reason.NOT_FINITE)
    time = _time_ms(
        _at(record, time_field),
        _field(schema, time_field),
        settings.time_unit,
    )
    if time is None or not settings.min_time_ms <= time <= settings.max_time_ms:
        raise Rejected(Reason.TIME_OUT_OF_RANGE)
    return _entity([_at(record, name) for name in settings.entity_fields]), time, found


def _exact(schema: Any, wanted: Sequence[str]) -> list[str]:
    """Return the names of fields as the schema writes them."""
    names = [one["name"] for one in schema["fields"]]
    by_case = {name.lower(): name for name in names}
    return [name if name in names else by_case.get(name.lower(), name) for name in wanted]


def _field(schema: Any, name: str) -> Any:
    """Return the field of a dotted name."""
    first, _, rest = name.partition(".")
    found = next(one for one in schema["fields"] if one["name"] == first)
    if not rest:
        return found
    inner = found["type"]
    if isinstance(inner, list):
        inner = next(one for one in inner if one != "null")
    return _field(inner, rest)


def _time_ms(value: Any, field: Any, unit_of_plain: str) -> int | None:
    """The unit is what the field's JSON says anywhere, else what the settings say."""
    annotation = json.dumps(field).lower()
    units = {
        "nano": "ns",
        "micro": "us",
        "timestamp-milli": "ms",
        "data.timestamp": "ms",
        "debezium.time.timestamp": "ms",
    }
    unit = next((unit for word, unit in units.items() if word in annotation), unit_of_plain)
    if value is None:
        return None
    if isinstance(value, Text):
        return read_iso(bytes(value))
    if isinstance(value, int):
        return (
            value * 1000 if unit == "s" else value // {"ms": 1, "us": 1000, "ns": 1_000_000}[unit]
        )
    if not math.isfinite(value):
        raise Rejected(Reason.TIME_INVALID)
    exact = value * 1000 if unit == "s" else value / {"ms": 1, "us": 1000, "ns": 1_000_000}[unit]
    return math.floor(exact + 0.5)


_ISO = re.compile(
    rb"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d)(?:(:\d\d)(?:[.,](\d+))?)?"
    rb"(?:[Zz]|([+-])(\d\d)(?::?([0-5]\d))?)?"
)


def read_iso(text: bytes) -> int:
    """Return the ms since 1970 UTC that a text names, by the standard library's calendar."""
    found = _ISO.fullmatch(text) if len(text) <= 64 else None
    if found is None or int(found[6] or 0) > 23:
        raise Rejected(Reason.TIME_INVALID)
    day, minute, second, fraction, sign, hours, minutes = (
        part.decode() if part else "" for part in found.groups()
    )
    try:
        local = datetime.fromisoformat(f"{day}T{minute}{second or ':00'}+00:00")
    except ValueError:
        raise Rejected(Reason.TIME_INVALID) from None
    offset_ms = (int(hours or 0) * 60 + int(minutes or 0)) * 60_000 * (-1 if sign == "-" else 1)
    return (
        (local - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * 1000
        + int(f"{fraction:0<3}"[:3])
        - offset_ms
    )


def _entity(parts: Sequence[bytes | int | None]) -> str:
    texts = [str(part).encode() if isinstance(part, int) else part for part in parts]
    joined = b"/".join(text or b"" for text in texts)
    if not all(texts) or len(joined) > 256 or not _is_utf8(joined):
        raise Rejected(Reason.ENTITY_INVALID)
    name = joined.decode()
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Rejected(Reason.ENTITY_INVALID)
    return name


def score_records(scores: Scores, entities: Directory) -> list[dict[str, Any]]:
    """Score events as records for fastavro."""

    def optional(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    records = []
    for row in range(len(scores)):
        entity, offset, top = (
            entities.name(int(scores.entity[row])),
            int(scores.offsets[row]),
            int(scores.top_metric[row]),
        )
        records.append(
            {
                "event_id": event_id(
                    scores.source_topic,
                    scores.source_partition,
                    offset,
                    scores.detector_id,
                    "score",
                    entity,
                    "",
                ),
                "detector_id": scores.detector_id,
                "model_id": scores.model_id,
                "entity": entity,
                "event_time": int(scores.time_ms[row]),
                "score": optional(scores.score[row]),
                "severity": optional(scores.severity[row]),
                "threshold": optional(scores.threshold[row]),
                "is_anomaly": bool(scores.is_anomaly[row]),
                "cold_start": bool(scores.cold_start[row]),
                "state": State(int(scores.state[row])).name,
                "warmup_percent": optional(scores.warmup_percent[row]),
                "warmup_minutes_left": optional(scores.warmup_minutes_left[row]),
                "top_metric": scores.metrics[top] if top >= 0 else None,
                "late": bool(scores.late[row]),
                "duplicate": bool(scores.duplicate[row]),
                "imputed": bool(scores.imputed[row]),
                "source_topic": scores.source_topic,
                "source_partition": scores.source_partition,
                "source_offset": offset,
                "metrics": [
                    {
                        "name": scores.metrics[column],
                        "value": optional(scores.metric_value[row, column]),
                        "expected": optional(scores.metric_expected[row, column]),
                        "lower": optional(scores.metric_lower[row, column]),
                        "upper": optional(scores.metric_upper[row, column]),
                        "severity": optional(scores.metric_severity[row, column]),
                    }
                    for column in scores.listed[row].tolist()
                    if column >= 0
                ],
                "ahead": bool(scores.ahead[row]),
                "episode_id": str(scores.episode_id[row]) or None,
            }
        )
    return records
