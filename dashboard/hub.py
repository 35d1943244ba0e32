"""Live updates for the open pages: a bounded queue for each, and a window for resuming.

Invariant: a slow page never makes the reader wait: its queue is dropped and it is asked to reload.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dashboard.history.store import Changes

KEPT_EVENTS = 512
QUEUE_EVENTS = 64
HEARTBEAT_S = 15.0
TICK_S = 0.25
"""Least time between two updates of points: four a second."""

VIEWS = ("fleet", "entity", "anomaly", "incidents", "pipeline", "models")


@dataclass(frozen=True)
class Event:
    """One server-sent event.

    entities : the entities that it is about; None = all views get it
    """

    number: int
    kind: str
    data: Mapping[str, Any]
    entities: frozenset[str] | None = None

    @cached_property
    def text(self) -> str:
        """The event as it is sent: written once, however many pages get it."""
        data = json.dumps(self.data, ensure_ascii=False)
        return f"id: {self.number}\nevent: {self.kind}\ndata: {data}\n\n"


@dataclass(eq=False, slots=True)
class Subscriber:
    """One open page.

    entity : the entity whose points it shows; None = those of the fleet, as counts only
    """

    view: str
    entity: str | None = None
    queue: asyncio.Queue[Event | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE_EVENTS)
    )

    def wants(self, event: Event) -> bool:
        """Return whether the view shows what the event is about."""
        if event.kind in ("anomaly", "incident"):
            return True
        if self.view in ("entity", "anomaly"):
            return event.entities is None or self.entity in event.entities
        return True


class Hub:
    """Passes changes on to subscribers; everything but ``publish`` runs in the event loop.

    most : subscribers at one time
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.subscribers: set[Subscriber] = set()
        self.dropped = 0
        self._kept: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._pending: set[str] = set()
        self._scored = 0
        self._clock_ms: int | None = None
        self._is_scheduled = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver in this loop from now on."""
        self._loop = loop

    def publish(self, changes: Changes) -> None:
        """Pass changes on; called by the thread that reads the topics."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._take, changes)
        except RuntimeError:  # the loop has been closed meanwhile
            return

    def subscribe(self, view: str, entity: str | None, last_id: int | None) -> Subscriber | None:
        """Add a page; None when there are too many.

        last_id : number of the last event that it got; what came later is delivered again, or
                  ``reload`` if that is no longer kept
        """
        if len(self.subscribers) >= self.most:
            return None
        subscriber = Subscriber(view, entity)
        if last_id is not None:
            oldest = self._kept[0].number if self._kept else self._number + 1
            missed = [event for event in self._kept if event.number > last_id]
            if last_id > self._number or last_id < oldest - 1 or len(missed) >= QUEUE_EVENTS:
                missed = [Event(self._number, "reload", {"because": "too many missed events"})]
            for event in missed:
                if subscriber.wants(event):
                    subscriber.queue.put_nowait(event)
        self.subscribers.add(subscriber)
        return subscriber

    async def events(self, subscriber: Subscriber) -> AsyncIterator[str]:
        """Yield the texts of a subscriber's events, with heartbeats, until it is dropped."""
        try:
            place = f"id: {self._number}\n" if subscriber.queue.empty() else ""
            yield f"retry: 2000\n{place}event: hello\ndata: {{}}\n\n"
            while not self._closed:
                try:
                    event = await asyncio.wait_for(subscriber.queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield "event: heartbeat\ndata: {}\n\n"  # a comment would not reach the page
                    continue
                if event is None:
                    return
                yield event.text
                if event.kind == "reload":
                    return
        finally:
            self.subscribers.discard(subscriber)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for subscriber in list(self.subscribers):
            while not subscriber.queue.empty():
                subscriber.queue.get_nowait()
            subscriber.queue.put_nowait(None)

    def _take(self, changes: Changes) -> None:
        for record in changes.anomalies:
            self._send("anomaly", record, frozenset([record["entity"]]))
        for incident in changes.incidents:
            self._send("incident", incident, frozenset(incident["entities"]))
        self._pending |= changes.entities
        self._scored += changes.scored
        self._clock_ms = changes.clock_ms
        if not self._is_scheduled and self._loop is not None and not self._closed:
            self._is_scheduled = True
            self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._is_scheduled = False
        if not self._pending and not self._scored:
            return
        data = {"clock_ms": self._clock_ms, "scored": self._scored, "entities": len(self._pending)}
        self._send("tick", data, frozenset(self._pending))
        self._pending = set()
        self._scored = 0

    def _send(self, kind: str, data: Mapping[str, Any], entities: frozenset[str]) -> None:
        self._number += 1
        event = Event(self._number, kind, data, entities)
        self._kept.append(event)
        for subscriber in list(self.subscribers):
            if subscriber.wants(event):
                self._offer(subscriber, event)

    def _offer(self, subscriber: Subscriber, event: Event) -> None:
        try:
            subscriber.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1
            self.subscribers.discard(subscriber)
            while not subscriber.queue.empty():
                subscriber.queue.get_nowait()
            reload = Event(self._number, "reload", {"because": "this page was too slow"})
            subscriber.queue.put_nowait(reload)
