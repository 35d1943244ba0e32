"""A state machine over the prediction loop: visible results are correct after each turn.

An ordinary run is of a hundred sequences, `make machine`'s of two thousand
(``LAPWING_MACHINE_EXAMPLES``), in batches that can run side by side. Planted faults that only a
long search finds are left to `make machine`.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer_prediction.loop import PredictionLoop
from consumer_prediction.ownership import Owned, take_over
from consumer_prediction.transaction import Transaction
from shared.errors import TransactionInDoubt, TransportError
from shared.events import Detector
from shared.snapshots import SnapshotFolder
from tests.support.loop_cluster import SLOTS, Cluster, MemberSink, Wrong, drive
from tests.support.loop_world import FAILURES, FOREST, SLOW, A, B, configured

BATCHES = 4
ASKED = os.environ.get("LAPWING_MACHINE_EXAMPLES")
EXAMPLES = int(ASKED or ("8" if SLOW else "100")) // BATCHES
STEPS = 50
CONFIGURATIONS = (
    configured(Detector.ENSEMBLE),
    configured(Detector.ENSEMBLE, threshold=0.8),
    FOREST,
    configured(Detector.ENSEMBLE, alarms_per_day=5.0, direction="up"),
)
KINDS = ("good",) * 12 + ("late", "same", "again", "gap", "poison", "cut")

slots = st.sampled_from(SLOTS)
seeds = st.integers(0, 1 << 30)


class LoopMachine(RuleBasedStateMachine):
    ran: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="lapwing-machine-")
        self.cluster = Cluster(Path(self.folder.name), CONFIGURATIONS[0])

    def count(self, name: str) -> Cluster:
        self.ran[name] += 1
        return self.cluster

    @initialize(
        configuration=st.sampled_from(CONFIGURATIONS),
        threads=st.sampled_from([1, 2]),
        records=st.integers(0, 60),
        seed=seeds,
    )
    def begin(self, configuration, threads, records, seed):
        cluster = self.count("begin")
        cluster.configuration = configuration
        cluster.predicting["threads"] = threads
        drive(cluster, random.Random(seed), KINDS, records)
        cluster.start("a")

    # --- input ---

    @rule(records=st.integers(1, 25), seed=seeds)
    def append(self, records, seed):
        drive(self.count("append"), random.Random(seed), KINDS, records)

    @precondition(lambda self: self.cluster.appending is None)
    @rule()
    def begin_to_append_in_a_transaction(self):
        self.count("append in a transaction").begin_input()

    @precondition(lambda self: self.cluster.appending is not None)
    @rule(state=st.sampled_from(["committed", "aborted"]))
    def end_the_appending_transaction(self, state):
        self.count("end of the transaction").end_input(state)

    # --- turns ---

    @precondition(lambda self: self.cluster.alive)
    @rule(turns=st.integers(1, 12), slot=slots)
    def run(self, turns, slot):
        cluster = self.count("run")
        loop = cluster.alive.get(slot) or next(iter(cluster.alive.values()))
        for _ in range(turns):
            if not cluster.turn(loop):
                break

    @precondition(lambda self: self.cluster.alive)
    @rule(turns=st.integers(2, 12))
    def run_all(self, turns):
        self.turns(self.count("run all"), turns)

    @precondition(lambda self: self.cluster.alive)
    @rule(records=st.integers(5, 40), turns=st.integers(4, 10), seed=seeds)
    def append_and_run(self, records, turns, seed):
        cluster = self.count("append and run")
        drive(cluster, random.Random(seed), KINDS, records)
        self.turns(cluster, turns)

    @staticmethod
    def turns(cluster: Cluster, turns: int) -> None:
        for _ in range(turns):
            for loop in list(cluster.alive.values()):
                cluster.turn(loop)

    # --- faults ---

    @precondition(lambda self: self.cluster.alive)
    @rule(
        slot=slots,
        call=st.sampled_from(["send", "commit", "commit", "abort"]),
        how=st.sampled_from(FAILURES),
    )
    def fail(self, slot, call, how):
        cluster = self.count(f"{call} fails: {how}")
        loop = cluster.alive.get(slot) or next(iter(cluster.alive.values()))
        loop.transaction.sink.fail[call] = how
        for _ in range(3):
            if not cluster.turn(loop):
                break

    @precondition(lambda self: not self.cluster.log.down)
    @rule(
        slot=slots,
        configuration=st.none() | st.sampled_from(CONFIGURATIONS),
        interval_s=st.sampled_from([0.01, 0.3, 60.0]),
    )
    def start(self, slot, configuration, interval_s):
        cluster = self.count("start with other settings" if configuration else "start")
        cluster.configuration = configuration or cluster.configuration
        cluster.start(slot, interval_s)

    @precondition(lambda self: len(self.cluster.alive) == 2)
    @rule(slot=slots)
    def crash(self, slot):
        self.count("crash").crash(slot)

    @precondition(lambda self: self.cluster.alive)
    @rule(slot=slots)
    def suspend(self, slot):
        if slot in self.cluster.alive and slot not in self.cluster.asleep:
            self.count("suspend").suspend(slot)

    @precondition(lambda self: self.cluster.asleep)
    @rule(deaf=st.integers(0, 4))
    def session_expires(self, deaf):
        cluster = self.count("session expires")
        cluster.expire(next(iter(cluster.asleep)), deaf)

    @precondition(lambda self: self.cluster.asleep)
    @rule(turns=st.integers(1, 6))
    def wake(self, turns):
        cluster = self.count("wake")
        cluster.wake(next(iter(cluster.asleep)), turns)

    @precondition(lambda self: len(self.cluster.alive) == 2)
    @rule(slot=slots)
    def leave(self, slot):
        self.count("leave").leave(slot)

    @precondition(lambda self: self.cluster.log.open.keys() - {"writer"})
    @rule(slot=slots)
    def transaction_is_overdue(self, slot):
        self.count("overdue").abort_overdue(slot)

    @precondition(lambda self: len(self.cluster.alive) == 2)
    @rule(partition=st.integers(0, 1), turns=st.integers(0, 4))
    def rebalance(self, partition, turns):
        cluster = self.count("rebalance")
        cluster.want(partition, "b" if cluster.wanted[partition] == "a" else "a")
        self.turns(cluster, turns)

    @rule(model=st.sampled_from([A, B]))
    def publish(self, model):
        self.count("publish").models.current = model

    @precondition(lambda self: self.cluster.alive)
    @rule(slot=slots)
    def snapshot(self, slot):
        if slot in self.cluster.alive:
            self.count("snapshot").snapshot(slot)

    @rule(
        which=st.integers(0, 1000),
        how=st.sampled_from(["remove", "remove all", "cut", "flip", "rename"]),
    )
    def damage(self, which, how):
        self.count(f"snapshot damaged: {how}").damage(which, how)

    @precondition(lambda self: not self.cluster.log.down)
    @rule(slot=slots)
    def restart_beside_a_snapshot_from_ahead(self, slot):
        self.count("snapshot from ahead").restart_beside_a_snapshot_from_ahead(slot)

    @rule(turns=st.integers(0, 4), back=st.integers(0, 9))
    def broker_goes(self, turns, back):
        cluster = self.count("broker")
        cluster.log.down = True
        self.turns(cluster, turns)
        cluster.log.down = back == 0

    @precondition(lambda self: self.cluster.log.down)
    @rule()
    def broker_comes(self):
        self.cluster.log.down = False

    @rule(forget=st.booleans())
    def registry_goes_or_comes(self, forget):
        registry = self.count("registry").registry
        registry.down = not registry.down
        registry.known = {} if registry.down and forget else dict(self.cluster.cache)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.cluster.finish_all()
        finally:
            self.folder.cleanup()


PROFILE = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=True,
    database=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence the logs of thousands of faults, and skip waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for module in (
        "consumer_prediction.loop",
        "consumer_prediction.health.counting",
        "shared.operations.retry",
    ):
        silent = structlog.wrap_logger(
            None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
        )
        monkeypatch.setattr(f"{module}.log", silent)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_anything_in_any_order_changes_no_byte(batch: int) -> None:
    LoopMachine.ran.clear()
    machine = seed(batch)(type(f"LoopMachine{batch}", (LoopMachine,), {}))
    run_state_machine_as_test(
        machine, settings=settings(PROFILE, phases=(Phase.generate, Phase.shrink))
    )
    ran = LoopMachine.ran
    print(f"{ran.total()} rules in {ran['begin']} sequences: {dict(sorted(ran.items()))}")
    assert ran.total() >= 10 * EXAMPLES


# --- the machine is tested: each of these faults of a loop must be seen ---


def positions_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    commit = MemberSink.commit

    def early(self, positions):
        self.log.check_up()
        self.log.committed |= {
            (self.group, self.topic, partition): position
            for partition, position in positions.items()
        }
        commit(self, {})

    patch.setattr(MemberSink, "commit", early)


def state_kept_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    """The position is rewound, and the records are folded again into a state that has them."""
    take_over = PredictionLoop._take_over
    invalidate = PredictionLoop._invalidate

    def keep(self, event, error, *, in_doubt=False):
        self.kept = dict(self.owned)
        invalidate(self, event, error, in_doubt=in_doubt)

    def reuse(self, partition, position, log_start):
        owned = getattr(self, "kept", {}).pop(partition, None)
        if owned is None or position is None:
            return take_over(self, partition, position, log_start)
        owned.state.next_offset = owned.replay_until = position.offset
        owned.dirty = False
        self.owned[partition] = owned
        return None

    patch.setattr(PredictionLoop, "_invalidate", keep)
    patch.setattr(PredictionLoop, "_take_over", reuse)


def undecided_taken_for_committed(patch: pytest.MonkeyPatch) -> None:
    or_abort = Transaction._or_abort

    def commit(self, positions):
        def believe(call):
            try:
                or_abort(call)
            except TransactionInDoubt:
                self.sink = self._open_sink()

        self._or_abort = believe
        try:
            return real_commit(self, positions)
        finally:
            del self._or_abort

    real_commit = Transaction.commit
    patch.setattr(Transaction, "commit", commit)


def replayed_results_sent_again(patch: pytest.MonkeyPatch) -> None:
    segments = Owned.segments
    patch.setattr(
        Owned,
        "segments",
        lambda self, batch: ((piece, False) for piece, _ in segments(self, batch)),
    )


def activations_not_restored(patch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments):
        owned, refused = take_over(*arguments)
        owned.ahead.clear()
        return owned, refused

    patch.setattr("consumer_prediction.loop.take_over", forgetful)


def snapshot_from_ahead_accepted(patch: pytest.MonkeyPatch) -> None:
    restore = SnapshotFolder.restore
    patch.setattr(
        SnapshotFolder,
        "restore",
        lambda self, partition, at_most, base: restore(self, partition, 1 << 60, base),
    )


def revoked_without_commit_or_drop(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PredictionLoop, "revoked", lambda self, partitions: None)


FAULTS = (
    positions_outside_the_transaction,
    state_kept_after_an_abort,
    undecided_taken_for_committed,
    replayed_results_sent_again,
    activations_not_restored,
    snapshot_from_ahead_accepted,
)


LONG_SEARCHES = (undecided_taken_for_committed, snapshot_from_ahead_accepted)
LONG_WITHOUT_COMPILER = (*LONG_SEARCHES, state_kept_after_an_abort)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_loop_with_this_fault_is_caught(fault, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ASKED and fault in (LONG_WITHOUT_COMPILER if SLOW else LONG_SEARCHES):
        pytest.skip("a long search, see `make machine`")
    fault(monkeypatch)
    # what was committed names an activation that nobody can read
    with pytest.raises((Wrong, TransportError)) as caught:
        run_state_machine_as_test(
            LoopMachine, settings=settings(PROFILE, max_examples=1500, phases=(Phase.generate,))
        )
    print(f"{fault.__name__}: {caught.value}")


def hand_over(folder: Path) -> None:
    """Move a partition to another predictor and back, in the middle of transactions."""
    cluster = Cluster(folder, FOREST)
    cluster.start("a")
    cluster.start("b")
    for round_ in range(8):
        drive(cluster, random.Random(round_), KINDS, 30)
        LoopMachine.turns(cluster, 4)
        holder, other = (cluster.alive[slot] for slot in ("ab" if round_ % 2 == 0 else "ba"))
        for _ in range(20):
            if holder.transaction.due_in_s == holder.settings.commit_interval_ms / 1000:
                break
            cluster.turn(holder)
            drive(cluster, random.Random(round_), KINDS, 4)
        cluster.want(1, "ba"[round_ % 2])
        for loop in (holder, other, holder, other):
            cluster.turn(loop)
    cluster.finish_all()


def test_handing_over_changes_no_byte(tmp_path: Path) -> None:
    hand_over(tmp_path)


def test_a_loop_that_ignores_a_revocation_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked_without_commit_or_drop(monkeypatch)
    with pytest.raises(Wrong):
        hand_over(tmp_path)
