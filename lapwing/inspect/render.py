"""Writes what was seen for a person.

Invariant: every word comes from the values; long lists are cut and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lapwing.inspect.reading import Inspection, Reading
from shared.decode.field_choice import listed
from shared.events import Reason

IN_FULL = 5
"""Most readings that are shown in full; if there are more, each gets one line."""

MISSING_SHOWN = 8
"""Metrics of a row up to which missing values are shown; records in long form have one of many."""

_NOT_SET = {
    "input.time_field": "not set: found by type and name",
    "input.time_unit": "not set: taken from the logicalType",
    "input.metric_field": "not set: each number is a metric",
    "input.value_field": "not set",
    "input.include": "not set: every number that is not a time",
    "input.exclude": "not set",
    "--entity": "not given: found by name and by how the cells relate to the times",
    "--time": "not given: found by name",
    "--time-format": "not given: the one format that all cells have",
    "--decimal": "not given",
    "columns.ignore": "not set",
}


def lines(inspection: Inspection) -> Iterator[str]:
    """Yield the lines of an inspection."""
    yield inspection.source
    if len(inspection.readings) > IN_FULL:
        yield ""
        yield from (
            f"{reading.line} ({_count(reading, inspection.kind)})"
            for reading in inspection.readings
        )
        yield from (
            f"! {reading.source}: {hint}"
            for reading in inspection.readings
            for hint in reading.warnings
        )
    else:
        for reading in inspection.readings:
            yield from ("", *_reading(reading, inspection.kind))
    if inspection.dead:
        title = "dead letters" if inspection.kind == "record" else "bad rows"
        yield from ("", f"{title}: {inspection.rows - inspection.read:,} of {inspection.rows:,}")
        width = max(len(letters.reason) for letters in inspection.dead)
        for letters in inspection.dead:
            is_above = letters.reason == Reason.SCHEMA_UNFIT.code
            why = f"{letters.why.partition(':')[0]}, see above" if is_above else letters.why
            yield f"  {letters.reason:<{width}}  {letters.count:>6,}  {why} ({letters.place})"
    if inspection.warnings:
        yield ""
        yield from (f"! {hint}" for hint in inspection.warnings)
    yield from ("", "settings that change it")
    width = max(map(len, inspection.settings), default=0)
    for name, value in inspection.settings.items():
        yield f"  {name:<{width}}  {value or _NOT_SET.get(name, '')}"


def _reading(reading: Reading, kind: str) -> Iterator[str]:
    yield f"{reading.source}: {_count(reading, kind)}"
    if reading.unfit:
        yield f"  cannot be read: {reading.unfit}"
    else:
        yield f"  entity    {'/'.join(reading.entity)}"
        yield f"  time      {reading.time} ({reading.time_by})"
        yield f"  metrics   {listed(reading.metrics)}"
        yield from _left_out(reading.left_out)
        for place, row in enumerate(reading.examples):
            is_wide = len(row.values) > MISSING_SHOWN
            measured = {
                name: "-" if value is None else f"{value:.6g}"
                for name, value in row.values.items()
                if not (value is None and is_wide)
            }
            shown = " ".join(f"{name}={text}" for name, text in measured.items()) or "no value"
            yield f"  {'' if place else 'newest':<9} {row.time}  {row.entity}  {shown}"
    yield from (f"  ! {hint}" for hint in reading.warnings)


def _left_out(fields: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not fields:
        yield "  left out  nothing"
    width = max((len(name) for name, _ in fields), default=0)
    for place, (name, why) in enumerate(fields):
        yield f"  {'' if place else 'left out':<9} {name:<{width}}  {why}"


def _count(reading: Reading, kind: str) -> str:
    rows = f"{reading.rows:,} {kind}{'' if reading.rows == 1 else 's'}"
    return (
        rows
        if reading.read == reading.rows or reading.unfit
        else f"{rows}, {reading.read:,} of them can be read"
    )
