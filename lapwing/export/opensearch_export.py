"""``lapwing export opensearch``: results from Kafka into OpenSearch, once or as they arrive.

Invariant: a position is committed once OpenSearch has answered for every record before it, and a
document has the id of its event or incident: nothing is lost and nothing is there twice, whatever
is killed. A record that cannot be written is named with its coordinates and left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import structlog

from lapwing.export.opensearch_client import OpenSearchClient
from lapwing.export.opensearch_documents import Action, action_of, index_of, template_of
from shared.batch import Batch, Position
from shared.encode.results import decode_result
from shared.kafka import GroupSource, Reader
from shared.operations.counters import Counters
from shared.operations.retry import Outage, Retry
from shared.registry import Registry
from shared.settings import Settings

log = structlog.get_logger()

MAX_RECORDS = 1_000
POLL_S = 0.5
SETTLE_S = 1.0


@dataclass(slots=True)
class Written:
    """Counts of an export; refused: records that OpenSearch or Lapwing could not take."""

    records: int = 0
    refused: int = 0


class DocumentWriter:
    """Writes batches of one kind of results into its index."""

    def __init__(
        self, settings: Settings, results: str, client: OpenSearchClient, count: Written
    ) -> None:
        self.topic = _topic_of(settings, results)
        self._results = results
        self._index = index_of(settings.opensearch.index, results)
        self._schema = Registry(settings.registry).schema
        self._client = client
        self._count = count

    def prepare(self, prefix: str) -> None:
        """Create the index template if there is none."""
        if self._client.ensure_template(self._index, template_of(prefix, self._results)):
            log.info("index template created", name=self._index)

    def write(self, batch: Batch) -> None:
        """Write a batch; return when OpenSearch has answered for every record.

        raises : TransportError, ConfigError
        """
        actions = [
            action for row in range(len(batch)) if (action := self._action(batch, row)) is not None
        ]
        for refused in self._client.bulk(actions):
            self._leave_out(refused.action.coordinates, f"HTTP {refused.status}: {refused.why}")
        self._count.records += len(batch)

    def _action(self, batch: Batch, row: int) -> Action | None:
        value = batch.values[row]
        coordinates = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
        if not value and self._results != "incidents":
            return None
        try:
            record = decode_result(value, self._schema) if value else None
            return action_of(self._index, self._results, batch.keys[row], record, coordinates)
        except (ValueError, KeyError) as error:
            self._leave_out(coordinates, str(error))
            return None

    def _leave_out(self, coordinates: str, why: str) -> None:
        self._count.refused += 1
        log.error("record not written to opensearch", record=coordinates, because=why)


class _FromCommitted:
    """Takes partitions at the group's position, or at the start of the log."""

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        return {
            partition: max(position.offset, start[partition]) if position else start[partition]
            for partition, position in committed.items()
        }

    def revoked(self, partitions: Sequence[int]) -> None:
        """Nothing to release: positions are committed after each batch."""

    def lost(self, partitions: Sequence[int]) -> None:
        """Nothing to release."""


def export_once(settings: Settings, out: TextIO | None = None) -> Written:
    """Write all results that are in Kafka now.

    raises : TransportError, TopicMismatch, ConfigError
    """
    count = Written()
    client = OpenSearchClient(settings.opensearch)
    for results in settings.opensearch.results:
        before = count.records
        writer = DocumentWriter(settings, results, client, count)
        writer.prepare(settings.opensearch.index)
        for batch in Reader(settings, max_records=MAX_RECORDS).read(writer.topic):
            writer.write(batch)
        (out or sys.stdout).write(
            f"{count.records - before:,} {results}:"
            f" {index_of(settings.opensearch.index, results)}\n"
        )
    client.close()
    if count.refused:
        (out or sys.stdout).write(f"{count.refused:,} records could not be written; see the log\n")
    return count


def follow(settings: Settings, stopping: Callable[[], bool]) -> None:
    """Write results as they arrive, until a request to stop.

    raises : LapwingError
    """
    outage = Outage(settings.outage_deadline_s, Counters(), settle_s=SETTLE_S)
    retry = Retry(outage, stopping)
    count = Written()
    client = OpenSearchClient(settings.opensearch, stopping)
    parts = []
    for results in settings.opensearch.results:
        writer = DocumentWriter(settings, results, client, count)
        writer.prepare(settings.opensearch.index)
        source = GroupSource(settings, f"{settings.opensearch.group}-{results}", writer.topic)
        source.subscribe(_FromCommitted())
        parts.append((writer, source))
    log.info("exporting", to=settings.opensearch.url, results=list(settings.opensearch.results))
    broker = f"the broker at {settings.bootstrap}"
    try:
        while not stopping():
            for writer, source in parts:
                for batch in retry(partial(_polled, source, len(parts)), broker) or ():
                    writer.write(batch)
                    at = {batch.partition: Position(int(batch.offsets[-1]) + 1)}
                    retry(partial(source.commit, at), broker)
    finally:
        for _, source in parts:
            source.close()
        client.close()
    log.info("shut down cleanly", records=count.records, refused=count.refused)


def _polled(source: GroupSource, sources: int) -> list[Batch]:
    return source.poll(MAX_RECORDS, POLL_S / sources)


def _topic_of(settings: Settings, results: str) -> str:
    topics = settings.topics
    return {
        "anomalies": topics.anomalies,
        "incidents": topics.incidents,
        "scores": topics.scores,
    }[results]
