"""Finds the header of a CSV file: the separator, and the columns named as time and entity.

Invariant: the first separator under which the header has a column of times is taken, or none.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from producer.files.columns import ColumnChoice, ColumnRules, find_time_name, listed
from producer.files.time_forms import Kind, is_time_of_day, kind_of
from producer.files.times import parse_time
from shared.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_EXCEL = re.compile(r'"?sep=.?"?', re.IGNORECASE)
_ANNOTATION = re.compile(r"#(group|datatype|default|constant|timezone|concat)\b", re.IGNORECASE)
_LINES_SEARCHED = 30
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """The header.

    line   : the line on which it ends
    names  : column names, without surrounding blanks
    time   : columns that together hold the time
    entity : columns that together name the entity; None if neither option nor catalogue names them
    """

    separator: str
    line: int
    names: tuple[str, ...]
    time: tuple[int, ...]
    entity: tuple[int, ...] | None


def open_lines(text: str) -> io.StringIO:
    """Return text as input for csv.reader, with unchanged line ends."""
    return io.StringIO(text, newline="")


def first_lines(text: str) -> Iterator[str]:
    """Yield lines as input for csv.reader, without a copy of the whole text."""
    return (found[0] for found in _LINE.finditer(text))


def find_layout(text: str, path: Path, rules: ColumnRules, choice: ColumnChoice) -> Layout:
    """Find the header.

    raises : DataError that names file and line, the header's columns and what is allowed
    """
    broken: DataError | None = None
    seen: list[tuple[str, int, list[str]]] = []
    for separator in SEPARATORS:
        try:
            for row, line in _headers(text, separator, path):
                time = _find_time(row, rules, choice)
                if time:
                    return _layout(
                        Layout(separator, line, tuple(row), time, None), path, rules, choice
                    )
                seen.append((separator, line, row))
        except DataError as error:
            broken = broken or (error if separator == SEPARATORS[0] else None)
    if broken is not None:
        raise broken
    if not seen:
        raise DataError(f"{path}: the file is empty; it needs a header such as timestamp,value")
    raise _no_time(text, path, rules, choice, *max(seen, key=lambda one: len(one[2])))


def _headers(text: str, separator: str, path: Path) -> Iterator[tuple[list[str], int]]:
    """Yield rows that may be the header: leading comments without #, then the first other row."""
    reader = csv.reader(first_lines(text), delimiter=separator, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells) or (reader.line_num == 1 and _EXCEL.fullmatch("".join(cells))):
                continue
            _refuse_influx(cells, f"{path}, line {reader.line_num}")
            comment = cells[0].startswith("#")
            if comment:
                cells[0] = cells[0].lstrip("#").strip() or cells[0]
            yield cells, reader.line_num
            if not comment:
                return
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _refuse_influx(cells: Sequence[str], where: str) -> None:
    if _ANNOTATION.match(cells[0]) or {"_field", "_value"} <= set(cells):
        raise DataError(
            f"{where}: this is InfluxDB's CSV with one row per field; turn fields into columns"
            ' (pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value"))'
            " and leave the annotations out"
        )


def _find_time(row: Sequence[str], rules: ColumnRules, choice: ColumnChoice) -> tuple[int, ...]:
    names = [name.lower() for name in row]
    if choice.time is not None:
        indices = [names.index(name.lower()) for name in choice.time if name.lower() in names]
        return tuple(indices) if len(indices) == len(choice.time) else ()
    index = _first(names, rules.timestamp)
    index = find_time_name(row) if index is None else index
    return () if index is None else (index,)


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name.lower()) for name in wanted if name.lower() in names), None)


def _layout(found: Layout, path: Path, rules: ColumnRules, choice: ColumnChoice) -> Layout:
    where = f"{path}, line {found.line}"
    names = [name.lower() for name in found.names]
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{where}: the header names column {name!r} {names.count(name)} times")
    entity: tuple[int, ...] | None = None
    if choice.entity is None:
        index = _first(names, rules.entity)
        entity = None if index is None else (index,)
    else:
        for name in choice.entity:
            if name.lower() not in names:
                raise DataError(
                    f"{where}: --entity {name}: there is no such column; it has"
                    f" {listed(found.names)}"
                )
        entity = tuple(names.index(name.lower()) for name in choice.entity)
    for index in entity or ():
        if index in found.time:
            raise DataError(
                f"{where}: column {found.names[index]!r} cannot be both time and entity"
            )
    return Layout(found.separator, found.line, found.names, found.time, entity)


def _no_time(
    text: str,
    path: Path,
    rules: ColumnRules,
    choice: ColumnChoice,
    separator: str,
    line: int,
    row: Sequence[str],
) -> DataError:
    where = f"{path}, line {line}"
    if choice.time is not None:
        lower = [name.lower() for name in row]
        wrong = [name for name in choice.time if name.lower() not in lower]
        return DataError(
            f"{where}: --time {listed(wrong)}: there is no such column; it has {listed(row)}"
        )
    rows = list(_rows_below(text, separator, line))
    later = next(
        (at for at, cells in rows if len(cells) > 1 and _find_time(cells, rules, choice)), None
    )
    times = _looks_like_times(row, rows[0][1]) if rows else ""
    if row and row[0][:1] in ("{", "["):
        hint = "; it looks like JSON: docs/files.md has a script that makes CSV of CloudWatch's"
    elif later:
        hint = f"; line {later} looks like the header, so remove the lines above it"
    elif any(parse_time(cell) is not None for cell in row):
        hint = "; there seems to be no header, so put one such as timestamp,value above"
    else:
        hint = f"; --time {times or 'COLUMN'} names the column of times"
    return DataError(
        f"{where}: no timestamp column; one of {', '.join(rules.timestamp)} is needed, found"
        f" {listed(row)}{hint}"
    )


def _rows_below(text: str, separator: str, line: int) -> Iterator[tuple[int, list[str]]]:
    """Yield some lines after a line, with their cells, up to the first unreadable one."""
    lines = islice(first_lines(text), line, line + _LINES_SEARCHED)
    reader = csv.reader(lines, delimiter=separator)
    try:
        for row in reader:
            yield line + reader.line_num, [cell.strip() for cell in row]
    except csv.Error:
        return


def _looks_like_times(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return columns for ``--time`` by the first cells, "" if none; numbers come last."""
    pairs = [(name, cell) for name, cell in zip(names, cells, strict=False) if name]
    kinds = [(kind_of(cell), name) for name, cell in pairs]
    found = [name for kind, name in kinds if kind in (Kind.ISO, Kind.LOCAL)]
    found = found or [name for kind, name in kinds if kind is Kind.DIGITS]
    clocks = [name for name, cell in pairs if is_time_of_day(cell)]
    return ",".join(found[:1] + clocks[: len(found)])
