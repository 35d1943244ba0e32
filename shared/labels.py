"""Labelled anomalies: reads them from JSON or CSV, and compares them with alarms.

Invariant: hits, misses and false alarms depend on times, windows and alarms alone. The error for a
label that cannot be read names it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.errors import DataError
from shared.wording import second

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

COLUMNS = ("entity", "start", "end")
RESULT_COLUMNS = ("timestamp", "value", "anomaly_score", "label")
ALARM, QUIET = 0.5, 0.499
"""Lowest anomaly_score of an alarm in a result file, and highest of another row."""

_ALLOWED = "ISO 8601 (UTC unless it has an offset) or milliseconds since 1970"


@dataclass(frozen=True, slots=True)
class Window:
    """One labelled anomaly; both times are inclusive, ms since 1970 UTC.

    name   : its key in the label file and its number, e.g. ``realAWSCloudwatch/a.csv 2``
    kind   : kind of anomaly, where the file has it
    metric : the metric that it is about; empty = the entity as a whole
    """

    start_ms: int
    end_ms: int
    name: str = ""
    kind: str = ""
    metric: str = ""


Windows = Mapping[str, Sequence[Window]]
"""Entity, or the key of a label file -> its windows."""


class Outcome(StrEnum):
    """The outcome of a window."""

    HIT = "hit"
    MISSED = "missed"
    WARMING = "warming"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """A window and its outcome.

    alarm_ms : event time of its first alarm; None without one
    """

    window: Window
    outcome: Outcome
    alarm_ms: int | None = None

    @property
    def delay_ms(self) -> int | None:
        """Time from the window's start to its first alarm."""
        return None if self.alarm_ms is None else self.alarm_ms - self.window.start_ms


@dataclass(frozen=True, slots=True)
class AlarmEvaluation:
    """The alarms of one series, compared with its windows.

    false_alarms : unbroken runs of alarms outside every window
    false_rows   : alarms outside every window
    """

    outcomes: tuple[WindowOutcome, ...]
    false_alarms: int
    false_rows: int


def read_labels(text: str, source: str) -> dict[str, tuple[Window, ...]]:
    """Read a label file; which of the forms it has is seen from its first character.

    JSON    : ``{key: [[start, end], ...]}`` as NAB's combined_windows.json, or that mapping under
              ``windows``; with
              ``anomalies: [{"entity", "start", "end", "kind"}, ...]`` as well, these are taken,
              because they contain the kind
    CSV     : columns entity, start, end, and kind if it is there
    source  : name of the file, for messages
    returns : windows by key, each in order of time
    raises  : DataError that names the file, the line or key, what stands there and what is allowed
    """
    rows = list(
        _of_json(text, source) if text.lstrip()[:1] in ("{", "[") else _of_csv(text, source)
    )
    if not rows:
        raise DataError(f"{source}: it has no labels")
    found: dict[str, list[Window]] = {}
    for key, _ in rows:
        found.setdefault(key, [])
    for key, window in rows:
        if window is not None:
            found[key].append(window)
    return {key: _numbered(key, windows) for key, windows in found.items()}


def find(labels: Windows, entity: str) -> Sequence[Window] | None:
    """Return the windows of an entity; None where the labels do not have it.

    A key that ends in .csv is a file name. It matches an entity that is named after the file, even
    where one of the two names has more folders than the other.
    """
    if entity in labels:
        return labels[entity]
    for key, windows in labels.items():
        file = key.removesuffix(".csv")
        if file != key and (
            file == entity or file.endswith(f"/{entity}") or entity.endswith(f"/{file}")
        ):
            return windows
    return None


