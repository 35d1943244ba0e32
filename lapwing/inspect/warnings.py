"""What may be misread although every row can be read.

Invariant: each function looks at rows and returns sentences; a sentence says what was seen, what it
may mean, and which setting changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from lapwing.inspect.reading import iso
from shared.decode.field_choice import listed
from shared.decode.field_names import find, says_identifier
from shared.settings import InputSettings

FEWEST_ROWS = 20
"""Fewer say nothing about how many different values a field has."""

FAR_MS = 30 * 365 * 86_400_000
"""A wrong unit is off by more than 50 years either way; a replay of old data by less than 30."""

EPOCH_NEAR_MS = 2 * 86_400_000
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

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


def entities_in_partitions(places: Sequence[tuple[str, int]], keyed: bool) -> list[str]:
    """Warn where an entity lies in several partitions, for each has a state of its own.

    places : entity and partition of each row
    keyed  : whether the records have keys
    """
    partitions: dict[str, set[int]] = {}
    for entity, partition in places:
        partitions.setdefault(entity, set()).add(partition)
    spread = {entity: sorted(found) for entity, found in partitions.items() if len(found) > 1}
    if not spread:
        return []
    entity, found = next(iter(spread.items()))
    other_keys = "their keys are not the entity, or producers place them differently"
    key = other_keys if keyed else "they have no key"
    example = f"{entity!r} in {', '.join(map(str, found))}"
    counts = f"{len(spread):,} of {len(partitions):,} entities lie in several partitions"
    cure = "each partition keeps a history of its own, so use the entity as the record's key"
    return [f"{counts}, e.g. {example}: {key}; {cure}"]


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
            cure = "the producer writes them in another unit than it says"
            if by_setting:
                cure = f"input.time_unit={other} reads them so"
            far = f"the newest event time is {iso(in_unit[unit])} by {said}"
            likely = f"the numbers look like {_WORDS[other]} ({iso(time_ms)})"
            return [f"{far}, the broker's {iso(broker_ms)}; {likely}: {cure}"]
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
