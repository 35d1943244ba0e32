"""What may be misread although every row can be read.

Invariant: each function looks at rows and returns sentences; a sentence says what was seen, what it
may mean, and which setting changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lapwing.inspect.reading import shown_time
from shared.decode.avro.fields import holds_numbers
from shared.decode.field_choice import listed
from shared.decode.field_names import find, says_identifier
from shared.kernels.units import DAY_MS
from shared.settings import InputSettings

FEWEST_ROWS = 20
"""Fewer say nothing about how many different values a field has."""

FAR_MS = 30 * 365 * DAY_MS
"""A wrong unit is off by more than 50 years either way; a replay of old data by less than 30."""

EPOCH_NEAR_MS = 2 * DAY_MS
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DECLARED = {
    "s": "no timestamp type (input.time_unit=s then reads it)",
    "ms": "timestamp-millis",
    "us": "timestamp-micros",
    "ns": "timestamp-nanos",
}

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


def long_form(
    entity_fields: Sequence[str],
    metrics: Sequence[str],
    entities: Sequence[str],
    texts: Mapping[str, Sequence[str | None]],
) -> list[str]:
    """Warn where one number stands beside text that varies within an entity: one row per metric.

    entities : of each row
    texts    : field -> its value in each row; text that is neither entity nor time
    """
    if len(metrics) != 1:
        return []
    said = []
    for name, values in texts.items():
        within: dict[str, dict[str, None]] = {}
        for entity, value in zip(entities, values, strict=True):
            if value is not None:
                within.setdefault(entity, {})[value] = None
        entity, found = max(within.items(), key=lambda one: len(one[1]), default=("", {}))
        if len(found) > 1:
            shown = listed(list(found)[:5])
            wider = ",".join((*entity_fields, name))
            said.append(
                f"{metrics[0]} is the only number, and {name} has {len(found)} values for the"
                f" entity {entity!r} ({shown}): if {name} says what was measured, these series are"
                f" mixed into one; input.entity_fields={wider} keeps them apart"
            )
    return said


def entities_of_rows(entity_fields: Sequence[str], entities: Sequence[str]) -> list[str]:
    """Warn where the entity is always the same, or another one in every row."""
    distinct, fields = len(set(entities)), "/".join(entity_fields)
    if len(entities) < FEWEST_ROWS or 1 < distinct < len(entities):
        return []
    if distinct == 1:
        question = f"is {fields} (input.entity_fields) what tells the sources apart?"
        return [f"all {len(entities):,} rows are of one entity, {entities[0]!r}: {question}"]
    said = f"each of the {len(entities):,} rows has an entity of its own"
    why = f"{fields} (input.entity_fields) may name the row, not its source"
    return [f"{said}: {why}; an entity needs many rows before it is judged"]


def without_key(keyless: int, records: int, places: Sequence[tuple[str, int]]) -> list[str]:
    """Warn where records have no key: Kafka then spreads an entity over the partitions.

    keyless : how many of the records have none
    places  : entity and partition of each row that can be read
    """
    if not keyless:
        return []
    number = "none" if keyless == records else f"only {records - keyless:,}"
    spread, entities = _spread(places), len({entity for entity, _ in places})
    said = f"{number} of the newest {records:,} records has a key"
    if spread:
        said += f", and {_of_spread(spread, entities)}"
    return [f"{said}: Kafka spreads such records over the partitions; {_USE_KEY}"]


_USE_KEY = "each partition keeps a history of its own, so use the entity as the record's key"


def entities_in_partitions(places: Sequence[tuple[str, int]]) -> list[str]:
    """Warn where an entity lies in several partitions though all records have keys.

    places : entity and partition of each row
    """
    spread, entities = _spread(places), len({entity for entity, _ in places})
    if not spread:
        return []
    why = "their keys are not the entity, or producers place them differently"
    return [f"{_of_spread(spread, entities)}: {why}; {_USE_KEY}"]


def _spread(places: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    """Return the partitions of each entity that lies in several."""
    partitions: dict[str, set[int]] = {}
    for entity, partition in places:
        partitions.setdefault(entity, set()).add(partition)
    return {entity: sorted(found) for entity, found in partitions.items() if len(found) > 1}


def _of_spread(spread: Mapping[str, Sequence[int]], entities: int) -> str:
    entity, found = next(iter(spread.items()))
    example = f"{entity!r} in {', '.join(map(str, found))}"
    return f"{len(spread):,} of {entities:,} entities lie in several partitions, e.g. {example}"


def numbers_left_out(left_out: Sequence[tuple[str, str]], settings: InputSettings) -> list[str]:
    """Warn of fields that hold numbers and cannot be read as such.

    left_out : (field, why) of all that are no metric
    settings : what input.exclude names is left out on purpose
    """
    fields = [name for name, _ in left_out]
    meant = {name for wanted in settings.exclude for name in find(wanted, fields)}
    numbers = [(n, why) for n, why in left_out if n not in meant and holds_numbers(why)]
    if not numbers:
        return []
    count = f"{len(numbers)} numeric field{' is' if len(numbers) == 1 else 's are'} left out"
    names = ",".join((*settings.exclude, *(name for name, _ in numbers)))
    shown = listed([f"{name} ({why})" for name, why in numbers])
    return [f"{count}: {shown}; if that is meant, input.exclude={names} says so"]


def wrong_unit(
    raw: int | float, unit: str, said: str, by_setting: bool, broker_ms: int
) -> list[str]:
    """Warn where a time is far from the broker's, and near it in another unit.

    raw        : the newest time as the record has it;  unit: in which it is read
    said       : what says so;  by_setting: whether input.time_unit does
    broker_ms  : Kafka's timestamp of the same record
    """
    in_unit = {one: int(raw * per) // 10**6 for one, per in _NS.items()}
    if abs(in_unit[unit] - broker_ms) <= FAR_MS:
        return []
    for other, time_ms in in_unit.items():
        if abs(time_ms - broker_ms) <= FAR_MS:
            cure = (
                f"the producer must declare {_DECLARED[other]}, or write {_WORDS[unit]}; no"
                " setting reads another unit than a type declares"
            )
            if by_setting:
                cure = f"input.time_unit={other} reads them so"
            far = f"the newest event time is {shown_time(in_unit[unit])} by {said}"
            likely = f"the numbers look like {_WORDS[other]} ({shown_time(time_ms)})"
            return [f"{far}, the broker's {shown_time(broker_ms)}; {likely}: {cure}"]
    return []


def metrics_that_are_none(metrics: Sequence[str], values: Floats, time_ms: Int64s) -> list[str]:
    """Warn of metrics that are identifiers by their names, or times by their values.

    values  : float64 (n, M)   NaN = missing
    time_ms : int64 (n,)       event time
    """
    said = []
    named = [name for name in metrics if says_identifier(name)]
    if named:
        cure = f"input.exclude={','.join(named)} leaves it out"
        said.append(f"{listed(named)} may be an identifier, yet counts as a metric; {cure}")
    for column, name in enumerate(metrics):
        measured = values[:, column][~np.isnan(values[:, column])]
        times = time_ms[~np.isnan(values[:, column])]
        for unit, per in _NS.items():
            near = np.abs(measured * (per / 10**6) - times) <= EPOCH_NEAR_MS
            if len(near) > 1 and near.all():
                near_to = f"{name} is close to the event time in every row, as {_WORDS[unit]}"
                cure = f"input.exclude={name} leaves it out"
                said.append(f"{near_to}: it may be a time, yet counts as a metric; {cure}")
    return said


def unknown_names(settings: InputSettings, fields: Sequence[str]) -> list[str]:
    """Warn of names in input.include and input.exclude that no row has."""
    asked = {"input.include": settings.include, "input.exclude": settings.exclude}
    return [
        f"{setting} names {name!r}, which is in none of the rows"
        for setting, names in asked.items()
        for name in names
        if not find(name, fields)
    ]
