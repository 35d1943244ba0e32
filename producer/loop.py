"""The replay's loop: sends what is due, waits for whoever is slower, and notices a stop or an
outage in every wait.

Law: no Kafka client here; a record is sent once, in the stream's order, and no wait is longer than
     a tenth of a second.
"""

from __future__ import annotations

from typing import Protocol

from producer.pacing import ReaderPace, Silence
from producer.progress import Progress
from producer.replay import Schedule, Stream
from shared.batch import Outgoing
from shared.counters import EVENTS_PRODUCED, Counters
from shared.errors import LapwingError, TransportError
from shared.health import Health
from shared.retry import LOG_AFTER_S, SLEEP_SLICE_S, Retry

CHUNK_RECORDS = 5_000
FLUSH_S = 10.0
_READERS_NAP_S = 0.02


class Sender(Protocol):
    """What the replay needs of ``shared.kafka.Publisher``."""

    @property
    def acknowledged(self) -> int:
        """Records that the broker has confirmed."""
        ...

    @property
    def failed(self) -> int:
        """Records given up."""
        ...

    @property
    def waiting(self) -> int:
        """Records of which neither is known yet."""
        ...

    @property
    def first_error(self) -> LapwingError | None:
        """Why the first failed record failed."""
        ...

    def send(self, records: Outgoing) -> None:
        """Queue records; a retriable TransportError means: they are kept, and ``flush`` tries
        again.
        """
        ...

    def flush(self, timeout_s: float) -> int:
        """Wait until nothing is waiting, at most timeout_s."""
        ...


class Maker(Protocol):
    """Makes records of a chunk; ``producer.records.RecordMaker``."""

    topic: str

    def __call__(self, chunk: Stream) -> Outgoing:
        """Return the records of a chunk, in its order."""
        ...


class Replay:
    """One replay; every wait goes through here, so that a stop and an outage are noticed in all of
    them.

    address  : of the broker, for what is said
    sent     : records handed over
    position : next one of the schedule
    """

    def __init__(
        self,
        stream: Stream,
        schedule: Schedule,
        make: Maker,
        sender: Sender,
        pace: ReaderPace,
        retry: Retry,
        health: Health,
        counters: Counters,
        progress: Progress,
        address: str,
    ) -> None:
        self.stream = stream
        self.schedule = schedule
        self.make = make
        self.sender = sender
        self.pace = pace
        self.retry = retry
        self.health = health
        self.counters = counters
        self.progress = progress
        self.address = address
        self.sent = 0
        self.position = schedule.start
        self._silence = Silence()
        self._counted = 0

    def run(self) -> None:
        """Send until the end of the schedule or a stop, then wait for what is under way.

        raises : TransportError after an outage of the deadline's length, or when the broker refuses
                 a record
        """
        clock, stopping = self.retry.outage.clock, self.retry.stopping
        schedule, origin_s = self.schedule, 0.0
        while not stopping() and (schedule.stop is None or self.position < schedule.stop):
            now_s = clock()
            if self.position <= schedule.paced_from:
                origin_s = now_s
            self._watch(now_s)
            room = (
                self.pace.room(self.sent, self.sender.waiting, now_s)
                if self.pace.groups
                else CHUNK_RECORDS
            )
            if room == 0:
                self.progress.readers(self.pace.behind, now_s)
                self._idle(_READERS_NAP_S)
                continue
            after = schedule.next_stop(self.position, now_s - origin_s, min(CHUNK_RECORDS, room))
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
            self.retry.nap(outage.pause_s)
            self.retry(lambda: self.sender.flush(0.0))

    def _idle(self, seconds: float) -> None:
        """Wait until something is due, then let the client take note of what arrived meanwhile;
        nothing is hurried on.
        """
        self.retry.nap(min(max(seconds, 0.001), SLEEP_SLICE_S))
        if self.sender.waiting:
            self.retry(lambda: self.sender.flush(0.0))

    def _watch(self, now_s: float) -> None:
        acknowledged, waiting = max(self.sender.acknowledged, self._counted), self.sender.waiting
        if self.sender.failed:
            raise self.sender.first_error or TransportError(
                f"{self.sender.failed} records were not taken", retriable=False
            )
        self.counters.add(EVENTS_PRODUCED, acknowledged - self._counted, self.make.topic)
        self._counted = acknowledged
        self._listen(since_s=self._silence.since(acknowledged, waiting, now_s), now_s=now_s)
        self.progress.show(self.sent, acknowledged, self.last_ms, now_s)

    def _listen(self, since_s: float, now_s: float) -> None:
        """Call it an outage when a broker takes records and acknowledges none of them."""
        outage = self.retry.outage
        if since_s == now_s:
            outage.succeeded()
            self.health.ready()
        elif now_s - since_s >= min(LOG_AFTER_S, outage.deadline_s):
            silence = f"{self.address} has acknowledged none of {self.sender.waiting} records"
            outage.failed(TransportError(silence), since_s)

    def _finish(self) -> None:
        clock, stopping = self.retry.outage.clock, self.retry.stopping
        until_s = clock() + FLUSH_S if stopping() else float("inf")
        while self.sender.waiting and clock() < until_s:
            try:
                self.sender.flush(SLEEP_SLICE_S)
            except TransportError as error:
                if not error.retriable:
                    raise
            if stopping():
                until_s = min(until_s, clock() + FLUSH_S)
            self._watch(clock())
        self._watch(clock())

    @property
    def last_ms(self) -> int | None:
        """Event time of the last record handed over; None before the first."""
        return (
            int(self.stream.rows(self.position - 1, self.position).time_ms[0])
            if self.sent
            else None
        )
