"""What a field's type tells about time: an instant and its unit, a date, a time of day, or nothing.

Invariant: the logicalType decides, else connect.name of Kafka Connect and Debezium. A logicalType
beside the type counts like one inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.decode.avro.schema import AvroType, Field

NUMBERS = frozenset({"int", "long", "float", "double"})

UNITS = ("s", "ms", "us", "ns")
ISO = "iso"

_FIRST = {"timestamp-millis": "ms", "timestamp-micros": "us"}
_FURTHER = {
    "timestamp-nanos": "ns",
    "local-timestamp-millis": "ms",
    "local-timestamp-micros": "us",
    "local-timestamp-nanos": "ns",
    "org.apache.kafka.connect.data.Timestamp": "ms",
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
}
_DAYS = {
    "date",
    "org.apache.kafka.connect.data.Date",
    "io.debezium.time.Date",
    "io.debezium.time.Year",
}
_CLOCKS = {
    "org.apache.kafka.connect.data.Time",
    "io.debezium.time.Time",
    "io.debezium.time.MicroTime",
}
_CLOCKS |= {"io.debezium.time.NanoTime"}


@dataclass(frozen=True, slots=True)
class Instant:
    """A type whose values are instants.

    unit   : s, ms, us or ns since 1970 UTC
    source : the annotation that says so, for messages
    first  : it is one of Avro's two oldest timestamp types, which take precedence
    """

    unit: str
    source: str
    first: bool


def values_of(avro: AvroType) -> list[AvroType]:
    """Return the types that a field's value may have, without null."""
    branches = avro.branches if avro.kind == "union" else (avro,)
    return [branch for branch in branches if branch.kind != "null"]


def only(avro: AvroType, kinds: frozenset[str]) -> bool:
    """Return whether a field's value, unless null, is always of one of these kinds."""
    values = values_of(avro)
    return bool(values) and all(value.kind in kinds for value in values)


MOST_SCALE = 300
"""Most digits after the point of a decimal, so that its unit is a double."""


def decimal_of(avro: AvroType) -> AvroType | None:
    """Return the type if its value, unless null, is a decimal that can be read; else None."""
    values = values_of(avro)
    if len(values) != 1 or values[0].logical != "decimal":
        return None
    (value,) = values
    is_sized = value.kind == "bytes" or (value.kind == "fixed" and value.size > 0)
    return value if is_sized and 0 <= value.scale <= MOST_SCALE else None


def instant_of(field: Field) -> Instant | None:
    """Return the instant that the field's type describes; None if it is not a long or has none."""
    values = values_of(field.type)
    if len(values) != 1 or values[0].kind != "long":
        return None
    own = values[0].logical
    beside = field.logical
    meaning = values[0].meaning
    if own in _FIRST:
        return Instant(_FIRST[own], own, first=True)
    sources = ((own, own), (beside, f"{beside} beside its type"), (meaning, meaning))
    for annotation, source in sources:
        unit = _FURTHER.get(annotation) or _FIRST.get(annotation)
        if unit:
            return Instant(unit, source, first=False)
    return None


def calendar_of(field: Field) -> str:
    """Return "a date", "a time of day" or "a time" where the field's type says so, else ""."""
    for value in values_of(field.type):
        is_number = value.kind in NUMBERS
        for annotation in (value.logical, value.meaning, field.logical if is_number else ""):
            if annotation in _DAYS:
                return "a date"
            if annotation in _CLOCKS or annotation.startswith("time-"):
                return "a time of day"
            is_instant = annotation.startswith(("timestamp-", "local-timestamp-"))
            if is_number and (is_instant or annotation in _FURTHER):
                return f"a time ({annotation})"
    return ""
