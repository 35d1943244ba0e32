"""The files of a backtest: result files in NAB's layout, summary, alarm table, report.

Invariant: the files depend only on the results of the run; none is written into a folder that holds
           anything else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lapwing.backtest.figures import Change, alarm_fields
from lapwing.backtest.layers import Report
from lapwing.backtest.report import page
from lapwing.backtest.run import BacktestResult, Series
from shared.errors import ConfigError
from shared.events import Anomaly
from shared.labels import Window, result_csv, result_scores
from shared.wording import iso

RESULTS = "results/lapwing"
_OURS = {"summary.json", "alarms.csv", "report.html", "results"}
_COLUMNS = (
    "time", "entity", "kind", "metric", "severity_class", "severity", "score", "value", "expected",
    "cold_start", "configuration", "reason", "partition", "offset", "episode_id", "phase", "end",
    "peak", "closed_because",
)  # fmt: skip


def check_folder(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier backtest.

    raises : ConfigError
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: that is a file; name a folder")
    others = sorted({path.name for path in out.iterdir()} - _OURS) if out.is_dir() else []
    if others:
        raise ConfigError(
            f"--out {out}: it contains {others[0]}, which no backtest wrote; name a new or empty"
            " folder"
        )


def write_files(
    out: Path,
    report: Report,
    windows: Mapping[str, Sequence[Window]],
    second: BacktestResult | None,
) -> list[Path]:
    """Write everything; return the files for people.

    raises : ConfigError when the folder cannot be written
    """
    files = {
        "summary.json": json.dumps(report.summary, indent=1, ensure_ascii=False) + "\n",
        "alarms.csv": alarms_csv(report.result, report.change, second),
        "report.html": page(report),
    }
    try:
        for name, text in files.items():
            _write(out / name, text)
        for name, text in result_files(report.result.series, windows):
            _write(out / RESULTS / name, text)
    except OSError as error:
        raise ConfigError(
            f"--out {out}: it cannot be written: {error.strerror or error}"
        ) from error
    return [out / name for name in files]


def alarms_csv(result: BacktestResult, change: Change | None, second: BacktestResult | None) -> str:
    """Write alarms and data-quality verdicts in order of time.

    ``configuration`` says which one gave an alarm; ``end``, ``peak`` and ``closed_because`` are
    those of the whole episode, ``end`` is empty while it is open. The end of an episode has no row
    of its own, so that every row that is no alarm is a verdict on the data.
    """
    ends = {
        record.episode_id: record for record in (*result.closed, *(second.closed if second else ()))
    }
    removed = {id(alarm) for alarm in change.removed} if change else set()
    rows: list[tuple[Anomaly, str]] = [(record, "") for record in result.quality]
    rows += [
        (record, "" if second is None else "first" if id(record) in removed else "both")
        for record in result.alarms
    ]
    rows += [(record, "second") for record in (change.added if change else ())]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record, variant in sorted(
        rows, key=lambda row: (row[0].event_time, row[0].entity, row[0].source_offset)
    ):
        writer.writerow(alarm_fields(record) | {"configuration": variant} | _episode(record, ends))
    return text.getvalue()


def _episode(alarm: Anomaly, ends: Mapping[str | None, Anomaly]) -> dict[str, Any]:
    """Return when and why an alarm's episode ended, and its largest value."""
    if alarm.episode_id is None:
        return {"end": None, "peak": None, "closed_because": None}
    closed = ends.get(alarm.episode_id)
    because = closed.closed_because if closed else None
    return {
        "end": None if closed is None else iso(closed.event_time),
        "peak": (closed or alarm).peak_value,
        "closed_because": because.value if because else None,
    }


def result_files(
    series: Sequence[Series], windows: Mapping[str, Sequence[Window]]
) -> Iterator[tuple[str, str]]:
    """Yield name and content of each series' result file, one per metric.

    The score is the entity's.
    """
    taken: set[str] = set()
    for part in series:
        scores = result_scores(part.severity, part.is_anomaly)
        folder, name = _place(part.entity)
        for column, metric in enumerate(part.metrics):
            file = f"{name}.{metric}" if len(part.metrics) > 1 else name
            if f"{folder}/{file}".lower() in taken:
                file = f"{file}.{hashlib.sha256(f'{part.key}'.encode()).hexdigest()[:8]}"
            taken.add(f"{folder}/{file}".lower())
            text = result_csv(
                part.time_ms, part.values[:, column], scores, windows.get(part.entity, ())
            )
            yield f"{folder}/lapwing_{file}.csv", text


def _place(entity: str) -> tuple[str, str]:
    """Return folder and file name of an entity, valid on every system.

    What stands before the entity's last slash is the folder.
    """
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "_", part).strip(".")[:80] for part in entity.split("/")]
    *folders, name = [part or "_" for part in parts]
    return "/".join(folders) or "series", name


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
