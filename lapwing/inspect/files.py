"""Inspection of a folder of CSV files, file by file.

Invariant: ``producer.files.series`` alone decides how columns and rows are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lapwing.inspect import warnings
from lapwing.inspect.reading import DeadLetters, Inspection, Reading
from lapwing.inspect.records import examples_of
from producer.catalogue import Catalogue, assemble, find_files, load_catalogue, shared_entities
from producer.files.columns import NO_CHOICE, ColumnChoice, Columns
from producer.files.series import Series, read_series
from producer.records import event_schema
from shared.decode.avro.writer_schemas import plan_or_unsupported
from shared.decode.field_choice import UnsupportedSchema
from shared.errors import ConfigError, DataError
from shared.settings import InputSettings

NEWEST = 1_000
"""Newest rows of a file that are checked for warnings; all rows are read."""


def inspect_folder(
    folder: Path,
    settings: InputSettings,
    choice: ColumnChoice = NO_CHOICE,
    catalogue_file: Path | None = None,
) -> Inspection:
    """Inspect the rows of a folder's CSV files, or of one file.

    choice : the options about columns
    raises : ConfigError, DataError if there is no file
    """
    choice.check(files=True)
    catalogue = load_catalogue(catalogue_file)
    files = find_files(folder, catalogue.folders)
    readings, dead, series = [], list[DeadLetters](), list[Series]()
    for name, path in files.items():
        try:
            table = read_series(path, name, catalogue.rules, choice, skip_bad=True)
        except DataError as error:
            readings.append(Reading(name, 0, 0, unfit=str(error)))
            continue
        series.append(table)
        readings.append(_reading(path, table, settings))
        if table.skipped:
            why = f"{_first_problem(path, name, catalogue, choice)}; --skip-bad skips such rows"
            dead.append(DeadLetters("bad row", table.skipped, why, "", name))
    _, notes = assemble(series, catalogue) if series else ([], [])
    rows = sum(reading.rows for reading in readings)
    source = f"{folder}: {rows:,} rows of {len(files)} file{'' if len(files) == 1 else 's'}"
    hints = (*shared_entities(series), *notes)
    deciding = _deciding_options(choice, catalogue, settings)
    return Inspection(source, "row", rows, tuple(readings), tuple(dead), hints, deciding)


def _first_problem(path: Path, name: str, catalogue: Catalogue, choice: ColumnChoice) -> str:
    try:
        read_series(path, name, catalogue.rules, choice)
    except DataError as error:
        return str(error)
    return ""


def _deciding_options(
    choice: ColumnChoice, catalogue: Catalogue, settings: InputSettings
) -> Mapping[str, str]:
    """Return the current options and settings that decide how files are read."""
    rules = catalogue.rules
    sign = {None: "", ".": "point", ",": "comma"}[choice.decimal]
    return {
        "--entity": ",".join(choice.entity or ()),
        "--time": ",".join(choice.time or ()),
        "--time-format": choice.time_format or "",
        "--decimal": sign,
        "columns.timestamp": ",".join(rules.timestamp),
        "columns.entity": ",".join(rules.entity),
        "columns.ignore": ",".join(rules.ignore),
        "input.include": ",".join(settings.include),
        "input.exclude": ",".join(settings.exclude),
    }


def _reading(path: Path, series: Series, settings: InputSettings) -> Reading:
    rows = len(series) + series.skipped
    try:
        plan = plan_or_unsupported(event_schema(series.metrics), settings)
    except ConfigError as error:
        return Reading(series.source, rows, 0, unfit=str(error))
    if isinstance(plan, UnsupportedSchema):
        return Reading(series.source, rows, 0, unfit=f"predictors with these settings: {plan}")
    columns = series.columns or Columns((), "", (), ())
    newest = np.argsort(series.time_ms, kind="stable")[::-1][:NEWEST]
    entities = [series.entities[code] or path.stem for code in series.entity[newest].tolist()]
    kept = [series.metrics.index(name) for name in plan.metrics]
    times, values = series.time_ms[newest], series.values[newest][:, kept]
    listed = tuple(f"column {unused.column} is left out" for unused in columns.left_out)
    hints = [note for note in columns.notes if not (listed and note.startswith(listed))]
    hints += warnings.metrics_that_are_none(plan.metrics, values, times)
    if columns.entity:
        hints += warnings.entities_of_rows(columns.entity, entities)
    left_out = [(unused.column, unused.reason) for unused in columns.left_out]
    return Reading(
        series.source,
        rows,
        len(series),
        columns.entity or ("the file's name",),
        " + ".join(columns.time),
        columns.time_form,
        plan.metrics,
        (*left_out, *plan.fields.left_out),
        "",
        tuple(hints),
        examples_of(entities, times.tolist(), values, plan.metrics),
    )
