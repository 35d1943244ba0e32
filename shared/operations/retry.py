"""Retries during an outage of broker or registry, and calls with a time limit.

Invariant: only retriable errors are retried, up to the deadline; a stop ends every wait within a
tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import structlog

from shared.errors import TransportError
from shared.operations.counters import OUTAGE_SECONDS, Counters
from shared.operations.health import Health

log = structlog.get_logger()
T = TypeVar("T")

LOG_AFTER_S = 8.5
"""Duration of an outage before it is logged: a call times out after 9 s, so within 10 s."""

LOG_AGAIN_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 0.8
SLEEP_SLICE_S = 0.1
HANGS_S = 3.5
"""A step that takes longer is assumed to wait for an answer."""


class Outage:
    """An outage of broker or registry; one thread writes, any thread may read.

    deadline_s : an outage that lasts longer raises its error
    settle_s   : time without a failure that ends an outage; where an idle topic looks like an
                 unreachable broker, a single success proves nothing
    clock      : monotonic seconds
    health     : gets what is waited for; the caller sets it to ready after an answer
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
        self._log_at_s = LOG_AFTER_S
        self._reason = ""
        counters.set(OUTAGE_SECONDS, 0)

    def step(self) -> None:
        """Record the start of a loop's step; a call in it that hangs counts from here on."""
        is_first = self._step_s is None
        self._step_s = self.clock()
        if is_first:
            self._counters.follow(OUTAGE_SECONDS, self.seconds)

    def failed(self, error: TransportError, since_s: float | None = None, whom: str = "") -> None:
        """Record a failure.

        since_s : start of the failed call; None = start of the step, without steps now
        whom    : what is waited for, where the error does not say
        raises  : the error if it is not retriable; a TransportError after the deadline
        """
        if not error.retriable:
            raise error
        lasted_s = self._note(error, since_s)
        self._counters.set(OUTAGE_SECONDS, lasted_s)
        if self.health is not None:
            named = f"for {whom} " if whom else ""
            self.health.waiting(f"waiting {named}for {lasted_s:.0f} s: {error}")
        if lasted_s >= self.deadline_s:
            message = f"{error}; gave up after {lasted_s:.0f} s (outage_deadline_s)"
            raise TransportError(message, retriable=False) from error
        if lasted_s >= self._log_at_s:
            self._log_at_s = lasted_s + LOG_AGAIN_S
            log.warning(
                "no answer",
                seconds=round(lasted_s),
                give_up_after_s=self.deadline_s,
                because=self._reason,
            )

    def suspect(self, error: TransportError) -> None:
        """Record an error that may have other causes; it counts if its step has hung."""
        if self._began_s is not None or self._hangs_for_s() >= HANGS_S:
            self._note(error, None)

    def _note(self, error: TransportError, since_s: float | None) -> float:
        now_s = self.clock()
        if self._began_s is None:
            starts_s = (since_s, self._step_s)
            self._began_s = next((start_s for start_s in starts_s if start_s is not None), now_s)
        self._failed_s = now_s
        self._failures += 1
        self._reason = str(error)
        return now_s - self._began_s

    def _hangs_for_s(self) -> float:
        step_s = self._step_s
        return 0.0 if step_s is None else self.clock() - step_s

    def succeeded(self) -> None:
        """Record an answer; the outage ends once nothing has failed for ``settle_s``."""
        if self._began_s is not None and self.clock() - self._failed_s >= self.settle_s:
            self.over()

    def over(self) -> None:
        """End the outage, if there is one."""
        if self._began_s is None:
            return
        if self._log_at_s != LOG_AFTER_S:
            log.info("available again", seconds=round(self._failed_s - self._began_s, 1))
        self._counters.set(OUTAGE_SECONDS, 0)
        self._began_s = None
        self._failures = 0
        self._log_at_s = LOG_AFTER_S

    @property
    def pause_s(self) -> float:
        """Pause before the next attempt: exponential backoff up to LONGEST_PAUSE_S."""
        doublings = min(max(self._failures - 1, 0), 10)
        return float(min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S))

    def reason(self) -> str:
        """Return how long the outage has lasted and its error; empty without one."""
        if self._began_s is not None:
            return f"outage for {self.seconds():.0f} s: {self._reason}"
        hangs_s = self._hangs_for_s()
        if hangs_s < HANGS_S:
            return ""
        return (
            f"no answer for {hangs_s:.0f} s: the loop waits for the broker or the registry, or this"
            " machine is overloaded"
        )

    def seconds(self) -> float:
        """Return the duration of the outage so far; 0 without one."""
        began_s = self._began_s
        if began_s is not None:
            return max(0.0, self.clock() - began_s)
        hangs_s = self._hangs_for_s()
        return hangs_s if hangs_s >= HANGS_S else 0.0


