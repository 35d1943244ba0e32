"""A member of a consumer group that hands over batches and tells a listener of every change of
ownership.

Law: no record is lost between the client and the caller. Nothing ever raises inside a rebalance
     callback (the client would
throw away what it had just read): failures and new partitions wait until the call is over. A
partition starts only after ``assigned`` said where.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from shared.batch import Batch, Position
from shared.errors import HistoryGone, ProducerFenced, TransactionAborted, TransportError
from shared.kafka.client import (
    CONSUMER_REQUIRED,
    CONSUMER_TUNING,
    LOG,
    ClientErrors,
    client_config,
    open_client,
    translate,
)
from shared.kafka.ends import PartitionEnds
from shared.kafka.membership import is_member, unowned
from shared.kafka.messages import to_batches
from shared.ports import RebalanceListener
from shared.settings import Settings

Answer = TypeVar("Answer")

SLICE_S = 0.1
"""The client's own wait cannot be interrupted, so it is cut into slices of this length."""

PROBE_EVERY_S = 1.0
RETRY_S = 0.5
TAKEOVER_S = 3.0
"""Longest wait for the broker while partitions are taken over; then the owned ones get their turn
again.
"""

LOOK_AROUND_S = 2.0
"""Longest wait for the leaders of the topic's partitions."""

LOOK_AFTER, LOOK_AGAIN_AFTER = 1.5, 4.0
"""Sessions after a rebalance until a member looks whether a partition was left over; and until one
that has some acts.
"""

REJOIN_S = 60.0
"""How long after it lost its partitions, or a broker, a member may have fenced itself."""

_REQUIRED = CONSUMER_REQUIRED | {"enable.partition.eof": "false"}


