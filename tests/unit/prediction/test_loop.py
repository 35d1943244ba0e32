"""The prediction loop on a log in memory: each record has exactly one correct result."""

import random

import pytest

import schemas
from consumer_prediction.loop import PredictionLoop
from shared.encode.records import decode_records
from shared.errors import HistoryGone, ProducerFenced, TransportError
from shared.events import Detector
from shared.operations.counters import DEAD_LETTERS, EVENTS_SCORED
from shared.scoring.configuration import Configuration
from shared.snapshots import SnapshotFolder
from tests.support.loop_world import (
    FAILURES,
    FOREST,
    GROUP,
    SLOW,
    TOPICS,
    A,
    B,
    World,
    begun,
    configured,
)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_every_record_has_one_result(world):
    world.models.current = A
    world.finish(begun(world))
    world.assert_conserved()
    assert world.results(TOPICS.anomalies)
    assert world.counters.total(EVENTS_SCORED) == len(world.results(TOPICS.scores))
    assert world.counters.total(DEAD_LETTERS) == len(world.results(TOPICS.dead_letters)) > 0


def test_before_the_first_model_events_are_warming(world):
    world.finish(begun(world))
    world.assert_conserved()
    values = [value for _, value, _ in world.results(TOPICS.scores)]
    scores = decode_records(values, [schemas.text(schemas.SCORE_EVENT)] * len(values))
    assert {(s["state"], s["score"], s["model_id"]) for s in scores} == {("WARMING", None, None)}


def test_a_new_model_is_announced_with_its_first_scores(world):
    loop = begun(world)
    world.step(loop, 6)
    world.models.current = A
    world.step(loop, 6)
    world.models.current = B
    world.finish(loop)
    assert [a.model_sha256 for p, a in world.activations() if p == 0] == ["", A, B]
    world.assert_conserved()


@pytest.mark.parametrize("snapshots", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 8, 17])
def test_killed_in_mid_stream_and_started_again(world, steps, snapshots):
    world.models.current = A
    world.step(begun(world), steps)
    if not snapshots:
        world.snapshots = SnapshotFolder(
            world.snapshots.root / "empty", "c", TOPICS.input, "id", GROUP
        )
    world.models.current = B
    world.finish(begun(world))
    world.assert_conserved()


def test_what_a_start_replayed_the_next_one_does_not(world):
    """Whoever is killed more often than the interval would replay more each time."""

    def life(steps):
        loop = world.predictor(snapshot_interval_s=3600.0)
        loop.dependencies.source.give(0, 1)
        world.step(loop)
        began = sum(owned.state.next_offset for owned in loop.owned.values())
        world.step(loop, steps)
        return began, sum(position.offset for position in world.log.committed.values())

    one_poll, first = life(10)
    # a fresh start waits for the interval
    assert not any(path.is_file() for path in world.snapshots.root.rglob("*"))
    began, second = life(30)
    assert began == one_poll
    began, _ = life(0)
    assert one_poll < first <= began <= second


@pytest.mark.parametrize("call", ["send", "commit", "abort"])
@pytest.mark.parametrize("how", FAILURES)
def test_a_transaction_that_fails_is_rebuilt(world, call, how):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 5)
    if call == "abort":
        loop.transaction.sink.fail["commit"] = "abort"
    loop.transaction.sink.fail[call] = how
    world.models.current = B
    world.finish(loop)
    world.assert_conserved()


def test_a_zombie_is_fenced_and_commits_nothing(world):
    world.models.current = A
    zombie = begun(world)
    world.step(zombie, 3)
    world.finish(begun(world))
    world.tick(1.0)
    with pytest.raises(ProducerFenced):
        world.step(zombie, 50)
    world.assert_conserved()


def test_partitions_move_between_predictors(world):
    world.models.current = A
    first, second = begun(world, "a"), world.predictor("b")
    world.step(first, 4)
    first.dependencies.source.take(1)
    world.step(first, 1)
    second.dependencies.source.give(1)
    for _ in range(6):
        world.step(first)
        world.step(second)
    second.dependencies.source.take(1, lost=True)
    world.step(second, 2)  # the second step aborts what the first one has invalidated
    first.dependencies.source.give(1)
    world.finish(first)
    world.assert_conserved()


