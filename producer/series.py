"""Reads CSV files into columns: ``timestamp,value`` files and wide ones (``timestamp,metric...``, optional entity column).

Law: a row is read exactly or named with its file and line; nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.times import ALLOWED, parse_times
from shared.errors import DataError

MAX_ENTITY_BYTES = 256
_BLOCK_ROWS = 65_536
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Series:
    """Rows of one source, which share one clock.

    source   : file name relative to its folder and without .csv, or the name of what generated them
    entities : distinct names; ("",) where the file has no entity column and nobody named it yet
    metrics  : column names as the Avro schema takes them
    entity   : int32 (n,)       index into entities
    time_ms  : int64 (n,)       ms since 1970 UTC, in file order
    values   : float64 (n, M)   NaN = empty cell
    skipped  : bad rows left out
    """

    source: str
    entities: tuple[str, ...]
    metrics: tuple[str, ...]
    entity: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """Which columns mean what; names are compared without regard to case.

    timestamp : the first of these that the header has
    entity    : the first of these that the header has, if any
    ignore    : columns that are no metrics
    rename    : {column: metric}
    """

    timestamp: tuple[str, ...] = ("timestamp", "time", "datetime")
    entity: tuple[str, ...] = ("entity", "host")
    ignore: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Header:
    cells: int
    line: int
    time: int
    entity: int | None
    columns: tuple[int, ...]
    metrics: tuple[str, ...]


def metric_name(column: str) -> str:
    """Turn a column name into an Avro name (letters, digits, underscores, no digit first); "" if nothing is left."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")
    return f"m_{name}" if name[:1].isdigit() else name