class GroupSource:
    """``shared.ports.Source`` on a real consumer group.

    group, topic       : default to predict.group and topics.input
    instance_id        : static membership; a member that comes back with it gets its partitions
                         without a rebalance
    session_timeout_ms : default predict.session_timeout_ms; heartbeats go out six times as often
    protocol           : "classic" (cooperative-sticky) or "consumer" (KIP-848, which the embedded
                         broker needs, and where the broker alone decides about sessions); default:
                         what kafka.group.protocol says, else classic
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
    ) -> None:
        self.topic = topic or settings.topics.input
        self.group = group or settings.predict.group
        self.address = settings.bootstrap
        protocol = protocol or settings.kafka.get("group.protocol", "classic")
        required = _REQUIRED | {"group.id": self.group, "group.protocol": protocol}
        if instance_id:
            required["group.instance.id"] = instance_id
        session_ms = session_timeout_ms or settings.predict.session_timeout_ms
        if protocol == "classic":
            required |= {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": str(session_ms),
                "heartbeat.interval.ms": str(session_ms // 6),
            }
        tuning = CONSUMER_TUNING | {"max.poll.interval.ms": str(max(300_000, session_ms))}
        self._errors = ClientErrors()
        self._config = client_config(settings, "consumer", tuning=tuning, required=required) | {
            "error_cb": self._errors
        }
        self._consumer = open_client(Consumer, self._config)
        self._listener: RebalanceListener | None = None
        self._told: set[int] = set()
        self._owned: set[int] = set()
        self._pending: set[int] = set()
        self._tried: set[int] = set()
        self._refusal: TransportError | None = None
        self._retry_s = 0.0
        self._held: list[Message[bytes, bytes]] = []
        self._ends = PartitionEnds(settings, self.topic)
        self._stale = False
        self._failure: BaseException | None = None
        self._paused = False
        self._closed = False
        self._probed_s = 0.0
        self._lost_s = self._rejoined_s = -REJOIN_S
        self._session_s = session_ms / 1000 if protocol == "classic" else math.inf
        self._silence_s = self._session_s + 1.0 if instance_id else 0.0
        self._look_s = self._patient_s = math.inf
        self._settings = settings

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; see Source."""
        self._listener = listener
        self._join()

    def _join(self) -> None:
        self._consumer.subscribe(
            [self.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return what has arrived; see Source.

        raises : TransportError, ProducerFenced (another process has the group.instance.id),
                 HistoryGone, TopicMismatch, and whatever the listener raised. After a failed
                 takeover of partitions the next call tries it again.
        """
        deadline = time.monotonic() + timeout_s
        self._look_for_unowned()
        while True:
            failure = self._try_take_over()
            messages = self._receive(
                max_records, max(0.0, min(SLICE_S, deadline - time.monotonic()))
            )
            if messages:
                self._errors.latest = None
                return to_batches(messages)
            if time.monotonic() >= deadline and not self._pending - self._tried:
                if failure is not None:
                    raise failure
                self._probe()
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
        self._pending.update(owned)
        self._tried.clear()
        failure = self._try_take_over()
        if failure is not None:
            raise failure

    def ends(self) -> Mapping[int, int]:
        """Return where owned partitions end; see Source.

        Paused ones are asked about, for nothing is fetched of them.
        """
        if self._paused:
            self._ends.ask(self._owned)
        return self._ends.known(self._consumer, self._owned)

    def pause(self) -> None:
        """Deliver nothing, also not from partitions that are assigned meanwhile; heartbeats go on
        in ``poll``.
        """
        if not self._paused:
            self._paused = True
            self._call("pausing", lambda: self._consumer.pause(self._places(self._owned)))

    def resume(self) -> None:
        """Deliver again after ``pause``."""
        if self._paused:
            self._paused = False
            self._call("resuming", lambda: self._consumer.resume(self._places(self._owned)))

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions with their metadata outside any transaction, and wait for the answer.

        raises : TransportError; nobody knows then whether it was committed
        """
        if not positions:
            return
        answer = self._call(
            "committing",
            lambda: self._consumer.commit(offsets=self.offsets(positions), asynchronous=False),
        )
        for place in answer:
            if place.error:
                raise translate(
                    place.error,
                    f"committing {self.topic}[{place.partition}]@{place.offset} for group"
                    f" {self.group}",
                )

    def offsets(self, positions: Mapping[int, Position]) -> list[TopicPartition]:
        """Return positions as the client wants them."""
        return [
            TopicPartition(self.topic, p, position.offset, position.metadata)
            for p, position in sorted(positions.items())
        ]

    def group_metadata(self) -> Any:
        """Return the membership as it is now, for send_offsets_to_transaction.

        raises : TransactionAborted when this process is no longer a member: the broker would accept
                 such a commit unchecked
        """
        metadata = self._call("asking for the membership", self._consumer.consumer_group_metadata)
        if not is_member(metadata):
            raise TransactionAborted(
                f"this process is no longer a member of group {self.group}; its positions must not"
                " be committed"
            )
        return metadata

    def close(self) -> None:
        """Leave the group (a static member only stops).

        The listener is not called: what was to be committed has been.
        """
        if not self._closed:
            self._closed = True
            self._held.clear()
            self._consumer.close()

    # -- what the client calls, from within consume() or close() -----------------------------------

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._pending.update(place.partition for place in places)
        self._look_s = time.monotonic() + LOOK_AFTER * self._session_s
        self._patient_s = time.monotonic() + LOOK_AGAIN_AFTER * self._session_s
        self._guarded(lambda: consumer.incremental_assign([]))

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._give_up(consumer, places, lost=False)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._give_up(consumer, places, lost=True)

    def _give_up(self, consumer: Consumer, places: list[TopicPartition], *, lost: bool) -> None:
        gone = {place.partition for place in places}
        if lost:
            self._lost_s = time.monotonic()
        self._tell(gone, lost=lost)
        started = gone & self._owned
        self._pending -= gone
        self._owned -= gone
        self._ends.forget(gone)
        self._stale = True
        self._guarded(lambda: consumer.incremental_unassign(self._places(started)))

    def _tell(self, gone: set[int], *, lost: bool) -> None:
        """Tell the listener about those partitions that it was given."""
        known = sorted(gone & self._told)
        self._told -= gone
        if known and self._listener and not self._closed:
            tell = self._listener.lost if lost else self._listener.revoked
            self._guarded(lambda: tell(known))

    def _guarded(self, call: Callable[[], object]) -> None:
        """Keep what goes wrong for the end of poll()."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again by _receive, also a KeyboardInterrupt
            self._failure = self._failure or error

    # -- inside ------------------------------------------------------------------------------------

    def _receive(self, max_records: int, wait_s: float) -> list[Message[bytes, bytes]]:
        """Return messages of owned partitions without errors, from what was held back first."""
        if self._paused or not self._held:
            self._hold(1, wait_s)
        if self._held and not self._paused:
            self._hold(max_records - len(self._held), 0.0)
        messages, self._held = self._held, []
        troubled = any(map(Message.error, messages))
        good = messages
        if troubled or self._stale:
            self._stale = False
            good = [m for m in messages if m.error() is None and m.partition() in self._owned]
        failure, self._failure = self._failure, None
        if failure is None and troubled:
            failure = self._first_trouble(messages)
            if isinstance(failure, ProducerFenced):
                self._rejoin(failure)
                return []
        if failure is not None or self._paused:
            self._held, good = good, []
        if failure is not None:
            raise failure
        self._held = self._held or good[max_records:]
        return good[:max_records]

    def _hold(self, count: int, wait_s: float) -> None:
        """Add what has arrived to what is held."""
        if count > 0:
            self._held += self._call("reading", lambda: self._consumer.consume(count, wait_s))

    def _rejoin(self, fenced: ProducerFenced) -> None:
        """Join anew after an outage in which this member fenced itself: a request under its old id,
        overtaken by the new one.

        raises : the same ProducerFenced where no outage explains it, or when it happens again soon
                 though no broker was missed
                 since: then there is a twin
        """
        now_s, outage_s = time.monotonic(), max(self._lost_s, self._errors.outage_s)
        again = now_s < self._rejoined_s + REJOIN_S and self._errors.outage_s <= self._rejoined_s
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
        left = unowned(
            open_client(AdminClient, client_config(self._settings, "admin")), self.group, self.topic
        )
        if left and self._told and now_s < self._patient_s:
            self._look_s = self._patient_s
        elif left:
            LOG.warning(
                "%s: nobody in group %s has partitions %s; this member leaves and joins",
                self.topic,
                self.group,
                left,
            )
            self._join_anew(self._silence_s)

    def _join_anew(self, silent_s: float) -> None:
        """Leave, by being silent for longer than a session where the group would not take notice
        otherwise, and join.
        """
        self._tell(set(self._told), lost=True)
        self._ends.forget(self._owned)
        for partitions in (self._owned, self._pending, self._tried):
            partitions.clear()
        self._held.clear()
        self._consumer.close()
        time.sleep(silent_s)
        self._consumer = open_client(Consumer, self._config)
        self._join()

    def _first_trouble(self, messages: Iterable[Message[bytes, bytes]]) -> BaseException | None:
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                place = f"{message.topic() or self.topic}[{message.partition()}]"
                return translate(error, f"reading {place} of {self.address}")
        return None

    def _try_take_over(self) -> TransportError | None:
        """Take over new partitions; return why it does not work yet, so that owned partitions go on
        meanwhile.
        """
        if not self._pending or self._listener is None or self._closed:
            return None
        if self._pending <= self._tried and time.monotonic() < self._retry_s:
            return self._refusal
        self._tried = set(self._pending)
        try:
            self._take_over(self._listener, sorted(self._pending))
        except TransportError as refusal:
            if not refusal.retriable:
                raise
            self._refusal, self._retry_s = refusal, time.monotonic() + RETRY_S
            return refusal
        self._told |= self._pending
        self._pending.clear()
        self._tried.clear()
        return None

    def _take_over(self, listener: RebalanceListener, partitions: Sequence[int]) -> None:
        """Ask for the committed positions, tell the listener, and start the partitions where it
        says.
        """
        deadline = time.monotonic() + TAKEOVER_S
        committed = self._committed(partitions, deadline)
        start = {partition: self._log_start(partition, deadline) for partition in partitions}
        offsets = listener.assigned(committed, start)
        if set(offsets) != set(partitions):
            raise ValueError(
                f"assigned() was asked for partitions {partitions} and answered for"
                f" {sorted(offsets)}"
            )
        for partition, offset in offsets.items():
            if offset < start[partition]:
                raise HistoryGone(
                    f"{self.topic}[{partition}] must be read from offset {offset} on, but begins at"
                    f" {start[partition]}: retention has deleted what the state needs; restore"
                    " state_dir, or begin anew with another predict.group"
                )
        self._start(offsets)

    def _committed(self, partitions: Sequence[int], deadline: float) -> dict[int, Position | None]:
        """Return committed positions; the broker withholds them while a transaction that moves them
        is open.
        """
        places, doing = self._places(partitions), "asking for the committed positions"
        answer = self._call(doing, lambda: self._consumer.committed(places, _left_s(deadline)))
        found: dict[int, Position | None] = {}
        for place in answer:
            if place.error:
                raise translate(
                    place.error,
                    f"{doing} of {self.topic}[{place.partition}] for group {self.group}",
                )
            found[place.partition] = (
                Position(place.offset, place.metadata or "") if place.offset >= 0 else None
            )
        return found

    def _log_start(self, partition: int, deadline: float) -> int:
        place, doing = (
            TopicPartition(self.topic, partition),
            f"asking where {self.topic}[{partition}] begins",
        )
        try:
            answer = self._call(
                doing, lambda: self._consumer.get_watermark_offsets(place, _left_s(deadline))
            )
        except TransportError:
            self._look_around()
            raise
        if answer is None:
            raise TransportError(f"{doing} at {self.address}: no answer")
        self._ends.hear(partition, answer[1])
        return answer[0]

    def _look_around(self) -> None:
        """Have the client ask who leads what; by itself it may go on for minutes with what it knew
        before a broker went.
        """
        with suppress(KafkaException):
            self._consumer.list_topics(self.topic, LOOK_AROUND_S)

    def _start(self, offsets: Mapping[int, int]) -> None:
        places = [TopicPartition(self.topic, p, offset) for p, offset in sorted(offsets.items())]
        self._call("starting partitions", lambda: self._consumer.incremental_assign(places))
        self._owned.update(offsets)
        if self._paused:
            self._call("pausing", lambda: self._consumer.pause(self._places(offsets)))

    def _stop(self, partitions: Sequence[int]) -> None:
        self._held = [message for message in self._held if message.partition() not in partitions]
        if partitions:
            self._call(
                "stopping partitions",
                lambda: self._consumer.incremental_unassign(self._places(partitions)),
            )
        self._owned.difference_update(partitions)

    def _probe(self) -> None:
        """Find out, after the client complained and nothing arrived, whether the broker answers at
        all.
        """
        trouble = self._errors.latest
        if trouble is None or time.monotonic() < self._probed_s + PROBE_EVERY_S:
            return
        try:
            self._consumer.list_topics(self.topic, timeout=PROBE_EVERY_S)
            self._errors.latest = None
        except KafkaException as error:
            LOG.debug("probe of %s: %s", self.address, error)
            raise translate(trouble, f"reading {self.topic} of {self.address}") from error
        finally:
            self._probed_s = time.monotonic()

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition) for partition in sorted(partitions)]

    def _call(self, doing: str, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except KafkaException as error:
            raise translate(
                error, f"{doing} ({self.topic}, group {self.group}, at {self.address})"
            ) from error


def _left_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
