"""Warnings about rows that can be read, but may be misread.

Invariant: each function takes rows and returns sentences; a sentence gives the observation, its
possible meaning, and the setting that changes it.
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
"""Fewest rows for a warning about the number of distinct values."""

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
    metrics: Sequence[str],
    entities: Sequence[str],
    texts: Mapping[str, Sequence[str | None]],
) -> list[str]:
    """Warn of one row per metric: a single number, beside text that varies within an entity.

    entities : entity of each row
    texts    : field -> its value in each row; text fields that are neither entity nor time
    """
    if len(metrics) != 1:
        return []
    warnings = []
    for name, values in texts.items():
        within: dict[str, dict[str, None]] = {}
        for entity, value in zip(entities, values, strict=True):
            if value is not None:
                within.setdefault(entity, {})[value] = None
        entity, found = max(within.items(), key=lambda item: len(item[1]), default=("", {}))
        if len(found) > 1:
            shown = listed(list(found)[:5])
            warnings.append(
                f"{metrics[0]} is the only number, and {name} has {len(found)} values for the"
                f" entity {entity!r} ({shown}): if {name} names the metric, these series are"
                f" mixed into one; input.metric_field={name} with input.value_field={metrics[0]}"
                " separates them"
            )
    return warnings


def entities_of_rows(entity_fields: Sequence[str], entities: Sequence[str]) -> list[str]:
    """Warn if all rows have the same entity, or each row has a different one."""
    distinct, fields = len(set(entities)), "/".join(entity_fields)
    if len(entities) < FEWEST_ROWS or 1 < distinct < len(entities):
        return []
    if distinct == 1:
        question = f"does {fields} (input.entity_fields) identify the source?"
        return [f"all {len(entities):,} rows are of one entity, {entities[0]!r}: {question}"]
    text = f"each of the {len(entities):,} rows has a different entity"
    why = f"{fields} (input.entity_fields) may name the row, not its source"
    return [f"{text}: {why}; an entity needs many rows before it is scored"]


def without_key(keyless: int, records: int, located: Sequence[tuple[str, int]]) -> list[str]:
    """Warn of records without a key: Kafka then spreads an entity over the partitions.

    keyless : number of records without a key
    places  : entity and partition of each row that can be read
    """
    if not keyless:
        return []
    number = "none" if keyless == records else f"only {records - keyless:,}"
    spread, entities = _spread(located), len({entity for entity, _ in located})
    text = f"{number} of the newest {records:,} records has a key"
    if spread:
        text += f", and {_spread_text(spread, entities)}"
    return [f"{text}: Kafka spreads such records over the partitions; {_USE_KEY}"]


_USE_KEY = "each partition has a separate history, so use the entity as the record's key"


def entities_in_partitions(located: Sequence[tuple[str, int]]) -> list[str]:
    """Warn of an entity in several partitions although all records have keys.

    places : entity and partition of each row
    """
    spread, entities = _spread(located), len({entity for entity, _ in located})
    if not spread:
        return []
    why = "their keys are not the entity, or producers use different partitioners"
    return [f"{_spread_text(spread, entities)}: {why}; {_USE_KEY}"]


def _spread(located: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    """Return the partitions of each entity that is in several."""
    partitions: dict[str, set[int]] = {}
    for entity, partition in located:
        partitions.setdefault(entity, set()).add(partition)
    return {entity: sorted(found) for entity, found in partitions.items() if len(found) > 1}


def _spread_text(spread: Mapping[str, Sequence[int]], entities: int) -> str:
    entity, found = next(iter(spread.items()))
    example = f"{entity!r} in {', '.join(map(str, found))}"
    return f"{len(spread):,} of {entities:,} entities are in several partitions, e.g. {example}"


def numbers_left_out(left_out: Sequence[tuple[str, str]], settings: InputSettings) -> list[str]:
    """Warn of numeric fields that cannot be read as numbers.

    left_out : (field, reason) of all fields that are not metrics
    settings : fields in input.exclude are left out on purpose
    """
    fields = [name for name, _ in left_out]
    meant = {name for wanted in settings.exclude for name in find(wanted, fields)}
    numbers = [(n, why) for n, why in left_out if n not in meant and holds_numbers(why)]
    if not numbers:
        return []
    count = f"{len(numbers)} numeric field{' is' if len(numbers) == 1 else 's are'} left out"
    names = ",".join((*settings.exclude, *(name for name, _ in numbers)))
    shown = listed([f"{name} ({why})" for name, why in numbers])
    return [f"{count}: {shown}; if this is intended, set input.exclude={names}"]


def wrong_unit(
    raw: int | float, unit: str, source: str, by_setting: bool, broker_ms: int
) -> list[str]:
    """Warn of a time that is far from the broker's, but close to it in another unit.

    raw        : the newest time as stored in the record;  unit: unit in which it is read
    source     : of the unit;  by_setting: whether that is input.time_unit
    broker_ms  : Kafka's timestamp of the same record
    """
    in_unit = {name: int(raw * per) // 10**6 for name, per in _NS.items()}
    if abs(in_unit[unit] - broker_ms) <= FAR_MS:
        return []
    for other, time_ms in in_unit.items():
        if abs(time_ms - broker_ms) <= FAR_MS:
            remedy = (
                f"the producer must declare {_DECLARED[other]}, or write {_WORDS[unit]}; no"
                " setting reads another unit than a type declares"
            )
            if by_setting:
                remedy = f"input.time_unit={other} reads them so"
            far = f"the newest event time is {shown_time(in_unit[unit])} by {source}"
            likely = f"the numbers look like {_WORDS[other]} ({shown_time(time_ms)})"
            return [f"{far}, the broker's {shown_time(broker_ms)}; {likely}: {remedy}"]
    return []


def metrics_that_are_none(metrics: Sequence[str], values: Floats, time_ms: Int64s) -> list[str]:
    """Warn of metrics with an identifier's name, or with the values of times.

    values  : float64 (n, M)   NaN = missing
    time_ms : int64 (n,)       event time
    """
    warnings = []
    named = [name for name in metrics if says_identifier(name)]
    if named:
        remedy = f"input.exclude={','.join(named)} leaves it out"
        warnings.append(f"{listed(named)} may be an identifier, yet counts as a metric; {remedy}")
    for column, name in enumerate(metrics):
        measured = values[:, column][~np.isnan(values[:, column])]
        times = time_ms[~np.isnan(values[:, column])]
        for unit, per in _NS.items():
            near = np.abs(measured * (per / 10**6) - times) <= EPOCH_NEAR_MS
            if len(near) > 1 and near.all():
                near_to = f"{name} is close to the event time in every row, as {_WORDS[unit]}"
                remedy = f"input.exclude={name} leaves it out"
                warnings.append(f"{near_to}: it may be a time, yet counts as a metric; {remedy}")
    return warnings


def unknown_names(settings: InputSettings, fields: Sequence[str]) -> list[str]:
    """Warn of names in input.include and input.exclude that are in no row."""
    given = {"input.include": settings.include, "input.exclude": settings.exclude}
    return [
        f"{setting} names {name!r}, which is in none of the rows"
        for setting, names in given.items()
        for name in names
        if not find(name, fields)
    ]
