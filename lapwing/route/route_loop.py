"""The loop of the route service: poll source records, make events of their rows, send, commit.

Invariant: the events and dead letters of some source records, and the positions after them, become
visible together or not at all. There is no other state: after a failed commit, the records are read
again from the committed positions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from lapwing.route.route_letters import RefusalLog, RefusedRecord, letters, sentence
from lapwing.route.row_router import Routed, RowRouter
from shared.batch import Batch, Blob, Outgoing, Position
from shared.errors import (
    GuardError,
    ProducerFenced,
    TopicRecreated,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.operations.counters import (
    COMMITS,
    CONSUMER_LAG,
    DEAD_LETTERS,
    EVENTS_CONSUMED,
    REBALANCES,
    ROUTED_ROWS,
    Counters,
)
from shared.operations.failpoints import failpoint
from shared.operations.retry import Outage
from shared.operations.transactions import failures_abort
from shared.ports import Sink, Source

log = structlog.get_logger()

MAX_RECORDS = 500
POLL_S = 0.2
LONGEST_POLL_S = 1.0
CHUNK_ROWS = 20_000
"""Events that are made before they are sent."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class RouteTopics:
    """Where rows come from and go to.

    source_id       : changes when the source is recreated; "" = not known
    max_value_bytes : longer values of dead letters are truncated
    """

    source: str
    target: str
    dead_letters: str
    source_id: str
    group: str
    max_value_bytes: int

    def metadata(self) -> str:
        """Return what is committed with a position."""
        return json.dumps({"v": _VERSION, "source": self.source_id}, separators=(",", ":"))

    def check(self, partition: int, position: Position) -> None:
        """Check that a position was committed for this very topic.

        raises : TopicRecreated; GuardError where the metadata is not Lapwing's
        """
        if not position.metadata:
            return
        try:
            found = str(json.loads(position.metadata)["source"])
        except (ValueError, KeyError, TypeError) as error:
            raise GuardError(
                f"group {self.group} has a position in {self.source}[{partition}] that the route"
                " service did not commit; name another route.group"
            ) from error
        if found and self.source_id and found != self.source_id:
            raise TopicRecreated(
                f"{self.source} was deleted and recreated since group {self.group} committed its"
                " position; to route what it holds now, name another route.group"
            )


@dataclass(frozen=True, slots=True)
class RouteDependencies:
    """Everything outside that the loop uses.

    open_sink : opens a sink, which fences earlier ones of the same identity and aborts their open
                transaction
    clock     : monotonic seconds
    """

    source: Source
    open_sink: Callable[[], Sink]
    router: RowRouter
    clock: Callable[[], float]
    sleep: Callable[[float], None]


@dataclass(slots=True)
class _Pending:
    """What the open transaction holds.

    began_s : when its first record was taken; None = nothing is open
    letters : (code, coordinates, sentence) of its dead letters
    """

    began_s: float | None = None
    positions: dict[int, Position] = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    letters: list[tuple[str, str, str]] = field(default_factory=list)


