"""Inspection of the newest records of a topic with JSON.

Invariant: pure; ``JsonDecoder`` alone decides what is read, with the same settings as a predictor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lapwing.inspect import warnings
from lapwing.inspect.reading import DeadLetters, Inspection, Reading, deciding_settings
from lapwing.inspect.records import Record, Sample, examples_of
from shared.batch import Batch, Blob
from shared.columns import Columns
from shared.decode.field_choice import FieldChoice, ignore, listed
from shared.decode.json.decoder import JsonDecoder, fields_of
from shared.decode.json.document import Leaf, Refusal, kind_of, read_leaves
from shared.decode.long_form import with_long_form
from shared.directory import Directory
from shared.events import Reason
from shared.ports import Decoder
from shared.settings import InputSettings

SOURCE = "JSON objects"


@dataclass(slots=True)
class _Read:
    """The records that can be read, newest first, and the rejected ones.

    reader  : the decoder that has read them
    leaves  : the values of each row by dotted names
    metrics : names of the columns
    """

    reader: Decoder
    columns: Columns
    metrics: list[str]
    rows: list[Record] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)
    leaves: list[Mapping[str, Leaf]] = field(default_factory=list)
    rejected: dict[Reason, list[Record]] = field(default_factory=dict)


def inspect_json(sample: Sample, settings: InputSettings) -> Inspection:
    """Inspect the newest records."""
    records = sorted(sample.records, key=lambda record: record.age, reverse=True)
    decoder = JsonDecoder(settings, ignore)
    reader = with_long_form(settings, lambda wanted: JsonDecoder(wanted, ignore))
    part = _decode(records, reader)
    places = [
        (entity, record.partition) for entity, record in zip(part.entities, part.rows, strict=True)
    ]
    keyless = sum(not record.key for record in records)
    hints = warnings.without_key(keyless, len(records), places)
    hints += [] if keyless else warnings.entities_in_partitions(places)
    names = _names_and_objects(part.leaves)
    hints += warnings.unknown_names(settings, names) if names else []
    return Inspection(
        sample.source,
        "record",
        len(records),
        (_reading(records, part, decoder, settings),) if records else (),
        tuple(_dead_letters(sample.topic, part)),
        tuple(hints),
        deciding_settings(settings),
    )


def _names_and_objects(rows: Sequence[Mapping[str, Leaf]]) -> list[str]:
    """Return the names of values, and those of the objects that hold them."""
    found: dict[str, None] = {}
    for leaves in rows:
        for name in leaves:
            parts = name.split(".")
            found |= dict.fromkeys(".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return list(found)


def _decode(records: Sequence[Record], reader: Decoder) -> _Read:
    n = len(records)
    batch = Batch(
        "",
        0,
        Blob.join([record.value for record in records]),
        Blob.join([None] * n),
        np.arange(n),
        np.zeros(n, np.int64),
    )
    entities = Directory()
    metrics: list[str] = []
    columns = reader.decode(batch, entities, metrics)
    found = _Read(reader, columns, metrics)
    found.rows = [records[row] for row in columns.accepted.tolist()]
    found.entities = [entities.name(number) for number in columns.entity.tolist()]
    for record in found.rows:
        leaves = read_leaves(record.value)
        found.leaves.append({} if isinstance(leaves, Refusal) else leaves)
    for row, code in zip(columns.rejected.tolist(), columns.reasons.tolist(), strict=True):
        found.rejected.setdefault(Reason(code), []).append(records[row])
    return found


def _reading(
    records: Sequence[Record], part: _Read, decoder: JsonDecoder, settings: InputSettings
) -> Reading:
    """Return how the records are read; names and reasons are those of all of them."""
    if not part.rows:
        newest = records[0]
        reason = next(
            reason
            for reason, rejected in part.rejected.items()
            if any(record is newest for record in rejected)
        )
        return Reading(SOURCE, len(records), 0, unfit=_why(newest, reason, part.reader))
    fields = _fields(part, decoder, settings)
    values = part.columns.values
    texts = {
        name: [_text(leaves.get(name)) for leaves in part.leaves]
        for name, why in fields.left_out
        if why == "text"
    }
    hints = _unit_warnings(records, part, fields, decoder)
    hints += warnings.entities_of_rows(fields.entity, part.entities)
    if not settings.metric_field:
        hints += warnings.long_form(part.metrics, part.entities, texts)
    hints += warnings.metrics_that_are_none(part.metrics, values, part.columns.time_ms)
    hints += _quoted_numbers(texts)
    return Reading(
        SOURCE,
        len(records),
        len(part.rows),
        fields.entity,
        fields.time,
        fields.time_by,
        fields.metrics,
        fields.left_out,
        "",
        tuple(hints),
        examples_of(part.entities, part.columns.time_ms.tolist(), values, part.metrics),
    )


def _fields(part: _Read, decoder: JsonDecoder, settings: InputSettings) -> FieldChoice:
    """Return how names are read in any of the records; entity and time are those of the newest."""
    others: dict[str, str] = {}
    newest = None
    for record in part.rows:
        found = decoder.read(record.value)
        if isinstance(found, Refusal):
            continue
        leaves, choice, _ = found
        newest = newest or choice
        if not settings.metric_field:
            others |= {name: _kind(leaves[name]) for name in choice.metrics if name not in others}
        others |= choice.left_out
    assert newest is not None  # noqa: S101 - only records that can be read come here
    others = {name: why for name, why in others.items() if name not in part.metrics}
    return fields_of(newest, part.metrics, others, settings)


def _kind(value: Leaf) -> str:
    if value is None:
        return "always null"
    return "text" if isinstance(value, str) else kind_of(value)


def _text(value: Leaf) -> str | None:
    return value if isinstance(value, str) else None


def _quoted_numbers(texts: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Warn of numbers that are written as text in all records that have them."""
    quoted = []
    for name, values in texts.items():
        present = [value for value in values if value is not None]
        if present and all(_is_number(value) for value in present):
            quoted.append(name)
    if not quoted:
        return []
    are = "is a number" if len(quoted) == 1 else "are numbers"
    return [f"{listed(quoted)} {are} in quotes, which is text: only numbers without quotes count"]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _unit_warnings(
    records: Sequence[Record], part: _Read, fields: FieldChoice, decoder: JsonDecoder
) -> list[str]:
    """Check the unit of the newest record with a numeric time, readable or not."""
    if fields.time_unit == "iso":
        return []
    far = part.rejected.get(Reason.TIME_OUT_OF_RANGE, [])
    known = {id(record) for record in (*part.rows, *far)}
    for record in records:
        found = decoder.read(record.value)
        if id(record) not in known or isinstance(found, Refusal):
            continue
        leaves, choice, _ = found
        raw = leaves[choice.time]
        if isinstance(raw, int | float) and abs(raw) < 2**63:
            return warnings.wrong_unit(
                raw, fields.time_unit, fields.time_by, True, record.broker_ms
            )
    return []


def _why(record: Record, reason: Reason, reader: Decoder) -> str:
    detail = reader.detail(record.value, record.headers, reason)
    return f"{reason.sentence}: {detail}" if detail else reason.sentence


def _dead_letters(topic: str, part: _Read) -> list[DeadLetters]:
    """Group rejected records by reason; the sentence is that of the newest."""
    found = []
    for reason, records in part.rejected.items():
        newest = records[0]
        place = f"{topic}[{newest.partition}]@{newest.offset}"
        why = _why(newest, reason, part.reader)
        found.append(DeadLetters(reason.code, len(records), why, "", place))
    return sorted(found, key=lambda letters: (-letters.count, letters.reason))