def read_series(path: Path, source: str, rules: ColumnRules | None = None, *, skip_bad: bool = False) -> Series:
    """Read one CSV file (UTF-8 or UTF-16 with or without BOM, any line ends, quoted cells).

    source   : name that the series is to have
    skip_bad : leave bad rows out and count them; a bad header is an error all the same
    raises   : DataError that names file, line, column, what stands there and what is allowed

    Twin: tests/reference/series.py::read_rows.  Cost: 0.5 us per cell; the text and the columns in memory.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    text = _decode(raw, path)
    header = _read_header(text, path, rules or ColumnRules())
    return _read_rows(text, header, path, source, skip_bad)


def _decode(raw: bytes, path: Path) -> str:
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not {encoding.removesuffix('-sig').upper()} text ({error.reason})") from error
    if "\0" in text:
        raise DataError(f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character; is it a text file?")
    return text


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline="")


def _read_header(text: str, path: Path, rules: ColumnRules) -> _Header:
    reader = csv.reader(_lines(text), strict=True)
    try:
        cells = next(([cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)), None)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if cells is None:
        raise DataError(f"{path}: the file is empty; it needs a header such as timestamp,value")
    where = f"{path}, line {reader.line_num}"
    lower = [cell.lower() for cell in cells]
    time = _first(lower, rules.timestamp)
    if time is None:
        hint = " (cells are separated by commas)" if len(cells) == 1 and ";" in cells[0] else ""
        raise DataError(
            f"{where}: no timestamp column; one of {', '.join(rules.timestamp)} is needed, found {', '.join(cells)}{hint}"
        )
    entity = _first(lower, rules.entity)
    ignored = {name.lower() for name in rules.ignore}
    renamed = {column.lower(): metric for column, metric in rules.rename.items()}
    columns = tuple(i for i in range(len(cells)) if i not in (time, entity) and lower[i] not in ignored)
    metrics = tuple(renamed.get(lower[i]) or metric_name(cells[i]) for i in columns)
    for column, metric in zip(columns, metrics, strict=True):
        if not metric:
            raise DataError(f"{where}: column {column + 1} has no name that could be a metric: {cells[column]!r}")
    for name in lower:
        if lower.count(name) > 1:
            raise DataError(f"{where}: the header names column {name!r} {lower.count(name)} times")
    for metric in metrics:
        if metrics.count(metric) > 1:
            same = ", ".join(repr(cells[c]) for c, m in zip(columns, metrics, strict=True) if m == metric)
            raise DataError(f"{where}: columns {same} would both be metric {metric!r}")
    if not metrics:
        raise DataError(f"{where}: no metric column beside {', '.join(cells)}")
    return _Header(len(cells), reader.line_num, time, entity, columns, metrics)


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name.lower()) for name in wanted if name.lower() in names), None)


def _read_rows(text: str, header: _Header, path: Path, source: str, skip_bad: bool) -> Series:
    problems: list[tuple[int, str]] = []
    places: dict[str, int] = {"": 0} if header.entity is None else {}
    times, entities, values = [], [], []
    for rows, lines in _blocks(text, header, path, problems):
        time_ms, entity, block, bad = _parse_block(rows, header, places)
        if bad:
            named = lines()
            problems += [(named[row], problem) for row, problem in bad.items()]
        if problems and not skip_bad:
            line, problem = min(problems)
            raise DataError(f"{path}, line {line}: {problem}")
        kept = np.delete(np.arange(len(rows)), list(bad))
        times.append(time_ms[kept])
        entities.append(entity[kept])
        values.append(block[kept])
    if not sum(map(len, times)):
        why = (
            f"none of its {len(problems)} rows can be used; the first, line {min(problems)[0]}: {min(problems)[1]}"
            if problems
            else ""
        )
        raise DataError(f"{path}: {why or 'there is a header but no row'}")
    entity = np.concatenate(entities)
    names = tuple(places)
    return Series(source, names, header.metrics, entity, np.concatenate(times), np.concatenate(values), len(problems))


_Rows = list[list[str]]


def _blocks(
    text: str, header: _Header, path: Path, problems: list[tuple[int, str]]
) -> Iterator[tuple[_Rows, Callable[[], list[int]]]]:
    """Yield rows with the right number of cells, and a function that says their lines; the others become problems."""
    reader = csv.reader(_lines(text), strict=True)
    try:
        while reader.line_num < header.line:
            next(reader)
        while True:
            before = reader.line_num
            rows = list(islice(reader, _BLOCK_ROWS))
            if not rows:
                return
            lines = partial(_line_numbers, rows, before)
            if set(map(len, rows)) != {header.cells} or (header.cells == 1 and not all(rows)):
                numbers = lines()
                blank = {i for i, row in enumerate(rows) if not row or (len(row) == 1 and not row[0].strip())}
                right = [i for i, row in enumerate(rows) if len(row) == header.cells and i not in blank]
                problems += [
                    (numbers[i], f"{len(row)} cells where the header has {header.cells}")
                    for i, row in enumerate(rows)
                    if len(row) != header.cells and i not in blank
                ]
                rows, lines = [rows[i] for i in right], partial(_chosen, numbers, right)
            yield rows, lines
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _line_numbers(rows: _Rows, before: int) -> list[int]:
    """Return the line on which each row ends; quoted cells may hold line ends."""
    return list(accumulate((1 + sum(len(_LINE_END.findall(cell)) for cell in row) for row in rows), initial=before))[1:]


def _chosen(numbers: list[int], rows: list[int]) -> list[int]:
    return [numbers[row] for row in rows]


def _parse_block(
    rows: _Rows, header: _Header, places: dict[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64], dict[int, str]]:
    """Turn rows into columns; places gets the names of good rows in order of appearance; {row: problem} of the bad ones."""
    columns = [list(map(str.strip, column)) for column in zip(*rows, strict=True)] or [[] for _ in range(header.cells)]
    bad: dict[int, str] = {}
    time_ms, valid = parse_times(columns[header.time])
    for row in np.flatnonzero(~valid).tolist():
        bad[row] = f"{columns[header.time][row]!r} is not a timestamp: {ALLOWED}"
    names = columns[header.entity] if header.entity is not None else None
    if names is not None:
        wrong = {name: problem for name in set(names) if (problem := _entity_problem(name))}
        for row, name in enumerate(names) if wrong else ():
            if name in wrong:
                bad.setdefault(row, wrong[name])
    values = np.empty((len(rows), len(header.metrics)))
    for place, (column, metric) in enumerate(zip(header.columns, header.metrics, strict=True)):
        values[:, place] = _parse_numbers(columns[column], metric, bad)
    entity = np.zeros(len(rows), np.int32)
    if names is not None:
        for name in names if not bad else [name for row, name in enumerate(names) if row not in bad]:
            places.setdefault(name, len(places))
        entity = np.array([places.get(name, 0) for name in names], np.int32)
    return time_ms, entity, values, bad


def _entity_problem(name: str) -> str | None:
    if not name:
        return "the entity is empty"
    if len(name.encode()) > MAX_ENTITY_BYTES:
        return f"the entity is longer than {MAX_ENTITY_BYTES} bytes"
    return None if name.isprintable() else f"the entity {name!r} holds control characters"


def _parse_numbers(cells: list[str], metric: str, bad: dict[int, str]) -> npt.NDArray[np.float64]:
    """Read a column of numbers, at once where all is usual, else cell by cell."""
    empty = cells.count("")
    try:
        values = np.array([float(cell) if cell else np.nan for cell in cells] if empty else list(map(float, cells)))
        if int(np.count_nonzero(~np.isfinite(values))) == empty and not any(
            "_" in cell or not cell.isascii() for cell in cells
        ):
            return values
    except ValueError:
        pass
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        try:
            value = float(cell) if cell.isascii() and "_" not in cell else np.nan
        except ValueError:
            value = np.nan
        if np.isfinite(value):
            values[row] = value
        elif np.isnan(value):
            bad.setdefault(row, f"{metric} is {cell!r}, which is not a number; an empty cell means missing")
        else:
            bad.setdefault(row, f"{metric} is {cell!r}, which is infinite; an empty cell means missing")
    return values
