"""Inspection of the newest records of a topic, schema by schema.

Invariant: pure; records are decoded as a predictor decodes them, and ``AvroDecoder`` alone decides
which of them can be read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lapwing.dlq.record import read_fields
from lapwing.inspect import warnings
from lapwing.inspect.reading import (
    EXAMPLES,
    DeadLetters,
    Example,
    Inspection,
    Reading,
    deciding_settings,
    shown_time,
)
from shared.batch import Batch, Blob, Headers
from shared.columns import Columns
from shared.decode.avro.decoder import AvroDecoder, hint_of, unknown_schema
from shared.decode.avro.fields import CHANGE_EVENT
from shared.decode.avro.framing import frame_of
from shared.decode.avro.nested import nested_fields
from shared.decode.avro.plan import WriterPlan, record_of
from shared.decode.avro.schema import AvroType, SchemaInvalid, parse_schema
from shared.decode.avro.writer_schemas import plan_or_unsupported
from shared.decode.field_choice import UnsupportedSchema
from shared.decode.long_form import with_long_form
from shared.directory import Directory
from shared.events import Reason
from shared.schema_ids import SchemaKey, key_text
from shared.settings import InputSettings

_LARGEST = 2.0**63
"""Numbers from here on are a time in no unit."""

_TEXTS = ("text", "one of several symbols")
_ENTITY_IN_KEY = (
    "the entity is read from the value; ksqlDB adds the key to the value with AS_VALUE, "
    "Flink SQL with 'value.fields-include'='ALL'"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the topic; broker_ms: Kafka's timestamp."""

    partition: int
    offset: int
    broker_ms: int
    key: bytes
    value: bytes
    headers: Headers = ()

    @property
    def age(self) -> tuple[int, int]:
        """Sort key of records; the newest has the largest."""
        return self.broker_ms, self.offset


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest records of a topic.

    source  : description of the records;  topic: the topic's name
    texts   : schema -> text; None = unknown to the registry
    latest  : newest schema of the topic's subject; None = there is none
    """

    source: str
    topic: str
    records: Sequence[Record]
    texts: Mapping[SchemaKey, str | None]
    latest: str | None = None


@dataclass(slots=True)
class _Read:
    """The decoded and the rejected records of one schema."""

    records: list[Record]
    plan: WriterPlan | UnsupportedSchema | None
    rows: list[Record] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    columns: Columns | None = None
    metrics: list[str] = field(default_factory=list)
    rejected: list[tuple[Record, Reason]] = field(default_factory=list)

    @property
    def places(self) -> list[tuple[str, int]]:
        """Entity and partition of each row."""
        partitions = [record.partition for record in self.rows]
        return list(zip(self.entities, partitions, strict=True))


def inspect_sample(sample: Sample, settings: InputSettings) -> Inspection:
    """Inspect the newest records; without records, the newest schema."""
    groups: dict[SchemaKey | None, list[Record]] = {}
    for record in sorted(sample.records, key=lambda record: record.age, reverse=True):
        key = key_of(record, settings)
        known = key if key is not None and sample.texts.get(key) else None
        groups.setdefault(known, []).append(record)
    parts = {
        key: _decode(records, key, sample.texts.get(key) if key is not None else None, settings)
        for key, records in groups.items()
    }
    readings = [
        _reading(key, part, sample.texts[key] or "", settings)
        for key, part in parts.items()
        if key is not None
    ]
    if not sample.records and sample.latest is not None:
        readings = [_schema_reading("the newest schema of the subject", sample.latest, settings)]
    places = [place for part in parts.values() for place in part.places]
    keyless = sum(not record.key for record in sample.records)
    hints = warnings.without_key(keyless, len(sample.records), places)
    hints += [] if keyless else warnings.entities_in_partitions(places)
    if readings:
        texts = [text for text in (*sample.texts.values(), sample.latest) if text]
        names = [name for text in texts for name in _field_names(text)]
        hints += warnings.unknown_names(settings, names)
    return Inspection(
        sample.source,
        "record",
        len(sample.records),
        tuple(readings),
        tuple(_dead_letters(sample.topic, parts, settings)),
        tuple(hints),
        deciding_settings(settings),
    )


def key_of(record: Record, settings: InputSettings) -> SchemaKey | None:
    """Return the schema that a record names; None if it names none."""
    frame = frame_of(record.value, record.headers, settings.schema_ids)
    return None if frame is None else frame.key


def _decode(
    records: list[Record], key: SchemaKey | None, text: str | None, settings: InputSettings
) -> _Read:
    """Decode records of one schema.

    key : None = unknown schemas; the records may name different ones, or none
    """
    n = len(records)
    keys = {key_of(record, settings) for record in records} - {None}
    texts = {known: text if known == key else None for known in keys if known is not None}
    decoder = AvroDecoder.of_schemas(texts, settings)
    found = _Read(records, None if key is None else decoder.plan(key))
    batch = Batch(
        "",
        0,
        Blob.join([record.value for record in records]),
        Blob.join([None] * n),
        np.arange(n),
        np.zeros(n, np.int64),
        {row: record.headers for row, record in enumerate(records) if record.headers},
    )
    entities = Directory()
    reader = with_long_form(settings, lambda wanted: AvroDecoder.of_schemas(texts, wanted))
    columns = reader.decode(batch, entities, found.metrics)
    found.rows = [records[row] for row in columns.accepted.tolist()]
    found.entities = [entities.name(number) for number in columns.entity.tolist()]
    found.columns = columns
    rejected = zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True)
    found.rejected = [(records[row], Reason(code)) for row, code in rejected]
    return found


def _reading(key: SchemaKey, part: _Read, text: str, settings: InputSettings) -> Reading:
    plan, columns = part.plan, part.columns
    if not isinstance(plan, WriterPlan) or columns is None:
        reading = _schema_reading(_shown(key), text, settings, rows=len(part.records))
        return _with_key_hint(reading, part.records)
    chosen = plan.fields
    written = parse_schema(text)
    hints = _unit_warnings(part, written, settings)
    hints += warnings.entities_of_rows(chosen.entity, part.entities)
    decoded = [_fields_of(record, written, settings) for record in part.rows]
    texts = {
        name: [_text(row.get(name)) for row in decoded]
        for name, why in chosen.left_out
        if why in _TEXTS
    }
    metrics = part.metrics if settings.metric_field else plan.metrics
    if not settings.metric_field:
        hints += warnings.long_form(plan.metrics, part.entities, texts)
    values = columns.values if len(columns) else np.empty((0, len(metrics)))
    hints += warnings.metrics_that_are_none(metrics, values, columns.time_ms)
    hints += warnings.numbers_left_out(chosen.left_out, settings)
    return Reading(
        f"{_shown(key)}, {plan.record}",
        len(part.records),
        len(part.rows),
        chosen.entity,
        chosen.time,
        chosen.time_by,
        tuple(metrics),
        chosen.left_out,
        "",
        tuple(hints),
        examples_of(part.entities, columns.time_ms.tolist(), values, metrics),
    )


def _schema_reading(source: str, text: str, settings: InputSettings, *, rows: int = 0) -> Reading:
    """Return how records of a schema are read, without decoded records."""
    plan = plan_or_unsupported(text, settings)
    if isinstance(plan, UnsupportedSchema):
        return Reading(source, rows, 0, unfit=str(plan))
    fields = plan.fields
    return Reading(
        f"{source}, {plan.record}",
        rows,
        0,
        fields.entity,
        fields.time,
        fields.time_by,
        fields.metrics,
        fields.left_out,
        warnings=tuple(warnings.numbers_left_out(fields.left_out, settings)),
    )


def _with_key_hint(reading: Reading, records: Sequence[Record]) -> Reading:
    """Add a warning if the value lacks the entity and the records have keys."""
    lacks_entity = "the entity by input.entity_fields" in reading.unfit
    if not lacks_entity or CHANGE_EVENT in reading.unfit or not all(r.key for r in records):
        return reading
    hint = f"the records have keys (the newest: {_key_text(records[0].key)}): {_ENTITY_IN_KEY}"
    return Reading(reading.source, reading.rows, 0, unfit=reading.unfit, warnings=(hint,))


def examples_of(
    entities: Sequence[str],
    times_ms: Sequence[int],
    values: np.ndarray[Any, Any],
    metrics: Sequence[str],
) -> tuple[Example, ...]:
    """Return the first rows decoded.

    values : float64 (n, M)   NaN = missing
    """
    return tuple(
        Example(
            entities[row],
            shown_time(times_ms[row]),
            {
                name: None if math.isnan(value) else value
                for name, value in zip(metrics, values[row].tolist(), strict=True)
            },
        )
        for row in range(min(EXAMPLES, len(entities)))
    )


def _shown(key: SchemaKey) -> str:
    return f"schema {key}" if isinstance(key, int) else f"schema by {key}"


def _fields_of(record: Record, written: AvroType, settings: InputSettings) -> dict[str, Any]:
    frame = frame_of(record.value, record.headers, settings.schema_ids)
    return {} if frame is None else read_fields(record.value, written, frame.begin).values


def _unit_warnings(part: _Read, written: AvroType, settings: InputSettings) -> list[str]:
    """Check the unit of the newest record with a numeric time, readable or not."""
    assert isinstance(part.plan, WriterPlan)  # noqa: S101 - only a readable schema comes here
    chosen = part.plan.fields
    if chosen.time_unit == "iso":
        return []
    far = [record for record, reason in part.rejected if reason is Reason.TIME_OUT_OF_RANGE]
    known = {id(record) for record in (*part.rows, *far)}
    for record in part.records:
        if id(record) in known:
            raw = _fields_of(record, written, settings).get(chosen.time)
            if isinstance(raw, int | float) and abs(raw) < _LARGEST:
                by_setting = "input.time_unit" in chosen.time_by
                return warnings.wrong_unit(
                    raw, chosen.time_unit, chosen.time_by, by_setting, record.broker_ms
                )
    return []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _field_names(text: str) -> list[str]:
    try:
        record = record_of(parse_schema(text))
    except SchemaInvalid:
        return []
    return [field.name for field in (*record.fields, *nested_fields(record))] if record else []


# -- dead letters ----------------------------------------------------------------------------------


def _dead_letters(
    topic: str, parts: Mapping[SchemaKey | None, _Read], settings: InputSettings
) -> list[DeadLetters]:
    """Group rejected records by reason, and by schema if the schema is the cause."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for key, part in parts.items():
        for record, reason in part.rejected:
            cause = _why(record, reason, part if key is not None else None, settings)
            groups.setdefault(cause, []).append(record)
    found = []
    for (code, why, header), records in groups.items():
        newest = max(records, key=lambda record: record.age)
        place = f"{topic}[{newest.partition}]@{newest.offset}"
        found.append(DeadLetters(code, len(records), why, header, place))
    return sorted(found, key=lambda letters: (-letters.count, letters.reason, letters.why))


def _why(
    record: Record, reason: Reason, part: _Read | None, settings: InputSettings
) -> tuple[str, str, str]:
    """Return reason code, sentence, and the header with the schema id if that is the cause.

    part : the records of its schema; None if the schema is unknown
    """
    key = key_of(record, settings)
    if reason is Reason.SCHEMA_UNFIT and part is not None and key is not None:
        return reason.code, f"{key_text(key)}: {part.plan}", ""
    if reason in (Reason.NOT_AVRO, Reason.UNKNOWN_SCHEMA):
        known = hint_of(record.value, record.headers, reason, settings.schema_ids)
        if known is not None:
            return reason.code, f"{reason.sentence}: {known}", known.header
    if reason is Reason.UNKNOWN_SCHEMA and key is not None:
        more = unknown_schema(key)
        text = f"{key_text(key)}: {more}" if more else key_text(key)
        return reason.code, f"{reason.sentence}: {text}", ""
    return reason.code, reason.sentence, ""


def _key_text(key: bytes) -> str:
    try:
        return repr(key.decode())
    except UnicodeDecodeError:
        return f"{len(key)} bytes"
