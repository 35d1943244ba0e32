"""Where a record's schema id is and where its Avro begins: in front of the value, or in headers.

Invariant: a record's frame depends on its own value and headers and on ``input.schema_ids``. An id
in headers takes precedence, as in the deserializers of Confluent and of Apicurio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.batch import Batch, Headers
from shared.decode.avro.misplaced import (
    APICURIO,
    ENCODING_HEADER,
    JSON_ENCODING,
    VALUE_HEADER,
    Misplaced,
    wrong_header,
)
from shared.decode.kernels import frame_rows as kernel
from shared.schema_ids import IdKind, SchemaKey, SchemaRef

FIRST_REF = 2**32
"""Numbers from here on are names of ``Framing.refs``; smaller ones are ids of Confluent's API."""

LONG_HEADER_BYTES = 9
"""Byte 0 and an id of 8 bytes, big-endian."""

_GLOBAL_HEADER = f"{APICURIO}globalId"
_CONTENT_HEADER = f"{APICURIO}contentId"
_IN_APICURIO = {_GLOBAL_HEADER: IdKind.GLOBAL_ID, _CONTENT_HEADER: IdKind.CONTENT_ID}
_OF_VALUES = {"apicurio_global": IdKind.GLOBAL_ID, "apicurio_content": IdKind.CONTENT_ID}
"""What the ids in front of the values are, by setting."""

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Framing:
    """The frames of a batch.

    rows : schema number and first byte of each record
    refs : the names of schemas that are no ids; number ``FIRST_REF + i`` is ``refs[i]``
    """

    rows: kernel.Frames
    refs: Sequence[SchemaRef]

    def keys(self) -> dict[int, SchemaKey]:
        """Return the schemas of the batch by number, in order of appearance."""
        runs = np.empty(len(self.rows.numbers), np.int64)
        count = kernel.number_runs(self.rows.numbers, runs)
        return {number: self._key(number) for number in dict.fromkeys(runs[:count].tolist())}

    def _key(self, number: int) -> SchemaKey:
        return number if number < FIRST_REF else self.refs[number - FIRST_REF]


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of one record; ``begin`` is the first byte of its Avro."""

    key: SchemaKey
    begin: int


def frames_of(batch: Batch, schema_ids: str) -> Framing:
    """Return the frames of a batch.

    schema_ids : the setting input.schema_ids
    Cost       : some ns a record without headers, about a microsecond with headers
    """
    bounds = batch.values.bounds
    frames = kernel.Frames(np.empty(len(batch), np.int64), np.empty(len(batch), np.int64))
    kernel.read_frames(np.frombuffer(batch.values.data, np.uint8), bounds, frames)
    refs: dict[SchemaRef, int] = {}
    if schema_ids == "confluent":
        return Framing(frames, ())
    _frame_long_ids(batch, frames, schema_ids, refs)
    number_of: dict[Headers, int | None] = {}
    for row, headers in batch.headers.items():
        pairs = tuple(headers)
        if pairs not in number_of:
            number_of[pairs] = _number_in(pairs, refs)
        number = number_of[pairs]
        if number is not None:
            frames.begins[row] = bounds[row]
            frames.numbers[row] = number
    return Framing(frames, tuple(refs))


def frame_of(value: bytes, headers: Headers, schema_ids: str) -> Frame | None:
    """Return the frame of one record as ``frames_of`` does; None where it has none."""
    found = key_in_headers(headers) if schema_ids != "confluent" else None
    if found is not None:
        return None if isinstance(found, Misplaced) else Frame(found, 0)
    if len(value) < kernel.HEADER_BYTES or value[0] != 0:
        return None
    schema_id = int.from_bytes(value[1 : kernel.HEADER_BYTES], "big")
    if schema_ids == "confluent":
        return Frame(schema_id, kernel.HEADER_BYTES)
    if schema_id == 0 and len(value) > LONG_HEADER_BYTES:
        return Frame(_long_id(value, schema_ids), LONG_HEADER_BYTES)
    kind = _OF_VALUES.get(schema_ids)
    key = schema_id if kind is None else SchemaRef(kind, schema_id)
    return Frame(key, kernel.HEADER_BYTES)


def key_in_headers(headers: Headers) -> SchemaKey | Misplaced | None:
    """Return the schema that headers name; None where they name none, Misplaced if unreadable.

    Of several headers with one name the last counts, as in Java's clients.
    """
    found = {name: value for name, value in headers if name in _READ}
    if not found:
        return None
    if VALUE_HEADER in found:
        key = _confluent_key(found[VALUE_HEADER])
        return wrong_header(VALUE_HEADER, found[VALUE_HEADER]) if key is None else key
    for name, kind in _IN_APICURIO.items():
        if name not in found:
            continue
        if found.get(ENCODING_HEADER, b"BINARY") == b"JSON":
            return JSON_ENCODING
        if len(found[name]) != 8:
            return wrong_header(name, found[name])
        return SchemaRef(kind, int.from_bytes(found[name], "big", signed=True))
    return None


_READ = {VALUE_HEADER, ENCODING_HEADER, *_IN_APICURIO}


def _number_in(headers: Headers, refs: dict[SchemaRef, int]) -> int | None:
    """Return the number of the schema that headers name; None where they name none."""
    found = key_in_headers(headers)
    if found is None:
        return None
    return kernel.NONE if isinstance(found, Misplaced) else _number(found, refs)


def _confluent_key(value: bytes) -> SchemaKey | None:
    """Return the schema in Confluent's header: 1 and a GUID, or 0 and an id of 4 bytes."""
    if value[:1] == b"\1" and len(value) == 17:
        return SchemaRef(IdKind.GUID, _guid(value[1:].hex()))
    if value[:1] == b"\0" and len(value) == kernel.HEADER_BYTES:
        return int.from_bytes(value[1:], "big")
    return None


