"""The replay's loop: sends what is due, waits for whoever is slower, and notices a stop or an
outage in every wait.

Law: no Kafka client here; a record is sent once, in the stream's order, and no wait is longer than
     a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from producer.pacing import Outage, ReaderPace, Silence
from producer.progress import Progress
from producer.replay import Schedule, Stream
from shared.batch import Outgoing
from shared.counters import EVENTS_PRODUCED, OUTAGE_SECONDS, Counters
from shared.errors import LapwingError, TransportError
from shared.health import Health
from shared.settings import Settings
from shared.telemetry import Logger

T = TypeVar("T")

CHUNK_RECORDS = 5_000
FLUSH_S = 10.0
_NAP_S = 0.1
_RETRY_S = 0.5
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
        patience: Patience,
        counters: Counters,
        progress: Progress,
    ) -> None:
        self.stream = stream
        self.schedule = schedule
        self.make = make
        self.sender = sender
        self.pace = pace
        self.patience = patience
        self.counters = counters
        self.progress = progress
        self.sent = 0
        self.position = schedule.start
        self._silence = Silence()
        self._counted = 0

    def run(self) -> None:
        """Send until the end of the schedule or a stop, then wait for what is under way.

        raises : TransportError after an outage of the deadline's length, or when the broker refuses
                 a record
        """
        clock, stopping = self.patience.clock, self.patience.stopping
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
        started_s = self.patience.clock()
        try:
            self.sender.send(records)
        except TransportError as error:
            if not error.retriable:
                raise
            self.patience(lambda: self.sender.flush(0.0), since_s=started_s, why=str(error))

    def _idle(self, seconds: float) -> None:
        """Wait until something is due, then let the client take note of what arrived meanwhile;
        nothing is hurried on.
        """
        self.patience.nap(min(max(seconds, 0.001), _NAP_S))
        if self.sender.waiting:
            self.patience(lambda: self.sender.flush(0.0))

    def _watch(self, now_s: float) -> None:
        acknowledged, waiting = max(self.sender.acknowledged, self._counted), self.sender.waiting
        if self.sender.failed:
            raise self.sender.first_error or TransportError(
                f"{self.sender.failed} records were not taken", retriable=False
            )
        self.counters.add(EVENTS_PRODUCED, acknowledged - self._counted, self.make.topic)
        self._counted = acknowledged
        since_s = self._silence.since(acknowledged, waiting, now_s)
        if since_s == now_s:
            self.patience.alive()
        else:
            self.patience.report(
                since_s, f"{self.patience.address} has acknowledged none of {waiting} records"
            )
        self.progress.show(self.sent, acknowledged, self.last_ms, now_s)

    def _finish(self) -> None:
        clock = self.patience.clock
        until_s = clock() + FLUSH_S if self.patience.stopping() else float("inf")
        while self.sender.waiting and clock() < until_s:
            try:
                self.sender.flush(_NAP_S)
            except TransportError as error:
                if not error.retriable:
                    raise
            if self.patience.stopping():
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


class Patience:
    """Calls that may fail while broker or registry are away: tried again until the deadline, said
    aloud by the tenth second.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        log: Logger,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        health: Health | None = None,
    ) -> None:
        self.address = settings.bootstrap
        self.stopping = stopping
        self.clock = clock
        self._sleep = sleep
        self._log = log
        self._counters = counters
        self._outage = Outage(settings.outage_deadline_s)
        self._said = False
        self.health = health or Health()
        counters.set(OUTAGE_SECONDS, 0)

    def __call__(
        self, call: Callable[[], T], *, since_s: float | None = None, why: str = ""
    ) -> T | None:
        """Return what the call returns, None when a stop came first.

        since_s, why : when it failed already
        raises       : TransportError when it cannot be tried again or the deadline has passed
        """
        while not self.stopping():
            if since_s is not None:
                self.report(since_s, why)
            started_s = self.clock()
            try:
                answer = call()
            except TransportError as error:
                if not error.retriable:
                    raise
                since_s, why = started_s if since_s is None else since_s, str(error)
                self.health.waiting(f"waiting for {self.clock() - since_s:.0f} s: {why}")
            else:
                if since_s is not None:
                    self.alive()
                return answer
            self.report(since_s, why)
            self.nap(_RETRY_S)
        return None

    def report(self, since_s: float, why: str) -> None:
        """Say that there is an outage, if it is time to; raises TransportError when it has lasted
        too long.

        why : names the address that does not answer
        """
        now_s = self.clock()
        if self._outage.must_say(since_s, now_s, why):
            self._said = True
            self.health.waiting(f"waiting for {now_s - since_s:.0f} s: {why}")
            self._counters.set(OUTAGE_SECONDS, now_s - since_s)
            self._log.warning("no answer", seconds=round(now_s - since_s), because=why)

    def alive(self) -> None:
        """Take note of an answer."""
        self.health.ready()
        if self._said:
            self._said = False
            self._counters.set(OUTAGE_SECONDS, 0)
            self._log.info("answers again", address=self.address)

    def nap(self, seconds: float) -> None:
        """Sleep in slices, so that a stop is noticed at once."""
        until_s = self.clock() + seconds
        while not self.stopping() and (left_s := until_s - self.clock()) > 0:
            self._sleep(min(left_s, _NAP_S))
