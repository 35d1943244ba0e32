"""Groups of both protocols: who is admitted, who waits for whom, and what it says meanwhile."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

import pytest

from shared.errors import TransportError
from shared.kafka import GroupSource
from shared.settings import Settings
from tests.support.services.fixtures import each_engine
from tests.support.services.records import (
    Log,
    member,
    numbered,
    poll_records,
    poll_until,
    publish,
    values,
)

pytestmark = pytest.mark.integration

PATIENCE_S = 20.0


def refusal_of(*sources: GroupSource) -> str:
    """Poll all in turn until the last one raises; return what it says."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for source in sources[:-1]:
            assert source.poll(100, 0.05) == []
        if refused := _refused(sources[-1]):
            return refused
    raise AssertionError("it was not refused")


def admitted(source: GroupSource, log: Log, partitions: int) -> None:
    """Poll a refused member until it owns so many partitions."""
    deadline = time.monotonic() + PATIENCE_S
    while len(log.owned) < partitions and time.monotonic() < deadline:
        _refused(source)
    assert len(log.owned) == partitions


def _refused(source: GroupSource) -> str:
    """Poll once; return why the group does not admit the member, empty where it does."""
    try:
        assert source.poll(100, 0.05) == []
    except TransportError as refusal:
        if not refusal.retriable:
            raise
        return str(refusal)
    return ""


@each_engine
def test_a_member_waits_for_the_id_of_its_predecessor(
    ready: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = Log(), Log()
    with ExitStack() as stack:
        first = stack.enter_context(member(ready, before, protocol="consumer", instance_id="one"))
        poll_until(first, lambda: len(before.owned) == 3)
        second = stack.enter_context(member(ready, after, protocol="consumer", instance_id="one"))
        with caplog.at_level(logging.WARNING, "lapwing.kafka"):
            for _ in range(2):
                why = refusal_of(first, second)
        assert "still has a member with this slot's group.instance.id" in why
        assert "group.consumer.session.timeout.ms" in why
        assert len([one for one in caplog.records if "until then" in one.message]) == 1
        assert before.owned == {0, 1, 2}
        first.close()
        admitted(second, after, 3)
        assert [what for what, _ in after.calls] == ["assigned"]
        publish(ready, ready.topics.input, numbered(0, 90))
        assert sorted(values(poll_records(second, 90))) == numbered(0, 90)


@each_engine
def test_a_change_of_protocol_waits_until_all_others_are_stopped(ready: Settings) -> None:
    logs = [Log(), Log(), Log()]
    with ExitStack() as stack:
        # From its second rebalance on a cooperative-sticky member sends its previous assignment.
        first = stack.enter_context(member(ready, logs[0]))
        poll_until(first, lambda: len(logs[0].owned) == 3)
        second = stack.enter_context(member(ready, logs[1]))
        deadline = time.monotonic() + PATIENCE_S
        while not (logs[1].owned and logs[0].owned | logs[1].owned == {0, 1, 2}):
            assert time.monotonic() < deadline
            assert first.poll(100, 0.05) == second.poll(100, 0.05) == []
        third = stack.enter_context(member(ready, logs[2], protocol="consumer"))
        why = refusal_of(first, second, third)
        assert "members with group.protocol=classic" in why
        assert "stop all of them" in why
        first.close()
        second.close()
        admitted(third, logs[2], 3)
