"""What the records of the incidents topic say, read back.

Invariant: what compaction has not removed yet does not count: the newest record of each incident
does, and none after its tombstone. A record that cannot be read is an error that names its offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.batch import Batch
from shared.encode.results import Schema, decode_result
from shared.errors import LapwingError, NewerVersion
from shared.incidents.incident import Incident


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
        return decode_result(batch.values[row], schema)
    except ValueError as error:
        raise LapwingError(
            f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])} cannot be read: {error}"
        ) from error
