"""The command ``lapwing export scores --to FILE``, or of other results: topic to file.

Invariant: committed records only, each once, in the order of the topic's partitions; a record that
cannot be decoded is counted and left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from lapwing.export.export_columns import KINDS, Kind, Record, columns_of, rows_of
from lapwing.export.export_files import check_target, whole_file
from producer.files.times import ALLOWED, parse_time
from shared.batch import Batch
from shared.encode.results import decode_result
from shared.errors import ConfigError
from shared.kafka import Reader
from shared.registry import Registry
from shared.settings import Settings

PROGRESS_S = 5.0


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported.

    name  : anomalies, scores or incidents
    since : least event time (of incidents: start), None = no limit
    until : first event time that is left out
    """

    name: str
    to: Path
    since: str | None = None
    until: str | None = None


@dataclass(slots=True)
class Exported:
    """Counts of an export; skipped: records that could not be decoded."""

    records: int = 0
    rows: int = 0
    skipped: int = 0


def export(
    settings: Settings, options: ExportOptions, out: TextIO | None = None, err: TextIO | None = None
) -> Exported:
    """Write a file; return what it holds.

    raises : ConfigError for a target or a time that is not allowed; TransportError, TopicMismatch
    """
    check_target(options.to)
    since_ms, until_ms = _limit("--since", options.since), _limit("--until", options.until)
    kind = KINDS[options.name]
    columns = columns_of(kind)
    count, shown_s = Exported(), time.monotonic()
    with whole_file(options.to, columns) as writer:
        for records in _records(settings, options.name, count):
            kept = [
                record
                for record in records
                if (since_ms is None or record[kind.time] >= since_ms)
                and (until_ms is None or record[kind.time] < until_ms)
            ]
            rows = [row for record in kept for row in rows_of(kind, columns, record)]
            writer.write(rows)
            count.records += len(kept)
            count.rows += len(rows)
            if time.monotonic() - shown_s >= PROGRESS_S:
                shown_s = time.monotonic()
                (err or sys.stderr).write(f"{count.records:,} records\n")
    left_out = f"; {count.skipped:,} could not be decoded" if count.skipped else ""
    (out or sys.stdout).write(
        f"{count.records:,} {options.name} in {count.rows:,} rows: {options.to}{left_out}\n"
    )
    return count


def _records(settings: Settings, name: str, count: Exported) -> Iterator[list[Record]]:
    """Yield decoded records in blocks; of an incident only the newest record."""
    topics = settings.topics
    topic = {
        "anomalies": topics.anomalies,
        "scores": topics.scores,
        "incidents": topics.incidents,
    }[name]
    batches = Reader(settings).read(topic)
    decode = RecordDecoder(Registry(settings.registry), KINDS[name], count)
    if name != "incidents":
        yield from map(decode, batches)
        return
    newest: dict[str, Record] = {}
    for batch in batches:
        for row in range(len(batch)):
            newest.pop(batch.keys[row].decode("utf-8", "replace"), None)  # if it has no value, too
            newest |= {one["incident_id"]: one for one in decode(batch.rows(row, row + 1))}
    yield sorted(newest.values(), key=lambda one: (one["start"], one["incident_id"]))


class RecordDecoder:
    """Decodes batches by the writer schemas, with where each record lies in its topic."""

    def __init__(self, registry: Registry, kind: Kind, count: Exported) -> None:
        self._registry = registry
        self._required = kind.time
        self._count = count

    def __call__(self, batch: Batch) -> list[Record]:
        """Return the records of a batch that can be decoded."""
        found: list[Record] = []
        for row in range(len(batch)):
            value = batch.values[row]
            if not value:
                continue
            record = self._decoded(value)
            if record is None:
                self._count.skipped += 1
                continue
            record["topic_partition"] = batch.partition
            record["topic_offset"] = int(batch.offsets[row])
            record["written_at"] = int(batch.broker_ms[row])
            found.append(record)
        return found

    def _decoded(self, value: bytes) -> dict[str, Any] | None:
        try:
            record = decode_result(value, self._registry.schema)
        except ValueError:
            return None
        return record if self._required in record else None


def _limit(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    time_ms = parse_time(text)
    if time_ms is None:
        raise ConfigError(f"{option} {text}: {ALLOWED}")
    return time_ms
