"""Chooses which names of a JSON object are the entity, the time and possible metrics.

Invariant: the choice is a function of the names and the input settings; a value's type decides only
whether a possible metric is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.decode.field_choice import UnsupportedSchema, listed
from shared.decode.field_names import find, says_time
from shared.decode.json.document import Leaf, kind_of
from shared.kernels.text import MAX_NAME_BYTES
from shared.settings import InputSettings

MOST_METRICS = 256
"""Most numbers of a record; more metrics of an entity are not scored."""

_CONNECT_ENVELOPE = {"schema", "payload"}

BY_NAME = "a time by its name: input.include takes it"


@dataclass(frozen=True, slots=True)
class NameChoice:
    """What the names of an object mean.

    entity   : the names that make up the entity, in the order of input.entity_fields
    time     : the name of the event time
    metrics  : the names whose numbers are metrics, in the record's order
    required : those of them that input.include names: anything but a number or null is refused
    left_out : {name: reason} of the names that are left out whatever their values are
    """

    entity: tuple[str, ...]
    time: str
    metrics: tuple[str, ...]
    required: frozenset[str]
    left_out: Mapping[str, str]


def choose_names(names: Sequence[str], settings: InputSettings) -> NameChoice:
    """Choose what the names of an object mean.

    raises : UnsupportedSchema that names the setting and what the record has
    """
    entity = tuple(
        _one(wanted, names, "the entity by input.entity_fields")
        for wanted in settings.entity_fields
    )
    time = _one(settings.time_field, names, "the event time by input.time_field")
    used = (*entity, time)
    twice = next((name for name in used if used.count(name) > 1), None)
    if twice is not None:
        raise UnsupportedSchema(
            f"input.entity_fields and input.time_field name {twice!r} more than once"
        )
    rest = [name for name in names if name not in used]
    if settings.metric_field:
        return _long_form(entity, time, names, settings)
    included = {name for wanted in settings.include for name in matching(wanted, rest)}
    excluded = {name for wanted in settings.exclude for name in matching(wanted, rest)}
    metrics, left_out = list[str](), dict[str, str]()
    for name in rest:
        why = _why_left_out(name, included, excluded, settings)
        if why:
            left_out[name] = why
        else:
            metrics.append(name)
    required = frozenset(name for wanted in settings.include for name in find(wanted, metrics))
    return NameChoice(entity, time, tuple(metrics), required, left_out)


def _long_form(
    entity: tuple[str, ...], time: str, names: Sequence[str], settings: InputSettings
) -> NameChoice:
    """Choose input.value_field as the only metric of a record."""
    metric = _one(settings.metric_field, names, "the metric's name by input.metric_field")
    value = _one(settings.value_field, names, "the metric's value by input.value_field")
    left_out = dict.fromkeys(names, "long form: one metric per record")
    left_out[metric] = "the metric's name by input.metric_field"
    for name in (*entity, time, value):
        left_out.pop(name, None)
    return NameChoice(entity, time, (value,), frozenset((value,)), left_out)


def matching(wanted: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a setting means: the name itself, or all names below an object."""
    found = find(wanted, names)
    if found:
        return found
    below = f"{wanted.lower()}."
    return tuple(name for name in names if name.lower().startswith(below))


def metrics_of(choice: NameChoice, leaves: Mapping[str, Leaf]) -> dict[str, float | None]:
    """Return the numbers of a record; a name whose value is null is left out, as if absent.

    raises : UnsupportedSchema where a value cannot be read, or no metric is there
    """
    found: dict[str, float | None] = {}
    for name in choice.metrics:
        value = leaves[name]
        if isinstance(value, float):
            found[name] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = _as_float(value)
        elif isinstance(value, list):
            raise UnsupportedSchema(
                f"{name} is an array: a record is one row; input.exclude={name} leaves it out"
            )
        elif value is not None and name in choice.required:
            raise UnsupportedSchema(
                f"{name} is {kind_of(value)}; a metric that a setting names (input.include,"
                " input.value_field) is a number without quotes"
            )
    if len(found) > MOST_METRICS:
        raise UnsupportedSchema(
            f"it has {len(found)} numbers, at most {MOST_METRICS} are metrics: input.include and"
            " input.exclude select them"
        )
    for name in found:
        if not is_usable(name):
            raise UnsupportedSchema(
                f"a name of a metric is empty, longer than {MAX_NAME_BYTES} bytes or holds"
                f" unprintable characters: {kind_of(name)}"
            )
    if not found and not any(leaves[name] is None for name in choice.metrics):
        raise UnsupportedSchema(_no_metric(choice, leaves))
    return found


def is_usable(name: str) -> bool:
    """Return whether a name is 1 to 256 bytes of printable text, as a model's metrics must be."""
    return bool(name) and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES


def _as_float(value: int) -> float:
    """Return a number as a float64; infinite if it is too large, which the gates refuse."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _one(wanted: str, names: Sequence[str], meaning: str) -> str:
    found = find(wanted, names)
    if not found:
        raise UnsupportedSchema(
            f"it has no {wanted!r}, {meaning}; it has {listed(names) or 'no names'}{_hint(names)}"
        )
    if len(found) > 1:
        raise UnsupportedSchema(
            f"it has {listed(found)}: which is {wanted!r}, {meaning}? Write it exactly so"
        )
    return found[0]


def _hint(names: Sequence[str]) -> str:
    outer = {name.partition(".")[0] for name in names}
    if outer != _CONNECT_ENVELOPE:
        return ""
    return ": Kafka Connect adds the schema unless value.converter.schemas.enable=false is set"


def _why_left_out(
    name: str, included: set[str], excluded: set[str], settings: InputSettings
) -> str:
    if name in excluded:
        return "input.exclude names it"
    if settings.include:
        return "" if name in included else "input.include does not name it"
    return BY_NAME if says_time(name.rpartition(".")[2]) else ""


def _no_metric(choice: NameChoice, leaves: Mapping[str, Leaf]) -> str:
    others = [f"{name} ({kind_of(leaves[name])})" for name in choice.metrics]
    others += [f"{name} ({why})" for name, why in choice.left_out.items()]
    return f"it has no number to use as a metric; left out: {listed(others) or 'nothing'}"
