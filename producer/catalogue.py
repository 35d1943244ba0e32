"""Groups series into hosts and names their metrics, as a catalogue file says.

Invariant: every file that was read ends up in exactly one host; each join and each rename is noted.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

import data
from producer.fetch import DEFAULT_DIR
from producer.files.columns import ColumnChoice, ColumnRules, metric_name
from producer.files.series import Series, read_series
from shared.errors import ConfigError, DataError

_EXAMPLES = re.compile(r"\([^()]*\)|\b\d[\d,]*\b")
"""The parts of a note that differ from file to file."""


def _avro_name(name: str) -> str:
    if not name or metric_name(name) != name:
        raise ValueError(
            f"{name!r} is not a metric name: letters, digits and underscores, not beginning with a"
            " digit"
        )
    return name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostPart(_Part):
    """A host joined from several files."""

    name: str = Field(min_length=1, max_length=256)
    join: Literal["position", "time"]
    metrics: dict[str, str] = Field(min_length=1)
    optional: bool = False
    note: str = ""

    @field_validator("metrics")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        return {_avro_name(name): file for name, file in value.items()}


class MetricPart(_Part):
    """The metric in column ``value`` of files whose name matches."""

    name: str
    files: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return _avro_name(value)


class ColumnPart(_Part):
    """The meaning of columns in wide files."""

    timestamp: Annotated[tuple[str, ...], Field(min_length=1)] = ("timestamp", "time", "datetime")
    entity: tuple[str, ...] = ("entity", "host")
    ignore: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)

    @field_validator("rename")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        return {column: _avro_name(name) for column, name in value.items()}


class Catalogue(_Part):
    """A catalogue file; ``data/catalogue.toml`` explains each part."""

    folders: tuple[str, ...] = ()
    host: tuple[HostPart, ...] = ()
    metric: tuple[MetricPart, ...] = ()
    columns: ColumnPart = ColumnPart()

    @property
    def rules(self) -> ColumnRules:
        """The column rules as the CSV reader takes them."""
        part = self.columns
        return ColumnRules(part.timestamp, part.entity, part.ignore, dict(part.rename))


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read a catalogue file, or the one shipped with Lapwing.

    raises : ConfigError that names the file, the key and what is allowed
    """
    name = str(path) if path else "catalogue.toml"
    try:
        text = path.read_text("utf-8") if path else data.text(name)
        return Catalogue.model_validate(tomllib.loads(text))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{name}: {_sentence(e['loc'], e['msg'])}" for e in error.errors())
        ) from error


def _sentence(key: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(str(part) for part in key)}: {message.removeprefix('Value error, ')}"


def find_files(source: Path, folders: Sequence[str] = ()) -> dict[str, Path]:
    """Return {name: path} of the CSV files in a folder (or of one file), sorted by name.

    A name is the path relative to the folder, without .csv.

    folders : if SOURCE or SOURCE/data contains one of these, only that folder is read
    raises  : DataError when there is no CSV file
    """
    if source.is_file():
        return {source.stem: source}
    if not source.is_dir():
        hint = "; `lapwing data fetch` downloads NAB into it" if source == DEFAULT_DIR else ""
        raise DataError(f"{source}: no such file or folder{hint}")
    for root in (source / "data", source):
        for folder in folders:
            if (root / folder).is_dir():
                return find_files(root / folder)
    found = {
        path.relative_to(source).with_suffix("").as_posix(): path
        for path in source.rglob("*")
        if path.suffix.lower() == ".csv"
    }
    if not found:
        is_json = next(source.rglob("*.json"), None) is not None
        hint = ", but .json: docs/files.md has a script that makes CSV of CloudWatch's"
        raise DataError(f"{source}: no .csv file in it{hint if is_json else ''}")
    return dict(sorted(found.items()))


def read_files(
    source: Path,
    catalogue: Catalogue,
    choice: ColumnChoice | None = None,
    *,
    skip_bad: bool = False,
) -> list[Series]:
    """Read all CSV files of a folder (or one file), without joining any.

    raises : DataError
    """
    files = find_files(source, catalogue.folders)
    rules = catalogue.rules
    return [
        read_series(path, name, rules, choice, skip_bad=skip_bad) for name, path in files.items()
    ]


def read_folder(
    source: Path,
    catalogue: Catalogue,
    choice: ColumnChoice | None = None,
    *,
    skip_bad: bool = False,
) -> tuple[list[Series], list[str]]:
    """Read all CSV files of a folder (or one file) and join them to hosts.

    returns : one Series per host or wide file; notes for the user
    raises  : DataError
    """
    read = read_files(source, catalogue, choice, skip_bad=skip_bad)
    hosts, notes = assemble(read, catalogue)
    return hosts, [*column_notes(read), *shared_entities(read), *notes]


def column_notes(files: Sequence[Series]) -> list[str]:
    """Return notes about the columns of files; a note about several files appears once."""
    first: dict[tuple[str, int], tuple[str, str]] = {}
    count: Counter[tuple[str, int]] = Counter()
    for series in files:
        own: Counter[str] = Counter()
        for note in series.columns.notes if series.columns else ():
            kind = _EXAMPLES.sub("", note)
            own[kind] += 1  # two columns of one file are two notes
            first.setdefault((kind, own[kind]), (series.source, note))
            count[kind, own[kind]] += 1
    more = {key: f" and {files - 1:,} more" if files > 1 else "" for key, files in count.items()}
    return [f"{source}.csv{more[key]}: {note}" for key, (source, note) in first.items()]


