"""Partitions folded on several threads: the same results in the same order, the same errors."""

import threading
import time

import pytest

from consumer_prediction.loop import PredictionLoop
from shared.errors import TransactionAborted, TransportError
from shared.scoring.scorer import Scorer
from tests.support.loop_world import GROUP, TOPICS, A, World, begun

RESULTS = (TOPICS.scores, TOPICS.anomalies, TOPICS.dead_letters, TOPICS.activations)


def world_of(folder, threads: int) -> World:
    """A world whose polls return records of both partitions."""
    world = World(folder)
    world.predicting |= {"threads": threads, "max_batch_records": 250}
    world.models.current = A
    return world


def sent(world: World) -> list[tuple]:
    return [
        (topic, partition, offset, record.key, record.value, tuple(record.headers))
        for topic in RESULTS
        for partition, offset, record in world.log.visible(topic)
    ]


def test_results_and_their_order_are_those_of_one_thread(tmp_path, monkeypatch):
    names = set()
    process = Scorer.process

    def noted(self, batch, decoder):
        names.add(threading.current_thread().name)
        time.sleep(0.01 * (1 - batch.partition))  # the first partition ends last
        return process(self, batch, decoder)

    monkeypatch.setattr(Scorer, "process", noted)
    alone, several = world_of(tmp_path / "alone", 1), world_of(tmp_path / "several", 2)
    alone.finish(begun(alone))
    assert names == {threading.current_thread().name}
    several.finish(begun(several))
    assert {"fold_0", "fold_1"} < names
    several.assert_conserved()
    assert sent(several) == sent(alone)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_names_partition_and_offsets(tmp_path, monkeypatch, threads):
    world = world_of(tmp_path, threads)
    loop = begun(world)
    working = set()
    process = Scorer.process

    def failing(self, batch, decoder):
        if batch.partition == 0:
            raise ValueError("a row is longer than its record")
        working.add(batch.partition)
        time.sleep(0.1)
        outcome = process(self, batch, decoder)
        working.remove(batch.partition)
        return outcome

    monkeypatch.setattr(Scorer, "process", failing)
    with pytest.raises(ValueError, match="longer than its record") as raised:
        world.step(loop)
    last = len(world.log.topics[TOPICS.input][0]) - 1
    assert raised.value.__notes__ == [f"{TOPICS.input}[0]: offsets 0 to {last}"]
    assert not working, "a thread still changes the state"
    assert not sent(world)


def test_nothing_is_folded_after_a_transaction_that_was_aborted_meanwhile(tmp_path, monkeypatch):
    world = world_of(tmp_path, 2)
    loop = begun(world)
    working = []
    finish, process = PredictionLoop._finish, Scorer.process

    def aborting(self, folded):
        monkeypatch.setattr(PredictionLoop, "_finish", finish)
        raise TransactionAborted("asked to fail")

    def slow(self, batch, decoder):
        working.append(batch.partition)
        time.sleep(0.05 * batch.partition)
        outcome = process(self, batch, decoder)
        working.remove(batch.partition)
        return outcome

    monkeypatch.setattr(PredictionLoop, "_finish", aborting)
    monkeypatch.setattr(Scorer, "process", slow)
    world.step(loop)
    assert loop.rebuilding
    assert not working
    world.finish(loop)
    world.assert_conserved()
    assert world.log.committed[GROUP, TOPICS.input, 1].offset == len(
        world.log.topics[TOPICS.input][1]
    )


def test_the_threads_end_with_the_loop(tmp_path):
    world = world_of(tmp_path, 2)
    before = set(threading.enumerate())
    loop = begun(world)
    world.step(loop, 2)
    own = set(threading.enumerate()) - before
    assert own
    loop.drain()
    assert not any(thread.is_alive() for thread in own)


