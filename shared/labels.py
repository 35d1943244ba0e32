"""Labelled anomalies: read from JSON or CSV, found for the entities at hand, compared with alarms.

Law: what is hit, missed or false depends on times, windows and alarms alone; a label that cannot be
     read is named.
"""

from __future__ import annotations

import csv
import json
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
"""Lowest anomaly_score of an alarm in a result file, and highest of a row that is none."""

_ALLOWED = "ISO 8601 (UTC unless it has an offset) or milliseconds since 1970"


@dataclass(frozen=True, slots=True)
class Window:
    """One labelled anomaly, from its first to its last event time (ms since 1970 UTC), both
    included.

    name   : how the label file names it, e.g. ``realAWSCloudwatch/a.csv 2``
    kind   : what happened, where the file says so
    metric : the one that it is about, empty = the entity as a whole
    """

    start_ms: int
    end_ms: int
    name: str = ""
    kind: str = ""
    metric: str = ""


Windows = Mapping[str, Sequence[Window]]
"""Entity, or the key of a label file -> its windows."""


class Fate(StrEnum):
    """What became of a window."""

    HIT = "hit"
    MISSED = "missed"
    WARMING = "warming"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class WindowFate:
    """A window and what became of it.

    alarm_ms : event time of its first alarm, None without any
    """

    window: Window
    fate: Fate
    alarm_ms: int | None = None

    @property
    def delay_ms(self) -> int | None:
        """From the window's start to its first alarm."""
        return None if self.alarm_ms is None else self.alarm_ms - self.window.start_ms


@dataclass(frozen=True, slots=True)
class Judgement:
    """Alarms of one series against its windows.

    false_alarms : unbroken runs of alarms outside every window
    false_rows   : alarms outside every window
    """

    fates: tuple[WindowFate, ...]
    false_alarms: int
    false_rows: int


def read_labels(text: str, source: str) -> dict[str, tuple[Window, ...]]:
    """Read a label file; which of the forms it has is seen from its first character.

    JSON    : ``{key: [[start, end], ...]}`` as NAB's combined_windows.json, or that mapping under
              ``windows``; with
              ``anomalies: [{"entity", "start", "end", "kind"}, ...]`` as well, these are taken, for
                           they say more
    CSV     : columns entity, start, end, and kind if it is there
    source  : name of the file, for messages
    returns : windows by key, each in order of time
    raises  : DataError that names the file, the line or key, what stands there and what is allowed
    """
    rows = list(
        _of_json(text, source) if text.lstrip()[:1] in ("{", "[") else _of_csv(text, source)
    )
    if not rows:
        raise DataError(f"{source}: there is no label in it")
    found: dict[str, list[Window]] = {}
    for key, _ in rows:
        found.setdefault(key, [])
    for key, window in rows:
        if window is not None:
            found[key].append(window)
    return {key: _numbered(key, windows) for key, windows in found.items()}


