"""The loop of the notify service: poll incidents, queue notices, commit what is settled.

Invariant: a position is committed once every notice of the records before it has been delivered or
written to the topic of unsent notices. So each notice is sent at least once, and a repeat has the
same key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from lapwing.notify.delivery import REFRESH, Delivery, Done, Item
from lapwing.notify.progress import Progress
from shared.batch import Batch, Position
from shared.errors import ProducerFenced, TransportError
from shared.notices.notice import (
    Notice,
    NoticePhase,
    Route,
    Silence,
    Timing,
    is_silenced,
    notice_of,
)
from shared.operations.counters import NOTICES, NOTICES_WAITING, REBALANCES, Counters
from shared.operations.retry import Outage
from shared.ports import Source

log = structlog.get_logger()

MAX_RECORDS = 200
POLL_S = 0.2
PARTITION = 0
MOST_WAITING = 5_000
"""Notices to one target that wait; with more, no further records are read."""

MOST_HELD = 1_000
"""Notices that wait for the hours of one target; further ones go to the topic of unsent ones."""

AT_START = -2
"""Offset of notices that follow from no new record: open at the very first start."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One receiver.

    repeats : open incidents are sent again from time to time, because it forgets them
    """

    delivery: Delivery
    route: Route
    repeats: bool


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the loop uses.

    read_state : returns the newest record of each incident, and the offset after the last
    decode     : decodes a record; raises TransportError, or ValueError where it cannot be read
    keep       : writes a notice that could not be sent, and waits for the acknowledgement
    source     : its ``commit`` commits positions
    topic_id   : of the incidents topic; a position of another one is worth nothing
    """

    source: Source
    commit: Callable[[Mapping[int, Position]], None]
    read_state: Callable[[], tuple[Mapping[str, Record], int]]
    decode: Callable[[bytes], Record]
    keep: Callable[[Done], None]
    clock: Callable[[], float]
    now_s: Callable[[], float]
    sleep: Callable[[float], None]
    topic_id: str = ""