def test_sigterm_leaves_nothing_open(world):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 4)
    loop.drain()
    assert not world.log.open
    assert loop.dependencies.source.closed
    world.finish(begun(world))
    world.assert_conserved()


def test_an_outage_of_the_registry_is_waited_for(world):
    world.registry.known, known = {}, world.registry.known
    world.registry.down = True
    loop = begun(world)
    world.step(loop, 10)
    assert loop.dependencies.source.paused
    assert not world.results(TOPICS.dead_letters) or not world.results(TOPICS.scores)
    world.registry.known, world.registry.down = known, False
    world.finish(loop)
    assert not loop.dependencies.source.paused
    world.assert_conserved()


def test_an_outage_of_the_broker_is_survived(world):
    world.models.current = A
    loop = begun(world)
    world.step(loop, 5)
    world.log.down = True
    world.step(loop, 20)
    world.log.down = False
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize("quiet_polls", [0, 5])
def test_an_outage_beyond_the_deadline_ends_the_service(tmp_path, quiet_polls):
    """Also when some polls of a broker that is gone look like those of an idle topic."""
    world = World(tmp_path, records=0)
    loop = begun(world)
    with pytest.raises(TransportError, match="does not answer"):
        outage(world, loop, quiet_polls)
    assert world.now_s > loop.outage.deadline_s


def outage(world: World, loop: PredictionLoop, quiet_polls: int) -> None:
    for _ in range(2000):
        world.log.down = True
        world.step(loop)
        world.log.down = False
        world.step(loop, quiet_polls)


def test_history_removed_by_retention_is_a_named_stop(world):
    world.models.current = A
    world.step(begun(world), 5)
    world.snapshots = SnapshotFolder(world.snapshots.root / "empty", "c", TOPICS.input, "id", GROUP)
    world.log.starts[TOPICS.input, 0] = 2
    with pytest.raises(HistoryGone, match="retention has removed"):
        world.step(begun(world))


def test_records_removed_before_they_were_scored_are_a_named_stop(world):
    world.models.current = A
    world.step(begun(world), 5)
    world.log.starts[TOPICS.input, 0] = world.log.committed[GROUP, TOPICS.input, 0].offset + 3
    with pytest.raises(HistoryGone, match="before they were scored"):
        world.step(begun(world))


@pytest.mark.parametrize("seed", range(25))
def test_random_faults_change_no_byte(tmp_path, seed):
    faulty_run(World(tmp_path, seed, records=150), seed)


@pytest.mark.parametrize("seed", range(2 if SLOW else 12))
def test_random_faults_and_settings_change_no_byte_of_the_ensemble(tmp_path, seed):
    """Each restart may change detector or threshold; replays use what the log activated."""
    world = World(
        tmp_path, seed, records=100 if SLOW else 250, configuration=configured(Detector.ENSEMBLE)
    )
    others = (
        configured(Detector.ENSEMBLE, threshold=0.8),
        configured(Detector.ENSEMBLE, alarms_per_day=5.0, direction="up"),
        configured(Detector.JUMP),
        FOREST,
    )
    faulty_run(world, seed, (world.configuration, *others))
    values = [value for _, value, _ in world.results(TOPICS.scores)]
    scores = decode_records(values, [schemas.text(schemas.SCORE_EVENT)] * len(values))
    assert {score["state"] for score in scores} & {"READY", "STALE"}


def faulty_run(world: World, seed: int, configurations: tuple[Configuration, ...] = ()) -> None:
    rng = random.Random(seed)
    loop = begun(world)
    for _ in range(60):
        fault = rng.random()
        if fault < 0.08 and not world.log.down:
            world.configuration = rng.choice(configurations or (world.configuration,))
            loop = begun(world)
        elif fault < 0.2:
            loop.transaction.sink.fail[rng.choice(["send", "commit", "abort"])] = rng.choice(
                FAILURES
            )
        elif fault < 0.3:
            world.models.current = rng.choice([A, B])
        elif fault < 0.35:
            world.log.down = not world.log.down
        elif fault < 0.4 and 1 in loop.dependencies.source.at:
            loop.dependencies.source.take(1, lost=rng.random() < 0.5)
            loop.dependencies.source.give(1)
        world.step(loop)
    world.log.down = False
    loop.transaction.sink.fail.clear()
    world.finish(loop)
    world.assert_conserved()
