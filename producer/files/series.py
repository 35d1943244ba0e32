"""Reads CSV files into columns: ``timestamp,value`` or wide, with or without entity column.

Invariant: a row is read exactly or reported with its line; all cells decide a column's role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.files.columns import (
    ColumnChoice,
    ColumnRules,
    Columns,
    LeftOut,
    listed,
    metric_name,
    names_a_calendar_part,
)
from producer.files.csv_rows import decode, read_blocks
from producer.files.identity import Roles, assign_roles
from producer.files.layout import Layout, find_layout
from producer.files.measured import (
    alternating_numbers,
    crowded_rows,
    distinguishing_numbers,
    further_times,
    in_order,
)
from producer.files.numbers import parse_numbers
from producer.files.survey import Survey, survey, time_cells
from producer.files.time_forms import Kind, explain, parse_times
from shared.errors import DataError

MAX_ENTITY_BYTES = 256
_INFLUX = {"result", "table"}
"""Columns that InfluxDB puts before those of the data."""


@dataclass(frozen=True, slots=True)
class Series:
    """Rows of one source.

    source   : file name relative to its folder and without .csv, or the name of a generator
    entities : distinct names; ("",) where the file has no entity column and no name was given yet
    metrics  : column names as Avro names
    entity   : int32 (n,)       index into entities
    time_ms  : int64 (n,)       ms since 1970 UTC, in file order
    values   : float64 (n, M)   NaN = empty cell
    skipped  : number of bad rows skipped
    columns  : roles of the file's columns; None where the rows are not those of one file
    """

    source: str
    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    skipped: int = 0
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read the rows: the role and format of each column."""

    layout: Layout
    found: Survey
    entity: tuple[int, ...]
    columns: tuple[int, ...]
    metrics: tuple[str, ...]
    ignored: dict[int, str]


def read_series(
    path: Path,
    source: str,
    rules: ColumnRules | None = None,
    choice: ColumnChoice | None = None,
    *,
    skip_bad: bool = False,
) -> Series:
    """Read one CSV file (UTF-8 or UTF-16 with or without BOM, any line ends, quoted cells).

    source   : name of the series
    rules    : roles of columns by the catalogue
    choice   : roles of columns by the options
    skip_bad : skip and count bad rows; a bad header or an ambiguous column is still an error
    raises   : DataError that names file, line, column, the value and what is allowed

    Twin: tests/reference/series.py::read_rows.
    Cost: 0.5 us per cell; the text and the columns in memory.
    """
    rules = rules or ColumnRules()
    choice = choice or ColumnChoice()
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    text = decode(raw, path)
    layout = find_layout(text, path, rules, choice)
    where = f"{path}, line {layout.line}"
    fixed = {name.lower() for name in rules.rename}
    ignored = _ignored(layout, rules)
    found = survey(text, layout, path, choice, tuple(ignored), _indices(layout, fixed))
    explicit = choice.entity is not None
    roles = assign_roles(layout, found, _numbers(layout, found, ignored), explicit)
    if roles.refusal:
        raise DataError(f"{where}: {roles.refusal}")
    plan = _plan(layout, found, roles, ignored, rules, where)
    series = _read_rows(text, plan, path, source, skip_bad)
    if len(plan.metrics) > 1 and not in_order(series.time_ms, series.entity):
        distinguishing = [
            plan.columns[i]
            for i in distinguishing_numbers(series.values, series.time_ms, series.entity)
        ]
        for column in distinguishing:
            _refuse_part_of_time(layout, column, where)
        if len(distinguishing) == 1 and not explicit:
            roles = _with_column(layout, roles, distinguishing[0])
            plan = _plan(layout, found, roles, ignored, rules, where)
            series = _read_rows(text, plan, path, source, skip_bad)
    return _describe(series, plan, roles, where, explicit)


# -- roles of columns ------------------------------------------------------------------------------


def _indices(layout: Layout, names: set[str]) -> tuple[int, ...]:
    """Return the columns with these names (in lower case) that are neither time nor entity."""
    taken = {*layout.time, *(layout.entity or ())}
    return tuple(
        i for i, name in enumerate(layout.names) if name.lower() in names and i not in taken
    )


def _ignored(layout: Layout, rules: ColumnRules) -> dict[int, str]:
    """Return {column: reason} of the columns that are ignored regardless of their cells."""
    influx = _indices(layout, _INFLUX) if "_time" in layout.names else ()
    return dict.fromkeys(influx, "InfluxDB's own column") | dict.fromkeys(
        _indices(layout, {name.lower() for name in rules.ignore}), "the catalogue leaves it out"
    )