def _guid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _frame_long_ids(
    batch: Batch, frames: kernel.Frames, schema_ids: str, refs: dict[SchemaRef, int]
) -> None:
    """Frame the records with 8-byte ids, and those whose ids are Apicurio's by the setting."""
    bounds = batch.values.bounds
    is_long = frames.numbers == 0
    if is_long.any():
        rows = np.flatnonzero(is_long & (np.diff(bounds) > LONG_HEADER_BYTES))
        data = np.frombuffer(batch.values.data, np.uint8)
        ids = data[bounds[rows][:, None] + np.arange(1, LONG_HEADER_BYTES)].view(">u8").ravel()
        long_kind = _OF_VALUES.get(schema_ids, IdKind.GLOBAL_ID)
        for schema_id in np.unique(ids).tolist():
            number = _number(SchemaRef(long_kind, schema_id), refs)
            frames.numbers[rows[ids == schema_id]] = number
        frames.begins[rows] = bounds[rows] + LONG_HEADER_BYTES
    kind = _OF_VALUES.get(schema_ids)
    if kind is None:
        return
    is_id = (frames.numbers >= 0) & (frames.numbers < FIRST_REF)
    for schema_id in np.unique(frames.numbers[is_id]).tolist():
        number = _number(SchemaRef(kind, schema_id), refs)
        frames.numbers[is_id & (frames.numbers == schema_id)] = number


def _long_id(value: bytes, schema_ids: str) -> SchemaRef:
    kind = _OF_VALUES.get(schema_ids, IdKind.GLOBAL_ID)
    return SchemaRef(kind, int.from_bytes(value[1:LONG_HEADER_BYTES], "big"))


def _number(key: SchemaKey, refs: dict[SchemaRef, int]) -> int:
    """Return the number of a schema within a batch."""
    return key if isinstance(key, int) else FIRST_REF + refs.setdefault(key, len(refs))
