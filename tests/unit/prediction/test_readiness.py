"""The readiness probe of a predictor in each of its states, of training and of the replay."""

from __future__ import annotations

import numpy as np
import pytest

from consumer_prediction.health.readiness import Readiness
from consumer_training.outside import Options
from shared.errors import TransportError
from shared.events import Detector
from shared.operations.counters import OUTAGE_SECONDS
from shared.operations.health import STARTING
from tests.support.loop_world import TOPICS, A, World, begun, configured
from tests.support.replaying import made


def probe(loop):
    readiness = Readiness()
    readiness.loop = loop
    return readiness()


def test_a_predictor_without_a_loop_says_what_it_waits_for():
    readiness = Readiness()
    assert readiness() == STARTING
    readiness.waiting("waiting for the broker at nowhere:1")
    assert readiness() == "waiting for the broker at nowhere:1"


def test_a_predictor_that_works_is_ready(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = world.predictor()
    assert "no partition is assigned" in probe(loop)
    loop.dependencies.source.give(0, 1)
    world.step(loop)
    assert probe(loop) == ""
    world.finish(loop)
    assert probe(loop) == ""
    loop.dependencies.source.take(0, 1)
    world.step(loop)
    assert "no partition is assigned" in probe(loop)


def test_a_replay_is_named_with_its_offsets(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    world.finish(begun(world))
    world.snapshots = type(world.snapshots)(
        tmp_path / "empty", "c", TOPICS.input, "id", world.snapshots.group
    )
    loop = begun(world)
    world.step(loop)
    owned = loop.owned[0]
    assert (
        f"replaying partition 0 at offset {owned.state.next_offset} of {owned.replay_until}"
        in probe(loop)
    )
    assert "replaying partition 1 " in probe(loop)
    world.step(loop, 60)
    assert probe(loop) == ""


def test_many_replays_are_counted(tmp_path):
    world = World(tmp_path, records=0, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    world.step(loop)
    for partition in range(9):
        loop.owned[partition] = type(loop.owned[0])(
            loop.owned[0].scorer, 100, loop.owned[0].progress
        )
    assert probe(loop).endswith("; replaying partition 2 at offset 0 of 100; and 6 more partitions")


def test_a_model_that_the_detector_needs(tmp_path):
    world = World(tmp_path)
    loop = begun(world)
    world.step(loop)
    assert loop.rules.configuration.detector.is_trained
    loop.model = None
    assert (
        probe(loop)
        == "no model, and detector isolation_forest needs one: run `lapwing train --once`"
    )
    world.models.current = A
    world.finish(loop)
    assert probe(loop) == ""
    online = World(tmp_path / "online", configuration=configured(Detector.ENSEMBLE))
    loop = begun(online)
    online.finish(loop)
    assert probe(loop) == ""


def test_an_outage_is_named_with_its_cause_until_it_is_over(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    world.finish(loop)
    world.log.down = True
    world.step(loop)
    world.tick(20.0)
    world.step(loop)
    assert probe(loop).startswith("outage for 2")
    assert "broker memory:1 does not answer" in probe(loop)
    assert world.counters.value(OUTAGE_SECONDS) >= 20
    world.log.down = False
    world.tick(10.0)
    world.step(loop)
    world.tick(10.0)
    world.step(loop)
    assert probe(loop) == ""
    assert world.counters.value(OUTAGE_SECONDS) == 0


def test_without_partitions_an_outage_is_not_called_normal(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = world.predictor()
    world.step(loop)
    assert probe(loop).endswith("this is normal with more predictors than partitions")
    world.log.down = True
    world.step(loop)
    assert probe(loop).startswith("outage for ")
    assert probe(loop).endswith("; no partition is assigned")


def test_a_call_that_hangs_is_reported_and_counted_while_it_hangs(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    world.finish(loop)
    seen = []

    def hang(*_):
        for _ in range(8):
            world.tick(1.0)
            seen.append((probe(loop), world.counters.value(OUTAGE_SECONDS)))
        raise TransportError("asking for the metadata at memory:1: no answer")

    loop.dependencies.source.poll = hang
    world.step(loop)
    assert [why for why, _ in seen[:3]] == [""] * 3
    assert seen[4][0].startswith("no answer for 5 s: the loop waits for the broker or the registry")
    assert [seconds for _, seconds in seen] == pytest.approx([0, 0, 0, 4, 5, 6, 7, 8])
    assert probe(loop).startswith("outage for 8 s: asking for the metadata at memory:1")
    before = world.counters.value(OUTAGE_SECONDS)
    world.tick(1.0)
    assert world.counters.value(OUTAGE_SECONDS) == pytest.approx(before + 1)


def test_before_the_first_step_the_start_counts_the_seconds(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    world.counters.set(OUTAGE_SECONDS, 7)
    assert world.counters.value(OUTAGE_SECONDS) == 7
    assert (OUTAGE_SECONDS, [((), 7)]) in list(world.counters.numbers())
    world.step(loop)
    assert world.counters.value(OUTAGE_SECONDS) == 0
    assert (OUTAGE_SECONDS, [((), 0)]) in list(world.counters.numbers())


def test_a_commit_that_hangs_before_it_fails_is_an_outage(tmp_path):
    for hangs_s in (0.0, 4.0):
        world = World(tmp_path / str(hangs_s), configuration=configured(Detector.ENSEMBLE))
        loop = begun(world)
        world.step(loop, 2)
        commit = loop.transaction.sink.commit

        def late(positions, world=world, commit=commit, hangs_s=hangs_s):
            world.tick(hangs_s)
            commit(positions)

        loop.transaction.sink.commit = late
        loop.transaction.sink.fail["commit"] = "undecided, lost"
        while not loop.rebuilding:
            world.step(loop)
        assert ("outage for 4 s: " in probe(loop)) == bool(hangs_s), probe(loop)


def test_rare_commits_are_no_outage(tmp_path):
    world = World(tmp_path, configuration=configured(Detector.ENSEMBLE))
    loop = begun(world)
    loop.transaction._interval_s = 60.0
    waited, poll = [], loop.dependencies.source.poll
    loop.dependencies.source.poll = lambda most, patience_s: (
        waited.append(patience_s) or poll(most, patience_s)
    )
    world.step(loop, 5)
    assert max(waited) == 1.0


def test_what_is_rebuilt_after_an_abort_is_reported(tmp_path):
    world = World(tmp_path)
    loop = begun(world)
    world.step(loop, 2)
    loop.transaction.sink.fail["commit"] = "abort"
    while not loop.rebuilding:
        world.step(loop)
    assert "was not committed" in probe(loop)
    assert "no partition" not in probe(loop)
    world.step(loop, 2)
    assert "was not committed" not in probe(loop)


# -- training --------------------------------------------------------------------------------------


@pytest.fixture
def training(tmp_path, monkeypatch):
    from consumer_training import service
    from tests.unit.training.test_training_service import World as TrainingWorld

    monkeypatch.setattr(service, "MAX_PICTURES", 0)

    def of(**train):
        world = TrainingWorld(tmp_path, **train)
        world.heard = []
        return world

    return of


def hears(world, service, at):
    """Note what a probe would be told at these seconds."""
    for second in at:
        world.plan[second] = lambda: world.heard.append(service.health())


def test_training_waits_for_data_and_says_how_much(training):
    world = training()
    world.up_to = 10
    trainer = world.service()
    assert trainer.health() == STARTING
    hears(world, trainer, [2.0])
    world.plan[4.0] = world.fill(150)
    trainer.run()
    assert world.heard == ["waiting for data: 100 of the 100 training rows needed are missing"]
    assert trainer.health() == ""


def test_training_names_an_outage(training):
    world = training()
    world.up_to = 150
    world.down = TransportError("broker localhost:9092 does not answer")
    trainer = world.service()
    hears(world, trainer, [20.0])
    seconds = []
    world.plan[20.5] = lambda: seconds.append(world.counters.value(OUTAGE_SECONDS))
    world.plan[30.0] = lambda: setattr(world, "down", None)
    trainer.run()
    (message,) = world.heard
    assert message.startswith("waiting for the broker or the registry for ")
    assert message.endswith("broker localhost:9092 does not answer")
    assert 15 < seconds[0] < 25
    assert (trainer.health(), world.counters.value(OUTAGE_SECONDS)) == ("", 0)


def test_training_says_that_its_last_run_failed(training):
    world = training(every="1h")
    world.up_to = 150
    trainer = world.service(Options())
    hears(world, trainer, [100.0, 4000.0])
    world.plan[1800.0] = lambda: setattr(
        world, "down", TransportError("no topic any more", retriable=False)
    )
    world.plan[4001.0] = world.stop
    trainer.run()
    assert world.heard == ["", "the last training failed: no topic any more"]


# -- the replay ------------------------------------------------------------------------------------


def test_the_replay_is_ready_while_its_broker_acknowledges():
    it = made(1_000, speed=300, deadline_s=60)
    heard = []
    assert it.replay.health() == STARTING
    show = it.replay.progress.show
    it.replay.progress.show = lambda *shown: (show(*shown), heard.append(it.replay.health()))
    it.sender.away = True
    with pytest.raises(TransportError):
        it.replay.run()
    first = heard.index(next(text for text in heard if text))
    assert set(heard[:first]) == {""}
    assert all(
        text.startswith("waiting for ") and "localhost:9092 has acknowledged none" in text
        for text in heard[first:]
    )
    it = made(100, speed=float("inf"))
    it.replay.run()
    assert it.replay.health() == ""
    assert np.isfinite(it.counters.value(OUTAGE_SECONDS))
