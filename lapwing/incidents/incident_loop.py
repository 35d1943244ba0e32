"""The loop of the incidents service: poll anomalies, fold, send, commit.

Invariant: the changes of some anomalies and the position after them become visible together or not
at all. The state is that of committed records: after a failed commit, and whenever the partition is
taken over, it is read back from the incidents topic.

One transactional.id serves all instances, and it is opened when the partition is taken over, before
the state is read: that fences the former owner, ends its open transaction and waits until the
markers of its last one are written, so that no committed record is missing from the state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from lapwing.incidents.incident_records import AnomalyRecords, outgoing
from shared.batch import Batch, Position
from shared.errors import (
    GuardError,
    ProducerFenced,
    TopicRecreated,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.incidents.fold import Changed, IncidentFold, Place
from shared.incidents.grouping import Rules
from shared.incidents.incident import Incident
from shared.operations.counters import (
    COMMITS,
    INCIDENT_CHANGES,
    INCIDENTS_OPEN,
    REBALANCES,
    Counters,
)
from shared.operations.failpoints import failpoint
from shared.operations.retry import Outage
from shared.operations.transactions import failures_abort
from shared.ports import Sink, Source

log = structlog.get_logger()

MAX_RECORDS = 500
POLL_S = 0.2
PARTITION = 0
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Topics:
    """The two topics, with the ids that change when one is recreated; "" = not known."""

    anomalies: str
    incidents: str
    anomalies_id: str
    incidents_id: str
    group: str

    def metadata(self) -> str:
        """Return what is committed with a position."""
        ids = {"v": _VERSION, "anomalies": self.anomalies_id, "incidents": self.incidents_id}
        return json.dumps(ids, separators=(",", ":"))

    def check(self, position: Position) -> None:
        """Check that a position was committed for these very topics.

        raises : TopicRecreated; GuardError where the metadata is not Lapwing's
        """
        if not position.metadata:
            return
        try:
            ids = json.loads(position.metadata)
            found = {name: str(ids[name]) for name in ("anomalies", "incidents")}
        except (ValueError, KeyError, TypeError) as error:
            raise GuardError(
                f"group {self.group} has a position in {self.anomalies} that the incidents service"
                " did not commit; name another incidents.group"
            ) from error
        for topic, present, before in (
            (self.anomalies, self.anomalies_id, found["anomalies"]),
            (self.incidents, self.incidents_id, found["incidents"]),
        ):
            if present and before and present != before:
                raise TopicRecreated(
                    f"{topic} was deleted and recreated since group {self.group} committed its"
                    " position. To fold the anomalies that are still kept once more, name another"
                    " incidents.group (and, if the incidents topic was kept, another"
                    " topics.incidents)"
                )


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the loop uses.

    open_sink  : opens a sink, which fences the one before
    read_state : reads the incidents back
    """

    source: Source
    open_sink: Callable[[], Sink]
    read_state: Callable[[], list[Incident]]
    records: AnomalyRecords
    sleep: Callable[[float], None]


