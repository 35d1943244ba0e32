"""Result files in NAB's layout and columns: ``OUT/<detector>/<category>/<detector>_<file>.csv``.

Invariant: what is written reads back bit for bit.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.nab.corpus import (
    Floats,
    Ints,
    Series,
    check_scores,
    parse_numbers,
    parse_times,
    read_table,
)
from shared.errors import DataError

COLUMNS = ("timestamp", "value", "anomaly_score", "label")


@dataclass(frozen=True, eq=False)
class Result:
    """Contents of one result file, each array (n,).

    time_ms        : int64, UTC
    values, scores : float64
    labels         : int64, 1 inside a window
    """

    time_ms: Ints
    values: Floats
    scores: Floats
    labels: Ints


def result_path(out: Path, detector: str, series: Series) -> Path:
    """Return where the detector's scores of this series are kept."""
    return out / detector / series.category / f"{detector}_{series.file}"


def label_column(series: Series) -> Ints:
    """Return int64 (n,): 1 where the row's time lies in a window, both edges included, else 0.

    By time, as NAB writes it: rows that repeat the time of a window's last row are 1 here, yet
    outside when judged.
    """
    labels = np.zeros(len(series), np.int64)
    for first, last in series.windows.tolist():
        labels[
            (series.time_ms >= series.time_ms[first]) & (series.time_ms <= series.time_ms[last])
        ] = 1
    return labels


def write_results(
    out: Path, detector: str, corpus: Sequence[Series], scores: Sequence[Floats]
) -> list[Path]:
    """Write one file per series and return the paths.

    Numbers are written in the shortest form that reads back to the same value.
    """
    check_scores(corpus, scores)
    paths = []
    for one, mine in zip(corpus, scores, strict=True):
        path = result_path(out, detector, one)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = ["" if math.isnan(value) else repr(value) for value in one.values.tolist()]
        with path.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(
                zip(
                    one.timestamps,
                    values,
                    map(repr, mine.tolist()),
                    label_column(one).tolist(),
                    strict=True,
                )
            )
        paths.append(path)
    return paths


def read_result(path: Path) -> Result:
    """Read one result file, written here or published; further columns are ignored.

    raises : DataError naming file and row
    """
    table = read_table(path, COLUMNS)
    if not table:
        raise DataError(f"{path}: no rows")
    timestamps, values, scores, labels = zip(*table, strict=True)
    numbers = parse_numbers(path, "label", labels)
    invalid = np.flatnonzero(~np.isin(numbers, (0.0, 1.0)))
    if len(invalid):
        raise DataError(
            f"{path}, row {invalid[0]}: label is {labels[invalid[0]]!r}; 0 or 1 is allowed"
        )
    return Result(
        time_ms=parse_times(path, timestamps),
        values=parse_numbers(path, "value", values),
        scores=parse_numbers(path, "anomaly_score", scores),
        labels=numbers.astype(np.int64),
    )


def read_scores(out: Path, detector: str, corpus: Sequence[Series]) -> list[Floats]:
    """Read a detector's scores of every series, in the corpus's order.

    raises : DataError if the timestamps of a file are not those of its series
    """
    scores = []
    for one in corpus:
        path = result_path(out, detector, one)
        result = read_result(path)
        if not np.array_equal(result.time_ms, one.time_ms):
            raise DataError(f"{path}: its timestamps are not those of {one.key}")
        if np.isnan(result.scores).any():
            raise DataError(
                f"{path}, row {int(np.isnan(result.scores).argmax())}: no anomaly_score"
            )
        scores.append(result.scores)
    return scores
