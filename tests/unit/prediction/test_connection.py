"""The clients that are opened while the kernels are loaded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from threading import Event
from typing import Any

import pytest

from consumer_prediction import connection
from consumer_prediction.connection import KafkaConnection
from shared.errors import TransportError
from shared.settings import Settings, load_settings


class FakeClients:
    """What stands in for the client: sinks that open when they are allowed to, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed, self.asked, self.failure = Event(), [], None
        monkeypatch.setattr(
            connection, "GroupSource", lambda *_, **named: ("source", named["instance_id"])
        )
        monkeypatch.setattr(connection, "TransactionalSink", self._open)
        monkeypatch.setattr(
            connection, "AtLeastOnceSink", lambda _, source: ("at least once", source)
        )

    asked: list[str]
    failure: Exception | None

    def _open(
        self, _: Settings, transactional_id: str, source: Any, *, transaction_timeout_ms: int
    ) -> tuple[str, int]:
        assert self.allowed.wait(10)
        assert transaction_timeout_ms > 0
        assert source[0] == "source"
        self.asked.append(transactional_id)
        if self.failure:
            raise self.failure
        return transactional_id, len(self.asked)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> FakeClients:
    return FakeClients(monkeypatch)


def _settings(**given: Any) -> Settings:
    return load_settings({"predict": {"group": "g"}, "slot": "two"} | given)


def test_the_first_sink_is_opened_beside_and_later_ones_when_they_are_asked_for(
    clients: FakeClients,
) -> None:
    opened = KafkaConnection(_settings())
    assert opened.source == ("source", "g-two")
    clients.allowed.set()
    assert opened.sink() == ("g-two", 1)
    assert clients.asked == ["g-two"]
    assert opened.sink() == ("g-two", 2)


@pytest.mark.parametrize("failure", [TransportError("nobody there"), ValueError("not thought of")])
def test_a_failure_is_raised_where_the_sink_is_asked_for_and_the_next_one_is_tried_again(
    clients: FakeClients, failure: Exception
) -> None:
    clients.failure = failure
    clients.allowed.set()
    opened = KafkaConnection(_settings())
    with pytest.raises(type(failure), match=str(failure)):
        opened.sink()
    clients.failure = None
    assert opened.sink() == ("g-two", 2)


def test_without_a_slot_the_name_is_that_of_the_process(clients: FakeClients) -> None:
    clients.allowed.set()
    opened = KafkaConnection(_settings(slot=""))
    assert opened.source == ("source", None)
    name, _ = opened.sink()  # type: ignore[misc]
    assert name == f"g-{socket.gethostname()}-{os.getpid()}"


def test_at_least_once_needs_no_transaction(clients: FakeClients) -> None:
    opened = KafkaConnection(_settings(predict={"group": "g", "delivery": "at-least-once"}))
    assert opened.sink() == ("at least once", opened.source)
    assert not clients.asked


def test_a_predictor_starts_without_what_it_does_not_need() -> None:
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_START)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert output.stdout.split() == ["False", "True", "False", "True", "True"]


_START = """
    import gc
    import sys

    import consumer_prediction.connection
    from consumer_prediction.__main__ import _fast_imports

    print("numba" in sys.modules)  # nothing loads kernels before the clients are opened
    with _fast_imports():
        import consumer_prediction.service
    print("numba" in sys.modules)
    print("scipy" in sys.modules)
    print(gc.isenabled())
    import scipy

    print(bool(scipy.__version__))  # hidden only while importing
"""
