"""A cause of silently wrong results stops the predictor with a named error, cleanly."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from consumer_prediction.health.guards import GuardedSource, KeyCheck, TopicWatch
from consumer_prediction.loop import PredictionLoop
from shared.batch import Position
from shared.errors import (
    GuardError,
    HistoryGone,
    NewerVersion,
    PartitionerMismatch,
    PositionGone,
    SchemaNotAllowed,
    TopicMismatch,
    TopicRecreated,
    TransportError,
)
from shared.events import STATE_VERSION
from shared.kafka import TopicIdentity
from shared.snapshots import SnapshotFolder
from tests.reference.hashing import murmur2
from tests.support.fakes import MemorySource
from tests.support.loop_world import GROUP, TOPICS, A, Registry, World, begun, metric_event

FIRST = TopicIdentity(2, "id")


class Cluster:
    """Says what the topic is now, or that it does not answer."""

    def __init__(self, *answers: TopicIdentity | Exception) -> None:
        self.answers = list(answers) or [FIRST]
        self.asked = 0

    def __call__(self) -> TopicIdentity:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def watch(cluster: Cluster, every_s: float = 60.0) -> TopicWatch:
    return TopicWatch(TOPICS.input, FIRST, cluster, every_s=every_s, confirm_s=0.0)


def guarded(world: World, cluster: Cluster, partitioner: str = "unchecked") -> PredictionLoop:
    inner = MemorySource(world.log, GROUP, TOPICS.input)
    inner.give(0, 1)

    def scored() -> dict[int, int]:
        world.log.check_up()
        return {partition: activation.offset for partition, activation in world.activations()}

    return world.predictor(
        source=GuardedSource(inner, watch(cluster), KeyCheck(partitioner, 2), scored)
    )


def drive(world: World, loop: PredictionLoop, times: int = 100) -> None:
    """As the service does, with the world's clock."""
    left = [times]

    def stopping() -> bool:
        world.tick(0.05)
        left[0] -= 1
        return left[0] < 0

    loop.run(stopping)


def assert_nothing_half_done(world: World, loop: PredictionLoop) -> None:
    """No open transaction, and what was committed is right, as far as it goes."""
    assert not world.log.open
    assert not loop.owned
    assert loop.dependencies.source.source.closed
    expected = world.oracle()
    for topic, results in expected.items():
        assert set(world.results(topic)) <= set(results)
        assert len(set(world.results(topic))) == len(world.results(topic))


@pytest.fixture
def world(tmp_path) -> World:
    made = World(tmp_path)
    made.models.current = A
    return made


# -- the topic -------------------------------------------------------------------------------------

CHANGES = [
    (
        TopicIdentity(3, "id"),
        TopicMismatch,
        "has 3 partitions, and had 2 when this predictor started",
    ),
    (
        TopicIdentity(2, "other"),
        TopicRecreated,
        "was deleted and recreated: its id is other, and was id",
    ),
    (TopicMismatch("there is no topic"), TopicMismatch, "there is no topic"),
]


@pytest.mark.parametrize(("now", "kind", "message"), CHANGES)
def test_another_topic_is_not_taken_over(world, now, kind, message):
    loop = guarded(world, Cluster(now))
    with pytest.raises(kind, match=message):
        drive(world, loop)
    assert not world.log.committed
    assert_nothing_half_done(world, loop)


@pytest.mark.parametrize(("now", "kind", "message"), CHANGES)
def test_a_topic_that_changes_under_way_stops_the_loop(world, now, kind, message):
    cluster = Cluster()
    loop = guarded(world, cluster)
    drive_until_open(world, loop)
    cluster.answers = [now]
    loop.dependencies.source.watch._every_s = 0.0
    with loop.dependencies.source.watch:
        loop.dependencies.source.watch._thread.join(10)
    before = dict(world.log.committed)
    with pytest.raises(kind, match=message):
        drive(world, loop)
    assert world.log.committed == before
    assert_nothing_half_done(world, loop)


