"""Chooses the fields of a writer schema that are the entity, the time and the metrics.

Invariant: the choice is a function of the schema and the input settings. It depends on a field's
type and name and on settings; where several fields qualify, the error names them and the setting. A
number that is a time by its type or name is a metric only where a setting includes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.decode.avro.nested import label_of, matching, nested_fields, nested_record
from shared.decode.avro.schema import AvroType, Field
from shared.decode.avro.times import (
    ISO,
    NUMBERS,
    UNITS,
    Instant,
    calendar_of,
    decimal_of,
    instant_of,
    only,
    values_of,
)
from shared.decode.field_choice import FieldChoice, UnsupportedSchema, listed
from shared.decode.field_names import TIME_NAMES, find, first_time_name, says_time
from shared.settings import InputSettings

_PARTS = frozenset({"string", "int", "long", "enum"})
_PLAIN_TIMES = frozenset({"int", "long", "double"})
_TEXT_TIMES = {"io.debezium.time.ZonedTimestamp", "io.debezium.time.IsoTimestamp"}
CHANGE_EVENT = "it is a change event of Debezium"
_ENVELOPE = {"before", "after", "op"}


def choose_fields(record: AvroType, settings: InputSettings) -> FieldChoice:
    """Choose how the fields of a record are read.

    raises : UnsupportedSchema that names the field which is missing, ambiguous or of the wrong
             type, and the setting that decides
    """
    nested = nested_fields(record)
    entity = _choose_entity(record, nested, settings)
    rest = [field for field in record.fields if field.name not in entity]
    below = [field for field in nested if field.name not in entity]
    time, unit, time_by = _TimeChoice(
        record, [*rest, *_named(settings.time_field, below)], settings
    ).choose()
    rest = [field for field in (*rest, *below) if field.name != time]
    if settings.metric_field:
        metrics, left_out = _choose_long_form(record, rest, settings)
        return FieldChoice(record.name, entity, time, unit, time_by, metrics, left_out)
    metrics, left_out = _choose_metrics(record, rest, settings)
    left_out = tuple(
        (name, why)
        for name, why in left_out
        if why != _KINDS["map"] or not _is_used(name, set(entity))
    )
    return FieldChoice(record.name, entity, time, unit, time_by, metrics, left_out)


# -- the entity ------------------------------------------------------------------------------------


def _named(wanted: str, fields: Sequence[Field]) -> list[Field]:
    """Return the nested fields that a setting may mean: none unless its name has a dot."""
    names = find(wanted, [field.name for field in fields]) if "." in wanted else ()
    return [field for field in fields if field.name in names]


def _choose_entity(
    record: AvroType, nested: Sequence[Field], settings: InputSettings
) -> tuple[str, ...]:
    fields = {field.name: field for field in (*record.fields, *nested)}
    chosen: list[str] = []
    for wanted in settings.entity_fields:
        found = find(wanted, list(fields))
        label = "" if found else label_of(wanted, list(fields.values()))
        if label and label not in chosen:
            chosen.append(label)
            continue
        if not found and not label:
            raise UnsupportedSchema(
                f"{record.name} has no field {wanted!r}, the entity by input.entity_fields;"
                f" {_instead(record)}"
            )
        if len(found) > 1:
            raise UnsupportedSchema(
                f"{record.name} has {_joined(found)}: which is {wanted!r} of input.entity_fields?"
                " Write it exactly so"
            )
        (name,) = found or (label,)
        if name in chosen:
            raise UnsupportedSchema(f"input.entity_fields names {name!r} twice")
        if not only(fields[name].type, _PARTS):
            raise UnsupportedSchema(
                f"{record.name}.{name} is {fields[name].type}; an entity (input.entity_fields) is a"
                " string, int, long or enum"
            )
        chosen.append(name)
    return tuple(chosen)


def _instead(record: AvroType) -> str:
    names = [field.name for field in record.fields]
    if set(names) >= _ENVELOPE:
        return (
            f"{CHANGE_EVENT}: unwrap it where it is made, by the transform "
            "io.debezium.transforms.ExtractNewRecordState of Kafka Connect, or write rows with "
            "'value.format'='avro-confluent' in Flink SQL, instead of debezium-avro-confluent"
        )
    if not names:
        return "it has no fields"
    texts = [
        field.name for field in record.fields if only(field.type, frozenset({"string", "enum"}))
    ]
    hint = (
        f"; text that may name the entity: {listed(texts)}" if texts else "; none of them is text"
    )
    return f"it has {listed(names)}{hint}"


# -- the time --------------------------------------------------------------------------------------


class _TimeChoice:
    """Chooses the event time among the fields that are not the entity."""

    def __init__(self, record: AvroType, fields: Sequence[Field], settings: InputSettings) -> None:
        self.record = record
        self.fields = {field.name: field for field in fields}
        self.unit = settings.time_unit
        self.wanted = settings.time_field
        metrics = (*settings.include, *settings.exclude)
        self.set_as_metric = {
            name for wanted in metrics for name in find(wanted, list(self.fields))
        }
        self.instants: dict[str, Instant] = {}
        for field in fields:
            instant = instant_of(field)
            if instant is not None:
                self.instants[field.name] = instant

    def choose(self) -> tuple[str, str, str]:
        """Return the field, its unit and what the unit was inferred from."""
        return self._by_setting() if self.wanted else self._by_rule()

    def _by_setting(self) -> tuple[str, str, str]:
        found = find(self.wanted, list(self.fields))
        if not found:
            raise UnsupportedSchema(
                f"{self.record.name} has no field {self.wanted!r} beside the entity, "
                "the event time by input.time_field; "
                f"it has {listed(list(self.fields)) or 'no other field'}"
            )
        if len(found) > 1:
            raise UnsupportedSchema(
                f"{self.record.name} has {_joined(found)}: which is {self.wanted!r} of"
                " input.time_field? Write it exactly so"
            )
        (name,) = found
        return self._read(name)

    def _by_rule(self) -> tuple[str, str, str]:
        """Choose by name among timestamps, then among fields that input.time_unit can read.

        Without a usual name, the only candidate is chosen.
        """
        first = [name for name, instant in self.instants.items() if instant.first]
        plain = [name for name in self.fields if name not in self.instants and self._is_plain(name)]
        readable = [name for name in plain if self._reads(name)]
        for names in (first, list(self.instants), readable):
            named = first_time_name(names)
            if len(named) == 1:
                return self._read(named[0])
            if named:
                raise self._ambiguous(named)
        usual = {name.lower() for name in TIME_NAMES}
        others = [
            name for name in plain if name.lower() in usual and name not in self.set_as_metric
        ]
        for names in (first, list(self.instants)):
            if names and others:
                raise self._ambiguous([*names, *others])
            if len(names) == 1:
                return self._read(names[0])
            if names:
                raise self._ambiguous(names)
        readable = [name for name in readable if says_time(name) or self._is_text_time(name)]
        if len(readable) == 1:
            return self._read(readable[0])
        if readable:
            raise self._ambiguous(readable)
        raise UnsupportedSchema(self._none_found())

    def _read(self, name: str) -> tuple[str, str, str]:
        """Return how a field is read as the time; raises UnsupportedSchema."""
        if name in self.instants:
            return name, self.instants[name].unit, self.instants[name].source
        field = self.fields[name]
        shown = f"{self.record.name}.{name} is {field.type}"
        kinds = [value.kind for value in values_of(field.type)]
        is_readable = len(kinds) == 1 and kinds[0] in (_PLAIN_TIMES | {"float", "string"})
        if calendar_of(field) or not is_readable:
            raise UnsupportedSchema(
                f"{shown}; the event time (input.time_field) is a timestamp, "
                "or an int, long or double with input.time_unit "
                f"{', '.join(UNITS)}, or a string with input.time_unit {ISO}"
            )
        (kind,) = kinds
        if kind == "float":
            raise UnsupportedSchema(
                f"{shown}; as a time since 1970 it is good to two minutes at best: write a long or"
                " a double"
            )
        if kind == "string" and self.unit != ISO:
            raise UnsupportedSchema(
                f"{shown}; it is read as the event time with input.time_unit={ISO}, which is"
                f" {self._set_unit}"
            )
        if kind != "string" and self.unit not in UNITS:
            raise UnsupportedSchema(
                f"{shown} and does not say its unit: input.time_unit is one of {', '.join(UNITS)},"
                f" and is {self._set_unit}"
            )
        return name, str(self.unit), f"{kind}, {self.unit} by input.time_unit"

    @property
    def _set_unit(self) -> str:
        return self.unit or "not set"

    def _is_plain(self, name: str) -> bool:
        """Return whether it is a number or text, which is a time if a setting names it."""
        field = self.fields[name]
        values = values_of(field.type)
        if len(values) != 1 or calendar_of(field):
            return False
        return values[0].kind in _PLAIN_TIMES or values[0].kind == "string"

    def _is_text_time(self, name: str) -> bool:
        return values_of(self.fields[name].type)[0].meaning in _TEXT_TIMES

    def _reads(self, name: str) -> bool:
        if only(self.fields[name].type, frozenset({"string"})):
            return self.unit == ISO
        return self.unit in UNITS

    def _ambiguous(self, names: Sequence[str]) -> UnsupportedSchema:
        shown = []
        needs_unit = False
        for name in names:
            instant = self.instants.get(name)
            source = str(self.fields[name].type) if instant is None else instant.source
            shown.append(f"{name} ({source})")
            needs_unit = needs_unit or instant is None
        units = ""
        if needs_unit:
            units = f", and input.time_unit to its unit ({', '.join((*UNITS, ISO))})"
        return UnsupportedSchema(
            f"{self.record.name} has {_joined(shown)}: which is the event time? Set"
            f" input.time_field to its name{units}"
        )

    def _none_found(self) -> str:
        message = (
            f"{self.record.name} has no timestamp field (a long of logicalType timestamp-millis,"
            " -micros or -nanos)"
        )
        plain = [name for name in self.fields if self._is_plain(name)]
        likely = [name for name in plain if says_time(name) or self._is_text_time(name)]
        numbers = [name for name in likely if only(self.fields[name].type, NUMBERS)]
        texts = [name for name in likely if name not in numbers]
        if numbers and self.unit not in UNITS:
            message += (
                f"; {_joined(numbers)} may be the event time: set input.time_unit to its unit "
            )
            message += f"({', '.join(UNITS)})"
            return message + (" and input.time_field to its name" if len(numbers) > 1 else "")
        if texts and self.unit != ISO:
            message += f"; {_joined(texts)} may be the event time: "
            message += f"set input.time_unit={ISO} if it is text in ISO 8601"
            return message + (", and input.time_field to its name" if len(texts) > 1 else "")
        if plain:
            return f"{message}; input.time_field and input.time_unit make it one of {listed(plain)}"
        return f"{message} and no other field that could be the event time"


# -- the metrics -----------------------------------------------------------------------------------


def _choose_metrics(
    record: AvroType, fields: Sequence[Field], settings: InputSettings
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    names = [field.name for field in fields]
    exact = {name for wanted in settings.include for name in find(wanted, names)}
    included = {name for wanted in settings.include for name in matching(wanted, names)}
    excluded = {name for wanted in settings.exclude for name in matching(wanted, names)}
    metrics, left_out = list[str](), list[tuple[str, str]]()
    for field in fields:
        is_nested = "." in field.name
        if is_nested and field.name not in included:
            continue
        why = _why_no_metric(field)
        is_object = nested_record(field.type) is not None
        if why and field.name in exact and not is_object:
            raise UnsupportedSchema(
                f"{record.name}.{field.name} is {field.type}; "
                "a metric (input.include) is an int, long, float, double or decimal, and no time"
            )
        if not why and field.name in excluded:
            why = "input.exclude names it"
        elif not why and settings.include and field.name not in included:
            why = "input.include does not name it"
        elif not why and says_time(_last(field.name)) and field.name not in exact:
            why = "a time by its name: input.include takes it"
        if not why:
            metrics.append(field.name)
        elif not is_nested and not (is_object and _is_used(field.name, included)):
            left_out.append((field.name, why))
    if not metrics:
        numeric = [name for name in names if only(_type_of(fields, name), NUMBERS)]
        raise UnsupportedSchema(_no_metric(record.name, left_out, numeric))
    return tuple(metrics), tuple(left_out)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_used(name: str, included: set[str]) -> bool:
    """Return whether a setting takes a field below a record, or a label of a map."""
    return any(other.startswith(f"{name}.") for other in included)


def _choose_long_form(
    record: AvroType, rest: Sequence[Field], settings: InputSettings
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Choose input.value_field as the only metric of a record."""
    fields = [*record.fields, *nested_fields(record)]
    if label_of(settings.metric_field, fields):
        metric = Field(settings.metric_field, AvroType("string"))
    else:
        metric = _one_field(
            record, fields, settings.metric_field, "the metric's name", "metric_field"
        )
    value = _one_field(record, rest, settings.value_field, "the metric's value", "value_field")
    if not only(metric.type, _PARTS):
        raise UnsupportedSchema(
            f"{record.name}.{metric.name} is {metric.type}; the metric's name (input.metric_field)"
            " is a string, int, long or enum"
        )
    if _why_no_metric(value):
        raise UnsupportedSchema(
            f"{record.name}.{value.name} is {value.type}; the metric's value (input.value_field)"
            " is an int, long, float, double or decimal, and no time"
        )
    left_out = []
    for field in rest:
        if field.name == metric.name:
            left_out.append((field.name, "the metric's name by input.metric_field"))
        elif field.name != value.name and "." not in field.name:
            left_out.append((field.name, "long form: one metric per record"))
    return (value.name,), tuple(left_out)


