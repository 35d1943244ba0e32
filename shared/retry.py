"""One answer to an outage of broker or registry, and one call that has a time limit.

Invariant: only errors that may be tried again are waited for, up to the deadline; a stop ends every
           wait within a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

import structlog

from shared.counters import OUTAGE_SECONDS, Counters
from shared.errors import TransportError
from shared.health import Health

log = structlog.get_logger()
T = TypeVar("T")

SAY_AFTER_S = 8.5
"""A call to a broker that does not answer ends after nine seconds: by the tenth it is said."""

SAY_AGAIN_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.8
NAP_S = 0.1
HANGS_S = 3.5
"""A step that takes longer is taken for one that waits for an answer, until it is over."""


class Outage:
    """How long broker or registry have not answered; any thread may read it, one writes.

    deadline_s : an outage that lasts longer is raised
    settle_s   : how long there must be no failure before an outage is over; where an idle topic
                 looks like a broker that has gone, a single success proves nothing
    clock      : monotonic seconds
    health     : told what is waited for; whoever gets an answer says that it is ready
    """

    def __init__(
        self,
        deadline_s: float,
        counters: Counters,
        *,
        clock: Callable[[], float] = time.monotonic,
        health: Health | None = None,
        settle_s: float = 0.0,
    ) -> None:
        self.deadline_s = deadline_s
        self.settle_s = settle_s
        self.clock = clock
        self.health = health
        self._counters = counters
        self._began_s: float | None = None
        self._failed_s = 0.0
        self._step_s: float | None = None
        self._failures = 0
        self._say_at_s = SAY_AFTER_S
        self._why = ""
        counters.set(OUTAGE_SECONDS, 0)

    def step(self) -> None:
        """Take note that a step of a loop begins: a call in it that hangs counts from here on."""
        first, self._step_s = self._step_s is None, self.clock()
        if first:
            self._counters.follow(OUTAGE_SECONDS, self.seconds)

    def failed(self, error: TransportError, since_s: float | None = None, whom: str = "") -> None:
        """Take note of a failure.

        since_s : when the call began that failed; None = when the step began, without steps now
        whom    : who is waited for, where the error does not say
        raises  : the error where it must not be tried again, or where the deadline has passed
        """
        if not error.retriable:
            raise error
        lasted_s = self._note(error, since_s)
        self._counters.set(OUTAGE_SECONDS, lasted_s)
        if self.health is not None:
            named = f"for {whom} " if whom else ""
            self.health.waiting(f"waiting {named}for {lasted_s:.0f} s: {error}")
        if lasted_s >= self.deadline_s:
            gave_up = f"{error}; gave up after {lasted_s:.0f} s (outage_deadline_s)"
            raise TransportError(gave_up, retriable=False) from error
        if lasted_s >= self._say_at_s:
            self._say_at_s = lasted_s + SAY_AGAIN_S
            log.warning(
                "no answer",
                seconds=round(lasted_s),
                give_up_after_s=self.deadline_s,
                because=self._why,
            )

    def suspect(self, error: TransportError) -> None:
        """Take note of an error that may have other causes: it counts where its step hung."""
        if self._began_s is not None or self._hangs_for_s() >= HANGS_S:
            self._note(error, None)

    def _note(self, error: TransportError, since_s: float | None) -> float:
        now_s = self.clock()
        if self._began_s is None:
            self._began_s = next((at for at in (since_s, self._step_s) if at is not None), now_s)
        self._failed_s, self._failures, self._why = now_s, self._failures + 1, str(error)
        return now_s - self._began_s

    def _hangs_for_s(self) -> float:
        step_s = self._step_s
        return 0.0 if step_s is None else self.clock() - step_s

    def succeeded(self) -> None:
        """Take note of an answer; the outage is over once nothing has failed for ``settle_s``."""
        if self._began_s is not None and self.clock() - self._failed_s >= self.settle_s:
            self.over()

    def over(self) -> None:
        """End the outage, if there is one."""
        if self._began_s is None:
            return
        if self._say_at_s != SAY_AFTER_S:
            log.info("available again", seconds=round(self._failed_s - self._began_s, 1))
        self._counters.set(OUTAGE_SECONDS, 0)
        self._began_s, self._failures, self._say_at_s = None, 0, SAY_AFTER_S

    @property
    def pause_s(self) -> float:
        """How long to wait before the next attempt: longer after each failure, up to a limit."""
        doublings = min(max(self._failures - 1, 0), 10)
        return float(min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S))

    def reason(self) -> str:
        """Return since when there is an outage, and of what; an empty text without one."""
        if self._began_s is not None:
            return f"outage for {self.seconds():.0f} s: {self._why}"
        hangs_s = self._hangs_for_s()
        if hangs_s < HANGS_S:
            return ""
        return (
            f"no answer for {hangs_s:.0f} s: the loop waits for the broker or the registry, or this"
            " machine is very busy"
        )

    def seconds(self) -> float:
        """Return for how long there has been one; 0 without one."""
        began_s = self._began_s
        if began_s is not None:
            return max(0.0, self.clock() - began_s)
        hangs_s = self._hangs_for_s()
        return hangs_s if hangs_s >= HANGS_S else 0.0


class Retry:
    """Makes a call until it succeeds, the outage has lasted too long, or somebody asks to stop.

    stopping       : whether somebody has
    sleep          : waits for so many seconds
    longest_wait_s : what fails after a longer time had answers meanwhile, so that its failure is
                     the beginning of another outage
    """

    def __init__(
        self,
        outage: Outage,
        stopping: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
        *,
        longest_wait_s: float = float("inf"),
    ) -> None:
        self.outage = outage
        self.stopping = stopping
        self.longest_wait_s = longest_wait_s
        self._sleep = sleep

    def __call__(self, call: Callable[[], T], whom: str = "") -> T | None:
        """Return what the call returns; None when a stop came first.

        whom   : who is waited for, where the call's errors do not say
        raises : what the call raises, but for a TransportError that may be tried again;
                 TransportError once the outage has lasted for its deadline
        """
        outage = self.outage
        if whom and outage.health is not None and outage.health():  # not ready as it is
            outage.health.waiting(f"waiting for {whom}")
        failed = False
        while not self.stopping():
            began_s = outage.clock()
            try:
                answer = call()
            except TransportError as error:
                failed, now_s = True, outage.clock()
                if now_s - began_s > self.longest_wait_s:
                    outage.over()
                    began_s = now_s
                outage.failed(error, began_s, whom)
                self.nap(outage.pause_s)
            else:
                if failed:
                    outage.over()
                return answer
        return None

    def nap(self, seconds: float) -> None:
        """Sleep in slices, so that a stop is noticed at once."""
        until_s = self.outage.clock() + seconds
        while not self.stopping() and (left_s := until_s - self.outage.clock()) > 0:
            self._sleep(min(left_s, NAP_S))


def in_background(call: Callable[[], T], name: str) -> Future[T]:
    """Start a call in a thread of its own that nobody waits for at the end of the process.

    name    : of the thread
    returns : holds the result, or whatever the call raised
    """
    future: Future[T] = Future()
    Thread(target=_settle, args=(future, call), name=name, daemon=True).start()
    return future


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
        future.set_exception(error)
        # The error's traceback holds this frame: together with the future it would be a circle.
        del future, call


def within(timeout_s: float, call: Callable[[], T], name: str) -> T:
    """Make a call that must not take longer; one that does is left behind in its thread.

    name   : of that thread
    raises : what the call raises; TimeoutError where it does not return in time
    """
    return in_background(call, name).result(timeout_s)