def drive_until_open(world: World, loop: PredictionLoop) -> None:
    """Stop in the middle of a transaction, with some committed before."""
    for _ in range(100):
        world.step(loop)
        if world.log.open and world.log.committed:
            return
    raise AssertionError("no transaction is open")


def test_a_difference_counts_only_when_it_is_seen_twice():
    cluster = Cluster(TopicIdentity(3, "id"), FIRST)
    watch(cluster).check_now()
    assert cluster.asked == 2


def test_the_second_check_identifies_the_change():
    cluster = Cluster(TopicMismatch("there is no topic"), TopicIdentity(2, "other"))
    with pytest.raises(TopicRecreated):
        watch(cluster).check_now()


def test_a_broker_that_does_not_answer_is_no_finding():
    cluster = Cluster(
        TransportError("no answer"), TransportError("no answer"), FIRST, TopicIdentity(1, "id")
    )
    seen = watch(cluster, every_s=0.0)
    with seen:
        seen._thread.join(10)
    assert cluster.asked == 5
    with pytest.raises(TopicMismatch):
        seen.check()


def test_a_bug_in_the_check_is_not_swallowed():
    seen = watch(Cluster(ZeroDivisionError()), every_s=0.0)
    with seen:
        seen._thread.join(10)
    with pytest.raises(ZeroDivisionError):
        seen.check()


def test_an_outage_at_an_assignment_is_waited_for(world):
    """The real source retries a take-over after a TransportError; the fake one gives up."""
    cluster = Cluster(TransportError("no answer"), FIRST)
    source = GuardedSource(
        MemorySource(world.log, GROUP, TOPICS.input), watch(cluster), KeyCheck("unchecked", 2)
    )
    loop = world.predictor(source=source)
    source.source.give(0, 1)
    world.step(loop)
    assert not loop.owned
    source.source.give(0, 1)
    world.finish(loop)
    world.assert_conserved()


def test_what_the_client_complains_about_is_given_its_cause(world):
    """A recreated topic is shorter than the position, which looks like retention."""
    cluster = Cluster()
    loop = guarded(world, cluster)
    drive_until_open(world, loop)
    complaints = [HistoryGone("offset out of range"), HistoryGone("offset out of range")]

    def poll(max_records, timeout_s):
        raise complaints.pop()

    loop.dependencies.source.source.poll = poll
    for answer, kind in (
        (TransportError("no answer"), HistoryGone),
        (TopicIdentity(2, "other"), TopicRecreated),
    ):
        cluster.answers = [answer]
        with pytest.raises(kind):
            loop.dependencies.source.poll(10, 0.0)


def test_pause_and_the_rest_reach_the_source(world):
    world.registry.down = True
    loop = guarded(world, Cluster())
    kept, world.registry.known = world.registry.known, {}
    world.step(loop, 4)
    assert loop.dependencies.source.source.paused
    world.registry.down, world.registry.known = False, kept
    world.finish(loop)
    world.assert_conserved()
    loop.dependencies.source.seek(0, 1)
    assert loop.dependencies.source.source.at[0] == 1


@pytest.mark.parametrize("how", ["take", "lose"])
def test_revoked_and_lost_reach_the_loop(world, how):
    loop = guarded(world, Cluster())
    drive_until_open(world, loop)
    loop.dependencies.source.source.take(0, 1, lost=how == "lose")
    world.step(loop)
    assert not loop.owned
    loop.dependencies.source.source.give(0, 1)
    world.finish(loop)
    world.assert_conserved()


# -- recreated while no predictor ran --------------------------------------------------------------


def renamed(world: World, topic_id: str) -> None:
    """As after a restart on a topic of the same name with another id."""
    old = world.snapshots
    world.snapshots = SnapshotFolder(old.root, old.cluster_id, old.topic, topic_id, old.group)


def test_a_position_in_a_deleted_topic_is_a_named_stop(world):
    world.finish(begun(world))
    renamed(world, "no")
    with pytest.raises(
        TopicRecreated,
        match=r"committed offset \d+ belongs to the topic with id id, but the topic now has id no",
    ):
        world.step(begun(world))