def test_full_polls_are_followed_by_others_so_that_both_partitions_have_records(
    tmp_path, monkeypatch
):
    world = world_of(tmp_path, 2)
    world.predicting["max_batch_records"] = 50
    loop = begun(world)
    rounds = []
    fold = loop.pool.fold
    monkeypatch.setattr(
        loop.pool,
        "fold",
        lambda pieces, finish: (
            rounds.append([len(p.batch) for p in pieces]),
            fold(pieces, finish),
        ),
    )
    world.step(loop)
    first, second = (len(records) for records in world.log.topics[TOPICS.input])
    assert rounds == [[first, min(second, 6 * 50 - first)]]
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize("is_lost", [False, True])
def test_records_of_a_partition_that_left_between_two_polls_are_dropped(
    tmp_path, monkeypatch, is_lost
):
    world = world_of(tmp_path, 2)
    world.predicting["max_batch_records"] = 50
    loop = begun(world)
    source = loop.dependencies.source
    poll, polls = source.poll, []

    def leaving(max_records, wait_s):
        polls.append(max_records)
        if len(polls) == 2:  # both callbacks of a rebalance that gives the partition back
            source.take(0, lost=is_lost)
            source.give(0)
        return poll(max_records, wait_s)

    monkeypatch.setattr(source, "poll", leaving)
    world.step(loop)
    assert len(polls) > 1
    world.finish(loop)
    world.assert_conserved()


def test_an_error_between_two_polls_is_raised_after_the_records_before_it_were_scored(
    tmp_path, monkeypatch
):
    world = world_of(tmp_path, 2)
    world.predicting["max_batch_records"] = 50
    loop = begun(world)
    source = loop.dependencies.source
    poll, polls = source.poll, []

    def failing(max_records, wait_s):
        polls.append(max_records)
        if len(polls) == 2:
            raise TransportError("no broker answers")
        return poll(max_records, wait_s)

    failures = []
    monkeypatch.setattr(source, "poll", failing)
    monkeypatch.setattr(loop.outage, "failed", lambda error: failures.append(str(error)))
    world.step(loop)
    assert loop.owned[0].state.next_offset == 50
    assert not failures
    world.step(loop)
    assert failures == ["no broker answers"]
    world.finish(loop)
    world.assert_conserved()


def committing(world, monkeypatch, loop, fold_s: float = 0.0) -> list[str]:
    """Note what happens in which order: folds, sends and commits; a fold takes fold_s."""
    notes, process = [], Scorer.process
    sink = loop.transaction.sink
    commit, send = sink.commit, sink.send

    def noted_process(self, batch, decoder):
        world.now_s += fold_s
        notes.append("fold")
        return process(self, batch, decoder)

    def noted_commit(positions):
        deadline = time.monotonic() + 5.0
        while notes[-1:] != ["fold"] and time.monotonic() < deadline:
            time.sleep(0.001)  # a commit takes as long as the broker needs
        notes.append("commit")
        commit(positions)

    def noted_send(records):
        notes.append("send")
        send(records)

    monkeypatch.setattr(Scorer, "process", noted_process)
    monkeypatch.setattr(sink, "commit", noted_commit)
    monkeypatch.setattr(sink, "send", noted_send)
    return notes


