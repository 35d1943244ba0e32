"""A fake sender, clock and log for tests of the replay."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from producer.loop import Destination, Monitoring, Replay
from producer.pacing import ConsumerPace
from producer.progress import Lines
from producer.replay import Stream, plan
from shared.operations.counters import Counters
from shared.operations.health import Health
from shared.operations.retry import Outage, Retry
from shared.settings import load_settings


class Clock:
    """A clock that advances only by ``sleep``, or by ``tick`` at each reading."""

    def __init__(self, tick=0.0):
        self.now = 100.0
        self.tick = tick

    def __call__(self):
        self.now += self.tick
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Log:
    def __init__(self):
        self.lines = []

    def info(self, event, **fields):
        self.lines.append((event, fields))

    warning = info

    def events(self):
        return [event for event, _ in self.lines]


class FakeSender:
    """Acknowledges at once unless ``away``; ``trouble`` has one error, or None, per future call."""

    def __init__(self, settings=None, *, stopping=lambda: False, clock=None):
        self.settings = settings
        self.sent = []
        self.at = []
        self.trouble = []
        self.kept = []
        self.away = False
        self.failed = 0
        self.first_error = None
        self.flushes = 0
        self.closed = False
        self.clock = clock or (lambda: 0.0)

    @property
    def queued(self):
        return sum(map(len, self.sent))

    @property
    def waiting(self):
        return (self.queued if self.away else 0) + sum(map(len, self.kept))

    @property
    def acknowledged(self):
        return 0 if self.away else self.queued

    def _drain(self):
        error = self.trouble.pop(0) if self.trouble else None
        if error is not None:
            raise error
        self.sent += self.kept
        self.kept = []

    def send(self, records):
        self.kept.append(records)
        self.at.append(self.clock())
        self._drain()

    def flush(self, timeout_s):
        self.flushes += 1
        if self.kept:
            self._drain()
        return self.waiting

    def close(self):
        self.closed = True


class Maker:
    topic = "in"

    def __call__(self, chunk):
        return chunk


def small_stream(n, step_ms=300_000):
    times = np.arange(n, dtype=np.int64) * step_ms + 1_700_000_000_000
    return Stream(("a",), ("cpu",), np.zeros(n, np.int32), times, np.zeros((n, 1)))


def settings(**flags):
    return load_settings(flags, environ={})


def made(n=10, *, clock=None, stopping=lambda: False, pace=None, deadline_s=300.0, **schedule):
    clock = clock or Clock()
    stream = small_stream(n)
    sender, log, counters = FakeSender(clock=clock), Log(), Counters()
    health = Health()
    retry = Retry(Outage(deadline_s, counters, clock=clock, health=health), stopping, clock.sleep)
    pace = pace or ConsumerPace((), 1, lambda *_: 0)
    progress = Lines(log, n, clock.now)
    replay = Replay(
        stream,
        plan(stream, **schedule),
        Destination(Maker(), sender, "localhost:9092"),
        pace,
        Monitoring(retry, health, counters, progress),
    )
    return SimpleNamespace(
        replay=replay, sender=sender, log=log, counters=counters, clock=clock, stream=stream
    )


def sent_times(sender):
    return np.concatenate([chunk.time_ms for chunk in sender.sent]).tolist()