class NotifyLoop:
    """Sends notices; the RebalanceListener of its own source.

    repeat_s : open incidents are sent again after this time, to targets that forget them
    """

    def __init__(
        self,
        dependencies: Dependencies,
        targets: Mapping[str, Target],
        done: SimpleQueue[Done],
        silences: Sequence[Silence],
        repeat_s: float,
        counters: Counters,
        outage: Outage,
    ) -> None:
        self.dependencies = dependencies
        self.targets = targets
        self.done = done
        self.silences = silences
        self.repeat_s = repeat_s
        self.counters = counters
        self.outage = outage
        self.owns = False
        self._open: dict[str, Record] = {}
        self._progress = Progress(targets, dependencies.topic_id)
        self._unsent: list[Done] = []
        self._held: list[tuple[int, bytes, str]] = []
        self._repeat_at_s = 0.0

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Run until a request to stop, then commit and leave the group.

        raises : GuardError; TransportError when an outage outlasts outage_deadline_s
        """
        for target in self.targets.values():
            target.delivery.start()
        self.dependencies.source.subscribe(self)
        try:
            while not should_stop():
                self.step()
            self._settle()
            self._commit()
        except ProducerFenced:
            raise
        except TransportError as error:
            if not should_stop():
                raise
            log.warning("shut down without committing", because=str(error))
        finally:
            for target in self.targets.values():
                target.delivery.close()
            self.dependencies.source.close()

    def step(self) -> None:
        """Poll once, queue notices, settle those that are done, commit."""
        self.outage.step()
        try:
            self._settle()
            self._poll()
            self._take_held()
            self._repeat()
            self._commit()
            self.outage.succeeded()
        except ProducerFenced:
            raise
        except TransportError as error:
            self.outage.failed(error)
            self.dependencies.sleep(self.outage.pause_s)

    def reason(self) -> str:
        """Return why the service is not ready; empty when it is."""
        if outage := self.outage.reason():
            return outage
        return "" if self.owns else "another instance owns the incidents topic: this one waits"

    # -- ownership ---------------------------------------------------------------------------------

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over the partition; see RebalanceListener."""
        self._forget()
        records, end = self.dependencies.read_state()
        self._open = {key: one for key, one in records.items() if one["state"] == "open"}
        position = committed[PARTITION]
        was_recreated = self._progress.begin(position, start[PARTITION], end)
        if was_recreated:
            log.error("the incidents topic was recreated: sending all that it has")
        if position is None:
            # The very first start: what is open is sent, what is over is history.
            for record in self._open.values():
                self._queue(Notice(NoticePhase.OPEN, record), AT_START)
            self._progress.next = end
        self._repeat_at_s = self.dependencies.clock() if position else self._repeat_time_s()
        self.owns = True
        self.counters.add(REBALANCES, 1, "assigned")
        log.info("incidents taken over", from_offset=self._progress.next, open=len(self._open))
        return {PARTITION: self._progress.next}

    def revoked(self, partitions: Sequence[int]) -> None:
        """Release the partition; its next owner sends the rest. See RebalanceListener."""
        self.counters.add(REBALANCES, 1, "revoked")
        self._forget()

    def lost(self, partitions: Sequence[int]) -> None:
        """Drop the partition; see RebalanceListener."""
        self.counters.add(REBALANCES, 1, "lost")
        self._forget()

    def _forget(self) -> None:
        for target in self.targets.values():
            target.delivery.clear()
        self._progress.clear()
        self._held.clear()
        self._unsent.clear()
        self._open.clear()
        self.owns = False

    # -- records -----------------------------------------------------------------------------------

    def _poll(self) -> None:
        source = self.dependencies.source
        if self._held or self._is_full():
            source.pause()
        else:
            source.resume()
        for batch in source.poll(MAX_RECORDS, POLL_S):
            self._held += _rows(batch)

    def _count_waiting(self) -> None:
        """Count notices that could be delivered now: not those that wait for a target's hours."""
        now_s = self.dependencies.now_s()
        waiting = [
            self._progress.waiting(name)
            for name, target in self.targets.items()
            if not target.route.is_held(now_s)
        ]
        self.counters.set(NOTICES_WAITING, sum(waiting))

    def _is_full(self) -> bool:
        """Return whether a target has too many notices; what waits for its hours delays nobody."""
        now_s = self.dependencies.now_s()
        return any(
            self._progress.waiting(name) >= MOST_WAITING and not target.route.is_held(now_s)
            for name, target in self.targets.items()
        )

    def _take_held(self) -> None:
        """Queue the notices of records that were read; keep those that cannot be decoded yet."""
        while self._held:
            offset, value, key = self._held[0]
            self._take(offset, value, key)
            del self._held[0]
            self._progress.next = offset + 1

    def _take(self, offset: int, value: bytes, key: str) -> None:
        if not value:
            self._open.pop(key, None)
            return
        try:
            record = self.dependencies.decode(value)
            notice = notice_of(record)
        except (ValueError, KeyError) as error:
            log.warning("incident record skipped", offset=offset, because=repr(error))
            self.counters.add(NOTICES, 1, "", "unreadable")
            return
        if record["state"] == "open":
            self._open[key] = record
        else:
            self._open.pop(key, None)
        if notice is not None:
            self._queue(notice, offset)

    def _queue(self, notice: Notice, offset: int) -> None:
        now_s = self.dependencies.now_s()
        if is_silenced(notice.record, self.silences, now_s):
            self.counters.add(NOTICES, 1, "", "silenced")
            return
        for name, target in self.targets.items():
            if not target.route.takes(notice.record) or self._progress.is_settled(name, offset):
                continue
            timing = target.route.timing(notice, now_s)
            if timing is Timing.NEVER:
                self.counters.add(NOTICES, 1, name, "outside_hours")
            else:
                self._queue_for(name, Item(notice, offset), is_held=timing is Timing.HELD)
        self._count_waiting()

    def _queue_for(self, name: str, item: Item, *, is_held: bool) -> None:
        is_too_much = is_held and self._progress.waiting(name) >= MOST_HELD
        self._progress.add(name, item.notice.key, item.offset)
        if is_too_much:
            why = f"outside its hours, and {MOST_HELD:,} notices wait for them already"
            self._unsent.append(Done(name, item, why))
        else:
            self.targets[name].delivery.put(item)

    def _repeat(self) -> None:
        """Send open incidents again to targets that forget them: from time to time, after outages.

        An earlier round that is still queued is enough.
        """
        if not self.owns:
            return
        is_time = self.dependencies.clock() >= self._repeat_at_s
        if is_time:
            self._repeat_at_s = self._repeat_time_s()
        for target in self.targets.values():
            if target.repeats and (target.delivery.has_recovered() or is_time):
                self._refresh(target)

    def _refresh(self, target: Target) -> None:
        now_s = self.dependencies.now_s()
        if target.delivery.is_refreshing():
            return
        for record in self._open.values():
            notice = Notice(NoticePhase.OPEN, record)
            if (
                target.route.takes(record)
                and target.route.timing(notice, now_s) is Timing.NOW
                and not is_silenced(record, self.silences, now_s)
            ):
                target.delivery.put(Item(notice, REFRESH))

    def _repeat_time_s(self) -> float:
        return self.dependencies.clock() + self.repeat_s

    # -- what became of notices --------------------------------------------------------------------

    def _settle(self) -> None:
        """Take note of what was delivered; keep what could not be sent in its topic."""
        while True:
            try:
                self._unsent.append(self.done.get_nowait())
            except Empty:
                break
        while self._unsent:
            done = self._unsent[0]
            notice = (done.target, done.item.notice.key, done.item.offset)
            if done.why and self._progress.holds(*notice):
                self.dependencies.keep(done)
                log.error(
                    "notice not sent",
                    target=done.target,
                    key=done.item.notice.key,
                    because=done.why,
                )
            result = "unsent" if done.why else "delivered"
            if done.item.offset != REFRESH or not done.why:
                self.counters.add(NOTICES, 1, done.target, result)
            self._progress.settle(*notice)
            del self._unsent[0]
        self._count_waiting()

    def _commit(self) -> None:
        if not self.owns or self._held:
            return
        position = self._progress.position()
        if position is not None:
            self.dependencies.commit({PARTITION: position})
            self._progress.committed(position)


def _rows(batch: Batch) -> list[tuple[int, bytes, str]]:
    return [
        (int(batch.offsets[row]), batch.values[row], batch.keys[row].decode("utf-8", "replace"))
        for row in range(len(batch))
    ]