def _one_field(
    record: AvroType, fields: Sequence[Field], wanted: str, meaning: str, setting: str
) -> Field:
    """Return the field that a setting names; raises UnsupportedSchema."""
    names = [field.name for field in fields]
    found = find(wanted, names)
    if not found:
        raise UnsupportedSchema(
            f"{record.name} has no field {wanted!r}, {meaning} by input.{setting}; it has"
            f" {listed(names)}"
        )
    if len(found) > 1:
        raise UnsupportedSchema(
            f"{record.name} has {_joined(found)}: which is {wanted!r} of input.{setting}? Write it"
            " exactly so"
        )
    return next(field for field in fields if field.name == found[0])


def _type_of(fields: Sequence[Field], name: str) -> AvroType:
    return next(field.type for field in fields if field.name == name)


def _no_metric(record: str, left_out: Sequence[tuple[str, str]], numeric: Sequence[str]) -> str:
    message = f"{record} has no numeric field to use as a metric"
    nested = [name for name in numeric if "." in name]
    numeric = [name for name in numeric if "." not in name]
    if nested and not numeric:
        return f"{message}; input.include takes numbers of nested records: {listed(nested)}"
    if numeric and all(why.startswith("input.") for name, why in left_out if name in numeric):
        return f"{message}; input.include and input.exclude leave none of {listed(numeric)}"
    likely = [
        f"{name} ({why})"
        for name, why in left_out
        if name in numeric or "decimal" in why or "nested" in why
    ]
    return f"{message}; left out: {listed(likely)}" if likely else message