class IncidentLoop:
    """Folds the anomalies topic; the RebalanceListener of its own source."""

    def __init__(
        self,
        dependencies: Dependencies,
        topics: Topics,
        rules: Rules,
        schema_id: int | None,
        counters: Counters,
        outage: Outage,
    ) -> None:
        self.dependencies = dependencies
        self.topics = topics
        self.rules = rules
        self.schema_id = schema_id
        self.counters = counters
        self.outage = outage
        self.fold: IncidentFold | None = None
        self._sink: Sink | None = None
        self._held: list[Batch] = []
        self._broken = False
        self._first_offset = 0

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Run until a request to stop, then leave the group.

        raises : ProducerFenced, GuardError; TransportError when an outage outlasts
                 outage_deadline_s
        """
        self.dependencies.source.subscribe(self)
        try:
            while not should_stop():
                self.step()
        finally:
            self.dependencies.source.close()
            self._drop()

    def step(self) -> None:
        """Poll once, fold the records, commit."""
        self.outage.step()
        try:
            if self._broken:
                self._recover()
            for batch in self._poll():
                self._take(batch)
            if not self._held:
                self.outage.succeeded()
        except (TransactionAborted, TransactionInDoubt) as error:
            self.outage.suspect(error)
            self._invalidate(error, in_doubt=isinstance(error, TransactionInDoubt))
        except ProducerFenced:
            raise
        except TransportError as error:
            self.outage.failed(error)
            self.dependencies.sleep(self.outage.pause_s)

    def reason(self) -> str:
        """Return why the service is not ready; empty when it is."""
        if outage := self.outage.reason():
            return outage
        if self.fold is None:
            return "another instance owns the anomalies topic: this one is on standby"
        return ""

    # -- ownership ---------------------------------------------------------------------------------

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over the partition; see RebalanceListener."""
        if self._sink is None:
            self._sink = self.dependencies.open_sink()
        position = committed[PARTITION]
        if position is not None:
            self.topics.check(position)
        self.fold = IncidentFold(self.rules, self.dependencies.read_state())
        failpoint("in_takeover")
        # Without a position, the state tells how far it goes: its newest record is read again.
        offset = self.fold.last_offset if position is None else position.offset
        self._first_offset = max(offset, self.fold.last_offset)
        if offset < start[PARTITION]:
            if position is not None:
                log.warning(
                    "anomalies were deleted before they were read; their incidents may be missing",
                    topic=self.topics.anomalies,
                    from_offset=offset,
                    to_offset=start[PARTITION],
                )
            offset = start[PARTITION]
        self.counters.add(REBALANCES, 1, "assigned")
        self.counters.set(INCIDENTS_OPEN, self.fold.open_count)
        log.info(
            "anomalies taken over",
            from_offset=offset,
            incidents=len(self.fold.incidents),
            open=self.fold.open_count,
        )
        return {PARTITION: offset}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Release the partition; all is committed. See RebalanceListener."""
        self.counters.add(REBALANCES, 1, "revoked")
        self._drop()

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop the partition, which another instance owns; see RebalanceListener."""
        self.counters.add(REBALANCES, 1, "lost")
        self._drop()

    def _drop(self) -> None:
        self.fold = None
        self._held.clear()
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    # -- records -----------------------------------------------------------------------------------

    def _poll(self) -> list[Batch]:
        source = self.dependencies.source
        if not self._held:
            return source.poll(MAX_RECORDS, POLL_S)
        source.poll(MAX_RECORDS, self.outage.pause_s)  # paused: it only keeps the membership
        held, self._held = self._held, []
        return held

    def _take(self, batch: Batch) -> None:
        try:
            self.dependencies.records.prepare(batch)
        except TransportError as error:
            self._held = [batch]
            self.dependencies.source.pause()
            self.outage.failed(error)
            return
        self.dependencies.source.resume()
        failpoint("after_poll")
        if self.fold is None or self._sink is None:
            return
        changes = self._fold(self.fold, batch)
        failpoint("after_process")
        position = Position(int(batch.offsets[-1]) + 1, self.topics.metadata())
        self._commit(self._sink, changes, position)
        self._report(changes)

    def _commit(self, sink: Sink, changes: Sequence[Changed], position: Position) -> None:
        """Send changes and commit them; after a failure the fold is ahead, and read back."""
        with failures_abort():
            if changes:
                sink.send(outgoing(self.topics.incidents, changes, self.schema_id))
            failpoint("after_produce")
            sink.commit({PARTITION: position})

    def _fold(self, fold: IncidentFold, batch: Batch) -> list[Changed]:
        changes: list[Changed] = []
        for row, occurrence in enumerate(self.dependencies.records.occurrences(batch)):
            place = Place(int(batch.offsets[row]), int(batch.broker_ms[row]))
            if place.offset >= self._first_offset:
                changes += fold.apply(place, occurrence)
        return changes

    def _report(self, changes: Sequence[Changed]) -> None:
        self.counters.add(COMMITS, 1, "committed")
        for incident_id, incident in changes:
            change = "deleted" if incident is None else incident.change.value
            self.counters.add(INCIDENT_CHANGES, 1, change)
            if incident is not None and change in ("opened", "closed"):
                event = "incident opened" if change == "opened" else "incident closed"
                log.info(event, incident=incident_id, title=incident.title)
        if self.fold is not None:
            self.counters.set(INCIDENTS_OPEN, self.fold.open_count)

    # -- failures ----------------------------------------------------------------------------------

    def _invalidate(self, error: TransportError, *, in_doubt: bool) -> None:
        log.warning(
            "transaction in doubt" if in_doubt else "transaction aborted", because=str(error)
        )
        self.counters.add(COMMITS, 1, "undecided" if in_doubt else "aborted")
        self._broken = True
        self.fold = None
        self._held.clear()
        if in_doubt and self._sink is not None:
            self._sink.close()
            self._sink = None

    def _recover(self) -> None:
        """Abort the open transaction and take the partition over once more."""
        if self._sink is not None:
            self._sink.abort()
        self.dependencies.source.resume()
        self.dependencies.source.rewind()
        self._broken = False
