"""The delivery of notices to one target: in order, with back-off, at a limited rate.

Invariant: a notice that was put in comes out exactly once, as delivered or as unsent with the
reason. A key that was delivered is not sent again while it is remembered.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

import structlog

from lapwing.notify.receivers import Answer, Receiver
from shared.notices.notice import Notice

log = structlog.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
BURST = 20
"""Notices that may go out at once after a quiet time."""

REMEMBERED = 10_000
"""Delivered keys per target."""

LOG_AGAIN_S = 60.0
HOURS_CHECK_S = 10.0
"""How often it is checked whether the receiver's hours have begun."""


REFRESH = -1


class Item(NamedTuple):
    """A notice in a queue.

    offset : of its record in the incidents topic; REFRESH = an open incident that is sent again
    """

    notice: Notice
    offset: int


class Done(NamedTuple):
    """What became of a notice; why = empty if it was delivered."""

    target: str
    item: Item
    why: str


class Bucket:
    """A token bucket: BURST at once, then so many a minute."""

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._per_s = per_minute / 60
        self._clock = clock
        self._tokens = float(BURST)
        self._filled_s = clock()

    def wait_s(self) -> float:
        """Take a token and return 0; or return how long to wait for one."""
        now_s = self._clock()
        self._tokens = min(BURST, self._tokens + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_s


class Delivery:
    """Sends the notices of one target on a thread of its own.

    done    : gets what became of each notice
    is_held : whether notices wait for the receiver's hours now
    """

    def __init__(
        self,
        name: str,
        receiver: Receiver,
        done: SimpleQueue[Done],
        *,
        per_minute: float,
        give_up_after_s: float,
        is_held: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._receiver = receiver
        self._done = done
        self._give_up_after_s = give_up_after_s
        self._is_held = is_held
        self._clock = clock
        self._bucket = Bucket(per_minute, clock)
        self._items: deque[Item] = deque()
        self._delivered: OrderedDict[str, None] = OrderedDict()
        self._wake = threading.Condition()
        self._refreshing = 0
        self._has_recovered = False
        self._closed = False
        self._generation = 0
        self._thread = threading.Thread(target=self._run, name=f"notify-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue a notice."""
        with self._wake:
            self._items.append(item)
            self._refreshing += item.offset == REFRESH
            self._wake.notify()

    def is_refreshing(self) -> bool:
        """Return whether incidents that are sent again are still queued."""
        with self._wake:
            return self._refreshing > 0

    def has_recovered(self) -> bool:
        """Return whether the receiver has answered after a failure since this was last asked."""
        with self._wake:
            found, self._has_recovered = self._has_recovered, False
            return found

    def clear(self) -> None:
        """Drop what is queued; the request that is under way is not repeated.

        Whoever owns the topic next sends it, and what follows it: a repeat after that would be
        out of order.
        """
        with self._wake:
            self._items.clear()
            self._refreshing = 0
            self._generation += 1
            self._wake.notify()

    def close(self) -> None:
        """End the thread; what is queued is dropped."""
        with self._wake:
            self._closed = True
            self._items.clear()
            self._wake.notify()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._items and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                item = self._items.popleft()
                self._refreshing -= item.offset == REFRESH
                generation = self._generation
            why = self._deliver(item, generation)
            if why is not None:
                self._done.put(Done(self.name, item, why))

    def _deliver(self, item: Item, generation: int) -> str | None:
        """Return why a notice was not delivered, empty if it was; None when it was dropped."""
        key = item.notice.key
        if item.offset >= 0 and key in self._delivered:
            return ""
        has_failed = False
        began_s, pause_s, logged_s = self._clock(), FIRST_PAUSE_S, -LOG_AGAIN_S
        while True:
            while self._is_held():
                if not self._sleep(HOURS_CHECK_S, generation):
                    return None
                began_s = self._clock()
            while wait_s := self._bucket.wait_s():
                if not self._sleep(wait_s, generation):
                    return None
            answer = self._receiver.send(item.notice)
            if answer.delivered:
                self._remember(key)
                if has_failed:
                    with self._wake:
                        self._has_recovered = True
                return ""
            has_failed = True
            lasted_s = self._clock() - began_s
            if answer.refused or lasted_s >= self._give_up_after_s:
                return _reason(answer, lasted_s)
            if self._clock() - logged_s >= LOG_AGAIN_S:
                logged_s = self._clock()
                log.warning("notice not delivered yet", target=self.name, because=answer.why)
            if not self._sleep(max(pause_s, answer.retry_after_s), generation):
                return None
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _sleep(self, seconds: float, generation: int) -> bool:
        """Wait; return False when the queue was dropped or closed meanwhile."""
        with self._wake:
            until_s = self._clock() + seconds
            while self._is_current(generation) and (left_s := until_s - self._clock()) > 0:
                self._wake.wait(left_s)
            return self._is_current(generation)

    def _is_current(self, generation: int) -> bool:
        return not self._closed and generation == self._generation

    def _remember(self, key: str) -> None:
        self._delivered[key] = None
        while len(self._delivered) > REMEMBERED:
            self._delivered.popitem(last=False)


def _reason(answer: Answer, lasted_s: float) -> str:
    return answer.why if answer.refused else f"{answer.why}; gave up after {lasted_s:.0f} s"
