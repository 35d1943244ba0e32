"""What a predictor shows of itself, compared with the log in memory that it reads."""

from __future__ import annotations

import pytest

import schemas
from consumer_prediction.health.gauges import COUNT_EVERY_S, MEASURE_EVERY_S
from shared.encode.records import decode_records
from shared.events import Detector
from shared.operations.counters import (
    BATCH_SECONDS,
    CONSUMER_LAG,
    ENTITIES,
    MODEL_AGE_SECONDS,
    MODEL_INFO,
    OUTAGE_SECONDS,
)
from tests.support.loop_world import HOSTS, TOPICS, A, B, World, begun, configured, metric_event


def rows(world, metric):
    return dict(next(found for one, found in world.counters.numbers() if one is metric))


def lag(world):
    return {int(labels[1]): value for labels, value in rows(world, CONSUMER_LAG).items()}


def entities(world):
    return {labels[0]: value for labels, value in rows(world, ENTITIES).items()}


def truth(world, loop):
    return {
        p: len(world.log.topics[TOPICS.input][p]) - owned.state.next_offset
        for p, owned in loop.owned.items()
    }


def later(world, loop, seconds=MEASURE_EVERY_S):
    world.tick(seconds)
    loop._gauges.refresh(loop.owned, loop.model)


def test_lag_is_what_lies_behind_the_position(tmp_path):
    world = World(tmp_path)
    loop = begun(world)
    world.step(loop, 2)
    later(world, loop)
    assert lag(world) == truth(world, loop)
    assert min(lag(world).values()) > 0
    world.finish(loop)
    later(world, loop)
    assert lag(world) == {0: 0, 1: 0}
    assert {labels[0] for labels in rows(world, CONSUMER_LAG)} == {TOPICS.input}


def test_lag_grows_while_the_registry_is_away_and_everything_is_paused(tmp_path):
    world = World(tmp_path, records=20)
    loop = begun(world)
    world.finish(loop)
    world.registry.down = True
    world.log.append(TOPICS.input, 0, b"\x00\x00\x00\x00\x09unknown", b"x")
    world.step(loop, 3)
    assert loop.dependencies.source.paused
    for minute in range(5):
        world.log.append(TOPICS.input, 0, metric_event("alpha", 100 + minute, 1.0), b"alpha")
    later(world, loop)
    assert lag(world) == truth(world, loop) == {0: 6, 1: 0}
    world.registry.down = False


@pytest.mark.parametrize("lost", [False, True])
def test_a_partition_that_goes_is_no_longer_shown(tmp_path, lost):
    world = World(tmp_path)
    loop = begun(world)
    world.step(loop, 3)
    later(world, loop)
    assert set(lag(world)) == {0, 1}
    loop.dependencies.source.take(1, lost=lost)
    steps_rebuilding = 0
    for _ in range(4):  # what is overdue is committed before the poll that tells of the loss
        world.step(loop)
        steps_rebuilding += loop.rebuilding
    assert steps_rebuilding == lost
    assert set(lag(world)) == {0}
    assert sum(entities(world).values()) == len(loop.owned[0].state.entities)


def test_a_replay_counts_as_lag(tmp_path):
    world = World(tmp_path)
    world.finish(begun(world))
    world.snapshots = type(world.snapshots)(
        tmp_path / "empty", "c", TOPICS.input, "id", world.snapshots.group
    )
    loop = begun(world)
    world.step(loop, 2)
    assert any(owned.replaying for owned in loop.owned.values())
    later(world, loop)
    assert lag(world) == truth(world, loop)
    assert sum(lag(world).values()) > 0


def scored(world):
    """The state that each entity's newest score carries."""
    values = [record.value for *_, record in world.log.visible(TOPICS.scores)]
    found = decode_records(values, [schemas.text(schemas.SCORE_EVENT)] * len(values))
    return {
        one["entity"]: one["state"] for one in sorted(found, key=lambda one: one["source_offset"])
    }


@pytest.mark.parametrize(
    ("records", "detector", "days"),
    [
        (30, Detector.ENSEMBLE, 2.0),
        (400, Detector.ENSEMBLE, 0.01),
        (400, Detector.ISOLATION_FOREST, 0.01),
    ],
)
def test_entities_by_state_are_those_of_the_newest_scores(tmp_path, records, detector, days):
    configuration = configured(detector, warmup_days=days)
    world = World(tmp_path, records=records, configuration=configuration)
    world.models.current = A
    loop = begun(world)
    world.finish(loop)
    later(world, loop, COUNT_EVERY_S)
    wanted = dict.fromkeys(("WARMING", "READY", "STALE"), 0)
    for state in scored(world).values():
        wanted[state] += 1
    assert entities(world) == wanted
    assert sum(wanted.values()) == len(HOSTS)


def test_an_entity_that_has_stopped_reporting_is_stale(tmp_path):
    world = World(tmp_path, records=400, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    world.finish(loop)
    later(world, loop, COUNT_EVERY_S)
    assert entities(world) == {"WARMING": 0, "READY": 3, "STALE": 0}
    alone = [host for host in HOSTS if HOSTS.index(host) % 2 == 0]
    assert len(alone) == 2
    # the second one goes on, and a third has to move the partition's clock
    for minute in range(400, 700):
        for host in (alone[1], "delta"):
            world.log.append(TOPICS.input, 0, metric_event(host, minute, 1.0), host.encode())
    world.finish(loop)
    later(world, loop, COUNT_EVERY_S)
    assert entities(world)["STALE"] == 1
    assert sum(entities(world).values()) == 4


def test_the_model_in_use_and_its_age(tmp_path):
    world = World(tmp_path)
    published = {A: 0.0, B: None}
    world.models.published_s = published.get
    loop = begun(world)
    world.step(loop, 2)
    assert rows(world, MODEL_INFO) == rows(world, MODEL_AGE_SECONDS) == {}
    world.models.current = A
    world.finish(loop)
    object.__setattr__(loop.dependencies, "now_ms", lambda: 90_000)
    later(world, loop)
    model = world.models.all[A]
    assert rows(world, MODEL_INFO) == {(model.version, model.model_id, model.detector.value): 1}
    assert rows(world, MODEL_AGE_SECONDS) == {(): 90.0}
    world.models.current = B
    world.step(loop)
    later(world, loop)
    assert [labels[1] for labels in rows(world, MODEL_INFO)] == [world.models.all[B].model_id]
    assert rows(world, MODEL_AGE_SECONDS) == {}


def test_each_scored_batch_is_timed_and_no_replayed_one(tmp_path):
    world = World(tmp_path, records=60)
    world.finish(begun(world))
    (((_, histogram),),) = [
        found for metric, found in world.counters.histograms() if metric is BATCH_SECONDS
    ]
    batches = int(histogram.counts.sum())
    assert batches >= 60 // 7
    world.snapshots = type(world.snapshots)(
        tmp_path / "empty", "c", TOPICS.input, "id", world.snapshots.group
    )
    loop = begun(world)
    world.step(loop, 30)
    assert not any(owned.replaying for owned in loop.owned.values())
    assert int(histogram.counts.sum()) == batches
    assert rows(world, OUTAGE_SECONDS) == {(): 0}


def test_nothing_is_measured_more_often_than_it_has_to_be(tmp_path):
    world = World(tmp_path)
    loop = begun(world)
    asked = []
    ends = loop.dependencies.source.ends
    loop.dependencies.source.ends = lambda: asked.append(world.now_s) or ends()
    world.finish(loop)
    assert len(asked) <= 3 + world.now_s / MEASURE_EVERY_S
