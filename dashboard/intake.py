"""Reads the topics of results and keeps the history current: a thread per topic, and one writer.

Invariant: a page never harms the pipeline: topics are read without a consumer group, only committed
           records, and a topic that cannot be read is waited for and named.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import structlog

from dashboard.history.results import Arrived, Stream, decode
from dashboard.history.store import Store, is_full
from dashboard.hub import Hub
from dashboard.watch import Watch
from shared.errors import LapwingError
from shared.kafka import Admin, Reader
from shared.registry import Registry
from shared.settings import Settings

log = structlog.get_logger()

QUEUED_BATCHES = 8
WRITE_EVERY_S = 0.2
MOST_RECORDS = 20_000
"""Records in one transaction."""

RETRY_S = 2.0
CLOSE_S = 2.0


class Follower:
    """Follows one topic in a thread; hands decoded batches to the writer.

    problem : why nothing can be read now; empty = it is read
    """

    def __init__(self, settings: Settings, stream: Stream, intake: Intake) -> None:
        self.settings = settings
        self.stream: Stream = stream
        self.topic: str = getattr(settings.topics, stream)
        self.problem = "it has not been read yet"
        self.positions: dict[int, int] = {}
        self.partitions = 0
        self.undecodable = 0
        self._is_outdated = False
        self._intake = intake
        self._registry = Registry(settings.registry)
        self.thread = threading.Thread(target=self._run, name=f"read {self.topic}", daemon=True)

    def _run(self) -> None:
        said = ""
        generation = self._intake.generation
        while not self._intake.stopping.is_set():
            if generation != self._intake.generation:
                generation = self._intake.generation
                self.positions = {}
            try:
                start = self._start()
                self.problem, said = "", ""
                must_end = partial(self._must_end, generation)
                for batch in Reader(self.settings).follow(self.topic, start, stopping=must_end):
                    arrived = decode(batch, self.stream, self._registry.schema)
                    self._count_undecodable(arrived)
                    self._intake.put(arrived, generation)
                    self.positions[arrived.partition] = arrived.next_offset
            except (LapwingError, sqlite3.DatabaseError) as error:
                if self._intake.stopping.is_set():
                    return
                self.problem = str(error)
                self.partitions = 0
                if self.problem != said:
                    said = self.problem
                    log.warning("topic cannot be read", topic=self.topic, because=said)
                self._intake.stopping.wait(RETRY_S)

    def _must_end(self, generation: int) -> bool:
        return (
            self._is_outdated
            or self._intake.stopping.is_set()
            or generation != self._intake.generation
        )

    def begin_again(self) -> None:
        """Read on with all partitions that the topic has by then."""
        log.info("topic has other partitions, reading all of them", topic=self.topic)
        self._is_outdated = True

    def _start(self) -> dict[int, int]:
        """Return where to read on; forget positions in a topic that was recreated or shortened."""
        self._is_outdated = False
        admin = Admin(self.settings)
        try:
            topic_id = admin.topic_id(self.topic)
            low, high = admin.bounds(self.topic)
        finally:
            admin.close()
        if self._intake.is_other_topic(self.topic, topic_id, self.stream):
            self.positions = {}
        stored = self._intake.offsets(self.topic)
        start = {}
        for partition, first in low.items():
            offset = self.positions.get(partition, stored.get(partition, first))
            if offset > high[partition]:
                log.warning(
                    "position lies beyond the end, reading from the start",
                    topic=self.topic,
                    partition=partition,
                    position=offset,
                    end=high[partition],
                )
                offset = first
            elif offset < first:
                log.warning(
                    "records were deleted before the history had them",
                    topic=self.topic,
                    partition=partition,
                    records=first - offset,
                )
                offset = first
            start[partition] = offset
        self.positions = dict(start)
        self.partitions = len(start)
        return start

    def _count_undecodable(self, arrived: Arrived) -> None:
        if arrived.undecodable:
            if not self.undecodable:
                log.warning("record skipped", record=arrived.undecodable[0])
            self.undecodable += len(arrived.undecodable)


class Intake:
    """The readers and the writer of the history.

    generation : of the history's file; readers begin again from its positions when it changes
    """

    def __init__(self, settings: Settings, store: Store, hub: Hub) -> None:
        self.settings = settings
        self.store = store
        self.hub = hub
        self.stopping = threading.Event()
        self.problem = ""
        self.generation = store.generation
        self._lock = threading.Lock()
        self._queue: queue.Queue[tuple[int, Arrived]] = queue.Queue(QUEUED_BATCHES)
        streams: tuple[Stream, ...] = get_args(Stream)
        self.followers = [Follower(settings, stream, self) for stream in streams]
        self._failure: BaseException | None = None
        self._writer = threading.Thread(target=self._write, name="write history", daemon=True)
        self.watch = Watch(settings, self.followers, self.stopping)

    def start(self) -> None:
        """Begin to read."""
        self._writer.start()
        self.watch.thread.start()
        for follower in self.followers:
            follower.thread.start()

    def put(self, arrived: Arrived, generation: int) -> None:
        """Hand a batch to the writer; wait while it has enough."""
        while not self.stopping.is_set():
            try:
                self._queue.put((generation, arrived), timeout=0.2)
            except queue.Full:
                continue
            return

    def is_other_topic(self, topic: str, topic_id: str, stream: Stream) -> bool:
        """Remember a topic's id; return whether another topic of this name was read before.

        Its positions are forgotten then.
        """
        with self._lock:
            known = self.store.identity(topic)
            if not topic_id or topic_id == known:
                return False
            self.store.set_identity(topic, topic_id)
            if not known:
                return False
            log.warning("topic was recreated, reading it from the start", topic=topic)
            self.store.forget_offsets(topic, stream)
            return True

    def offsets(self, topic: str) -> dict[int, int]:
        """Return the stored positions."""
        with self._lock:
            return self.store.offsets(topic)

    def status(self) -> Mapping[str, Any]:
        """Return problems, positions and lag for the pipeline view."""
        return {
            "topics": [
                {
                    "topic": follower.topic,
                    "stream": follower.stream,
                    "problem": follower.problem,
                    "positions": {str(p): offset for p, offset in follower.positions.items()},
                    "undecodable": follower.undecodable,
                }
                for follower in self.followers
            ],
            "input": self.settings.topics.input,
            "lag": self.watch.lag,
            "latency": self.watch.latency.status(),
            "problem": self.problem,
            "rebuilt": self.store.rebuilt,
            "clients": len(self.hub.subscribers),
            "dropped_clients": self.hub.dropped,
        }

    def readiness(self) -> str:
        """Return why the page has no current data; empty = it has."""
        if self.problem:
            return self.problem
        return next((f.problem for f in self.followers if f.problem), "")

    def check(self) -> None:
        """Raise what ended the writer, if something did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop reading, and close the history."""
        self.stopping.set()
        # A reader may wait for a broker that does not answer; it is a daemon and holds nothing.
        threads = [self._writer, *(follower.thread for follower in self.followers)]
        until_s = time.monotonic() + CLOSE_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until_s - time.monotonic()))
        with self._lock:
            self.store.close()

    # -- writer ------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            while not self.stopping.is_set():
                batches = self._take()
                if batches:
                    self._apply(batches)
        except BaseException as error:
            self._failure = error
            self.stopping.set()
            raise

    def _take(self) -> list[Arrived]:
        """Return what has arrived within WRITE_EVERY_S, at most MOST_RECORDS."""
        batches: list[Arrived] = []
        records = 0
        until_s = time.monotonic() + WRITE_EVERY_S
        while records < MOST_RECORDS and (left_s := until_s - time.monotonic()) > 0:
            try:
                generation, arrived = self._queue.get(timeout=left_s)
            except queue.Empty:
                break
            if generation == self.generation:
                batches.append(arrived)
                records += len(arrived.written_ms)
        return batches

    def _apply(self, batches: list[Arrived]) -> None:
        """Write; wait while the disk is full; begin a new file where this one is damaged."""
        while not self.stopping.is_set():
            try:
                with self._lock:
                    changes = self.store.apply(batches)
            except sqlite3.DatabaseError as error:
                if is_full(error):
                    self._wait_for_room()
                    continue
                if getattr(error, "sqlite_errorname", "") in _TEMPORARY:
                    self.stopping.wait(RETRY_S)
                    continue
                with self._lock:
                    self.store.rebuild(f"it is damaged ({error})")
                    self.generation = self.store.generation
                return
            self.problem = ""
            for batch in batches:
                self.watch.latency.add(batch)
            self.hub.publish(changes)
            return

    def _wait_for_room(self) -> None:
        if not self.problem:
            log.warning("disk full, the history waits", file=str(self.store.path))
        self.problem = f"no space left for {self.store.path}; free some, the page then goes on"
        self.stopping.wait(RETRY_S)


_TEMPORARY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN"}
