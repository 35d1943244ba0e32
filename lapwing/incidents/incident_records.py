"""Records of the anomalies topic, decoded, and of the incidents topic, encoded.

Invariant: a record of the anomalies topic that cannot be read is skipped by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

import schemas
from shared.batch import Batch, Blob, Outgoing
from shared.encode.records import schema_id_of
from shared.encode.results import Schema, decode_result, encode_results
from shared.incidents.fold import Changed
from shared.incidents.occurrence import Occurrence, Skipped, occurrence_of
from shared.operations.counters import INCIDENT_RECORDS_SKIPPED, Counters

log = structlog.get_logger()


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
            return occurrence_of(decode_result(value, self._schema))
        except ValueError as error:
            return Skipped("unreadable", str(error))


def outgoing(topic: str, changes: Sequence[Changed], schema_id: int | None) -> Outgoing:
    """Encode changes in order; a deleted incident becomes a tombstone.

    schema_id : None = as JSON
    """
    text = schemas.text(schemas.INCIDENT)
    values = [
        b"" if one.incident is None else encode_results(text, schema_id, [one.incident.record()])[0]
        for one in changes
    ]
    keys = [one.incident_id.encode() for one in changes]
    return Outgoing(topic, Blob.join(values), Blob.join(keys))
