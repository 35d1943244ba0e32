"""Sends a stream into the input topic, steadily or at once.

Invariant: the records sent are a prefix of the stream, in its order, and their number in each
           partition is known at any time.
"""

from __future__ import annotations

import threading
import time

from shared.batch import Blob, Outgoing
from shared.kafka import Publisher
from shared.settings import Settings
from tests.faults.content import Content


class NotSent(Exception):
    """The broker did not take the stream."""


class Pacer:
    """Sends a stream at a steady rate on its own thread, or a number of records on request."""

    def __init__(self, settings: Settings, content: Content, rate: float) -> None:
        self.content, self.rate = content, rate
        self.sent = 0
        self.failure: BaseException | None = None
        self.counts = dict.fromkeys(range(content.partitions), 0)
        self._topic = settings.topics.input
        self._publisher = Publisher(settings, stall_s=120)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._pace, name="pacer", daemon=True)
        self._lock = threading.Lock()

    def start(self) -> None:
        self._thread.start()

    def send(self, count: int) -> None:
        """Send this number of records now."""
        with self._lock:
            self.content.need(self.sent + count)
            chosen = self.content.records[self.sent : self.sent + count]
            for partition, _ in self.content.places[self.sent : self.sent + count]:
                self.counts[partition] += 1
            self.sent += count
            keys, values = (
                Blob.join([key for key, _ in chosen]),
                Blob.join([value for _, value in chosen]),
            )
            self._publisher.send(Outgoing(self._topic, values, keys))

    def state(self) -> str:
        return f"sent {dict(self.counts)}, {self._publisher.counts()}"

    def stop(self) -> None:
        """Stop sending, and wait until the broker has everything."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(150)
        self._publisher.flush(120)
        counts = self._publisher.counts()
        if self._thread.is_alive() or (counts.failed, counts.waiting) != (0, 0):
            raise NotSent(f"the stream could not be sent: {self.state()}")
        self._publisher.close()

    def abandon(self) -> None:
        """End the thread without waiting for the records."""
        self._closing.set()

    def _pace(self) -> None:
        began_s, done = time.monotonic(), 0
        try:
            while not self._closing.wait(0.02):
                due = int((time.monotonic() - began_s) * self.rate) - done
                if due > 0:
                    self.send(due)
                    done += due
        except BaseException as error:  # noqa: BLE001 - raised again where the row waits
            self.failure = error