def find(labels: Windows, entity: str) -> Sequence[Window] | None:
    """Return the windows of an entity, None where the labels do not speak of it.

    A key that ends in .csv names a file: it also stands for the entity that is called so after its
    file, whichever of the two names more folders.
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


def judge(time_ms: Times, alarm: Flags, ready: Flags, windows: Sequence[Window]) -> Judgement:
    """Compare the alarms of one series with its windows.

    time_ms : int64 (n,)  in log order
    alarm   : bool (n,)
    ready   : bool (n,)   rows that could be alarmed; a window without any is warming, or has no
              data, and is neither hit nor missed, whatever alarms lie in it
    """
    fates, inside = [], np.zeros(len(time_ms), np.bool_)
    for window in windows:
        within = (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
        inside |= within
        alarms = time_ms[within & alarm]
        first = int(alarms.min()) if len(alarms) else None
        if not within.any():
            fate = Fate.NO_DATA
        elif not (within & ready).any():
            fate = Fate.WARMING
        else:
            fate = Fate.MISSED if first is None else Fate.HIT
        fates.append(WindowFate(window, fate, first))
    return Judgement(tuple(fates), runs(alarm & ~inside), int((alarm & ~inside).sum()))


def runs(marked: Flags) -> int:
    """Count unbroken runs of marks."""
    return int(marked.sum()) - int((marked[1:] & marked[:-1]).sum())


def inside(time_ms: Times, windows: Iterable[Window]) -> Flags:
    """Mark the rows that lie in a window."""
    marked = np.zeros(len(time_ms), np.bool_)
    for window in windows:
        marked |= (time_ms >= window.start_ms) & (time_ms <= window.end_ms)
    return marked


def result_scores(severity: npt.NDArray[np.float64], alarm: Flags) -> npt.NDArray[np.float64]:
    """Turn severities into the anomaly_score of a result file: at least ALARM where and only where
    it is an alarm.

    severity : float64 (n,)  NaN = not judged, which scores 0
    """
    known = np.where(np.isnan(severity), 0.0, severity)
    return np.where(alarm, np.maximum(known, ALARM), np.minimum(known, QUIET))


def result_csv(
    time_ms: Times,
    values: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    windows: Sequence[Window],
) -> str:
    """Write a result file as NAB keeps them: RESULT_COLUMNS, numbers in the shortest form that
    reads back the same.
    """
    rows = [",".join(RESULT_COLUMNS)]
    columns = (
        time_ms.tolist(),
        values.tolist(),
        scores.tolist(),
        inside(time_ms, windows).tolist(),
    )
    for time, value, score, label in zip(*columns, strict=True):
        rows.append(
            f"{second(time)},{'' if value != value else repr(value)},{score!r},{int(label)}"
        )
    return "\n".join(rows) + "\n"


def _numbered(key: str, windows: list[Window]) -> tuple[Window, ...]:
    ordered = sorted(windows, key=lambda window: (window.start_ms, window.end_ms))
    return tuple(
        Window(one.start_ms, one.end_ms, f"{key} {n}", one.kind) for n, one in enumerate(ordered, 1)
    )


def _of_json(text: str, source: str) -> Iterable[tuple[str, Window | None]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DataError(f"{source}: it is not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("anomalies"), list):
        for number, one in enumerate(document["anomalies"], 1):
            where = f"{source}: anomaly {number}"
            if not isinstance(one, dict) or not {"entity", "start", "end"} <= set(one):
                raise DataError(f"{where} is {one!r}; it needs entity, start and end")
            yield (
                str(one["entity"]),
                _window(one["start"], one["end"], where, str(one.get("kind", ""))),
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
            raise DataError(f"{where}: a list of [start, end] is needed, found {pairs!r}")
        yield key, None
        for number, pair in enumerate(pairs, 1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise DataError(f"{where}, window {number} is {pair!r}; [start, end] is needed")
            yield key, _window(pair[0], pair[1], f"{where}, window {number}")


def _of_csv(text: str, source: str) -> Iterable[tuple[str, Window | None]]:
    reader = csv.reader(text.lstrip("\ufeff").splitlines(), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(
                f"{source}, line 1: no column {missing[0]!r}; {', '.join(COLUMNS)} are needed (and"
                " kind, if known), or JSON as NAB's combined_windows.json; found"
                f" {', '.join(header) or 'nothing'}"
            )
        places = [header.index(name) for name in COLUMNS]
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            if not any(row):
                continue
            if len(row) != len(header):
                raise DataError(f"{where}: {len(row)} cells, the header has {len(header)}")
            entity, start, end = (row[place].strip() for place in places)
            if not entity:
                raise DataError(f"{where}: entity is empty")
            yield (
                entity,
                _window(
                    start, end, where, row[header.index("kind")].strip() if "kind" in header else ""
                ),
            )
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}") from error


def _window(start: Any, end: Any, where: str, kind: str = "") -> Window:
    start_ms, end_ms = _time_ms(start, f"{where}: start"), _time_ms(end, f"{where}: end")
    if end_ms < start_ms:
        raise DataError(f"{where}: it ends ({end}) before it starts ({start})")
    return Window(start_ms, end_ms, kind=kind)


def _time_ms(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) in (12, 13):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where} is {value!r}; allowed is {_ALLOWED}") from error