def evaluate_alarms(
    time_ms: Times, alarm: Flags, ready: Flags, windows: Sequence[Window]
) -> AlarmEvaluation:
    """Compare the alarms of one series with its windows.

    time_ms : int64 (n,)  in log order
    alarm   : bool (n,)
    ready   : bool (n,)   rows that could be alarms; a window without such rows is warming, or has
              no data, and counts neither as hit nor as missed
    """
    outcomes: list[WindowOutcome] = []
    inside = np.zeros(len(time_ms), np.bool_)
    for window in windows:
        within = (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
        inside |= within
        alarms = time_ms[within & alarm]
        first = int(alarms.min()) if len(alarms) else None
        if not within.any():
            outcome = Outcome.NO_DATA
        elif not (within & ready).any():
            outcome = Outcome.WARMING
        else:
            outcome = Outcome.MISSED if first is None else Outcome.HIT
        outcomes.append(WindowOutcome(window, outcome, first))
    return AlarmEvaluation(tuple(outcomes), runs(alarm & ~inside), int((alarm & ~inside).sum()))


def runs(marked: Flags) -> int:
    """Count unbroken runs of True."""
    return int(marked.sum()) - int((marked[1:] & marked[:-1]).sum())


def inside(time_ms: Times, windows: Iterable[Window]) -> Flags:
    """Return which rows are inside a window."""
    marked = np.zeros(len(time_ms), np.bool_)
    for window in windows:
        marked |= (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
    return marked


def result_scores(severity: npt.NDArray[np.float64], alarm: Flags) -> npt.NDArray[np.float64]:
    """Convert severities to the anomaly_score of a result file: >= ALARM exactly for alarms.

    severity : float64 (n,)  NaN = not scored; its anomaly_score is 0
    """
    known = np.where(np.isnan(severity), 0.0, severity)
    return np.where(alarm, np.maximum(known, ALARM), np.minimum(known, QUIET))


def result_csv(
    time_ms: Times,
    values: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    windows: Sequence[Window],
) -> str:
    """Return the CSV text of a result file in NAB's format, with the columns RESULT_COLUMNS.

    Numbers have the shortest form that is read back as the same number.
    """
    rows = [",".join(RESULT_COLUMNS)]
    columns = (
        time_ms.tolist(),
        values.tolist(),
        scores.tolist(),
        inside(time_ms, windows).tolist(),
    )
    for time, value, score, label in zip(*columns, strict=True):
        number = "" if math.isnan(value) else repr(value)
        rows.append(f"{second(time)},{number},{score!r},{int(label)}")
    return "\n".join(rows) + "\n"


def _numbered(key: str, windows: list[Window]) -> tuple[Window, ...]:
    ordered = sorted(windows, key=lambda window: (window.start_ms, window.end_ms))
    return tuple(
        Window(window.start_ms, window.end_ms, f"{key} {number}", window.kind)
        for number, window in enumerate(ordered, 1)
    )


def _of_json(text: str, source: str) -> Iterable[tuple[str, Window | None]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DataError(f"{source}: it is not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("anomalies"), list):
        for number, anomaly in enumerate(document["anomalies"], 1):
            where = f"{source}: anomaly {number}"
            if not isinstance(anomaly, dict) or not {"entity", "start", "end"} <= set(anomaly):
                raise DataError(f"{where} is {anomaly!r}; entity, start and end are required")
            kind = str(anomaly.get("kind", ""))
            yield (
                str(anomaly["entity"]),
                _window(anomaly["start"], anomaly["end"], where, kind),
            )
        return
    windows = document.get("windows", document) if isinstance(document, dict) else None
    if not isinstance(windows, dict):
        raise DataError(
            f'{source}: it is neither {{"windows": {{entity: [[start, end], ...]}}}} nor that inner'
            " mapping"
        )
    for key, pairs in windows.items():
        where = f"{source}: {key}"
        if not isinstance(pairs, list):
            raise DataError(f"{where}: a list of [start, end] is required, found {pairs!r}")
        yield key, None
        for number, pair in enumerate(pairs, 1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise DataError(f"{where}, window {number} is {pair!r}; [start, end] is required")
            yield key, _window(pair[0], pair[1], f"{where}, window {number}")


def _of_csv(text: str, source: str) -> Iterable[tuple[str, Window | None]]:
    reader = csv.reader(text.lstrip("\ufeff").splitlines(), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(
                f"{source}, line 1: no column {missing[0]!r}; {', '.join(COLUMNS)} are required"
                " (kind is optional), or JSON like NAB's combined_windows.json; found"
                f" {', '.join(header) or 'nothing'}"
            )
        positions = [header.index(name) for name in COLUMNS]
        kind_position = header.index("kind") if "kind" in header else None
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            if not any(row):
                continue
            if len(row) != len(header):
                raise DataError(f"{where}: {len(row)} cells, the header has {len(header)}")
            entity, start, end = (row[position].strip() for position in positions)
            if not entity:
                raise DataError(f"{where}: entity is empty")
            kind = "" if kind_position is None else row[kind_position].strip()
            yield entity, _window(start, end, where, kind)
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}") from error


def _window(start: Any, end: Any, where: str, kind: str = "") -> Window:
    start_ms, end_ms = _time_ms(start, f"{where}: start"), _time_ms(end, f"{where}: end")
    if end_ms < start_ms:
        raise DataError(f"{where}: its end ({end}) is before its start ({start})")
    return Window(start_ms, end_ms, kind=kind)


def _time_ms(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) in (12, 13):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        if not moment.tzinfo:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where} is {value!r}; allowed is {_ALLOWED}") from error