class Retry:
    """Retries a call until it succeeds, the outage deadline passes, or a stop is requested.

    stopping       : tells whether a stop is requested
    sleep          : takes seconds
    longest_wait_s : a call that fails after a longer time has had answers before, so that its
                     failure starts a new outage
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
        """Return what the call returns; None when a stop was requested first.

        whom   : what is waited for, where the call's errors do not say
        raises : what the call raises, except for a retriable TransportError; TransportError after
                 the deadline of the outage
        """
        outage = self.outage
        if whom and outage.health is not None and outage.health():  # it is not ready anyway
            outage.health.waiting(f"waiting for {whom}")
        has_failed = False
        while not self.stopping():
            began_s = outage.clock()
            try:
                answer = call()
            except TransportError as error:
                has_failed = True
                now_s = outage.clock()
                if now_s - began_s > self.longest_wait_s:
                    outage.over()
                    began_s = now_s
                outage.failed(error, began_s, whom)
                self.wait(outage.pause_s)
            else:
                if has_failed:
                    outage.over()
                return answer
        return None

    def wait(self, seconds: float) -> None:
        """Sleep in slices, so that a stop ends the wait at once."""
        until_s = self.outage.clock() + seconds
        while not self.stopping() and (left_s := until_s - self.outage.clock()) > 0:
            self._sleep(min(left_s, SLEEP_SLICE_S))


class CallThread:
    """A daemon thread for calls with a time limit; one caller uses it.

    A call that does not return in time is abandoned together with its thread, and the next call
    gets a new one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] | None = None

    def __call__(self, timeout_s: float, call: Callable[[], T]) -> T:
        """Make a call.

        raises : what the call raises; TimeoutError where it does not return in time
        """
        if self._calls is None:
            self._calls = SimpleQueue()
            Thread(target=_make_calls, args=(self._calls,), name=self._name, daemon=True).start()
        future: Future[T] = Future()
        self._calls.put((future, call))
        try:
            return future.result(timeout_s)
        finally:
            if not future.done():
                self.close()
            del future  # an error's traceback references this frame: they would form a cycle

    def close(self) -> None:
        """End the thread after its present call; a later call gets a new one."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _make_calls(calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (given := calls.get()) is not None:
        _settle(*given)
        del given  # its result, or the traceback of its error, must not live until the next call


def in_background(call: Callable[[], T], name: str) -> Future[T]:
    """Start a call in a daemon thread.

    name    : of the thread
    returns : holds the result, or whatever the call raised
    """
    future: Future[T] = Future()
    Thread(target=_settle, args=(future, call), name=name, daemon=True).start()
    return future


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised by future.result()
        future.set_exception(error)
        # The error's traceback references this frame, which would form a cycle with the future.
        del future, call


def within(timeout_s: float, call: Callable[[], T], name: str) -> T:
    """Make a call with a time limit; after it, the call is abandoned in its thread.

    name   : of that thread
    raises : what the call raises; TimeoutError where it does not return in time
    """
    return in_background(call, name).result(timeout_s)
