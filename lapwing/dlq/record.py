"""A record's bytes as fields, as a hex dump, and corrected fields as Avro values.

Invariant: ``read_fields`` and ``to_avro`` are inverses for every record that decodes completely;
only the input's decoder decides whether a record is accepted.
"""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from producer.files.times import parse_time
from shared.batch import Batch, Blob, Headers
from shared.decode.avro.schema import AvroType, Field
from shared.decode.avro.times import instant_of
from shared.decode.formats import SchemaRegistry, open_decoder
from shared.decode.json.document import Refusal, printable, read_document, read_leaves
from shared.directory import Directory
from shared.encode.records import HEADER_BYTES
from shared.events import Reason
from shared.ports import Decoder
from shared.settings import InputSettings

_FLOATS = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}
_LIMITS = {"int": 2**31, "long": 2**63}
_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class DecodeError(ValueError):
    """The bytes cannot be decoded; ``offset`` is the byte where decoding stopped."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a record that could be decoded.

    values  : the fields before the problem, in schema order; bytes as text with one character per
              byte, as in Avro's JSON encoding
    problem : field, byte and cause; empty if the record decoded completely
    """

    values: dict[str, Any]
    problem: str


def read_fields(value: bytes, written: AvroType, begin: int = HEADER_BYTES) -> Fields:
    """Decode a record field by field, as far as possible.

    written : a record, or a nullable record
    begin   : first byte of its Avro, by default that after Confluent's schema id
    """
    cursor, record = _Cursor(value, begin), written
    found: dict[str, Any] = {}
    if written.kind == "union":
        try:
            record = written.branches[cursor.index(len(written.branches), "branch")]
        except DecodeError as error:
            return Fields(found, f"byte {error.offset}: {error}")
    for field in record.fields:
        start = cursor.at
        try:
            found[field.name] = cursor.read(field.type)
        except DecodeError as error:
            return Fields(
                found, f"field {field.name!r} ({field.type}), byte {error.offset}: {error}"
            )
        except RecursionError:
            return Fields(
                found, f"field {field.name!r} ({field.type}), byte {start}: it is nested too deeply"
            )
    left = len(value) - cursor.at
    return Fields(
        found, f"byte {cursor.at}: {left} bytes are left over after the last field" if left else ""
    )


def read_json(value: bytes) -> Fields:
    """Return the values of a JSON object by its outermost names, or why it is none.

    Halves of surrogate pairs, which no UTF-8 can hold, become question marks.
    """
    for found in (read_leaves(value), read_document(value)):
        if isinstance(found, Refusal):
            return Fields({}, printable(found.detail))
    text = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
    return Fields(json.loads(text), "")


class _Cursor:
    """A position in bytes that are decoded from left to right."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        if size < 0:
            raise DecodeError(self.at, f"a length of {size}")
        if size > len(self.data) - self.at:
            raise DecodeError(
                self.at, f"{size} bytes are needed, {len(self.data) - self.at} are left"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def long(self) -> int:
        word, start = 0, self.at
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            word |= (byte & 127) << shift
            if byte < 128:
                break
        else:
            raise DecodeError(start, "a number of more than 10 bytes")
        if word >= 1 << 64:
            raise DecodeError(start, "a number of more than 64 bits")
        return (word >> 1) ^ -(word & 1)

    def index(self, count: int, of: str) -> int:
        start, found = self.at, self.long()
        if not 0 <= found < count:
            raise DecodeError(start, f"{of} {found}; there are {count}")
        return found

    def read(self, avro: AvroType) -> Any:
        match avro.kind:
            case "null":
                return None
            case "boolean":
                byte = self.take(1)[0]
                if byte > 1:
                    raise DecodeError(self.at - 1, f"a boolean of {byte}")
                return byte == 1
            case "int" | "long":
                start, number = self.at, self.long()
                if not -_LIMITS[avro.kind] <= number < _LIMITS[avro.kind]:
                    raise DecodeError(start, f"{number} is no {avro.kind}")
                return number
            case "float" | "double":
                return _FLOATS[avro.kind].unpack(self.take(_FLOATS[avro.kind].size))[0]
            case "string":
                return self.text()
            case "bytes":
                return self.take(self.long()).decode("latin-1")
            case "fixed":
                return self.take(avro.size).decode("latin-1")
            case "enum":
                return avro.symbols[self.index(len(avro.symbols), "symbol")]
            case "union":
                return self.read(avro.branches[self.index(len(avro.branches), "branch")])
            case "record":
                return {field.name: self.read(field.type) for field in avro.fields}
            case _:
                return self.items(avro)

    def text(self) -> str:
        size = self.long()
        start, data = self.at, self.take(size)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(start + error.start, "it is not UTF-8") from error

    def items(self, avro: AvroType) -> list[Any] | dict[str, Any]:
        assert avro.items is not None  # noqa: S101 - the parser gives every array and map its items
        found: list[tuple[str, Any]] = []
        while True:
            start, count = self.at, self.long()
            if count == 0:
                break
            if count < 0:
                self.long()
            if abs(count) > len(self.data):
                raise DecodeError(
                    start, f"{abs(count)} items in a record of {len(self.data)} bytes"
                )
            found += [
                (self.text() if avro.kind == "map" else "", self.read(avro.items))
                for _ in range(abs(count))
            ]
        return dict(found) if avro.kind == "map" else [value for _, value in found]


def to_json(value: Any) -> Any:
    """Return a value that JSON can represent: numbers that are not finite become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: to_json(inner) for name, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, list) else value