@pytest.mark.parametrize("threads", [1, 2])
def test_the_next_records_are_folded_during_a_commit_and_sent_after_it(
    tmp_path, monkeypatch, threads
):
    world = world_of(tmp_path, threads)
    world.predicting["max_batch_records"] = 5
    loop = begun(world)
    world.step(loop, 2)  # the activations are written
    notes = committing(world, monkeypatch, loop)
    loop.transaction._began_s = -1.0
    world.step(loop)
    at = notes.index("commit")
    assert notes[:at][-1] == "fold"
    assert notes[at + 1] == "send"
    committed = world.log.committed[GROUP, TOPICS.input, 0].offset
    assert committed < loop.owned[0].state.next_offset
    assert loop.owned[0].dirty
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize("threads", [1, 2])
def test_results_of_a_long_fold_are_committed_before_the_next_ones_are_sent(
    tmp_path, monkeypatch, threads
):
    """A transaction is not open during two folds: its timeout could pass."""
    world = world_of(tmp_path, threads)
    world.predicting["max_batch_records"] = 5
    loop = begun(world)
    world.step(loop, 2)
    monkeypatch.setattr(loop, "_next_snapshot", lambda **_: None)
    notes = committing(world, monkeypatch, loop, fold_s=0.2)
    loop.transaction._began_s = -1.0
    for _ in range(3):
        notes.clear()
        world.step(loop)
        assert notes.index("commit") < notes.index("send")
        assert notes.count("commit") == 1
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize(("waits_s", "due_in_s"), [(0.03, 0.07), (0.15, 0.0)])
def test_the_time_that_a_poll_gathers_is_part_of_the_commit_interval(
    tmp_path, monkeypatch, waits_s, due_in_s
):
    """0.08 s at most: a longer poll has waited for its first record. A short rest is none."""
    world = world_of(tmp_path, 1)
    world.predicting |= {"max_batch_records": 5, "commit_interval_ms": 100, "coalesce_ms": 80}
    loop = begun(world)
    poll = loop.dependencies.source.poll

    def waiting(most, wait_s):
        world.now_s += waits_s
        return poll(most, wait_s)

    while not loop.owned:
        world.step(loop)
    loop.transaction.commit(loop._positions())
    monkeypatch.setattr(loop.dependencies.source, "poll", waiting)
    loop._take_all(loop.polling.poll(None, 0.0))
    assert loop.transaction.is_open
    assert loop.transaction.due_in_s == pytest.approx(due_in_s)
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize(("are_left_over", "due_in_s"), [(False, 0.05), (True, 0.07)])
def test_the_interval_begins_with_the_poll_before_unless_records_were_left_over(
    tmp_path, monkeypatch, are_left_over, due_in_s
):
    """The poll takes 0.03 s, 0.02 s after the one before; a full poll has left records."""
    world = world_of(tmp_path, 1)
    world.predicting |= {"max_batch_records": 5, "commit_interval_ms": 100}
    loop = begun(world)
    poll = loop.dependencies.source.poll

    def waiting(most, wait_s):
        world.now_s += 0.03
        return poll(most if are_left_over else most - 1, wait_s)

    while not loop.owned:
        world.step(loop)
    loop.transaction.commit(loop._positions())
    loop.polling._polled_s = world.now_s
    world.now_s += 0.02
    monkeypatch.setattr(loop.dependencies.source, "poll", waiting)
    loop._take_all(loop.polling.poll(None, 0.0))
    assert loop.transaction.due_in_s == pytest.approx(due_in_s)
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize(("records", "overlaps"), [(5, True), (6, False)])
def test_nothing_is_folded_during_the_commit_of_few_records(
    tmp_path, monkeypatch, records, overlaps
):
    """Five were sent: the next ones wait for the poll that follows."""
    world = world_of(tmp_path, 1)
    world.predicting["max_batch_records"] = 5
    loop = begun(world)
    world.step(loop, 2)
    monkeypatch.setattr(loop, "_next_snapshot", lambda **_: None)
    loop.transaction.commit(loop._positions())
    loop._take_all(loop.polling.poll(None, 0.0))
    assert loop.transaction.sent == 5
    notes = committing(world, monkeypatch, loop) if overlaps else []
    loop.overlap_from_records = records
    loop.transaction._began_s = -1.0
    world.step(loop)
    assert loop.transaction.is_open is overlaps
    assert loop.owned[0].dirty is overlaps
    assert notes.count("fold") == int(overlaps)
    world.finish(loop)
    world.assert_conserved()


def test_an_error_while_commits_are_overdue_is_raised_by_the_next_step(tmp_path, monkeypatch):
    world = world_of(tmp_path, 1)
    world.predicting["max_batch_records"] = 5
    loop = begun(world)
    world.step(loop, 2)
    committing(world, monkeypatch, loop, fold_s=0.2)
    source, failures = loop.dependencies.source, []
    poll = source.poll

    def failing(most, wait_s):
        if not failures:
            failures.append(wait_s)
            raise TransportError("no broker answers")
        return poll(most, wait_s)

    monkeypatch.setattr(source, "poll", failing)
    loop.transaction._began_s = -1.0
    world.step(loop)
    assert failures == [0.0]
    assert loop.polling.is_waiting
    assert not loop.outage.reason()
    world.step(loop)
    assert "no broker answers" in loop.outage.reason()
    world.finish(loop)
    world.assert_conserved()


@pytest.mark.parametrize("how", ["abort", "undecided, kept", "undecided, lost", "outage"])
@pytest.mark.parametrize("threads", [1, 2])
def test_records_folded_during_a_commit_that_fails_are_folded_again(tmp_path, threads, how):
    world = world_of(tmp_path, threads)
    world.predicting["max_batch_records"] = 10
    loop = begun(world)
    for _ in range(6):
        world.step(loop)
        loop.transaction.sink.fail["commit"] = how
    world.finish(loop)
    world.assert_conserved()


def test_a_new_model_applies_although_transactions_follow_without_a_pause(tmp_path):
    world = world_of(tmp_path, 2)
    world.predicting["max_batch_records"] = 4
    loop = begun(world)
    world.tick(1.0)
    world.step(loop, 3)
    world.models.current = "0b" * 32
    world.finish(loop)
    world.assert_conserved()
    assert {a.model_sha256 for _, a in world.activations()} == {A, "0b" * 32}
