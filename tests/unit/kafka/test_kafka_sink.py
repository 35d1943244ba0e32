"""What a sink makes of a client that does not do what it was told."""

import gc
import threading
import time
import weakref

import pytest

from shared.errors import TransactionAborted, TransactionInDoubt
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
