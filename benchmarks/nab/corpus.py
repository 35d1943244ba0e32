"""The labelled series of a NAB folder, sorted by category and file.

Invariant: a series is what its file and the label files contain; its name decides nothing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import DataError

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PROBATION_SHARE = 0.15
PROBATION_FULL_ROWS = 5000
"""The probation is 15 % of a series, counted as if it had no more than 5,000 rows."""


@dataclass(frozen=True, eq=False)
class Series:
    """One file and its labels.

    timestamps : as the file writes them, one per row
    time_ms    : int64 (n,)    UTC
    values     : float64 (n,)  NaN = missing
    windows    : int64 (w, 2)  first and last row of each labelled window, in order, no two share a
                 row
    labels     : int64 (l,)    rows of the labelled anomalies, increasing
    labelled   : whether the windows have an entry for the file; a series without one counts as one
                 without anomalies
    """

    category: str
    file: str
    timestamps: tuple[str, ...]
    time_ms: Ints
    values: Floats
    windows: Ints
    labels: Ints
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def key(self) -> str:
        """Name in the label files: ``category/file.csv``."""
        return f"{self.category}/{self.file}"

    @property
    def probation(self) -> int:
        """Number of rows at the start that are never judged."""
        return probation_rows(len(self))

    @cached_property
    def window_of(self) -> Ints:
        """int64 (n,): index of the window that each row lies in, -1 outside."""
        rows = np.full(len(self), -1, np.int64)
        for index, (first, last) in enumerate(self.windows.tolist()):
            rows[first : last + 1] = index
        return rows

    @cached_property
    def judged_windows(self) -> Ints:
        """Indices of the judged windows, those that end after the probation, int64 (j,)."""
        judged: Ints = np.flatnonzero(self.windows[:, 1] >= self.probation).astype(np.int64)
        return judged


def probation_rows(rows: int) -> int:
    """Return how many of the rows of a series are its probation: ceil(min(floor(.15 n), 750)).

    Twin: tests/reference/nab.py::is_probation.
    """
    return math.ceil(min(math.floor(PROBATION_SHARE * rows), PROBATION_SHARE * PROBATION_FULL_ROWS))


def check_scores(corpus: Sequence[Series], scores: Sequence[Floats]) -> None:
    """Check that there is one finite score per row of each series, in the corpus's order.

    raises : ValueError naming the series and the row
    """
    if len(scores) != len(corpus):
        raise ValueError(f"{len(scores)} arrays of scores for {len(corpus)} series")
    for one, mine in zip(corpus, scores, strict=True):
        if mine.shape != (len(one),):
            raise ValueError(f"{one.key}: scores of shape {mine.shape} for {len(one)} rows")
        invalid = np.flatnonzero(~np.isfinite(mine))
        if len(invalid):
            raise ValueError(
                f"{one.key}: the score of row {invalid[0]} is {mine[invalid[0]]}; a score is a"
                " finite number"
            )


def read_corpus(folder: Path) -> tuple[Series, ...]:
    """Read every ``category/file.csv`` in ``folder/data``, sorted.

    Without a folder ``data``, the categories are in ``folder`` itself. The labels are
    ``combined_windows.json`` and the optional ``combined_labels.json``, in ``folder`` or in
    ``folder/labels``. Labels of absent files are ignored. A file without an entry in
    combined_windows.json has no windows. If no file has an entry, the labels belong to another
    corpus, which is an error.

    raises : DataError naming file and line, or file and label
    """
    data = folder / "data" if (folder / "data").is_dir() else folder
    paths = sorted(data.glob("*/*.csv"), key=lambda path: (path.parent.name, path.name))
    if not paths:
        raise DataError(f"{data}: no series, expected <category>/<file>.csv below it")
    windows = _read_labels(folder, "combined_windows.json")
    if windows is None:
        raise DataError(f"{folder}: no combined_windows.json there or in its folder labels")
    labels = _read_labels(folder, "combined_labels.json") or {}
    corpus = tuple(_read_series(path, windows, labels) for path in paths)
    if not any(one.labelled for one in corpus):
        raise DataError(
            f"{folder}: combined_windows.json has no entry for any series of {data}, such as"
            f" {corpus[0].key!r}"
        )
    return corpus


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Read the named columns of a CSV file as text, in any order; skip blank lines.

    raises : DataError naming file and line
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(f"{path}, line 1: no column {missing[0]!r} in {header}")
            places = [header.index(name) for name in columns]
            rows = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} fields, the header has"
                        f" {len(header)}"
                    )
                rows.append(tuple(row[place].strip() for place in places))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    return rows


def parse_times(path: Path, timestamps: Sequence[str]) -> Ints:
    """Return int64 (n,) UTC milliseconds; a timestamp without a zone is UTC."""
    return np.array(
        [_parse_time(text, f"{path}, row {row}") for row, text in enumerate(timestamps)], np.int64
    )


def parse_numbers(path: Path, column: str, texts: Sequence[str]) -> Floats:
    """Return float64 (n,); an empty field is NaN, an infinite one is refused."""
    numbers = np.empty(len(texts), np.float64)
    for row, text in enumerate(texts):
        try:
            numbers[row] = float(text) if text else math.nan
        except ValueError:
            raise DataError(f"{path}, row {row}: {column} is {text!r}, not a number") from None
        if math.isinf(numbers[row]):
            raise DataError(
                f"{path}, row {row}: {column} is {text!r}; a finite number or an empty field is"
                " allowed"
            )
    return numbers


def _parse_time(text: str, where: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {text!r} is not a timestamp like 2014-04-10 00:04:00") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // timedelta(milliseconds=1)


def _read_labels(folder: Path, name: str) -> Mapping[str, Any] | None:
    for path in (folder / name, folder / "labels" / name):
        if path.is_file():
            try:
                labels = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{path}: not JSON: {error}") from error
            if not isinstance(labels, dict):
                raise DataError(f"{path}: expected an object of category/file.csv -> labels")
            return labels
    return None


def _read_series(path: Path, windows: Mapping[str, Any], labels: Mapping[str, Any]) -> Series:
    key = f"{path.parent.name}/{path.name}"
    table = read_table(path, ("timestamp", "value"))
    if not table:
        raise DataError(f"{path}: no rows")
    timestamps, values = zip(*table, strict=True)
    time_ms = parse_times(path, timestamps)
    bounds = [[_row_at(time_ms, edge, key) for edge in window] for window in windows.get(key, ())]
    one = Series(
        category=path.parent.name,
        file=path.name,
        timestamps=timestamps,
        time_ms=time_ms,
        values=parse_numbers(path, "value", values),
        windows=np.array(bounds, np.int64).reshape(-1, 2),
        labels=np.array(
            sorted(_row_at(time_ms, label, key) for label in labels.get(key, ())), np.int64
        ),
        labelled=key in windows,
    )
    edges = one.windows.ravel()
    if (one.windows[:, 0] > one.windows[:, 1]).any() or (edges[2::2] <= edges[1:-1:2]).any():
        raise DataError(
            f"{key}: the windows in combined_windows.json overlap or are out of order:"
            f" {windows[key]}"
        )
    return one


def _row_at(time_ms: Ints, text: str, key: str) -> int:
    """Return the first row with this timestamp.

    A clock set back and a repeated row give a timestamp twice; NAB takes the first as well.
    """
    rows = np.flatnonzero(time_ms == _parse_time(text, f"labels of {key}"))
    if not len(rows):
        raise DataError(f"{key}: the label {text!r} is not the timestamp of any row")
    return int(rows[0])
