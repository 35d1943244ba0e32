"""Records of the anomalies and the incidents topic, decoded and encoded.

Invariant: the state that is read back is that of committed records alone. A record of the incidents
topic that cannot be read stops the service; one of the anomalies topic is skipped by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import structlog

import schemas
from shared.batch import Batch, Blob, Outgoing
from shared.encode.records import decode_records, encode_records, schema_id_of
from shared.errors import LapwingError, NewerVersion
from shared.incidents.fold import Changed
from shared.incidents.grouping import Rules
from shared.incidents.incident import Incident
from shared.incidents.occurrence import Occurrence, Skipped, occurrence_of
from shared.kernels.units import DAY_MS
from shared.operations.counters import INCIDENT_RECORDS_SKIPPED, Counters
from shared.settings import IncidentSettings

log = structlog.get_logger()

Schema = Callable[[int], str | None]
"""Returns the schema of a registry id, None if there is none; raises TransportError."""


def rules_of(settings: IncidentSettings) -> Rules:
    """Return the settings in the fold's units."""
    return Rules(
        within_ms=round(settings.group_within_s * 1000),
        prefix=re.compile(settings.entity_prefix),
        shared_metrics=settings.shared_metrics,
        max_episodes=settings.max_episodes,
        keep_ms=round(settings.keep_days * DAY_MS),
        stale_ms=round(settings.stale_days * DAY_MS),
    )


class AnomalyRecords:
    """Decodes records of the anomalies topic."""

    def __init__(self, schema: Schema, counters: Counters) -> None:
        self._schema = schema
        self._counters = counters
        self._logged: set[tuple[str, str]] = set()

    def prepare(self, batch: Batch) -> None:
        """Look up the writer schemas of a batch; raises TransportError."""
        for schema_id in {schema_id_of(batch.values[row]) for row in range(len(batch))}:
            if schema_id is not None:
                self._schema(schema_id)

    def occurrences(self, batch: Batch) -> Iterator[Occurrence | None]:
        """Yield what each record means; None for one that is skipped, which is counted."""
        for row in range(len(batch)):
            found = self._read(batch.values[row])
            if isinstance(found, Occurrence):
                yield found
                continue
            self._counters.add(INCIDENT_RECORDS_SKIPPED, 1, found.code)
            if (found.code, found.text) not in self._logged and len(self._logged) < 100:
                self._logged.add((found.code, found.text))
                log.warning(
                    "anomaly record skipped",
                    because=found.code,
                    what=found.text,
                    topic=batch.topic,
                    offset=int(batch.offsets[row]),
                )
            yield None

    def _read(self, value: bytes) -> Occurrence | Skipped:
        try:
            return occurrence_of(decoded(value, self._schema))
        except ValueError as error:
            return Skipped("unreadable", str(error))


def decoded(value: bytes, schema: Schema) -> Mapping[str, Any]:
    """Decode one record by its writer's schema.

    raises : ValueError that says why it cannot be read
    """
    schema_id = schema_id_of(value)
    text = None if schema_id is None else schema(schema_id)
    if text is None:
        known = (
            "has no schema id" if schema_id is None else f"has the unknown schema id {schema_id}"
        )
        raise ValueError(f"the record {known}")
    return decode_records([value], [text])[0]


def newest_records(batches: Iterable[Batch], schema: Schema) -> dict[str, Mapping[str, Any]]:
    """Return what compaction leaves of the incidents topic: {incident_id: newest record}.

    raises : LapwingError that names the offset of a record that cannot be read
    """
    newest: dict[str, tuple[Batch, int]] = {}
    for batch in batches:
        for row in range(len(batch)):
            key = batch.keys[row].decode("utf-8", "replace")
            newest.pop(key, None)
            if batch.values[row]:
                newest[key] = batch, row
    return {key: _incident_record(*place, schema) for key, place in newest.items()}


def restored(records: Mapping[str, Mapping[str, Any]], topic: str) -> list[Incident]:
    """Return the incidents of their records.

    raises : NewerVersion where this version cannot continue from a record
    """
    incidents = []
    for incident_id, record in records.items():
        try:
            incidents.append(Incident.from_record(record))
        except (ValueError, KeyError, TypeError) as error:
            raise NewerVersion(
                f"{topic}: incident {incident_id} was written by another version: {error!r}; run"
                " that version, or name a new topic (topics.incidents) and a new incidents.group"
            ) from error
    return incidents


def _incident_record(batch: Batch, row: int, schema: Schema) -> Mapping[str, Any]:
    try:
        return decoded(batch.values[row], schema)
    except ValueError as error:
        raise LapwingError(
            f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])} cannot be read: {error}"
        ) from error


def outgoing(topic: str, changes: Sequence[Changed], schema_id: int) -> Outgoing:
    """Encode changes in order; a deleted incident becomes a tombstone."""
    text = schemas.text(schemas.INCIDENT)
    values = [
        b"" if one.incident is None else encode_records(text, schema_id, [one.incident.record()])[0]
        for one in changes
    ]
    keys = [one.incident_id.encode() for one in changes]
    return Outgoing(topic, Blob.join(values), Blob.join(keys))
