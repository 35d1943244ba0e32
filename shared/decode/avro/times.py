"""What a field's type says about time: an instant in which unit, a date, a time of day, or nothing.

Invariant: a type says what its logicalType says, else what Kafka Connect or Debezium note beside
it; a logicalType that stands beside the type counts as if it stood in it.
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

    unit  : s, ms, us or ns since 1970 UTC
    said  : by what, for a person
    first : whether it is one of Avro's two oldest timestamp types, which go before all others
    """

    unit: str
    said: str
    first: bool


def values_of(avro: AvroType) -> list[AvroType]:
    """Return the types that a field's value may have, null left out."""
    branches = avro.branches if avro.kind == "union" else (avro,)
    return [branch for branch in branches if branch.kind != "null"]


def only(avro: AvroType, kinds: frozenset[str]) -> bool:
    """Whether a field's value, where there is one, is of one of these kinds."""
    values = values_of(avro)
    return bool(values) and all(value.kind in kinds for value in values)


def instant_of(field: Field) -> Instant | None:
    """Return what the field's type says about an instant; None if it is no long or says nothing."""
    values = values_of(field.type)
    if len(values) != 1 or values[0].kind != "long":
        return None
    own, beside = values[0].logical, field.logical
    if own in _FIRST:
        return Instant(_FIRST[own], own, first=True)
    for said, shown in (
        (own, own),
        (beside, f"{beside} beside its type"),
        (values[0].meaning, values[0].meaning),
    ):
        unit = _FURTHER.get(said) or _FIRST.get(said)
        if unit:
            return Instant(unit, shown, first=False)
    return None


def calendar_of(field: Field) -> str:
    """Return "a date", "a time of day" or "a time" where the field's type says so, else ""."""
    for value in values_of(field.type):
        for said in (value.logical, value.meaning, field.logical if value.kind in NUMBERS else ""):
            if said in _DAYS:
                return "a date"
            if said in _CLOCKS or said.startswith("time-"):
                return "a time of day"
            is_instant = said.startswith(("timestamp-", "local-timestamp-")) or said in _FURTHER
            if value.kind in NUMBERS and is_instant:
                return f"a time ({said})"
    return ""
