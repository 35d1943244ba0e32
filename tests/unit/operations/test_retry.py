"""Retries wait for an outage to end, log it, count it and give up; calls keep time limits."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from shared.errors import ConfigError, TransportError
from shared.operations.counters import OUTAGE_SECONDS, Counters
from shared.operations.health import STARTING, Health
from shared.operations.retry import (
    LONGEST_PAUSE_S,
    SLEEP_SLICE_S,
    CallThread,
    Outage,
    Retry,
    in_background,
    within,
)

NO_ANSWER = TransportError("asking broker:1: no answer")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def made(deadline_s: float = 300.0, **how: Any) -> Any:
    """A retry whose clock passes only while it sleeps, or by ``tick`` for each call."""
    it = SimpleNamespace(now=100.0, calls=0, stop_at=float("inf"), counters=Counters())
    it.health = Health()

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= SLEEP_SLICE_S
        it.now += seconds

    longest = how.pop("longest_wait_s", float("inf"))
    it.outage = Outage(deadline_s, it.counters, clock=lambda: it.now, health=it.health, **how)
    it.retry = Retry(it.outage, lambda: it.now >= it.stop_at, sleep, longest_wait_s=longest)

    def failing(until_s: float, takes_s: float = 0.0) -> Callable[[], str]:
        def call() -> str:
            it.calls += 1
            it.now += takes_s
            if it.now - 100 < until_s:
                raise NO_ANSWER
            return "answer"

        return call

    it.failing = failing
    return it


def test_a_call_is_made_again_until_it_succeeds(logged):
    it = made()
    assert it.retry(it.failing(5.0)) == "answer"
    assert it.now - 100 == pytest.approx(5, abs=LONGEST_PAUSE_S)
    assert logged == [], "too short to be spoken of"
    assert it.counters.value(OUTAGE_SECONDS) == 0
    assert it.outage.reason() == ""


def test_the_waits_grow_up_to_a_limit():
    it, waits = made(), []
    for _ in range(30):
        it.outage.failed(NO_ANSWER)
        waits.append(it.outage.pause_s)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert set(waits[3:]) == {LONGEST_PAUSE_S}
    it.outage.over()
    it.outage.failed(NO_ANSWER)
    assert it.outage.pause_s == 0.1


def test_an_outage_is_said_by_the_tenth_second_then_once_a_minute_and_its_end(logged):
    it = made()
    it.retry(it.failing(195.0, takes_s=0.2))
    lines = [line for line in logged if line["event"] == "no answer"]
    assert [line["seconds"] for line in lines] == pytest.approx([9, 69, 129, 189], abs=3)
    assert lines[0]["seconds"] < 10
    assert {line["log_level"] for line in lines} == {"warning"}
    assert lines[0]["because"] == str(NO_ANSWER)
    assert lines[0]["give_up_after_s"] == 300
    assert [line["event"] for line in logged[-1:]] == ["available again"]


def test_the_first_call_counts_from_when_it_began(logged):
    """A call to a broker that is not there takes nine seconds."""
    it = made()
    it.retry(it.failing(10.0, takes_s=9.0))
    assert [line["event"] for line in logged] == ["no answer", "available again"]


def test_an_outage_ends_in_an_error_after_the_deadline(logged):
    it = made(deadline_s=60)
    with pytest.raises(TransportError, match=r"no answer; gave up after 6\d s .outage_dead") as end:
        it.retry(it.failing(1000.0))
    assert 60 <= it.now - 100 <= 61
    assert not end.value.retriable
    assert end.value.__cause__ is NO_ANSWER


def test_what_cannot_be_tried_again_is_raised_at_once():
    it = made()
    for error in (TransportError("no such topic", retriable=False), ConfigError("wrong")):

        def call(error=error):
            it.calls += 1
            raise error

        it.calls = 0
        with pytest.raises(type(error)) as raised:
            it.retry(call)
        assert raised.value is error
        assert it.calls == 1


def test_a_stop_ends_a_wait_at_once():
    it = made()
    it.stop_at = 103.25
    assert it.retry(it.failing(1000.0)) is None
    assert it.now - 103.25 <= SLEEP_SLICE_S
    it.calls = 0
    assert it.retry(it.failing(0.0)) is None
    assert it.calls == 0, "nothing is begun after a stop"
    it.retry.wait(60.0)
    assert it.now - 103.25 <= SLEEP_SLICE_S


def test_who_asks_is_told_what_is_waited_for():
    it, heard = made(), []

    def call():
        heard.append((it.health(), it.counters.value(OUTAGE_SECONDS)))
        return it.failing(3.0, takes_s=1.0)()

    assert it.health() == STARTING
    it.retry(call, "the broker at broker:1")
    assert heard[0] == ("waiting for the broker at broker:1", 0)
    assert heard[2][0] == f"waiting for the broker at broker:1 for 2 s: {NO_ANSWER}"
    assert heard[2][1] == pytest.approx(2.1)


def test_a_call_that_succeeds_at_once_does_not_end_an_outage_that_others_see(logged):
    """A broker may answer a question and acknowledge nothing."""
    it = made()
    it.outage.failed(NO_ANSWER, 90.0)
    it.retry(lambda: it.calls)
    assert it.outage.reason().startswith("outage for 10 s")
    assert len(logged) == 1


def test_a_service_that_is_ready_stays_so_until_a_call_fails():
    it = made()
    it.health.ready()
    assert it.retry(lambda: it.health(), "the broker") == ""


def test_a_failure_after_a_long_call_begins_another_outage():
    it = made(deadline_s=60, longest_wait_s=30)
    calls = iter([9.0, 9.0, 100.0, 9.0])

    def call():
        takes_s = next(calls, None)
        if takes_s is None:
            return it.outage.reason()
        it.now += takes_s
        raise NO_ANSWER

    assert it.retry(call).startswith("outage for 9 s"), "and not for 128 s, beyond the deadline"


def test_a_success_proves_nothing_before_the_outage_has_settled(logged):
    it = made(deadline_s=60, settle_s=5.0)

    def now_and_then() -> None:
        for _ in range(100):
            it.outage.failed(NO_ANSWER)
            it.now += 1.0
            it.outage.succeeded()

    with pytest.raises(TransportError):
        now_and_then()
    assert it.now == 160.0
    it.now += 5.0
    it.outage.succeeded()
    assert (it.outage.reason(), it.counters.value(OUTAGE_SECONDS)) == ("", 0)
    assert logged[-1]["event"] == "available again"
    assert logged[-1]["seconds"] == 60.0


# -- a call with a time limit ----------------------------------------------------------------------


def test_a_call_within_its_time():
    assert within(60.0, lambda: threading.current_thread().name, "asking") == "asking"
    with pytest.raises(ConfigError, match="wrong"):
        within(60.0, _raise, "asking")


def _raise() -> None:
    raise ConfigError("wrong")


def test_a_call_that_does_not_return_is_left_behind():
    ended = threading.Event()
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: ended.wait(120), "hanging")
    assert time.monotonic() - began_s < 60
    (thread,) = [one for one in threading.enumerate() if one.name == "hanging"]
    assert thread.daemon
    ended.set()
    thread.join(60)


def test_calls_with_a_time_limit_share_a_thread_until_one_does_not_return():
    ended = threading.Event()
    caller = CallThread("calling")
    first = caller(60.0, threading.current_thread)
    assert caller(60.0, threading.current_thread) is first
    with pytest.raises(ConfigError, match="wrong"):
        caller(60.0, _raise)
    with pytest.raises(TimeoutError, match="its own"):
        caller(60.0, _time_out)
    assert caller(60.0, threading.current_thread) is first
    with pytest.raises(TimeoutError):
        caller(0.05, lambda: ended.wait(120))
    second = caller(60.0, threading.current_thread)
    assert second is not first
    assert second.daemon
    ended.set()
    caller.close()
    for thread in (first, second):
        thread.join(60)
        assert not thread.is_alive()


def _time_out() -> None:
    raise TimeoutError("its own")


def test_a_failed_call_is_not_kept_alive_by_its_error():
    class Client:
        def fail(self) -> None:
            raise ConfigError("wrong")

    client = Client()
    gone = weakref.ref(client)
    gc.disable()
    try:
        with pytest.raises(ConfigError):
            in_background(client.fail, "asking").result(60)
        del client
        deadline = time.monotonic() + 60
        while gone() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone() is None
    finally:
        gc.enable()