def to_avro(avro: AvroType, value: Any, place: str) -> Any:
    """Return a JSON value as the encoder takes it.

    Times may be ISO 8601 text; bytes are text with one character per byte.

    place  : name of the value in an error, e.g. the record's name
    raises : ValueError that names the field and what is allowed
    """
    match avro.kind:
        case "record" if isinstance(value, Mapping):
            return _record_to_avro(avro, value, place)
        case "union":
            for branch in avro.branches:
                try:
                    return to_avro(branch, value, place)
                except ValueError:
                    continue
        case "array" if isinstance(value, list) and avro.items is not None:
            return [to_avro(avro.items, inner, f"{place}[{i}]") for i, inner in enumerate(value)]
        case "map" if isinstance(value, Mapping) and avro.items is not None:
            return {
                name: to_avro(avro.items, inner, f"{place}.{name}") for name, inner in value.items()
            }
        case "float" | "double" if isinstance(value, str) and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        case "float" | "double" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "int" | "long":
            number = _time(avro, value) if isinstance(value, str) else value
            if (
                isinstance(number, int)
                and not isinstance(number, bool)
                and -_LIMITS[avro.kind] <= number < _LIMITS[avro.kind]
            ):
                return number
        case "bytes" | "fixed" if isinstance(value, str) and max(map(ord, value), default=0) < 256:
            if avro.kind == "bytes" or len(value) == avro.size:
                return value.encode("latin-1")
        case "null" if value is None:
            return None
        case "boolean" if isinstance(value, bool):
            return value
        case "string" if isinstance(value, str):
            return value
        case "enum" if value in avro.symbols:
            return value
    allowed = f" ({', '.join(avro.symbols)})" if avro.symbols else ""
    raise ValueError(f"{place} is {avro}{allowed}, not {value!r}")


def _record_to_avro(avro: AvroType, value: Mapping[str, Any], place: str) -> dict[str, Any]:
    names = [field.name for field in avro.fields]
    for name in value:
        if name not in names:
            raise ValueError(f"{place} has no field {name!r}; it has {', '.join(names)}")
    missing = [
        field.name for field in avro.fields if field.name not in value and not field.has_default
    ]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}")
    return {
        f.name: to_avro(f.type, value[f.name], f"{place}.{f.name}")
        for f in avro.fields
        if f.name in value
    }


def _time(avro: AvroType, text: str) -> int | None:
    instant = instant_of(Field("", avro))
    time_ms = parse_time(text) if instant is not None else None
    return None if time_ms is None or instant is None else time_ms * _PER_MS[instant.unit]


def hex_dump(data: bytes, limit: int) -> list[str]:
    """Write the first bytes as lines of offset, hexadecimal and ASCII."""
    lines = []
    for at in range(0, min(len(data), limit), 16):
        row = data[at : min(at + 16, limit)]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{shown}|")
    return lines


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of decoding a record with these settings.

    detail  : the schema and its problem; may be empty
    entity  : empty if rejected
    time_ms : event time; 0 if rejected
    """

    reason: Reason
    detail: str = ""
    entity: str = ""
    time_ms: int = 0

    @property
    def sentence(self) -> str:
        """The cause of the rejection."""
        return self.reason.sentence + (f": {self.detail}" if self.detail else "")


def decoder_of(settings: InputSettings, registry: SchemaRegistry) -> Decoder:
    """Return the input's decoder for single records; every writer schema is allowed."""
    unguarded = settings.model_copy(update={"schema_fingerprints": ()})
    return open_decoder(unguarded, registry, time.monotonic)


def verdicts_of(
    values: Sequence[bytes], decoder: Decoder, headers: Sequence[Headers] = ()
) -> list[Verdict]:
    """Decode records as the predictor does, with the current registry.

    headers : of each record; empty = none has any
    raises  : TransportError if the registry does not answer
    """
    n = len(values)
    by_row = {row: pairs for row, pairs in enumerate(headers) if pairs}
    batch = Batch(
        "", 0, Blob.join(values), Blob.join([None] * n), np.arange(n), np.zeros(n, np.int64), by_row
    )
    decoder.prepare(batch)
    entities = Directory()
    columns = decoder.decode(batch, entities, [])
    found = {}
    for row, entity, time_ms in zip(
        columns.accepted.tolist(), columns.entity.tolist(), columns.time_ms.tolist(), strict=True
    ):
        found[row] = Verdict(Reason.ACCEPTED, "", entities.name(entity), time_ms)
    for row, code in zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True):
        detail = decoder.detail(values[row], by_row.get(row, ()), Reason(code))
        found[row] = Verdict(Reason(code), detail)
    return [found[row] for row in range(n)]