def _why_no_metric(field: Field) -> str:
    """Return why a field's type cannot be a metric; empty for a number."""
    calendar = calendar_of(field)
    if calendar:
        return calendar
    values = values_of(field.type)
    if not values:
        return "always null"
    if only(field.type, NUMBERS) or decimal_of(field.type):
        return ""
    if len(values) > 1:
        return f"of several types: {', '.join(value.kind for value in values)}"
    (value,) = values
    if value.kind in ("bytes", "fixed"):
        annotations = (value.logical, field.logical, value.meaning.rpartition(".")[2].lower())
        return _BAD_DECIMAL if "decimal" in annotations else "bytes"
    if value.kind == "string":
        return "a time as text" if value.meaning in _TEXT_TIMES or says_time(field.name) else "text"
    return _KINDS[value.kind]


_BAD_DECIMAL = (
    "a decimal without a scale of 0 to 300 beside its logicalType is not read: write a double"
)

_KINDS = {
    "boolean": "true or false",
    "enum": "one of several symbols",
    "array": "an array",
    "map": "a map",
    "record": "a nested record: input.include takes its numbers by dotted names",
}


def holds_numbers(why: str) -> bool:
    """Return whether a field that is left out for this reason contains numbers."""
    if why.startswith("of several types: "):
        return not NUMBERS.isdisjoint(why.partition(": ")[2].split(", "))
    return why.startswith("a decimal")


def _joined(names: Sequence[str]) -> str:
    """Join names by commas and a final "and"."""
    return listed(names) if len(names) < 2 else f"{listed(names[:-1])} and {names[-1]}"  # fmt: skip