def test_snapshots_of_a_deleted_topic_are_a_named_stop(world):
    """Brokers delete the positions together with the topic."""
    world.finish(begun(world))
    assert list(world.snapshots.root.rglob("*.snapshot"))
    world.log.committed.clear()
    renamed(world, "no")
    with pytest.raises(
        TopicRecreated, match=r"snapshots of a topic with the same name and an id other than no"
    ):
        world.step(begun(world))


def test_a_position_that_is_gone_is_a_named_stop(world):
    """No snapshot tells either; what the group has committed about the partition does."""
    world.finish(begun(world))
    gone = (GROUP, TOPICS.input, 1)
    del world.log.committed[gone]
    world.snapshots = SnapshotFolder(world.snapshots.root / "empty", "c", TOPICS.input, "id", GROUP)
    loop = guarded(world, Cluster())
    with pytest.raises(
        PositionGone,
        match=r"raw\[1\]: the group has a result for offset 0 but no committed position",
    ):
        drive(world, loop)
    assert gone not in world.log.committed
    assert_nothing_half_done(world, loop)
    world.log.committed[gone] = Position(len(world.log.topics[TOPICS.input][1]))
    drive(world, guarded(world, Cluster()), 3)


def test_where_results_may_come_before_positions_a_missing_position_is_no_stop(world):
    inner = MemorySource(world.log, GROUP, TOPICS.input)
    inner.give(0, 1)
    world.step(begun(world), 2)
    world.log.committed.clear()
    drive(
        world,
        world.predictor(source=GuardedSource(inner, watch(Cluster()), KeyCheck("unchecked", 2))),
        3,
    )


def test_a_position_set_by_hand_starts_over_in_the_new_topic(world):
    world.finish(begun(world))
    renamed(world, "no")
    world.log.committed = {place: Position(0) for place in world.log.committed}
    for topic in (TOPICS.scores, TOPICS.anomalies, TOPICS.activations, TOPICS.dead_letters):
        world.log.topics[topic] = [[] for _ in world.log.topics[topic]]
    world.finish(begun(world))
    world.assert_conserved()


@pytest.mark.parametrize(
    ("topic", "topic_id", "group"),
    [
        ("t", "a/b+c", "g"),
        ("t", "", "g"),
        ("t", "longer", "g"),
        ("t-x", "nonon", "g"),
        ("u", "nonon", "g"),
        ("t", "nonon", "h"),
    ],
)
def test_snapshots_of_other_topics_and_groups_say_nothing(tmp_path, topic, topic_id, group):
    folder = SnapshotFolder(tmp_path, "c", topic, topic_id, group).partition(0)
    folder.mkdir(parents=True)
    (folder / f"v{STATE_VERSION}-{7:020d}-{0:016x}.snapshot").touch()
    assert SnapshotFolder(tmp_path, "c", "t", "a/b+c", "g").earlier_topic() is None
    assert SnapshotFolder(tmp_path, "c", "t", "", "g").earlier_topic() is None
    assert SnapshotFolder(tmp_path / "none", "c", "t", "nonon", "g").earlier_topic() is None
    for other in ("x" * len(topic_id), "x/+" + "x" * (len(topic_id) - 3)):
        found = SnapshotFolder(tmp_path, "c", topic, other, group).earlier_topic()
        assert found == (folder.parent if topic_id else None)


# -- newer versions --------------------------------------------------------------------------------


def changed_metadata(world: World, change: Callable[[dict], dict]) -> None:
    for place, position in world.log.committed.items():
        content = json.loads(position.metadata)
        change(content)
        world.log.committed[place] = Position(position.offset, json.dumps(content))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda c: c.update(v=c["v"] + 1),
            NewerVersion,
            r"has metadata of version 4, this code supports up to 3: a newer version",
        ),
        (
            lambda c: c.update(state=99),
            NewerVersion,
            r"was written with state version 99, this code has \d+: a newer version",
        ),
        (
            lambda c: c["activation"].update(state_version=98),
            NewerVersion,
            r"with state version 98",
        ),
        (lambda c: c.update(v=1), GuardError, r"cannot read \(version 1\)"),
        (lambda c: c.pop("base"), GuardError, r"cannot read \('base'\)"),
    ],
)
def test_metadata_that_cannot_be_read_is_a_named_stop(world, change, kind, message):
    world.finish(begun(world))
    changed_metadata(world, change)
    loop = guarded(world, Cluster())
    with pytest.raises(kind, match=message):
        drive(world, loop)
    assert_nothing_half_done(world, loop)


