"""A scripted Kafka consumer, engine and listener, to drive ``GroupSource`` step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from shared.batch import Batch, Blob, Position
from shared.kafka import GroupSource
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Cluster, Fetched, Group, GroupEvents, Topic
from shared.settings import Settings

Step = tuple[int, int] | ClientError
"""A record's partition and offset, or what comes instead of one."""

TIMED_OUT = ClientError(Code.LOCAL_TIMED_OUT, "no coordinator (_TIMED_OUT)")


def record(partition: int, offset: int) -> Step:
    return partition, offset


def trouble(code: int, text: str = "because") -> ClientError:
    return ClientError(code, text, partition=0)


def batch_of(partition: int, offsets: Sequence[int]) -> Batch:
    values = [b"%d/%d" % (partition, offset) for offset in offsets]
    stamps = np.zeros(len(offsets), np.int64)
    return Batch(
        "t",
        partition,
        Blob.join(values),
        Blob.join([b"k"] * len(values)),
        np.array(offsets, np.int64),
        stamps,
    )


class ScriptedConsumer:
    """Consumer that takes the next steps of its script at each fetch.

    A step is a list of records and errors, or a function that reports ownership and returns such a
    list.
    """

    def __init__(self, config: Mapping[str, str], on_error: Callable[[ClientError], None]) -> None:
        self.steps: list[Any] = []
        self.positions: dict[int, Position] = {}
        self.starts: dict[int, int] = {}
        self.assigned: dict[int, int] = {}
        self.paused: set[int] = set()
        self.unavailable: ClientError | None = None
        self.asked: list[str] = []
        self.waited: list[tuple[float, float]] = []
        self.closed = 0
        self.member: bytes | None = b"member"
        self.complain = on_error

    def join(self, topic: str, events: GroupEvents) -> None:
        self.events = events

    def assign(self, *partitions: int) -> list[Step]:
        self.events.assigned(partitions)
        return []

    def revoke(self, *partitions: int) -> list[Step]:
        self.events.revoked(partitions)
        return []

    def lose(self, *partitions: int) -> list[Step]:
        self.events.lost(partitions)
        return []

    def fetch(self, max_records: int, wait_s: float, gather_s: float = 0.0) -> Fetched:
        """Take steps until there are enough, all but the first only where something has come."""
        self.waited.append((wait_s, gather_s))
        taken: list[Step] = []
        while self.steps and len(taken) < max_records:
            step = self.steps.pop(0)
            found = step() if callable(step) else step
            room = max_records - len(taken)
            if found[room:]:
                self.steps.insert(0, found[room:])
            taken += found[:room]
            if not taken:
                break
        rows: dict[int, list[int]] = {}
        for one in taken:
            if not isinstance(one, ClientError):
                rows.setdefault(one[0], []).append(one[1])
        batches = [batch_of(partition, offsets) for partition, offsets in rows.items()]
        return Fetched(batches, {}, [one for one in taken if isinstance(one, ClientError)])

    def start(self, topic: str, offsets: Mapping[int, int]) -> None:
        assert not set(offsets) & set(self.assigned)
        self.assigned |= offsets

    def stop(self, topic: str, partitions: Iterable[int]) -> None:
        for partition in partitions:
            del self.assigned[partition]

    def committed(
        self, topic: str, partitions: Iterable[int], timeout_s: float
    ) -> dict[int, Position | None]:
        self._ask("committed")
        return {partition: self.positions.get(partition) for partition in partitions}

    def bounds(self, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
        return self.starts.get(partition, 0), 1000

    def membership(self) -> bytes | None:
        return self.member

    def refresh_metadata(self, topic: str, timeout_s: float) -> None:
        self._ask("topics")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.unavailable:
            raise self.unavailable

    def pause(self, topic: str, partitions: Iterable[int]) -> None:
        self.paused |= set(partitions)

    def resume(self, topic: str, partitions: Iterable[int]) -> None:
        self.paused -= set(partitions)

    def close(self) -> None:
        self.closed += 1
        if self.assigned:
            self.revoke(*self.assigned)


class ScriptedEngine:
    """Makes such consumers, and an admin client of a group that has all partitions but some."""

    def __init__(self) -> None:
        self.clients: list[ScriptedConsumer] = []
        self.unassigned: set[int] = set()
        self.answers = True

    def consumer(
        self, config: Mapping[str, str], on_error: Callable[[ClientError], None]
    ) -> ScriptedConsumer:
        self.clients.append(ScriptedConsumer(config, on_error))
        return self.clients[-1]

    def admin(self, config: Mapping[str, str]) -> ScriptedEngine:
        return self

    def cluster(self, topic: str | None, timeout_s: float) -> Cluster:
        return Cluster("c", {"t": Topic(3, True, None)})

    def group(self, group: str, timeout_s: float) -> Group:
        if not self.answers:
            raise TIMED_OUT
        return Group(1, True, {"t": {0, 1, 2} - self.unassigned})


class Listener:
    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.committed: dict[int, Position | None] = {}
        self.answer: dict[int, int] = {}
        self.fail: dict[str, Exception] = {}

    def _hear(self, what: str, partitions: Sequence[int]) -> None:
        self.calls.append((what, sorted(partitions)))
        if what in self.fail:
            raise self.fail.pop(what)

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        self._hear("assigned", list(committed))
        self.committed = dict(committed)
        return {
            p: self.answer.get(p, position.offset if position else start[p])
            for p, position in committed.items()
        }

    def revoked(self, partitions: Sequence[int]) -> None:
        self._hear("revoked", partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self._hear("lost", partitions)


class Stage:
    """A source on a scripted client, with a clock that the test moves."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        instance_id: str | None = None,
        gather_s: float = 0.0,
    ) -> None:
        self.engine = ScriptedEngine()
        self.clients = self.engine.clients
        self.now_s = 100.0
        self.slept_s: list[float] = []
        monkeypatch.setattr("shared.kafka.source.time.sleep", self.slept_s.append)
        monkeypatch.setattr("shared.kafka.source.time.monotonic", self._tick)
        self.listener = Listener()
        self.source = GroupSource(
            Settings(),
            "g",
            "t",
            instance_id=instance_id,
            engine=cast("Any", self.engine),
            gather_s=gather_s,
        )
        self.source.subscribe(self.listener)

    def _tick(self) -> float:
        self.now_s += 0.001
        return self.now_s

    @property
    def client(self) -> ScriptedConsumer:
        return self.clients[-1]

    def poll(self, *steps: Any, count: int = 100) -> list[tuple[int, list[int]]]:
        self.client.steps += steps
        return seen(self.source.poll(count, 0.02))

    def own(self, *partitions: int) -> None:
        assert self.poll(lambda: self.client.assign(*partitions)) == []


def seen(batches: Sequence[Batch]) -> list[tuple[int, list[int]]]:
    return [(batch.partition, batch.offsets.tolist()) for batch in batches]
