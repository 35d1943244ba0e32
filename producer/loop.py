"""The replay loop: sends due records, and waits for the schedule, consumers and the broker.

Invariant: no Kafka client here; each record is sent once, in the stream's order, and no wait takes
           more than a tenth of a second, so that a stop or an outage is noticed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from producer.pacing import ConsumerPace, Silence
from producer.progress import Progress
from producer.replay import Schedule, Stream
from shared.batch import Outgoing
from shared.errors import LapwingError, TransportError
from shared.operations.counters import EVENTS_PRODUCED, Counters
from shared.operations.health import Health
from shared.operations.retry import LOG_AFTER_S, SLEEP_SLICE_S, Retry

CHUNK_RECORDS = 5_000
FLUSH_S = 10.0
_CONSUMERS_NAP_S = 0.02


class Sender(Protocol):
    """The part of ``shared.kafka.Publisher`` that the replay uses."""

    @property
    def acknowledged(self) -> int:
        """Number of records that the broker has acknowledged."""
        ...

    @property
    def failed(self) -> int:
        """Number of records that failed for good."""
        ...

    @property
    def waiting(self) -> int:
        """Number of records that are neither acknowledged nor failed."""
        ...

    @property
    def first_error(self) -> LapwingError | None:
        """Error of the first failed record."""
        ...

    def send(self, records: Outgoing) -> None:
        """Queue records.

        raises : TransportError; if it is retriable, the records are kept and ``flush`` retries
        """
        ...

    def flush(self, timeout_s: float) -> int:
        """Wait at most timeout_s until no record is waiting; return how many are."""
        ...


class Maker(Protocol):
    """Encodes chunks of the stream; ``producer.records.RecordMaker``."""

    topic: str

    def __call__(self, chunk: Stream) -> Outgoing:
        """Return the records of a chunk, in its order."""
        ...


class Destination(NamedTuple):
    """Where records go.

    make    : encodes them
    sender  : sends them to the broker
    address : of the broker, for messages
    """

    make: Maker
    sender: Sender
    address: str


class Monitoring(NamedTuple):
    """Where the state of a replay is shown, and how it waits out an outage."""

    retry: Retry
    health: Health
    counters: Counters
    progress: Progress


class Replay:
    """One replay.

    sent     : number of records sent
    position : next position in the schedule
    """

    def __init__(
        self,
        stream: Stream,
        schedule: Schedule,
        destination: Destination,
        pace: ConsumerPace,
        monitoring: Monitoring,
    ) -> None:
        self.stream = stream
        self.schedule = schedule
        self.make, self.sender, self.address = destination
        self.pace = pace
        self.retry, self.health, self.counters, self.progress = monitoring
        self.sent = 0
        self.position = schedule.start
        self._silence = Silence()
        self._counted = 0

    def run(self) -> None:
        """Send until the end of the schedule or a stop, then wait for acknowledgements.

        raises : TransportError when an outage outlasts its deadline, or the broker refuses a record
        """
        clock = self.retry.outage.clock
        stopping = self.retry.stopping
        schedule = self.schedule
        origin_s = 0.0
        while not stopping() and (schedule.stop is None or self.position < schedule.stop):
            now_s = clock()
            if self.position <= schedule.paced_from:
                origin_s = now_s
            self._update(now_s)
            budget = CHUNK_RECORDS
            if self.pace.groups:
                allowed = self.pace.allowed(self.sent, self.sender.waiting, now_s)
                budget = min(CHUNK_RECORDS, allowed)
            if budget == 0:
                self.progress.waiting(self.pace.lags, now_s)
                self._idle(_CONSUMERS_NAP_S)
                continue
            after = schedule.next_stop(self.position, now_s - origin_s, budget)
            if after == self.position:
                self._idle(schedule.due_s(self.position) - (now_s - origin_s))
                continue
            self._send(self.make(self.stream.rows(self.position, after)))
            self.sent += after - self.position
            self.position = after
        self._finish()

    def _send(self, records: Outgoing) -> None:
        outage = self.retry.outage
        began_s = outage.clock()
        try:
            self.sender.send(records)
        except TransportError as error:
            outage.failed(error, began_s)
            self.retry.wait(outage.pause_s)
            self.retry(lambda: self.sender.flush(0.0))

    def _idle(self, seconds: float) -> None:
        """Wait until a record is due, then let the client process acknowledgements."""
        self.retry.wait(min(max(seconds, 0.001), SLEEP_SLICE_S))
        if self.sender.waiting:
            self.retry(lambda: self.sender.flush(0.0))

    def _update(self, now_s: float) -> None:
        """Count acknowledgements, detect an outage, and show the progress."""
        acknowledged = max(self.sender.acknowledged, self._counted)
        waiting = self.sender.waiting
        if self.sender.failed:
            raise self.sender.first_error or TransportError(
                f"{self.sender.failed} records failed", retriable=False
            )
        self.counters.add(EVENTS_PRODUCED, acknowledged - self._counted, self.make.topic)
        self._counted = acknowledged
        self._check_silence(since_s=self._silence.since(acknowledged, waiting, now_s), now_s=now_s)
        self.progress.show(self.sent, acknowledged, self.last_ms, now_s)

    def _check_silence(self, since_s: float, now_s: float) -> None:
        """Report an outage when the broker acknowledges none of the waiting records."""
        outage = self.retry.outage
        if since_s == now_s:
            outage.succeeded()
            self.health.ready()
        elif now_s - since_s >= min(LOG_AFTER_S, outage.deadline_s):
            message = f"{self.address} has acknowledged none of {self.sender.waiting} records"
            outage.failed(TransportError(message), since_s)

    def _finish(self) -> None:
        clock = self.retry.outage.clock
        stopping = self.retry.stopping
        until_s = clock() + FLUSH_S if stopping() else float("inf")
        while self.sender.waiting and clock() < until_s:
            try:
                self.sender.flush(SLEEP_SLICE_S)
            except TransportError as error:
                if not error.retriable:
                    raise
            if stopping():
                until_s = min(until_s, clock() + FLUSH_S)
            self._update(clock())
        self._update(clock())

    @property
    def last_ms(self) -> int | None:
        """Event time of the last record sent; None before the first."""
        if not self.sent:
            return None
        return int(self.stream.rows(self.position - 1, self.position).time_ms[0])