class RouteLoop:
    """Routes the assigned partitions; the RebalanceListener of its own source."""

    def __init__(
        self,
        dependencies: RouteDependencies,
        topics: RouteTopics,
        commit_interval_s: float,
        counters: Counters,
        outage: Outage,
    ) -> None:
        self.dependencies = dependencies
        self.topics = topics
        self.counters = counters
        self.outage = outage
        self.refusals = RefusalLog(topics.dead_letters, dependencies.clock)
        self._interval_s = commit_interval_s
        self._sink = dependencies.open_sink()
        self._next: dict[int, int] = {}
        self._held: list[Batch] = []
        self._pending = _Pending()
        self._broken = False
        self._in_doubt = False

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Run until a request to stop; then commit and leave the group.

        raises : ProducerFenced, GuardError, ConfigError; TransportError when an outage outlasts
                 outage_deadline_s
        """
        self.dependencies.source.subscribe(self)
        try:
            while not should_stop():
                self.step()
            self._commit_last()
        finally:
            self.refusals.log_due(last=True)
            self.dependencies.source.close()
            self._sink.close()

    def step(self) -> None:
        """Poll once, route the records, and commit when it is due."""
        self.outage.step()
        self.refusals.log_due()
        try:
            if self._broken:
                self._recover()
            self._take_all(self._poll())
            if self._due_in_s() == 0.0:
                self._commit()
            if not self._held:
                self.outage.succeeded()
        except (TransactionAborted, TransactionInDoubt) as error:
            self.outage.suspect(error)
            self._invalidate(str(error), in_doubt=isinstance(error, TransactionInDoubt))
        except ProducerFenced:
            raise
        except TransportError as error:
            self.outage.failed(error)
            self.dependencies.sleep(self.outage.pause_s)

    def reason(self) -> str:
        """Return why the service is not ready; empty when it is."""
        if outage := self.outage.reason():
            return outage
        if not self._next:
            return f"other instances own all partitions of {self.topics.source}: this is on standby"
        return ""

    # -- ownership ---------------------------------------------------------------------------------

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over partitions at their committed positions; see RebalanceListener."""
        for partition, position in committed.items():
            offset = start[partition]
            if position is not None:
                self.topics.check(partition, position)
                if position.offset < offset:
                    log.warning(
                        "records were deleted before they were routed",
                        topic=self.topics.source,
                        partition=partition,
                        from_offset=position.offset,
                        to_offset=offset,
                    )
                offset = max(offset, position.offset)
            self._next[partition] = offset
            self.counters.add(REBALANCES, 1, "assigned")
            log.info("partition taken over", partition=partition, from_offset=offset)
        failpoint("in_takeover")
        return {partition: self._next[partition] for partition in committed}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Commit the open transaction, then release partitions; see RebalanceListener."""
        failpoint("in_revoke")
        try:
            if not self._broken:
                self._commit()
        except ProducerFenced:
            raise
        except TransportError as error:
            self._invalidate(str(error), in_doubt=True)
        self._drop(partitions, "revoked")

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop partitions that another member owns already; see RebalanceListener."""
        self._drop(partitions, "lost")
        self._invalidate("partitions lost", in_doubt=False)

    def _drop(self, partitions: Sequence[int], how: str) -> None:
        for partition in partitions:
            self._next.pop(partition, None)
            self.counters.add(REBALANCES, 1, how)
            self.counters.forget(CONSUMER_LAG, self.topics.source, partition)
        self._held = [batch for batch in self._held if batch.partition not in partitions]
        log.info("partitions released", partitions=sorted(partitions))

    # -- records -----------------------------------------------------------------------------------

    def _poll(self) -> list[Batch]:
        source = self.dependencies.source
        if not self._held:
            due_in_s = self._due_in_s()
            wait_s = POLL_S if due_in_s is None else min(due_in_s, LONGEST_POLL_S)
            return source.poll(MAX_RECORDS, wait_s)
        new = source.poll(MAX_RECORDS, self.outage.pause_s)  # paused: it keeps the membership
        held, self._held = self._held, []
        return held + new

    def _take_all(self, batches: Sequence[Batch]) -> None:
        if self._broken:  # partitions were lost in this poll: all is read again
            return
        for number, batch in enumerate(batches):
            try:
                self._take(batch)
            except (TransactionAborted, TransactionInDoubt, ProducerFenced):
                raise
            except TransportError as error:  # of the registry: nothing of the batch was sent
                self._held = list(batches[number:])
                self.dependencies.source.pause()
                self.outage.failed(error)
                return
        self.dependencies.source.resume()

    def _take(self, batch: Batch) -> None:
        """Route a batch in chunks; what of it was sent is not taken again."""
        row = int(batch.offsets.searchsorted(self._next.get(batch.partition, _AT_THE_END)))
        failpoint("after_poll")
        while row < len(batch):
            row = self._take_chunk(batch, row)

    def _take_chunk(self, batch: Batch, row: int) -> int:
        """Route records from a row on until there are CHUNK_ROWS events; return the row after."""
        routed, refused = Routed(), list[RefusedRecord]()
        first = row
        while row < len(batch) and len(routed.values) < CHUNK_ROWS:
            refusals = self.dependencies.router.route(batch.values[row], routed)
            if refusals is not None:
                refused.append(RefusedRecord(row, refusals))
            row += 1
        failpoint("after_process")
        self._send(batch, routed, refused)
        failpoint("after_produce")
        self._note(batch, first, row, routed)
        return row

    def _send(self, batch: Batch, routed: Routed, refused: Sequence[RefusedRecord]) -> None:
        """Send events and dead letters."""
        topics, decoder = self.topics, self.dependencies.router.decoder
        if self._pending.began_s is None:
            self._pending.began_s = self.dependencies.clock()
        with failures_abort():
            if routed.values:
                values, keys = Blob.join(routed.values), Blob.join(routed.keys)
                self._sink.send(Outgoing(topics.target, values, keys))
            if refused:
                self._sink.send(
                    letters(
                        topics.dead_letters,
                        batch,
                        refused,
                        decoder,
                        topics.group,
                        topics.max_value_bytes,
                    )
                )
        for one in refused:
            place = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[one.row])}"
            self._pending.letters.append((one.code, place, sentence(one.refusals, decoder)))

    def _note(self, batch: Batch, first: int, stop: int, routed: Routed) -> None:
        """Add a chunk to what the open transaction holds."""
        pending, partition = self._pending, batch.partition
        offset = int(batch.offsets[stop - 1]) + 1
        self._next[partition] = offset
        pending.positions[partition] = Position(offset, self.topics.metadata())
        pending.records[partition] = pending.records.get(partition, 0) + stop - first
        results = {
            "routed": routed.rows - routed.refused - routed.left_out,
            "refused": routed.refused,
            "left_out": routed.left_out,
        }
        for name, count in results.items():
            pending.rows[name] = pending.rows.get(name, 0) + count

    # -- transactions ------------------------------------------------------------------------------

    def _due_in_s(self) -> float | None:
        began_s = self._pending.began_s
        if began_s is None:
            return None
        return max(0.0, began_s + self._interval_s - self.dependencies.clock())

    def _commit(self) -> None:
        """Commit the open transaction, if there is one."""
        pending = self._pending
        if not pending.positions:
            return
        with failures_abort():
            self._sink.commit(pending.positions)
        self._pending = _Pending()
        self._report(pending)

    def _commit_last(self) -> None:
        try:
            if not self._broken:
                self._commit()
        except ProducerFenced:
            raise
        except TransportError as error:
            log.warning(
                "shut down without committing, records will be routed again", error=str(error)
            )

    def _report(self, pending: _Pending) -> None:
        topic = self.topics.source
        self.counters.add(COMMITS, 1, "committed")
        for partition, count in pending.records.items():
            self.counters.add(EVENTS_CONSUMED, count, topic, partition)
        for result, count in pending.rows.items():
            self.counters.add(ROUTED_ROWS, count, result)
        for code, place, why in pending.letters:
            self.counters.add(DEAD_LETTERS, 1, code)
            self.refusals.note(code, place, why)
        for partition, end in self.dependencies.source.ends().items():
            if partition in self._next:
                lag = max(0, end - self._next[partition])
                self.counters.set(CONSUMER_LAG, lag, topic, partition)

    # -- failures ----------------------------------------------------------------------------------

    def _invalidate(self, why: str, *, in_doubt: bool) -> None:
        """Drop what was sent since the last commit; it is read again."""
        log.warning("transaction in doubt" if in_doubt else "transaction dropped", because=why)
        self.counters.add(COMMITS, 1, "undecided" if in_doubt else "aborted")
        self._pending = _Pending()
        self._held.clear()
        self._broken = True
        self._in_doubt = self._in_doubt or in_doubt

    def _recover(self) -> None:
        """Abort the open transaction, then read on from the committed positions."""
        if self._in_doubt:
            self._sink.close()
            self._sink = self.dependencies.open_sink()
            self._in_doubt = False
        else:
            self._sink.abort()
        self.dependencies.source.resume()
        self.dependencies.source.rewind()
        self._broken = False


_AT_THE_END = 2**63 - 1
"""Next offset of a partition that is not owned: none of its records is taken."""
