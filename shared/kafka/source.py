"""A member of a consumer group that hands over batches and tells a listener of every change of
ownership.

Invariant: no record is lost between the client and the caller. Nothing ever raises inside a
rebalance callback (the client would throw away what it had just read): failures and new partitions
wait until the call is over.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.batch import Batch, Position
from shared.errors import ProducerFenced, TransportError
from shared.kafka.client import LOG, place_of, translate
from shared.kafka.engine import engine_of
from shared.kafka.engine.port import ClientError, Engine
from shared.kafka.held import HeldRecords
from shared.kafka.member import Member
from shared.kafka.takeover import Takeover
from shared.ports import RebalanceListener
from shared.settings import Settings

SLICE_S = 0.1
"""The client's own wait cannot be interrupted, so it is cut into slices of this length."""

LOOK_AFTER, LOOK_AGAIN_AFTER = 1.5, 4.0
"""Sessions after a rebalance until a member looks whether a partition was left over; and until one
that has some acts.
"""

REJOIN_S = 60.0
"""How long after it lost its partitions, or a broker, a member may have fenced itself."""


class GroupSource:
    """``shared.ports.Source`` on a real consumer group.

    group, topic       : default to predict.group and topics.input
    instance_id        : static membership; a member that comes back with it gets its partitions
                         without a rebalance
    session_timeout_ms : default predict.session_timeout_ms; heartbeats go out six times as often
    protocol           : "classic" (cooperative-sticky) or "consumer" (KIP-848, which the embedded
                         broker needs, and where the broker alone decides about sessions); default:
                         what kafka.group.protocol says, else classic
    engine             : the client to use
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
    ) -> None:
        self._member = Member(
            settings,
            group or settings.predict.group,
            topic or settings.topics.input,
            engine or engine_of(settings),
            instance_id=instance_id,
            session_timeout_ms=session_timeout_ms,
            protocol=protocol,
        )
        self.topic = self._member.topic
        self.group = self._member.group
        self.address = self._member.address
        self._listener: RebalanceListener | None = None
        self._known: set[int] = set()
        self._owned: set[int] = set()
        self._takeover = Takeover(self._member)
        self._held = HeldRecords()
        self._stale = False
        self._failure: BaseException | None = None
        self._paused = False
        self._closed = False
        self._lost_s = self._rejoined_s = -REJOIN_S
        self._look_s = self._patient_s = math.inf

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; see Source."""
        self._listener = listener
        self._member.join(_Events(self))

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return what has arrived; see Source.

        raises : TransportError, ProducerFenced (another process has the group.instance.id),
                 HistoryGone, TopicMismatch, and whatever the listener raised. After a failed
                 takeover of partitions the next call tries it again.
        """
        deadline = time.monotonic() + timeout_s
        self._look_for_unowned()
        while True:
            refusal = self._try_take_over()
            batches = self._receive(
                max_records, max(0.0, min(SLICE_S, deadline - time.monotonic()))
            )
            if batches:
                self._member.heard()
                return batches
            if time.monotonic() >= deadline and not self._takeover.is_new:
                if refusal is not None:
                    raise refusal
                self._member.probe(owns=bool(self._owned), waits=bool(self._takeover.pending))
                return []

    def seek(self, partition: int, offset: int) -> None:
        """Read on from offset; see Source.

        raises : TransportError, ValueError for a partition that is not owned
        """
        if partition not in self._owned:
            raise ValueError(
                f"{self.topic}[{partition}] is not owned by this member, it cannot seek there"
            )
        self._stop([partition])
        self._start({partition: offset})

    def rewind(self) -> None:
        """Go through ``assigned`` again with every owned partition; see Source."""
        owned = sorted(self._owned)
        self._stop(owned)
        self._takeover.again(owned)
        refusal = self._try_take_over()
        if refusal is not None:
            raise refusal

    def ends(self) -> Mapping[int, int]:
        """Return where owned partitions end; see Source.

        Paused ones are asked about, for nothing is fetched of them.
        """
        if self._paused:
            self._member.ends.ask(self._owned)
        return self._member.known_ends(self._owned)

    def pause(self) -> None:
        """Deliver nothing, also not from partitions that are assigned meanwhile; heartbeats go on
        in ``poll``.
        """
        if not self._paused:
            self._paused = True
            self._member.pause(self._owned)

    def resume(self) -> None:
        """Deliver again after ``pause``."""
        if self._paused:
            self._paused = False
            self._member.resume(self._owned)

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions with their metadata outside any transaction, and wait for the answer.

        raises : TransportError; nobody knows then whether it was committed
        """
        if positions:
            self._member.commit(positions)

    def group_metadata(self) -> bytes:
        """Return the membership as it is now, for the positions of a transaction.

        raises : TransactionAborted when this process is no longer a member: the broker would accept
                 such a commit unchecked
        """
        return self._member.membership()

    def close(self) -> None:
        """Leave the group (a static member only stops).

        The listener is not called: what was to be committed has been.
        """
        if not self._closed:
            self._closed = True
            self._held.clear()
            self._member.close()

    # -- what the client calls, from within fetch() or close() -------------------------------------

    def _assigned(self, partitions: Sequence[int]) -> None:
        self._takeover.add(partitions)
        self._look_s = time.monotonic() + LOOK_AFTER * self._member.session_s
        self._patient_s = time.monotonic() + LOOK_AGAIN_AFTER * self._member.session_s
        self._guarded(lambda: self._member.start({}))

    def _given_up(self, partitions: Sequence[int], *, lost: bool) -> None:
        gone = set(partitions)
        if lost:
            self._lost_s = time.monotonic()
        self._notify(gone, lost=lost)
        started = gone & self._owned
        self._takeover.forget(gone)
        self._owned -= gone
        self._member.ends.forget(gone)
        self._stale = True
        self._guarded(lambda: self._member.stop(started))

    def _notify(self, gone: set[int], *, lost: bool) -> None:
        """Tell the listener about those partitions that it was given."""
        known = sorted(gone & self._known)
        self._known -= gone
        if known and self._listener and not self._closed:
            tell = self._listener.lost if lost else self._listener.revoked
            self._guarded(lambda: tell(known))

    def _guarded(self, call: Callable[[], object]) -> None:
        """Keep what goes wrong for the end of poll()."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - _receive raises it, also KeyboardInterrupt
            self._failure = self._failure or error

    # -- inside ------------------------------------------------------------------------------------

    def _receive(self, max_records: int, wait_s: float) -> list[Batch]:
        """Return batches of owned partitions, from what was held back first."""
        errors = self._fetch(max_records, wait_s)
        if self._stale:
            self._stale = False
            self._held.keep(self._owned)
        failure, self._failure = self._failure, None
        if failure is None and errors:
            failure = self._translated(errors[0])
            if isinstance(failure, ProducerFenced):
                self._rejoin(failure)
                return []
        if failure is not None:
            raise failure
        return [] if self._paused else self._held.take(max_records)

    def _fetch(self, max_records: int, wait_s: float) -> Sequence[ClientError]:
        """Add what has arrived to what is held; return what came with it and is no record."""
        if self._paused:
            max_records = 1
        elif self._held:
            max_records, wait_s = max_records - len(self._held), 0.0
        if max_records <= 0:
            return ()
        fetched = self._member.fetch(max_records, wait_s)
        self._held.add(fetched.batches)
        return fetched.errors

    def _translated(self, error: ClientError) -> BaseException:
        return translate(error, f"reading {place_of(error, self.topic)} of {self.address}")

    def _rejoin(self, fenced: ProducerFenced) -> None:
        """Join anew after an outage in which this member fenced itself: a request under its old id,
        overtaken by the new one.

        raises : the same ProducerFenced where no outage explains it, or when it happens again soon
                 though no broker was missed since: then there is a twin
        """
        missed_s = self._member.errors.outage_s
        now_s, outage_s = time.monotonic(), max(self._lost_s, missed_s)
        again = now_s < self._rejoined_s + REJOIN_S and missed_s <= self._rejoined_s
        if now_s >= outage_s + REJOIN_S or again or self._closed:
            raise fenced
        LOG.warning(
            "group %s took this member for a second one of its name after an outage; it joins"
            " again",
            self.group,
        )
        self._rejoined_s = now_s
        self._join_anew(0.0)

    def _look_for_unowned(self) -> None:
        """See to it that the group shares its partitions out again where one was left over.

        A member with an instance id that died after it had given partitions up, and before it had
        told the group, is let in again without a rebalance; what it had given up is then nobody's
        until somebody joins or leaves. So one of those who were told of their partitions last
        leaves for a while, first of all one that has none.
        """
        now_s = time.monotonic()
        if now_s < self._look_s or self._closed:
            return
        self._look_s = math.inf
        left = self._member.unowned()
        if left and self._known and now_s < self._patient_s:
            self._look_s = self._patient_s
        elif left:
            LOG.warning(
                "%s: nobody in group %s has partitions %s; this member leaves and joins",
                self.topic,
                self.group,
                left,
            )
            self._join_anew(self._member.session_s + 1.0 if self._member.is_static else 0.0)

    def _join_anew(self, silent_s: float) -> None:
        """Leave, by being silent for longer than a session where the group would not take notice
        otherwise, and join.
        """
        self._notify(set(self._known), lost=True)
        self._member.ends.forget(self._owned)
        self._owned.clear()
        self._takeover.clear()
        self._held.clear()
        self._member.close()
        time.sleep(silent_s)
        self._member.renew()
        self._member.join(_Events(self))

    def _try_take_over(self) -> TransportError | None:
        """Take over new partitions; return why it does not work yet, so that owned partitions go on
        meanwhile.
        """
        takeover = self._takeover
        if not takeover.pending or self._listener is None or self._closed:
            return None
        if not takeover.is_due or not takeover.attempt(self._listener, self._start):
            return takeover.refusal
        self._member.answered()
        self._known |= takeover.pending
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
        """Take note of new partitions."""
        self._source._assigned(partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Give partitions up."""
        self._source._given_up(partitions, lost=False)

    def lost(self, partitions: Sequence[int]) -> None:
        """Give partitions up that are somebody else's already."""
        self._source._given_up(partitions, lost=True)
