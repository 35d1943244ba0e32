"""Where a service's results go together with its input positions: in transactions, or at least
once.

Invariant: after an error that leaves it open whether something was committed, the sink is dead; the
caller throws it away and makes a new one under the same transactional.id, whose initialisation
decides the open transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from shared.batch import Outgoing, Position
from shared.errors import ProducerFenced, TransactionAborted, TransactionInDoubt, TransportError
from shared.failpoints import failpoint
from shared.kafka.client import CALL_TIMEOUT_S, translate
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Engine, Flags
from shared.kafka.outbox import Outbox
from shared.kafka.source import GroupSource
from shared.retry import within
from shared.settings import Settings

_TUNING = {
    "linger.ms": "5",
    "batch.num.messages": "10000",
    "queue.buffering.max.messages": "200000",
    "queue.buffering.max.kbytes": "131072",
}


HANG_S = 1.0
"""A call that returns so much later than it was told to never returns."""


class TransactionalSink:
    """``shared.ports.Sink`` on Kafka transactions.

    transactional_id       : stable per slot; whoever takes it fences its predecessor and aborts
                             what that left open
    source                 : the member whose positions are committed along
    transaction_timeout_ms : after so long the broker aborts what a dead process left; default
                             predict.transaction_timeout_ms
    timeout_s              : longest wait for room in the queue and for the first answer; for the
                             others 0.8 socket.timeout.ms
    raises                 : TransportError, ProducerFenced, ConfigError
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        source: GroupSource,
        *,
        transaction_timeout_ms: int | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        engine: Engine | None = None,
    ) -> None:
        self.transactional_id = transactional_id
        self.source = source
        self.timeout_s = timeout_s
        self._name = f"transaction of {transactional_id} at {settings.bootstrap}"
        timeout_ms = transaction_timeout_ms or settings.predict.transaction_timeout_ms
        # The client wants the wait for one answer to fit into a transaction.
        socket_timeout_ms = settings.kafka.get("socket.timeout.ms", str(min(10_000, timeout_ms)))
        retry_backoff_ms = settings.kafka.get("retry.backoff.ms", "500")
        tuning = _TUNING | {
            "socket.timeout.ms": socket_timeout_ms,
            "retry.backoff.ms": retry_backoff_ms,
        }
        # The client by itself repeats a request that was not answered or whose connection broke.
        # Were the first copy only late, it would end the next transaction as well. So an answer is
        # given up before it is repeated for want of time, and after one that took so long that it
        # may have been repeated the next transaction gets an epoch of its own.
        self._repeated_s = 0.0005 * int(retry_backoff_ms)
        self._decide_s = min(timeout_s, 0.0008 * int(socket_timeout_ms))
        required = {"transactional.id": transactional_id, "transaction.timeout.ms": str(timeout_ms)}
        self._make = partial(Outbox, settings, tuning, required, engine)
        self._open = False
        self._damaged = False
        self._dead: TransportError | None = None
        self._outbox = self._make()
        self._initialise()

    def send(self, records: Outgoing) -> None:
        """Queue records within the open transaction; see Sink."""
        self._begin()
        try:
            row = self._outbox.put(records, 0, self.timeout_s)
        except ClientError as error:
            raise self._failure(error, "sending to " + records.topic) from error
        if row < len(records):
            raise TransactionAborted(
                f"{self._name}: no room in the queue for {self.timeout_s:g} s, the broker takes"
                " nothing"
            )

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Make the records since the last commit and the input positions visible together; see
        Sink.
        """
        if not positions and not self._open:
            return
        self._begin()
        producer = self._outbox.producer
        failpoint("before_offsets")
        if positions:
            membership = self.source.group_metadata()
            topic = self.source.topic
            self._decide(
                "sending positions",
                lambda: producer.send_positions(topic, positions, membership, self._decide_s),
            )
        failpoint("after_offsets")
        self._decide("committing", lambda: producer.commit_transaction(self._decide_s))
        failpoint("after_commit")
        self._open = False

    def abort(self) -> None:
        """Drop everything since the last commit; see Sink."""
        self._check_alive()
        if self._open:
            self._decide(
                "aborting", lambda: self._outbox.producer.abort_transaction(self._decide_s)
            )
            self._open = False
        self._renew()

    def close(self) -> None:
        """Let go; what is open is decided by the next owner of the id, or aborted by the broker
        after the timeout.
        """
        # Not the one that was raised: its traceback holds the producer, and that its threads and
        # connections.
        dead = self._dead or TransactionInDoubt(f"{self._name}: the sink was closed")
        self._dead = type(dead)(str(dead))
        self._outbox.close()

    def _initialise(self) -> None:
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                self._outbox.producer.init_transactions(max(0.1, deadline - time.monotonic()))
                return
            except ClientError as error:
                failure = translate(error, f"{self._name}: initialising")
                if not failure.retriable or time.monotonic() >= deadline:
                    self._dead = TransactionInDoubt(str(failure))
                    self._outbox.close()
                    raise failure from error
                time.sleep(0.05)

    def _renew(self) -> None:
        """Take a new producer of the same transactional.id where the old one must not begin another
        transaction.
        """
        if self._damaged:
            # Also after a record that was not delivered: the sequence numbers have a gap, and the
            # next transaction fails.
            self._outbox.close()
            self._outbox = self._make()
            self._initialise()
            self._damaged = False

    def _begin(self) -> None:
        self._check_alive()
        if not self._open:
            self._renew()
            self._decide("beginning", self._outbox.producer.begin_transaction)
            self._open = True

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise self._dead

    def _decide(self, doing: str, call: Callable[[], Any]) -> None:
        began_s = time.monotonic()
        try:
            self._within(call, doing)
        except ClientError as error:
            raise self._failure(error, doing) from error
        self._damaged = self._damaged or time.monotonic() - began_s >= self._repeated_s

    def _within(self, call: Callable[[], Any], doing: str) -> None:
        """Make a call in a thread that is left behind where it does not return in time.

        The client may wait for ever, whatever the timeout, for the answer of a coordinator that has
        left the cluster (librdkafka 5456 and 5511).
        """
        try:
            within(self._decide_s + HANG_S, call, "transaction")
        except TimeoutError:
            self._dead = TransactionInDoubt(f"{self._name}: {doing}: the client did not return")
            raise self._dead from None

    def _failure(self, error: ClientError, doing: str) -> TransportError:
        """Say whether a transaction is to be aborted, is undecided, or belongs to somebody else;
        remember the last two.
        """
        failure = translate(error, f"{self._name}: {doing}")
        if isinstance(failure, ProducerFenced):
            self._dead = failure
            return failure
        if isinstance(failure, TransactionAborted) or _is_refusal(error):
            self._damaged = True
            return TransactionAborted(str(failure))
        self._dead = TransactionInDoubt(str(failure))
        return self._dead


class AtLeastOnceSink:
    """``shared.ports.Sink`` without transactions: positions follow when all is acknowledged.

    Nothing is lost; after a failure some records come twice, with the same event id.

    raises : ConfigError
    """

    def __init__(
        self,
        settings: Settings,
        source: GroupSource,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        engine: Engine | None = None,
    ) -> None:
        self.source = source
        self.timeout_s = timeout_s
        self._address = settings.bootstrap
        self._outbox = Outbox(settings, _TUNING, engine=engine)

    def send(self, records: Outgoing) -> None:
        """Queue records; see Sink."""
        try:
            row = self._outbox.put(records, 0, self.timeout_s)
        except ClientError as error:
            raise translate(error, f"sending to {records.topic} at {self._address}") from error
        if row < len(records):
            raise TransportError(
                f"sending to {records.topic} at {self._address}: no room in the queue for"
                f" {self.timeout_s:g} s"
            )

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Wait until every record is acknowledged, then commit the positions; see Sink."""
        try:
            waiting = self._outbox.flush(self.timeout_s)
        except ClientError as error:
            raise translate(error, f"sending to {self._address}") from error
        self._check_delivered()
        if waiting:
            raise TransportError(
                f"{waiting} records are not acknowledged by {self._address} after"
                f" {self.timeout_s:g} s"
            )
        failpoint("before_offsets")
        self.source.commit(positions)
        failpoint("after_commit")

    def abort(self) -> None:
        """Drop what is queued; what the broker already has stays and will come again."""
        self._outbox.drop()
        self._outbox.first_error = None

    def close(self) -> None:
        """Let go without committing anything."""
        self._outbox.close()

    def _check_delivered(self) -> None:
        error = self._outbox.first_error
        if error is not None:
            raise translate(
                error,
                f"{self._outbox.failed} records were not delivered to {self._address}; the first",
            )


def _is_refusal(error: ClientError) -> bool:
    """Tell whether the client itself refused the record, so that the transaction's end is still
    open to decide.
    """
    return error.code in _REFUSALS and Flags.FATAL not in error.flags


_REFUSALS = frozenset(
    {Code.MSG_SIZE_TOO_LARGE, Code.UNKNOWN_TOPIC_OR_PART, Code.LOCAL_UNKNOWN_TOPIC}
)