def shared_entities(files: Sequence[Series]) -> list[str]:
    """Return a note where files have the same entity and metric at the same times."""
    shared: dict[str, tuple[str, str, str]] = {}
    for (entity, metric), spans in _time_spans(files).items():
        for before, after in pairwise(sorted(spans)):
            _, before_last_ms, before_file = before
            after_first_ms, _, after_file = after
            if after_first_ms < before_last_ms:
                shared.setdefault(entity, (metric, before_file, after_file))
    if not shared:
        return []
    entity, (metric, first_file, other_file) = next(iter(shared.items()))
    more = f" (and {len(shared) - 1:,} more)" if len(shared) > 1 else ""
    note = (
        f"entity {entity}{more} appears in {first_file}.csv and {other_file}.csv at the same time,"
        f" with {metric} in both"
    )
    return [f"{note}: their rows become one series; distinct things need distinct names"]


def _time_spans(files: Sequence[Series]) -> dict[tuple[str, str], list[tuple[int, int, str]]]:
    """Return {(entity, metric): [(first ms, last ms, file), ...]} of entities in several files."""
    named = [series for series in files if series.columns and series.columns.entity]
    count = Counter(entity for series in named for entity in series.entities)
    repeated = {entity for entity, number in count.items() if number > 1}
    spans: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for series in named:
        if repeated.isdisjoint(series.entities):
            continue
        first = np.full(len(series.entities), np.iinfo(np.int64).max)
        last = np.full(len(series.entities), np.iinfo(np.int64).min)
        np.minimum.at(first, series.entity, series.time_ms)
        np.maximum.at(last, series.entity, series.time_ms)
        for code, entity in enumerate(series.entities):
            if entity not in repeated:
                continue
            span = (int(first[code]), int(last[code]), series.source)
            for metric in series.metrics:
                spans.setdefault((entity, metric), []).append(span)
    return spans


def assemble(files: Sequence[Series], catalogue: Catalogue) -> tuple[list[Series], list[str]]:
    """Join files to hosts and name the rest.

    files   : as read; ``source`` is the name that the catalogue uses
    returns : hosts joined by the catalogue first, then every other file in the given order; notes
    raises  : DataError when a host that is not optional lacks a file, or a file cannot be joined
    """
    by_name = {series.source: series for series in files}
    hosts: list[Series] = []
    notes: list[str] = []
    joined: set[str] = set()
    for part in catalogue.host:
        missing = [file for file in part.metrics.values() if file not in by_name]
        if missing and not part.optional:
            raise DataError(
                f"catalogue: host {part.name} needs {', '.join(f'{file}.csv' for file in missing)},"
                " which does not exist"
            )
        if missing:
            if len(missing) < len(part.metrics):
                notes.append(
                    f"host {part.name} is skipped, because"
                    f" {', '.join(f'{file}.csv' for file in missing)} does not exist"
                )
            continue
        host = _join(part, by_name)
        hosts.append(host)
        joined.update(part.metrics.values())
        files_text = ", ".join(f"{metric} = {file}" for metric, file in part.metrics.items())
        notes.append(
            f"{part.name} joins {files_text} by {part.join}"
            + (f": {part.note}" if part.note else "")
        )
    hosts += [_name(series, catalogue) for series in files if series.source not in joined]
    return hosts, notes


def _name(series: Series, catalogue: Catalogue) -> Series:
    metrics = series.metrics
    if metrics == ("value",):
        stem = series.source.rsplit("/", 1)[-1]
        matches = (
            part.name
            for part in catalogue.metric
            if any(fnmatchcase(stem, pattern) for pattern in part.files)
        )
        metrics = (next(matches, "value"),)
    return replace(
        series,
        metrics=metrics,
        entities=(series.source,) if series.entities == ("",) else series.entities,
    )


def _join(part: HostPart, files: Mapping[str, Series]) -> Series:
    members = [files[file] for file in part.metrics.values()]
    for member in members:
        if len(member.metrics) != 1 or member.entities != ("",):
            raise DataError(
                f"catalogue: host {part.name} cannot join {member.source}.csv, which has more than"
                " a timestamp and one metric"
            )
    times, rows = _rows_by_time(members) if part.join == "time" else _rows_by_position(members)
    values = np.full((len(times), len(members)), np.nan)
    for column, (member, row) in enumerate(zip(members, rows, strict=True)):
        values[row, column] = member.values[:, 0]
    skipped = sum(member.skipped for member in members)
    return Series(
        part.name,
        (part.name,),
        tuple(part.metrics),
        np.zeros(len(times), np.int32),
        times,
        values,
        skipped,
    )


_Rows = tuple[
    np.ndarray[tuple[int], np.dtype[np.int64]], list[np.ndarray[tuple[int], np.dtype[np.int64]]]
]


def _rows_by_position(members: Sequence[Series]) -> _Rows:
    longest = max(members, key=len)
    return longest.time_ms, [np.arange(len(member), dtype=np.int64) for member in members]


def _rows_by_time(members: Sequence[Series]) -> _Rows:
    """Give equal times one row.

    A time that occurs k times in a file has k rows; the i-th occurrences of all files share a row.
    """
    keys = []
    for member in members:
        order = np.argsort(member.time_ms, kind="stable")
        time = member.time_ms[order]
        first = np.searchsorted(time, time, side="left")
        repeat = np.empty(len(member), np.int64)
        repeat[order] = np.arange(len(member)) - first
        keys.append(np.stack([member.time_ms, repeat], axis=1))
    distinct, inverse = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    ends = np.cumsum([len(member) for member in members])[:-1]
    return distinct[:, 0].copy(), [
        part.astype(np.int64) for part in np.split(inverse.reshape(-1), ends)
    ]
