"""From a folder of CSV files to what is read of them, file by file, as the producer reads it.

Invariant: what a row becomes is what ``producer.series`` says; this only shows it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lapwing.inspect import warnings
from lapwing.inspect.reading import DeadLetters, Inspection, Reading
from lapwing.inspect.records import examples_of
from producer.catalogue import assemble, find_files, load_catalogue
from producer.records import event_schema
from producer.series import ColumnRules, Series, read_series
from shared.codec import SchemaUnfit
from shared.errors import ConfigError, DataError
from shared.field_names import find
from shared.settings import InputSettings
from shared.writer_schemas import plan_or_unfit

NEWEST = 1_000
"""Rows of a file that are looked at for warnings; all of them are read."""


def inspect_folder(folder: Path, settings: InputSettings, catalogue_file: Path | None = None) -> Inspection:
    """Say what is read of the rows of a folder's CSV files, or of one file.

    raises : ConfigError, DataError where there is no file
    """
    catalogue = load_catalogue(catalogue_file)
    files = find_files(folder, catalogue.folders)
    readings, dead, series = [], list[DeadLetters](), list[Series]()
    for name, path in files.items():
        problem = ""
        try:
            read_series(path, name, catalogue.rules)
        except DataError as error:
            problem = str(error)
        try:
            one = read_series(path, name, catalogue.rules, skip_bad=True)
        except DataError as error:
            readings.append(Reading(name, 0, 0, unfit=str(error)))
            continue
        series.append(one)
        readings.append(_reading(path, one, catalogue.rules, settings))
        if one.skipped:
            why = f"{problem}; --skip-bad leaves such rows out"
            dead.append(DeadLetters("bad row", one.skipped, why, "", name))
    _, notes = assemble(series, catalogue) if series else ([], [])
    rows = sum(reading.rows for reading in readings)
    source = f"{folder}: {rows:,} rows of {len(files)} file{'' if len(files) == 1 else 's'}"
    asked = {
        "columns.timestamp": ",".join(catalogue.rules.timestamp),
        "columns.entity": ",".join(catalogue.rules.entity),
        "columns.ignore": ",".join(catalogue.rules.ignore),
        "input.include": ",".join(settings.include),
        "input.exclude": ",".join(settings.exclude),
    }
    return Inspection(source, "row", rows, tuple(readings), tuple(dead), tuple(notes), asked)


def _reading(path: Path, series: Series, rules: ColumnRules, settings: InputSettings) -> Reading:
    rows = len(series) + series.skipped
    try:
        plan = plan_or_unfit(event_schema(series.metrics), settings)
    except ConfigError as error:
        return Reading(series.source, rows, 0, unfit=str(error))
    if isinstance(plan, SchemaUnfit):
        return Reading(series.source, rows, 0, unfit=f"predictors with these settings: {plan}")
    newest = np.argsort(series.time_ms, kind="stable")[::-1][:NEWEST]
    entities = [series.entities[code] or path.stem for code in series.entity[newest].tolist()]
    kept = [series.metrics.index(name) for name in plan.metrics]
    times, values = series.time_ms[newest], series.values[newest][:, kept]
    cells = _header(path)
    column = _named(cells, rules.entity) if series.entities != ("",) else ""
    ignored = [(c, "columns.ignore names it") for c in cells if _named([c], rules.ignore)]
    said = warnings.metrics_that_are_none(plan.metrics, values, times)
    said += warnings.entities_of_rows((column,), entities) if column else []
    return Reading(
        series.source,
        rows,
        len(series),
        (column or "the file's name",),
        _named(cells, rules.timestamp),
        "a column of times",
        plan.metrics,
        (*ignored, *plan.fields.left_out),
        "",
        tuple(said),
        examples_of(entities, times.tolist(), values, plan.metrics),
    )


def _header(path: Path) -> list[str]:
    """Return the cells of the first row that has any, of a file that was read before."""
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""))
    return next(([cell.strip() for cell in row] for row in rows if any(map(str.strip, row))), [])


def _named(cells: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the first cell that one of the names means, in the order of the names."""
    return next((found[0] for name in wanted if (found := find(name, cells))), "")