def test_positions_of_the_version_before_are_read(world):
    """It wrote neither the topic's id nor the state version."""
    world.step(begun(world), 8)
    assert world.log.committed

    def older(content: dict) -> None:
        content["v"] = 2
        del content["topic"], content["state"]

    changed_metadata(world, older)
    world.finish(begun(world))
    world.assert_conserved()


def newer_snapshot(world: World, offset: int) -> None:
    folder = world.snapshots.partition(0)
    (folder / f"v{STATE_VERSION + 1}-{offset:020d}-{1:016x}.snapshot").write_bytes(
        b"unreadable for this version"
    )


def test_a_snapshot_of_a_newer_version_is_a_named_stop(world):
    world.finish(begun(world))
    newer_snapshot(world, 5)
    with pytest.raises(
        NewerVersion,
        match=rf"snapshot has a newer state version than this code's {STATE_VERSION}.*remove",
    ):
        world.step(begun(world))


def test_a_newer_snapshot_of_another_history_says_nothing(world):
    """The group's offsets were reset behind it, or to before it."""
    world.finish(begun(world))
    end = world.log.committed[GROUP, TOPICS.input, 0].offset
    for offset in (5, end, end + 10):
        newer_snapshot(world, offset)
    world.log.committed[GROUP, TOPICS.input, 0] = Position(end)
    loop = begun(world)
    world.step(loop, 3)
    assert loop.owned[0].state.next_offset == end


# -- what comes in ---------------------------------------------------------------------------------


def test_a_foreign_producer_stops_the_loop(world):
    """Records of one host are where murmur2 puts them, one has no key, one is misplaced."""
    world.log.topics[TOPICS.input] = [[], []]
    owner = (murmur2(b"alpha") & 0x7FFFFFFF) % 2
    for minute in range(40):
        world.log.append(TOPICS.input, owner, metric_event("alpha", minute, 1.0), b"alpha")
    world.log.append(TOPICS.input, 1 - owner, metric_event("alpha", 41, 1.0), b"")
    for minute in range(42, 50):
        world.log.append(TOPICS.input, owner, metric_event("alpha", minute, 1.0), b"alpha")
    loop = guarded(world, Cluster(), "murmur2")
    drive_until_open(world, loop)
    world.log.append(TOPICS.input, 1 - owner, metric_event("alpha", 50, 1.0), b"alpha")
    with pytest.raises(PartitionerMismatch, match=rf"\[{1 - owner}\]@1: the key b'alpha'"):
        drive(world, loop)
    assert world.log.committed
    assert_nothing_half_done(world, loop)


def test_a_schema_that_is_not_allowed_stops_the_loop(world):
    class Strict(Registry):
        allowed = True

        def prepare(self, batch):
            if not self.allowed:
                raise SchemaNotAllowed("a record is written with schema 7")
            super().prepare(batch)

    plain, world.registry = world.registry, Strict()
    strict = world.registry
    loop = guarded(world, Cluster())
    drive_until_open(world, loop)
    strict.allowed = False
    with pytest.raises(SchemaNotAllowed):
        drive(world, loop)
    world.registry = plain
    assert_nothing_half_done(world, loop)


# -- what is left ----------------------------------------------------------------------------------


def test_a_guard_aborts_what_is_open_even_if_the_abort_fails(world):
    cluster = Cluster()
    loop = guarded(world, cluster)
    drive_until_open(world, loop)
    loop.transaction.sink.fail["abort"] = "undecided, lost"
    loop.dependencies.source.watch._finding = TopicMismatch("grown")
    with pytest.raises(TopicMismatch, match="grown"):
        drive(world, loop)
    assert loop.dependencies.source.source.closed
