"""GroupSource against a scripted client: what happens when the group and the records come in an
awkward order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from shared.batch import Batch, Blob, Position
from shared.errors import (
    HistoryGone,
    ProducerFenced,
    TopicMismatch,
    TransactionAborted,
    TransportError,
)
from shared.kafka import GroupSource
from shared.kafka.engine.codes import Code
from shared.kafka.engine.port import ClientError, Cluster, Fetched, Flags, Group, GroupEvents, Topic
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
    """Plays its steps at each fetch: a list of records and errors, or a function that tells of
    ownership and returns some.
    """

    def __init__(self, config: Mapping[str, str], on_error: Callable[[ClientError], None]) -> None:
        self.steps: list[Any] = []
        self.positions: dict[int, Position] = {}
        self.starts: dict[int, int] = {}
        self.assigned: dict[int, int] = {}
        self.paused: set[int] = set()
        self.unavailable: ClientError | None = None
        self.asked: list[str] = []
        self.closed = 0
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

    def fetch(self, max_records: int, wait_s: float) -> Fetched:
        """Take steps until there are enough, all but the first only where something has come."""
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
        self.told: list[tuple[str, list[int]]] = []
        self.committed: dict[int, Position | None] = {}
        self.answer: dict[int, int] = {}
        self.fail: dict[str, Exception] = {}

    def _hear(self, what: str, partitions: Sequence[int]) -> None:
        self.told.append((what, sorted(partitions)))
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

    def __init__(self, monkeypatch: pytest.MonkeyPatch, instance_id: str | None = None) -> None:
        self.engine = ScriptedEngine()
        self.clients = self.engine.clients
        self.now_s = 100.0
        self.slept_s: list[float] = []
        monkeypatch.setattr("shared.kafka.source.time.sleep", self.slept_s.append)
        monkeypatch.setattr("shared.kafka.source.time.monotonic", self._tick)
        self.listener = Listener()
        self.source = GroupSource(
            Settings(), "g", "t", instance_id=instance_id, engine=cast("Any", self.engine)
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


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_partitions_start_where_the_listener_says(stage: Stage) -> None:
    stage.client.positions = {1: Position(40, "model")}
    stage.client.starts = {0: 7, 1: 30}
    stage.listener.answer = {1: 35}
    stage.own(0, 1)
    assert stage.listener.committed == {0: None, 1: Position(40, "model")}
    assert stage.client.assigned == {0: 7, 1: 35}
    assert stage.poll([record(1, 35), record(0, 7), record(1, 36)]) == [(1, [35, 36]), (0, [7])]


def test_a_start_before_the_log_is_refused(stage: Stage) -> None:
    stage.client.starts = {0: 50}
    stage.listener.answer = {0: 49}
    with pytest.raises(
        HistoryGone, match=r"t\[0\] must be read from offset 49 on, but its log starts at 50"
    ):
        stage.own(0)
    assert stage.client.assigned == {}


def test_an_answer_for_other_partitions_is_a_bug(stage: Stage) -> None:
    stage.listener.answer = {}
    stage.listener.assigned = lambda committed, start: {0: 0, 5: 0}  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"called with partitions \[0, 1\] and returned offsets for \[0, 5\]"
    ):
        stage.own(0, 1)


def test_records_of_a_partition_that_goes_in_the_same_call_are_dropped(stage: Stage) -> None:
    stage.own(0, 1)

    def revoke_in_the_middle() -> list[Step]:
        stage.client.revoke(1)
        return [record(1, 1), record(0, 1), record(1, 2)]

    assert stage.poll([record(1, 0)], revoke_in_the_middle) == [(0, [1])]
    assert stage.listener.told[-1] == ("revoked", [1])
    assert stage.client.assigned == {0: 0}


def test_a_partition_that_goes_and_comes_back_starts_at_its_committed_position(
    stage: Stage,
) -> None:
    stage.own(0)

    def go_and_come() -> list[Step]:
        stage.client.revoke(0)
        stage.client.positions = {0: Position(5)}
        stage.client.assign(0)
        return [record(0, 6), record(0, 7)]

    assert stage.poll(go_and_come) == []
    assert stage.client.assigned == {0: 5}
    assert stage.poll([record(0, 5)]) == [(0, [5])]
    assert [what for what, _ in stage.listener.told] == ["assigned", "revoked", "assigned"]


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_what_a_listener_raises_comes_out_and_other_records_wait(stage: Stage, how: str) -> None:
    stage.own(0, 1)
    stage.listener.fail[how] = TransactionAborted("asked to")
    go = stage.client.revoke if how == "revoked" else stage.client.lose
    with pytest.raises(TransactionAborted, match="asked to"):
        stage.poll([record(0, 0)], lambda: [*go(1), record(0, 1), record(1, 0)])
    assert stage.client.assigned == {0: 0}
    assert stage.poll([record(0, 2)]) == [(0, [0, 1, 2])]


def test_a_takeover_that_fails_is_tried_again_and_the_others_go_on(stage: Stage) -> None:
    stage.own(0)
    stage.client.unavailable = TIMED_OUT
    assert stage.poll([record(0, 0)], lambda: stage.client.assign(1)) == [(0, [0])]
    with pytest.raises(TransportError, match="no coordinator") as refusal:
        stage.poll()
    assert refusal.value.retriable
    assert stage.poll([record(0, 1)]) == [(0, [1])]
    assert stage.client.asked == ["committed"] * 2, "tried again at once"
    stage.client.unavailable = None
    stage.now_s += 1.0
    assert stage.poll([record(0, 2)]) == [(0, [2])]
    assert stage.client.assigned == {0: 0, 1: 0}
    assert stage.listener.told == [("assigned", [0]), ("assigned", [1])]


def test_a_partition_that_goes_before_it_was_taken_over_is_not_spoken_of(stage: Stage) -> None:
    stage.client.unavailable = TIMED_OUT
    with pytest.raises(TransportError):
        stage.own(0, 1)
    with pytest.raises(TransportError):
        stage.poll(lambda: stage.client.revoke(1))
    stage.client.unavailable = None
    stage.now_s += 1.0
    stage.poll()
    assert stage.listener.told == [("assigned", [0])]
    assert stage.client.assigned == {0: 0}


def test_a_partition_that_goes_during_a_rewind_is_spoken_of(stage: Stage) -> None:
    stage.own(0, 1)
    stage.client.unavailable = TIMED_OUT
    with pytest.raises(TransportError):
        stage.source.rewind()
    assert stage.client.assigned == {}
    with pytest.raises(TransportError):
        stage.poll(lambda: stage.client.revoke(1))
    assert stage.listener.told[-1] == ("revoked", [1])
    stage.client.unavailable = None
    stage.client.positions = {0: Position(3)}
    stage.source.rewind()
    assert stage.client.assigned == {0: 3}


def test_a_rewind_forgets_what_was_held(stage: Stage) -> None:
    stage.own(0)
    assert stage.poll([record(0, n) for n in range(5)], count=2) == [(0, [0, 1])]
    stage.source.pause()
    assert stage.poll() == []
    stage.source.rewind()
    stage.source.resume()
    assert stage.poll([record(0, 0)]) == [(0, [0])]


def test_paused_partitions_deliver_nothing_also_new_ones(stage: Stage) -> None:
    stage.own(0)
    stage.source.pause()
    stage.own(1)
    assert stage.client.paused == {0, 1}
    assert stage.poll([record(0, 0)]) == []
    stage.source.resume()
    assert stage.client.paused == set()
    assert stage.poll([record(0, 1)]) == [(0, [0, 1])]


def test_what_was_held_does_not_outlive_its_ownership(stage: Stage) -> None:
    stage.own(0, 1)
    stage.source.pause()
    stage.poll([record(1, 0)])
    stage.poll(lambda: stage.client.revoke(1))
    stage.client.positions = {1: Position(9)}
    stage.own(1)
    stage.source.resume()
    assert stage.poll([record(1, 9)]) == [(1, [9])]


def test_partitions_are_taken_over_in_the_call_that_learns_of_them(stage: Stage) -> None:
    stage.client.steps.append(lambda: stage.client.assign(0))
    assert stage.source.poll(10, 0.0) == []
    assert stage.client.assigned == {0: 0}


def test_a_seek_drops_what_is_held_of_that_partition(stage: Stage) -> None:
    stage.own(0, 1)
    stage.source.pause()
    stage.poll([record(0, 0)])
    stage.poll([record(1, 0)])
    stage.source.seek(1, 70)
    stage.source.resume()
    assert stage.client.assigned == {0: 0, 1: 70}
    assert stage.poll() == [(0, [0])]


def test_an_error_between_records_loses_none_of_them(stage: Stage) -> None:
    stage.own(0)
    with pytest.raises(TransportError, match=r"reading t\[0\] of localhost:9092: because"):
        stage.poll([record(0, 0)], [trouble(Code.LOCAL_FAIL), record(0, 1)])
    assert stage.poll() == [(0, [0, 1])]
    for code, kind in (
        (Code.LOCAL_AUTO_OFFSET_RESET, HistoryGone),
        (Code.UNKNOWN_TOPIC_OR_PART, TopicMismatch),
    ):
        with pytest.raises(kind):
            stage.poll([trouble(code)])


def test_long_silence_without_a_complaint_is_an_outage_when_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that is stopped, not killed, leaves its connections open: nobody complains."""
    stage = Stage(monkeypatch)
    stage.own(0)
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 2.0
    assert stage.poll() == []
    stage.now_s += 1.5
    with pytest.raises(TransportError, match=r"reading t of localhost:9092: "):
        stage.poll()
    assert stage.poll() == []
    stage.now_s += 1.0
    with pytest.raises(TransportError):
        stage.poll()
    stage.client.unavailable = None
    stage.now_s += 1.0
    asked = stage.client.asked.count("topics")
    assert stage.poll() == []
    stage.now_s += 2.0
    assert stage.poll() == []
    assert stage.client.asked.count("topics") == asked + 1


