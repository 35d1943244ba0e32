"""Sinks, which commit results together with the input positions that they came from.

Invariant: once the outcome of a commit is unknown, a transactional sink cannot be used any more.
The caller makes a new one under the same transactional.id, whose initialisation completes or aborts
the open transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from shared.batch import Outgoing, Position
from shared.errors import (
    NotAuthenticated,
    NotAuthorized,
    ProducerFenced,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.kafka.client import CALL_TIMEOUT_S, translate
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Engine, Flags
from shared.kafka.outbox import Outbox
from shared.kafka.source import GroupSource
from shared.operations.failpoints import failpoint
from shared.operations.retry import CallThread
from shared.settings import Settings

_TUNING = {
    "linger.ms": "5",
    "batch.num.messages": "10000",
    "queue.buffering.max.messages": "200000",
    "queue.buffering.max.kbytes": "131072",
}


GRACE_S = 1.0
"""A call that has not returned this long after its timeout is taken to hang."""


class TransactionalSink:
    """``shared.ports.Sink`` on Kafka transactions.

    transactional_id       : stable per slot; a new sink with the same id fences its predecessor and
                             aborts its open transaction
    source                 : the member whose positions are committed
    transaction_timeout_ms : time after which the broker aborts the transaction of a process that
                             died; default predict.transaction_timeout_ms
    timeout_s              : longest wait for space in the queue and for initialisation; other calls
                             wait for 0.8 socket.timeout.ms
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
        # librdkafka requires socket.timeout.ms to be at most transaction.timeout.ms.
        socket_timeout_ms = settings.kafka.get("socket.timeout.ms", str(min(10_000, timeout_ms)))
        retry_backoff_ms = settings.kafka.get("retry.backoff.ms", "500")
        tuning = _TUNING | {
            "socket.timeout.ms": socket_timeout_ms,
            "retry.backoff.ms": retry_backoff_ms,
        }
        # The client retries a request that got no answer or whose connection broke. If the first
        # copy is only late, it also ends the next transaction. So calls time out before the client
        # retries because of time, and after a call that took so long that it may have been retried
        # the next transaction gets a new epoch, by a new producer.
        self._retry_backoff_s = 0.001 * int(retry_backoff_ms)
        self._may_have_retried_s = 0.5 * self._retry_backoff_s
        self._call_timeout_s = min(timeout_s, 0.0008 * int(socket_timeout_ms))
        required = {"transactional.id": transactional_id, "transaction.timeout.ms": str(timeout_ms)}
        self._make = partial(Outbox, settings, tuning, required, engine)
        self._transaction_s = timeout_ms / 1000
        self._is_open = False
        self._began_s = 0.0
        self._needs_new_producer = False
        self._unusable: TransportError | None = None
        self._call_thread = CallThread("transaction")
        self._outbox = self._make()
        self._initialise()

    def send(self, records: Outgoing) -> None:
        """Queue records within the open transaction; see Sink."""
        self._begin_if_needed()
        try:
            row = self._outbox.put(records, 0, self.timeout_s)
        except ClientError as error:
            raise self._failure(self._cause(error), "sending to " + records.topic) from error
        if row < len(records):
            raise TransactionAborted(
                f"{self._name}: the queue has been full for {self.timeout_s:g} s, the broker"
                " accepts no records"
            )

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit the records since the last commit together with input positions; see Sink."""
        if not positions and not self._is_open:
            return
        self._begin_if_needed()
        producer = self._outbox.producer
        failpoint("before_offsets")
        if positions:
            self._flush()
            membership = self.source.group_metadata()
            topic = self.source.topic
            self._call(
                "sending positions",
                lambda: producer.send_positions(topic, positions, membership, self._call_timeout_s),
            )
        failpoint("after_offsets")
        self._call("committing", lambda: producer.commit_transaction(self._call_timeout_s))
        failpoint("after_commit")
        self._is_open = False

    def abort(self) -> None:
        """Drop everything since the last commit; see Sink."""
        self._check_usable()
        if self._is_open:
            self._call(
                "aborting", lambda: self._outbox.producer.abort_transaction(self._call_timeout_s)
            )
            self._is_open = False
        self._replace_producer()

    def close(self) -> None:
        """Release the producer.

        The next owner of the id ends an open transaction, or the broker aborts it after its
        timeout.
        """
        # A copy of the error: the traceback of the raised one would keep the producer alive, with
        # its threads and connections.
        error = self._unusable or TransactionInDoubt(f"{self._name}: the sink was closed")
        self._unusable = type(error)(str(error))
        self._call_thread.close()
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
                    self._unusable = TransactionInDoubt(str(failure))
                    self._outbox.close()
                    raise failure from error
                time.sleep(0.05)

    def _replace_producer(self) -> None:
        """Replace the producer if it must not begin another transaction."""
        if self._needs_new_producer:
            # Also after a record that was not delivered: its sequence numbers have a gap, so the
            # next transaction would fail.
            self._outbox.close()
            self._outbox = self._make()
            self._initialise()
            self._needs_new_producer = False

    def _begin_if_needed(self) -> None:
        self._check_usable()
        if not self._is_open:
            self._replace_producer()
            self._began_s = time.monotonic()
            self._call("beginning", self._outbox.producer.begin_transaction)
            self._is_open = True

    def _flush(self) -> None:
        """Wait for the records, which the broker takes once the transaction before is complete.

        Until then it refuses positions as well. The client repeats those only after
        retry.backoff.ms, but asks for the records' partitions again after 20 ms (see
        findings/librdkafka-positions-wait-backoff.sh). A commit would wait for the records anyway.
        """
        try:
            self._outbox.flush(self._retry_backoff_s)
        except ClientError as error:
            raise self._failure(error, "sending results") from error

    def _cause(self, error: ClientError) -> ClientError:
        """Return why a transaction takes no more records.

        The client refuses them without the reason. It states it where another transaction is begun,
        which has no effect then.
        """
        if error.code != Code.LOCAL_STATE:
            return error
        try:
            self._call_in_thread(self._outbox.producer.begin_transaction, "beginning another")
        except ClientError as cause:
            return error if cause.code == Code.LOCAL_STATE else cause
        return error

    def _check_usable(self) -> None:
        if self._unusable is not None:
            raise self._unusable

    def _call(self, action: str, call: Callable[[], Any]) -> None:
        began_s = time.monotonic()
        try:
            self._call_in_thread(call, action)
        except ClientError as error:
            raise self._failure(error, action) from error
        if time.monotonic() - began_s >= self._may_have_retried_s:
            self._needs_new_producer = True

    def _call_in_thread(self, call: Callable[[], Any], action: str) -> None:
        """Make a call in a thread, which is abandoned if the call does not return in time.

        The client may wait without end, whatever the timeout, for the answer of a coordinator that
        has left the cluster (librdkafka 5456 and 5511).
        """
        try:
            self._call_thread(self._call_timeout_s + GRACE_S, call)
        except TimeoutError:
            self._unusable = TransactionInDoubt(
                f"{self._name}: {action}: the client did not return"
            )
            raise self._unusable from None

    def _failure(self, error: ClientError, action: str) -> TransportError:
        """Return what a client's error means: TransactionAborted, or one that ends the sink.

        Those that end it are TransactionInDoubt, ProducerFenced, NotAuthenticated and
        NotAuthorized. A broker that aborts a transaction because of its timeout fences the
        producer, as a second process would.
        """
        failure = translate(error, f"{self._name}: {action}")
        if isinstance(failure, ProducerFenced):
            open_s = time.monotonic() - self._began_s
            if self._is_open and open_s >= self._transaction_s:
                failure = TransactionInDoubt(
                    f"{self._name}: {action}: {error.text}; it was open for {open_s:.1f} s, so the"
                    f" broker has aborted it after {self._transaction_s:g} s"
                    " (predict.transaction_timeout_ms)"
                )
            self._unusable = failure
            return failure
        if isinstance(failure, NotAuthenticated | NotAuthorized):
            self._unusable = failure
            return failure
        if isinstance(failure, TransactionAborted) or _is_refusal(error):
            self._needs_new_producer = True
            return TransactionAborted(str(failure))
        self._unusable = TransactionInDoubt(str(failure))
        return self._unusable


class AtLeastOnceSink:
    """``shared.ports.Sink`` without transactions: positions follow once all is acknowledged.

    Nothing is lost; after a failure some records are sent twice, with the same event id.

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
                f"sending to {records.topic} at {self._address}: the queue has been full for"
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
        """Drop queued records; those that the broker already has stay and will be sent again."""
        self._outbox.drop()
        self._outbox.first_error = None

    def close(self) -> None:
        """Release the producer without committing anything."""
        self._outbox.close()

    def _check_delivered(self) -> None:
        error = self._outbox.first_error
        if error is not None:
            raise translate(
                error,
                f"{self._outbox.failed} records were not delivered to {self._address}; the first",
            )


def _is_refusal(error: ClientError) -> bool:
    """Return whether the client itself refused a record, so that the transaction can be aborted."""
    return error.code in _REFUSALS and Flags.FATAL not in error.flags


_REFUSALS = frozenset(
    {Code.MSG_SIZE_TOO_LARGE, Code.UNKNOWN_TOPIC_OR_PART, Code.LOCAL_UNKNOWN_TOPIC}
)