def _numbers(layout: Layout, found: Survey, ignored: Iterable[int]) -> list[int]:
    taken = {*layout.time, *(layout.entity or ()), *ignored, *(found.labels or ())}
    return [i for i in range(len(layout.names)) if i not in taken]


def _plan(
    layout: Layout,
    found: Survey,
    roles: Roles,
    ignored: dict[int, str],
    rules: ColumnRules,
    where: str,
) -> _Plan:
    """Name the metrics.

    raises : DataError where a column has no name that could be a metric, two have the same, or
             there is none
    """
    names = layout.names
    taken = {*layout.time, *roles.entity, *ignored}
    columns = tuple(i for i in range(len(names)) if i not in taken and i not in roles.left_out)
    if not columns:  # text is read as numbers, so that its first cell is named
        columns = roles.text
    renamed = {column.lower(): metric for column, metric in rules.rename.items()}
    metrics = tuple(renamed.get(names[i].lower()) or metric_name(names[i]) for i in columns)
    for column, metric in zip(columns, metrics, strict=True):
        if not metric:
            raise DataError(
                f"{where}: column {column + 1} has no name that could be a metric:"
                f" {names[column]!r}; write one into the header, with a letter or a digit"
            )
    for metric in metrics:
        if metrics.count(metric) > 1:
            same = ", ".join(
                repr(names[c]) for c, m in zip(columns, metrics, strict=True) if m == metric
            )
            raise DataError(f"{where}: columns {same} would both be metric {metric!r}")
    if not metrics:
        raise DataError(f"{where}: {_no_metric(names, roles.left_out)}")
    return _Plan(layout, found, roles.entity, columns, metrics, ignored)


def _no_metric(names: Sequence[str], left_out: dict[int, str]) -> str:
    why = [
        f"; column {names[index] or index + 1} is left out: {reason}"
        for index, reason in left_out.items()
    ]
    return f"no metric column beside {listed(names)}{''.join(why)}"


def _refuse_part_of_time(layout: Layout, column: int, where: str) -> None:
    name = layout.names[column]
    if names_a_calendar_part(name):
        dates = listed(layout.names[i] for i in layout.time)
        raise DataError(
            f"{where}: column {name} separates rows of equal times, so it seems to be a part of the"
            f" time; write {dates} and {name} into one column, or into two that --time"
            f" {dates},{name} joins: 2024-03-05 and 07:00"
        )


def _with_column(layout: Layout, roles: Roles, column: int) -> Roles:
    """Add a column of whole numbers to the entity: it alone separates rows of equal times."""
    entity = (*roles.entity, column)
    named = "/".join(layout.names[i] for i in entity)
    note = (
        f"column {layout.names[column]} holds whole numbers that separate rows of equal times, so"
        f" the entity is {named}; --entity names other columns, --entity '' none"
    )
    return replace(roles, entity=entity, notes=(*roles.notes, note))


def _describe(series: Series, plan: _Plan, roles: Roles, where: str, explicit: bool) -> Series:
    """Leave out columns of further times, and add the columns' roles and notes."""
    names = plan.layout.names
    own = [names[i] for i in plan.columns]
    times = further_times(own, series.values, series.time_ms)
    left_out = roles.left_out | {plan.columns[i]: reason for i, reason in times.items()}
    kept = [i for i in range(len(own)) if i not in times]
    if not kept:
        raise DataError(f"{where}: {_no_metric(names, left_out)}")
    if times:
        metrics = tuple(plan.metrics[i] for i in kept)
        series = replace(
            series, metrics=metrics, values=np.ascontiguousarray(series.values[:, kept])
        )
    notes = [*_form_notes(plan), *roles.notes]
    notes += [f"column {names[i] or i + 1} is left out: {left_out[i]}" for i in sorted(left_out)]
    if not in_order(series.time_ms, series.entity):
        crowded = crowded_rows(series.time_ms, series.entity)
        if crowded:
            notes.append(
                f"{crowded:,} of {len(series):,} rows share their time with another row of the same"
                " entity; if a column separates them, --entity COLUMN names it"
            )
    elif not explicit and len(kept) > 1:
        for i in alternating_numbers(series.values, series.time_ms, series.entity):
            if not names_a_calendar_part(series.metrics[i]):
                notes.append(
                    f"each whole number of column {own[kept[i]]} comes at regular steps;"
                    " if they are"
                    " identifiers: --entity"
                    f" {','.join(names[c] for c in (*plan.entity, plan.columns[kept[i]]))}"
                )
    columns = Columns(
        tuple(names[i] for i in plan.layout.time),
        plan.found.form.text,
        tuple(names[i] for i in plan.entity),
        tuple((own[i], plan.metrics[i]) for i in kept),
        tuple(LeftOut(names[i], reason) for i, reason in sorted((left_out | plan.ignored).items())),
        tuple(notes),
    )
    return replace(series, columns=columns)