def test_a_member_without_partitions_asks_whether_anybody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch)
    assert stage.poll() == []
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 1.0
    with pytest.raises(TransportError, match=r"reading t of localhost:9092: "):
        stage.poll()


def test_silence_after_a_complaint_is_an_outage_only_when_nobody_answers(stage: Stage) -> None:
    stage.own(0)
    stage.client.complain(ClientError(Code.LOCAL_ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert stage.poll() == []
    stage.client.unavailable = ClientError(Code.LOCAL_TRANSPORT, "gone")
    stage.now_s += 2.0
    assert stage.poll() == []
    assert stage.client.asked == ["committed", "topics"], "asked again without a new complaint"
    stage.client.complain(ClientError(Code.LOCAL_ALL_BROKERS_DOWN, "1/1 brokers are down"))
    stage.now_s += 2.0
    with pytest.raises(
        TransportError, match="reading t of localhost:9092: 1/1 brokers are down"
    ) as outage:
        stage.poll()
    assert outage.value.retriable
    stage.now_s += 2.0
    assert stage.poll([record(0, 0)]) == [(0, [0])]


def twin() -> ClientError:
    return ClientError(Code.FENCED_INSTANCE_ID, "a second one", Flags.FATAL)


def test_a_twin_ends_this_member(stage: Stage) -> None:
    stage.own(0)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])
    assert len(stage.clients) == 1


