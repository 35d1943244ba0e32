"""A member of a consumer group that returns batches and reports rebalances to a listener.

Invariant: no record is lost between the client and the caller. A rebalance callback never raises,
because the client would discard the records that it has just read; failures and new partitions are
handled after the client's call has returned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from shared.batch import Batch, Position
from shared.errors import ProducerFenced, TransportError
from shared.kafka.client import LOG, topic_partition_of, translate
from shared.kafka.engine import engine_of
from shared.kafka.engine.port import ClientError, Engine
from shared.kafka.held import HeldRecords
from shared.kafka.member import Member
from shared.kafka.takeover import Takeover
from shared.ports import RebalanceListener
from shared.settings import Settings

SLICE_S = 0.1
"""Length of one wait of the client, which cannot be interrupted."""

CHECK_AFTER_SESSIONS = 1.5
"""Session timeouts after a rebalance until a member checks for unassigned partitions."""

REJOIN_AFTER_SESSIONS = 4.0
"""Session timeouts after a rebalance until a member that owns partitions rejoins for them."""

REFUSED_S = 1.0
"""Time after which a member that the group does not admit joins again."""

REJOIN_S = 60.0
"""Time after the loss of its partitions, or of a broker, in which a member may fence itself."""


class GroupSource:
    """``shared.ports.Source`` on a real consumer group.

    group, topic       : default to predict.group and topics.input
    instance_id        : static membership: a member that returns with it gets its partitions
                         without a rebalance
    session_timeout_ms : default predict.session_timeout_ms; six heartbeats are sent in this time
    protocol           : "classic" (cooperative-sticky) or "consumer" (KIP-848, which the embedded
                         broker needs, and where the broker decides about session timeouts);
                         default: kafka.group.protocol, else classic
    engine             : the client library
    gather_s           : a poll waits for more records for this long after its first one, less the
                         time since the poll before, but not beyond its own end, nor once it is full
    raises             : ConfigError
    """

    def __init__(
        self,
        settings: Settings,
        group: str | None = None,
        topic: str | None = None,
        *,
        instance_id: str | None = None,
        session_timeout_ms: int | None = None,
        protocol: str | None = None,
        engine: Engine | None = None,
        gather_s: float = 0.0,
    ) -> None:
        self._member = Member(
            settings,
            group or settings.predict.group,
            topic or settings.topics.input,
            engine or engine_of(settings),
            instance_id=instance_id,
            session_timeout_ms=session_timeout_ms,
            protocol=protocol,
            gather_s=gather_s,
        )
        self.topic = self._member.topic
        self.group = self._member.group
        self.address = self._member.address
        self._listener: RebalanceListener | None = None
        self._announced: set[int] = set()
        self._owned: set[int] = set()
        self._takeover = Takeover(self._member)
        self._held = HeldRecords()
        self._gather_s = gather_s
        self._fetched_s = -math.inf
        self._has_lost_partitions = False
        self._failure: BaseException | None = None
        self._error: ClientError | None = None
        self._paused = False
        self._closed = False
        self._lost_s = -REJOIN_S
        self._rejoined_s = -REJOIN_S
        self._check_s = math.inf
        self._may_rejoin_s = math.inf
        self._is_refused = False

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; see Source."""
        self._listener = listener
        self._member.join(_Events(self))

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return records that have arrived; see Source.

        raises : TransportError, ProducerFenced (another process has the group.instance.id),
                 HistoryGone, TopicMismatch, and whatever the listener raised. The next call retries
                 a takeover that failed.
        """
        deadline = time.monotonic() + timeout_s
        self._check_unassigned()
        while True:
            failure = self._take_over_if_due()
            remaining_s = deadline - time.monotonic()
            batches = self._receive(max_records, max(0.0, min(SLICE_S, remaining_s)))
            if batches:
                self._member.note_records()
                return batches
            if time.monotonic() >= deadline and not self._takeover.is_new:
                if failure is not None:
                    raise failure
                self._member.probe(
                    has_partitions=bool(self._owned),
                    is_taking_over=bool(self._takeover.pending),
                )
                return []

    def seek(self, partition: int, offset: int) -> None:
        """Continue reading at an offset; see Source.

        raises : TransportError, ValueError for a partition that is not owned
        """
        if partition not in self._owned:
            raise ValueError(
                f"cannot seek in {self.topic}[{partition}]: this member does not own it"
            )
        self._stop([partition])
        self._start({partition: offset})

    def rewind(self) -> None:
        """Take over every owned partition again; see Source."""
        owned = sorted(self._owned)
        self._stop(owned)
        self._takeover.restart(owned)
        failure = self._take_over_if_due()
        if failure is not None:
            raise failure

    def ends(self) -> Mapping[int, int]:
        """Return the ends of owned partitions; see Source.

        Paused ones are queried, because nothing is fetched from them.
        """
        if self._paused:
            self._member.ends.query(self._owned)
        return self._member.known_ends(self._owned)

    def pause(self) -> None:
        """Return no records from ``poll``, which keeps the membership alive.

        Partitions that are assigned meanwhile are paused as well.
        """
        if not self._paused:
            self._paused = True
            self._member.pause(self._owned)

    def resume(self) -> None:
        """Return records again after ``pause``."""
        if self._paused:
            self._paused = False
            self._member.resume(self._owned)

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions with their metadata outside any transaction, and wait for the answer.

        raises : TransportError, after which it is unknown whether they were committed
        """
        if positions:
            self._member.commit(positions)

    def group_metadata(self) -> bytes:
        """Return the current membership, for the positions of a transaction.

        raises : TransactionAborted when this process is no longer a member: the broker would accept
                 such a commit unchecked
        """
        return self._member.membership()

    def close(self) -> None:
        """Leave the group; a static member only stops its heartbeats.

        The listener is not called: its caller has committed before.
        """
        if not self._closed:
            self._closed = True
            self._held.clear()
            self._member.close()

    # -- called by the client, from within fetch() or close() --------------------------------------

    def _assigned(self, partitions: Sequence[int]) -> None:
        self._is_refused = False
        self._takeover.add(partitions)
        now_s = time.monotonic()
        self._check_s = now_s + CHECK_AFTER_SESSIONS * self._member.session_s
        self._may_rejoin_s = now_s + REJOIN_AFTER_SESSIONS * self._member.session_s
        self._guarded(lambda: self._member.start({}))

    def _release(self, partitions: Sequence[int], *, lost: bool) -> None:
        released = set(partitions)
        if lost:
            self._lost_s = time.monotonic()
        self._notify(released, lost=lost)
        started = released & self._owned
        self._takeover.forget(released)
        self._owned -= released
        self._member.ends.forget(released)
        self._has_lost_partitions = True
        self._guarded(lambda: self._member.stop(started))

    def _notify(self, released: set[int], *, lost: bool) -> None:
        """Notify the listener about the released partitions that it has taken over before."""
        announced = sorted(released & self._announced)
        self._announced -= released
        if announced and self._listener and not self._closed:
            callback = self._listener.lost if lost else self._listener.revoked
            self._guarded(lambda: callback(announced))

    def _guarded(self, call: Callable[[], object]) -> None:
        """Make a call whose error poll() raises later."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - _receive raises it, also KeyboardInterrupt
            self._failure = self._failure or error

    # -- inside ------------------------------------------------------------------------------------

    def _receive(self, max_records: int, wait_s: float) -> list[Batch]:
        """Return batches of owned partitions, held records first."""
        self._note_errors(self._fetch(max_records, wait_s))
        if self._has_lost_partitions:
            self._has_lost_partitions = False
            self._held.keep(self._owned)
        failure, self._failure = self._failure, None
        error = self._error
        if failure is None and error is not None:
            self._error = None
            if refusal := self._member.refusal(error):
                self._rejoin_after_refusal(refusal)
            failure = self._translated(error)
            if isinstance(failure, ProducerFenced):
                self._rejoin_after_fencing(failure)
                return []
        if failure is not None:
            raise failure
        return [] if self._paused else self._held.take(max_records)

    def _fetch(self, max_records: int, wait_s: float) -> Sequence[ClientError]:
        """Add records that have arrived to the held ones; return the errors that came with them."""
        gather_s = self._gather_s
        if self._paused:
            max_records, gather_s = 1, 0.0
        elif self._held:
            max_records -= len(self._held)
            wait_s = 0.0
        if max_records <= 0:
            return ()
        # Since the last fetch records may have waited for this one.
        gather_s = max(0.0, gather_s - (time.monotonic() - self._fetched_s))
        fetched = self._member.fetch(max_records, wait_s, gather_s)
        self._fetched_s = time.monotonic()
        self._held.add(fetched.batches)
        return fetched.errors

    def _note_errors(self, errors: Sequence[ClientError]) -> None:
        """Keep the first error, or one that has made the client unusable.

        The client reports that once, perhaps with other errors or with a failure of the listener.
        """
        for error in errors:
            if self._error is None or self._member.is_final(error):
                self._error = error

    def _translated(self, error: ClientError) -> BaseException:
        return translate(
            error, f"reading {topic_partition_of(error, self.topic)} of {self.address}"
        )

    def _rejoin_after_fencing(self, fenced: ProducerFenced) -> None:
        """Join again where this member has fenced itself.

        That happens when it was not polled between the end of its session and the broker's return
        (``Member.has_expired``), or when a request under its old member id arrives after one under
        the new id; the latter is told from a second process by an outage only.

        raises : the same ProducerFenced where neither explains it, or where an outage has explained
                 an earlier one already: then a second process has the same instance id
        """
        now_s = time.monotonic()
        has_expired = self._member.has_expired()
        if self._closed or not (has_expired or self._has_had_outage(now_s)):
            raise fenced
        LOG.warning(
            "group %s fenced this member %s, as if a second process had its instance id; rejoining",
            self.group,
            "after the end of its session" if has_expired else "after an outage",
        )
        self._rejoined_s = now_s
        self._leave_and_join(0.0)

    def _has_had_outage(self, now_s: float) -> bool:
        """Return whether there was an outage lately that has not explained a fencing yet."""
        disconnected_s = self._member.errors.outage_s
        outage_s = max(self._lost_s, disconnected_s)
        is_recent = now_s < self._rejoined_s + REJOIN_S
        is_repeated = is_recent and disconnected_s <= self._rejoined_s
        return now_s < outage_s + REJOIN_S and not is_repeated

    def _rejoin_after_refusal(self, refusal: TransportError) -> NoReturn:
        """Join again after a while; say what is waited for, once.

        raises : the refusal
        """
        if not self._closed:
            if not self._is_refused:
                LOG.warning("%s; joining again until then", refusal)
            self._is_refused = True
            self._leave_and_join(REFUSED_S)
        raise refusal

    def _check_unassigned(self) -> None:
        """Trigger a rebalance where a partition has been left without an owner.

        A static member that dies after it has revoked partitions, and before it has reported that
        to the group, rejoins without a rebalance. The revoked partitions then have no owner until
        some member joins or leaves. So a member of the last rebalance leaves for a while; one
        without partitions does so first.
        """
        now_s = time.monotonic()
        if now_s < self._check_s or self._closed:
            return
        self._check_s = math.inf
        unassigned = self._member.unassigned()
        if not unassigned:
            return
        if self._announced and now_s < self._may_rejoin_s:
            self._check_s = self._may_rejoin_s
            return
        LOG.warning(
            "%s: no member of group %s owns partitions %s; this member leaves and rejoins to"
            " trigger a rebalance",
            self.topic,
            self.group,
            unassigned,
        )
        self._leave_and_join(self._member.session_s + 1.0 if self._member.is_static else 0.0)

    def _leave_and_join(self, pause_s: float) -> None:
        """Leave the group and join it again.

        pause_s : wait between the two; a static member is only removed once its session has expired
        """
        self._notify(set(self._announced), lost=True)
        self._member.ends.forget(self._owned)
        self._owned.clear()
        self._takeover.clear()
        self._held.clear()
        self._member.close()
        self._error = None
        time.sleep(pause_s)
        self._member.renew()
        self._member.join(_Events(self))

    def _take_over_if_due(self) -> TransportError | None:
        """Take over new partitions; return the error of the last attempt that failed.

        Owned partitions are read meanwhile.
        """
        takeover = self._takeover
        if not takeover.pending or self._listener is None or self._closed:
            return None
        if not takeover.is_due or not takeover.attempt(self._listener, self._start):
            return takeover.failure
        self._member.note_answer()
        self._announced |= takeover.pending
        takeover.clear()
        return None

    def _start(self, offsets: Mapping[int, int]) -> None:
        self._member.start(offsets)
        self._owned.update(offsets)
        if self._paused:
            self._member.pause(offsets)

    def _stop(self, partitions: Iterable[int]) -> None:
        partitions = set(partitions)
        self._held.drop(partitions)
        if partitions:
            self._member.stop(partitions)
        self._owned -= partitions


class _Events:
    """``shared.kafka.engine.port.GroupEvents`` of a source."""

    def __init__(self, source: GroupSource) -> None:
        self._source = source

    def assigned(self, partitions: Sequence[int]) -> None:
        """Note new partitions."""
        self._source._assigned(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Release partitions."""
        self._source._release(partitions, lost=False)

    def lost(self, partitions: Sequence[int]) -> None:
        """Release partitions that another member owns already."""
        self._source._release(partitions, lost=True)
