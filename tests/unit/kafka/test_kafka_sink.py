"""What a sink makes of a client that does not do what it was told."""

import gc
import threading
import time
import weakref

import pytest

from shared.batch import Blob, Outgoing
from shared.errors import NotAuthorized, ProducerFenced, TransactionAborted, TransactionInDoubt
from shared.kafka import sink as sinks
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Flags
from shared.kafka.sink import TransactionalSink
from shared.settings import Settings


class Producer:
    """A client whose calls end as the test says."""

    def __init__(self) -> None:
        self.does = {}

    def __getattr__(self, name):
        return lambda *_: self.does.get(name, lambda: None)()


class Outbox:
    def __init__(self, *_) -> None:
        self.producer = Producer()

    def flush(self, timeout_s: float) -> int:
        return self.producer.flush(timeout_s) or 0

    def close(self) -> None:
        pass


class Source:
    topic = "t"

    def group_metadata(self):
        return b"membership"


@pytest.fixture
def sink(monkeypatch) -> TransactionalSink:
    monkeypatch.setattr(sinks, "Outbox", Outbox)
    monkeypatch.setattr(sinks, "GRACE_S", 0.05)
    return TransactionalSink(
        Settings(), "group-slot", Source(), transaction_timeout_ms=5000, timeout_s=0.05
    )


@pytest.mark.parametrize(
    ("call", "what"),
    [("send_positions", "sending positions"), ("commit_transaction", "committing")],
)
def test_a_call_that_never_returns_leaves_the_transaction_undecided(sink, call, what):
    hung = threading.Event()
    sink._outbox.producer.does[call] = hung.wait
    began_s = time.monotonic()
    with pytest.raises(TransactionInDoubt, match=f"{what}: the client did not return"):
        sink.commit({0: "position"})
    assert time.monotonic() - began_s < 5
    with pytest.raises(TransactionInDoubt):
        sink.commit({0: "position"})
    hung.set()


def test_what_a_call_raises_is_raised_where_it_was_asked_for(sink):
    def refuse():
        raise ClientError(Code.UNKNOWN_MEMBER_ID, "no", Flags.ABORT)

    sink._outbox.producer.does["send_positions"] = refuse
    with pytest.raises(TransactionAborted, match="sending positions"):
        sink.commit({0: "position"})


def test_positions_follow_the_records_and_are_part_of_the_commit(sink):
    """The broker takes records once the transaction before is complete, and positions likewise."""
    calls = []
    for name in ("flush", "send_positions", "commit_transaction"):
        sink._outbox.producer.does[name] = lambda name=name: calls.append(name)
    sink.commit({0: "position"})
    assert calls == ["flush", "send_positions", "commit_transaction"]


def test_records_that_cannot_be_sent_abort_the_transaction_before_its_positions(sink):
    def refuse():
        raise ClientError(Code.UNKNOWN_TOPIC_OR_PART, "no")

    calls = []
    sink._outbox.producer.does |= {
        "flush": refuse,
        "send_positions": lambda: calls.append("send_positions"),
    }
    with pytest.raises(TransactionAborted, match="sending results"):
        sink.commit({0: "position"})
    assert not calls


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ClientError(Code.TOPIC_AUTHORIZATION_FAILED, "may not", Flags.ABORT), NotAuthorized),
        (ClientError(Code.LOCAL_FENCED, "a newer one", Flags.FATAL), ProducerFenced),
        (ClientError(Code.LOCAL_STATE, "in a transaction"), TransactionInDoubt),
    ],
)
def test_a_transaction_that_takes_no_records_says_why(sink, cause, expected):
    """The client refuses records of a failed transaction without the reason."""

    def refuse(error):
        raise error

    sink._begin_if_needed()
    refused = ClientError(Code.LOCAL_STATE, "Erroneous state")
    sink._outbox.producer.does["begin_transaction"] = lambda: refuse(cause)
    sink._outbox.put = lambda *_: refuse(refused)
    said = refused if expected is TransactionInDoubt else cause
    with pytest.raises(expected, match=f"sending to t: {said.text}"):
        sink.send(Outgoing("t", Blob.join([b"k"]), Blob.join([b"v"])))


@pytest.mark.parametrize("call", ["send_positions", "commit_transaction"])
def test_a_transaction_that_outlasts_its_timeout_is_no_second_process(sink, monkeypatch, call):
    """The broker fences the producer of a transaction that it has aborted because of its timeout.

    Then nobody else has the slot, and the caller continues with a new producer.
    """

    def fenced():
        raise ClientError(Code.LOCAL_FENCED, "fenced by a newer instance", Flags.FATAL)

    now_s = [time.monotonic()]
    monkeypatch.setattr(sinks.time, "monotonic", lambda: now_s[0])
    sink.commit({0: "position"})
    now_s[0] += 60.0
    sink._outbox.producer.does[call] = fenced
    sink._begin_if_needed()
    now_s[0] += 5.1
    with pytest.raises(
        TransactionInDoubt, match=r"open for 5\.1 s.*predict\.transaction_timeout_ms"
    ):
        sink.commit({0: "position"})
    with pytest.raises(TransactionInDoubt):
        sink.commit({0: "position"})


def test_a_transaction_within_its_timeout_is_fenced_by_a_second_process(sink, monkeypatch):
    def fenced():
        raise ClientError(Code.LOCAL_FENCED, "fenced by a newer instance", Flags.FATAL)

    now_s = [time.monotonic()]
    monkeypatch.setattr(sinks.time, "monotonic", lambda: now_s[0])
    sink._outbox.producer.does["begin_transaction"] = fenced
    now_s[0] += 60.0
    with pytest.raises(ProducerFenced, match="same slot"):
        sink._begin_if_needed()
    sink = TransactionalSink(Settings(), "group-slot", Source(), transaction_timeout_ms=5000)
    sink._begin_if_needed()
    sink._outbox.producer.does["commit_transaction"] = fenced
    now_s[0] += 4.9
    with pytest.raises(ProducerFenced, match="same slot"):
        sink.commit({0: "position"})


def test_a_closed_sink_lets_its_producer_go(sink):
    """A closed sink frees its producer, and with it threads and connections, at once.

    The error that ended the producer must not keep it until the next garbage collection.
    """

    def fail():
        raise ClientError(Code.LOCAL_TIMED_OUT, "late")

    sink._outbox.producer.does["commit_transaction"] = fail
    gc.disable()
    try:
        with pytest.raises(TransactionInDoubt) as caught:
            sink.commit({0: "position"})
        del caught
        sink.close()
        gone = weakref.ref(sink._outbox.producer)
        sink._outbox = None
        assert gone() is None
    finally:
        gc.enable()
