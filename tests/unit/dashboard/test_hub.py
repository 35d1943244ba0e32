"""Live updates: order, resuming, slow pages, and what a view does not want."""

from __future__ import annotations

import asyncio

import pytest

from dashboard import hub as live
from dashboard.history.store import Changes
from dashboard.hub import QUEUE_EVENTS, Hub
from tests.support.page_records import anomaly

CLOCK_MS = 1_397_606_400_000


def changes(*names, anomalies=()):
    return Changes(set(names), list(anomalies), scored=len(names), clock_ms=CLOCK_MS)


def run(scenario):
    async def body():
        hub = Hub(most=3)
        hub.attach(asyncio.get_running_loop())
        return await asyncio.wait_for(scenario(hub), 20)

    return asyncio.run(body())


async def settle():
    await asyncio.sleep(live.TICK_S * 1.5)


def kinds(subscriber):
    found = []
    while not subscriber.queue.empty():
        found.append(subscriber.queue.get_nowait().kind)
    return found


def test_points_are_coalesced_and_anomalies_are_not():
    async def scenario(hub):
        fleet, other = hub.subscribe("fleet", None, None), hub.subscribe("entity", "b", None)
        for _ in range(20):
            hub.publish(changes("a", "a2"))
        hub.publish(changes(anomalies=[anomaly(1), anomaly(2)]))
        await settle()
        assert kinds(fleet) == ["anomaly", "anomaly", "tick"]
        assert kinds(other) == ["anomaly", "anomaly"]

    run(scenario)


def test_a_page_that_returns_gets_what_it_missed():
    async def scenario(hub):
        hub.publish(changes(anomalies=[anomaly(row) for row in range(5)]))
        await settle()
        back = hub.subscribe("fleet", None, 2)
        assert [back.queue.get_nowait().number for _ in range(3)] == [3, 4, 5]
        assert hub.subscribe("fleet", None, 5).queue.empty()

    run(scenario)


@pytest.mark.parametrize("last_id", [0, 10**9])
def test_a_page_that_missed_too_much_reloads(last_id):
    async def scenario(hub):
        hub.publish(changes(anomalies=[anomaly(row) for row in range(live.KEPT_EVENTS + 10)]))
        await settle()
        assert kinds(hub.subscribe("fleet", None, last_id)) == ["reload"]

    run(scenario)


def test_a_slow_page_is_dropped_and_others_go_on():
    async def scenario(hub):
        slow, quick = hub.subscribe("fleet", None, None), hub.subscribe("fleet", None, None)
        for row in range(QUEUE_EVENTS + 1):
            hub.publish(changes(anomalies=[anomaly(row)]))
            await asyncio.sleep(0)
            kinds(quick)
        assert hub.subscribers == {quick}
        assert hub.dropped == 1
        texts = [text async for text in hub.events(slow)]
        assert "event: reload" in texts[-1]

    run(scenario)


def test_pages_are_bounded_and_leave_when_they_are_closed():
    async def scenario(hub):
        pages = [hub.subscribe("fleet", None, None) for _ in range(4)]
        assert pages[3] is None
        stream = hub.events(pages[0])
        assert "event: hello" in await anext(stream)
        await stream.aclose()
        assert len(hub.subscribers) == 2
        hub.close()
        assert len([text async for text in hub.events(pages[1])]) == 1

    run(scenario)


def test_an_idle_stream_has_a_heartbeat(monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)

    async def scenario(hub):
        stream = hub.events(hub.subscribe("fleet", None, None))
        await anext(stream)
        assert await anext(stream) == "event: heartbeat\ndata: {}\n\n"
        await stream.aclose()

    run(scenario)