def test_a_member_that_fenced_itself_in_an_outage_joins_again_once(stage: Stage) -> None:
    stage.own(0, 1)
    stage.poll(lambda: stage.client.lose(0, 1))
    stage.own(0)
    assert stage.poll([record(0, 0), twin()]) == []
    assert stage.listener.told[-1] == ("lost", [0])
    assert (len(stage.clients), stage.clients[0].closed) == (2, 1)
    stage.own(0, 1)
    assert stage.poll([record(0, 0)]) == [(0, [0])]
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])
    assert len(stage.clients) == 2


def test_a_member_whose_broker_went_may_have_fenced_itself_before_it_lost_anything(
    stage: Stage,
) -> None:
    stage.own(0)
    stage.client.complain(ClientError(Code.LOCAL_TRANSPORT, "gone"))
    assert stage.poll([twin()]) == []
    assert stage.listener.told[-1] == ("lost", [0])
    stage.own(0)
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_each_outage_explains_one_fencing(stage: Stage) -> None:
    for joined in range(1, 4):
        stage.own(0)
        stage.client.complain(ClientError(Code.LOCAL_TRANSPORT, "gone"))
        assert stage.poll([twin()]) == []
        assert len(stage.clients) == joined + 1
    with pytest.raises(ProducerFenced):
        stage.poll([twin()])


def test_a_fenced_transaction_in_a_callback_is_no_reason_to_join_again(stage: Stage) -> None:
    stage.own(0, 1)
    stage.poll(lambda: stage.client.lose(0))
    stage.listener.fail["revoked"] = ProducerFenced("a newer producer")
    with pytest.raises(ProducerFenced, match="a newer producer"):
        stage.poll(lambda: stage.client.revoke(1))
    assert len(stage.clients) == 1


@pytest.mark.parametrize(("instance_id", "silent_s"), [(None, 0.0), ("g-a", 7.0)])
def test_a_member_without_partitions_joins_anew_for_those_that_nobody_has(
    monkeypatch, instance_id, silent_s
) -> None:
    stage = Stage(monkeypatch, instance_id)
    stage.own()
    stage.engine.unassigned = {2}
    stage.poll()
    assert len(stage.clients) == 1
    stage.now_s += 9.0
    stage.poll()
    assert (len(stage.clients), stage.clients[0].closed, stage.slept_s) == (2, 1, [silent_s])
    stage.own(0, 1, 2)
    stage.engine.unassigned = set()
    stage.now_s += 60.0
    assert stage.poll([record(2, 0)]) == [(2, [0])]
    assert len(stage.clients) == 2


def test_a_member_with_partitions_leaves_that_to_one_without_for_a_while(stage: Stage) -> None:
    stage.own(0, 1)
    stage.engine.unassigned = {2}
    stage.now_s += 9.0
    stage.poll()
    assert (len(stage.clients), stage.listener.told) == (1, [("assigned", [0, 1])])
    stage.now_s += 15.0
    stage.poll()
    assert (len(stage.clients), stage.listener.told[-1]) == (2, ("lost", [0, 1]))


def test_nothing_is_done_where_every_partition_has_an_owner(stage: Stage) -> None:
    stage.own(0)
    stage.now_s += 600.0
    stage.poll()
    assert len(stage.clients) == 1


def test_nothing_is_done_where_nobody_tells_who_has_what(stage: Stage) -> None:
    stage.own(0)
    stage.engine.unassigned, stage.engine.answers = {2}, False
    stage.now_s += 600.0
    stage.poll()
    assert len(stage.clients) == 1


def test_closing_tells_nobody(stage: Stage) -> None:
    stage.own(0)
    stage.source.close()
    stage.source.close()
    assert stage.client.closed == 1
    assert stage.listener.told == [("assigned", [0])]
