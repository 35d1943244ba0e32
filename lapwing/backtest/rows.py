"""What each record was judged to be, one JSON object a line, in the order of the records.

Invariant: a line depends only on the record's verdict; lines are written as batches are judged, so
           that memory does not grow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from shared.errors import ConfigError
from shared.events import State
from shared.scoring.scorer import Outcome
from shared.scoring.state import PartitionState
from shared.wording import iso

ROW_KEYS = (
    "time", "entity", "partition", "offset", "configuration", "state", "score", "severity",
    "threshold", "is_anomaly", "cold_start", "late", "ahead", "duplicate", "episode_id",
    "top_metric", "metrics",
)  # fmt: skip
METRIC_KEYS = ("value", "expected", "lower", "upper", "severity")


@contextmanager
def open_rows(path: Path) -> Iterator[RowWriter]:
    """Open a file of rows; what it held before is replaced.

    raises : ConfigError when it cannot be written
    """
    with _names_file(path):
        file = path.open("w", encoding="utf-8", newline="\n")
    with file:
        yield RowWriter(path, file)


class RowWriter:
    """Writes the accepted records of each batch."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file

    def write(self, configuration: str, outcome: Outcome, state: PartitionState) -> None:
        """Write a line for each accepted record of a batch.

        configuration : ``first`` or ``second``, the one that scored it
        raises : ConfigError when the file cannot be written
        """
        names = state.entities.names()
        lines = [
            _line(configuration, outcome, row, names, state.metrics)
            for row in range(len(outcome.columns))
        ]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with _names_file(self._path):
            self._file.write(text)
            self._file.flush()


@contextmanager
def _names_file(path: Path) -> Iterator[None]:
    """Turn a failure to write into an error that names option and file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--rows {path}: it cannot be written: {error.strerror or error}"
        ) from error


def _line(
    configuration: str, outcome: Outcome, row: int, names: list[str], metrics: list[str]
) -> dict[str, Any]:
    columns, folded, verdicts = outcome.columns, outcome.folded, outcome.verdicts
    duplicate = bool(folded.duplicate[row])
    top = int(verdicts.top_metric[row])
    values = (
        iso(int(columns.time_ms[row])),
        names[columns.entity[row]],
        outcome.batch.partition,
        int(outcome.batch.offsets[columns.accepted[row]]),
        configuration,
        State(int(verdicts.state[row])).name,
        _number(verdicts.score[row]),
        _number(verdicts.severity[row]),
        _number(verdicts.threshold[row]),
        bool(verdicts.is_anomaly[row]) and not duplicate,
        bool(verdicts.cold_start[row]),
        bool(folded.late_by_ms[row] > 0),
        bool(folded.ahead[row]),
        duplicate,
        str(verdicts.episode_id[row]) or None,
        metrics[top] if top >= 0 else None,
        {metrics[column]: _metric(outcome, row, int(column)) for column in _shown(outcome, row)},
    )
    return dict(zip(ROW_KEYS, values, strict=True))


def _shown(outcome: Outcome, row: int) -> npt.NDArray[np.int32]:
    """Return the metrics that the entity has reported, now or before, in their order."""
    listed: npt.NDArray[np.int32] = outcome.folded.listed[row]
    return listed[: int((listed >= 0).sum())]


def _metric(outcome: Outcome, row: int, column: int) -> dict[str, float | None]:
    verdicts = outcome.verdicts
    cells = (
        outcome.columns.values,
        verdicts.expected,
        verdicts.lower,
        verdicts.upper,
        verdicts.metric_severity,
    )
    numbers = [_number(cell[row, column]) for cell in cells]
    return dict(zip(METRIC_KEYS, numbers, strict=True))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