def _form_notes(plan: _Plan) -> list[str]:
    form, notes = plan.found.form, []
    if form.kind is not Kind.ISO and not form.unit:
        named = listed(plan.layout.names[i] for i in plan.layout.time)
        several = "s" if len(plan.layout.time) > 1 else ""
        notes.append(f"the times of column{several} {named} are read as {form.text}, UTC")
    if plan.found.decimal == ",":
        notes.append("numbers are read with decimal commas")
    return notes


# -- rows ------------------------------------------------------------------------------------------


def _read_rows(text: str, plan: _Plan, path: Path, source: str, skip_bad: bool) -> Series:
    first: tuple[int, str] | None = None
    skipped = 0
    code_of: dict[str, int] = {} if plan.entity else {"": 0}
    times, entities, values = [], [], []
    for block in read_blocks(text, plan.layout, path):
        time_ms, entity, numbers, bad = _parse_block(block.columns, plan, code_of)
        blank = [row for row in bad if not any(column[row] for column in block.columns)]
        problems = block.wrong
        if len(bad) > len(blank):
            lines = block.lines()
            problems = problems + [
                (lines[row], problem) for row, problem in bad.items() if row not in blank
            ]
        if problems:
            first = min(problems) if first is None else first
            if not skip_bad:
                raise DataError(f"{path}, line {first[0]}: {first[1]}")
        skipped += len(problems)
        kept = np.delete(np.arange(len(block)), list(bad))
        times.append(time_ms[kept])
        entities.append(entity[kept])
        values.append(numbers[kept])
    if not sum(map(len, times)):
        why = "there is a header but no row"
        if first:
            why = f"none of its {skipped} rows can be used; the first, line {first[0]}: {first[1]}"
        raise DataError(f"{path}: {why}")
    return Series(
        source,
        tuple(code_of),
        plan.metrics,
        np.concatenate(entities),
        np.concatenate(times),
        np.concatenate(values),
        skipped,
    )


def _parse_block(
    columns: list[list[str]], plan: _Plan, code_of: dict[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64], dict[int, str]]:
    """Parse cells into columns.

    code_of : {entity: code}; receives the names of good rows in order of appearance
    returns : times, entities, values, {row: problem} of the bad rows
    """
    n = len(columns[0])
    bad: dict[int, str] = {}
    stamps = time_cells(columns, plan.layout.time)
    time_ms, valid = parse_times(stamps, plan.found.form)
    for row in np.flatnonzero(~valid).tolist():
        bad[row] = explain(stamps[row], plan.found.form)
    names = _entity_names(columns, plan.entity)
    if names is not None:
        named = "/".join(plan.layout.names[i] for i in plan.entity)
        wrong = {name: problem for name in set(names) if (problem := _entity_problem(name, named))}
        for row, name in enumerate(names) if wrong else ():
            if name in wrong:
                bad.setdefault(row, wrong[name])
    values = np.empty((n, len(plan.metrics)))
    for index, (column, metric) in enumerate(zip(plan.columns, plan.metrics, strict=True)):
        values[:, index] = parse_numbers(columns[column], metric, bad, plan.found.decimal)
    entity = np.zeros(n, np.int32)
    if names is not None:
        for name in (
            names if not bad else [name for row, name in enumerate(names) if row not in bad]
        ):
            code_of.setdefault(name, len(code_of))
        entity = np.array([code_of.get(name, 0) for name in names], np.int32)
    return time_ms, entity, values, bad


def _entity_names(columns: list[list[str]], indices: Sequence[int]) -> list[str] | None:
    if not indices:
        return None
    if len(indices) == 1:
        return columns[indices[0]]
    return [
        "/".join(parts) if all(parts) else ""
        for parts in zip(*(columns[i] for i in indices), strict=True)
    ]


def _entity_problem(name: str, named: str) -> str | None:
    if not name:
        return f"the entity is empty (column {named})"
    if len(name.encode()) > MAX_ENTITY_BYTES:
        return f"the entity is longer than {MAX_ENTITY_BYTES} bytes"
    return None if name.isprintable() else f"the entity {name!r} holds control characters"
