"""The open transaction: when it is due, what a commit returns, and recovery from a failure."""

from __future__ import annotations

import pytest

from consumer_prediction.transaction import Transaction
from shared.batch import Position
from shared.errors import ProducerFenced, TransactionAborted, TransactionInDoubt, TransportError

POSITIONS = {0: Position(7, "")}


class Sink:
    """Notes every call; raises what ``failures`` holds for it."""

    def __init__(self, calls):
        self.calls, self.failures = calls, {}
        calls.append("open")

    def _call(self, name):
        self.calls.append(name)
        if error := self.failures.pop(name, None):
            raise error

    def send(self, outgoing):
        self._call(f"send {outgoing}")

    def commit(self, positions):
        self._call("commit")

    def abort(self):
        self._call("abort")

    def close(self):
        self._call("close")


class Clock:
    now_s = 5.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def calls():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def transaction(calls, clock):
    return Transaction(lambda: Sink(calls), clock, 0.1)


def test_a_short_rest_of_the_interval_is_not_waited_for(calls, clock):
    transaction = Transaction(lambda: Sink(calls), clock, 0.1, 0.02)
    transaction.send(["a", "bc"])
    assert (transaction.sent, transaction.due_in_s) == (3, pytest.approx(0.1))
    clock.now_s += 0.07
    assert transaction.due_in_s == pytest.approx(0.03)
    clock.now_s += 0.015
    assert transaction.due_in_s == 0.0
    transaction.commit(POSITIONS)
    assert (transaction.sent, transaction.due_in_s) == (0, None)


def test_it_is_due_so_long_after_its_first_record(transaction, clock):
    assert (transaction.is_open, transaction.due_in_s) == (False, None)
    transaction.send(["a"])
    assert (transaction.is_open, transaction.due_in_s) == (True, pytest.approx(0.1))
    clock.now_s += 0.06
    transaction.send(["b"])
    assert transaction.due_in_s == pytest.approx(0.04)
    clock.now_s += 1.0
    assert transaction.due_in_s == 0.0


def test_a_commit_hands_back_what_is_visible_now_and_closes_it(transaction, calls):
    transaction.send(["a", "b"])
    transaction.add("first")
    transaction.add("second")
    assert transaction.commit(POSITIONS) == ["first", "second"]
    assert calls == ["open", "send a", "send b", "commit"]
    assert not transaction.is_open
    assert transaction.commit({}) == []
    assert calls[-1] == "commit", "nothing to commit, nothing done"
    assert calls.count("commit") == 1


@pytest.mark.parametrize("call", ["send a", "commit"])
def test_whatever_keeps_a_sink_from_taking_something_is_an_abort(transaction, call):
    transaction.sink.failures[call] = TransportError("the queue is full")
    with pytest.raises(TransactionAborted, match="the queue is full"):
        deliver(transaction)


@pytest.mark.parametrize("error", [TransactionAborted, TransactionInDoubt, ProducerFenced])
def test_what_a_sink_says_of_a_transaction_stays_what_it_is(transaction, error):
    transaction.sink.failures["commit"] = raised = error("why")
    with pytest.raises(error) as caught:
        deliver(transaction)
    assert caught.value is raised


def deliver(transaction):
    transaction.send(["a"])
    transaction.add("outcome")
    transaction.commit(POSITIONS)


def test_what_was_aborted_is_dropped_and_the_sink_goes_on(transaction, calls):
    transaction.send(["a"])
    transaction.add("dropped")
    transaction.invalidate(in_doubt=False)
    assert (transaction.broken, transaction.is_open) == (True, False)
    transaction.recover()
    assert calls == ["open", "send a", "abort"]
    assert transaction.broken, "until the state is what was committed"
    transaction.resume()
    assert not transaction.broken
    assert transaction.commit(POSITIONS) == []


def test_what_is_undecided_is_left_to_a_new_sink_also_after_an_abort_that_followed(
    transaction, calls
):
    first = transaction.sink
    transaction.invalidate(in_doubt=True)
    transaction.invalidate(in_doubt=False)
    transaction.recover()
    assert transaction.sink is not first
    assert calls == ["open", "close", "open"]
    transaction.resume()
    transaction.invalidate(in_doubt=False)
    transaction.recover()
    assert calls[-1] == "abort", "the new one is decided"


def test_a_new_sink_that_cannot_be_opened_is_opened_next_time(calls, clock):
    attempts = []

    def open_sink():
        attempts.append(len(attempts))
        if attempts == [0, 1]:
            raise TransportError("nobody there")
        return Sink(calls)

    transaction = Transaction(open_sink, clock, 0.1)
    transaction.invalidate(in_doubt=True)
    with pytest.raises(TransportError):
        transaction.recover()
    assert transaction.broken
    transaction.recover()
    assert attempts == [0, 1, 2]
    assert "abort" not in calls
