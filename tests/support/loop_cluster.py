"""A simulated cluster with named faults, and checks of what a reader of its results sees.

Invariant: after each turn the committed results equal those of a run without faults up to the
           committed positions, each once, and a result that was visible stays visible.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import schemas
from consumer_prediction.loop import PredictionLoop
from consumer_prediction.outgoing import Encoder, SchemaIds
from shared.batch import Batch, Position
from shared.decode.avro.decoder import AvroDecoder
from shared.encode.records import decode_records
from shared.errors import ProducerFenced, TransactionAborted, TransportError
from shared.events import Activation
from shared.scoring.configuration import Configuration
from shared.scoring.scorer import Rules, Scorer
from shared.scoring.state import PartitionState
from shared.snapshots import SnapshotProgress, SnapshotWriter
from tests.support.fakes import MemoryLog, MemorySink, MemorySource, Record, Transaction
from tests.support.loop_world import (
    GROUP,
    HOSTS,
    INPUT,
    INPUT_ID,
    METRIC_SCHEMA,
    TOPICS,
    World,
    metric_event,
)

RESULTS = (TOPICS.scores, TOPICS.anomalies, TOPICS.dead_letters)
DECODER = AvroDecoder.of_schemas({INPUT_ID: METRIC_SCHEMA}, INPUT)
POISON = (b"", b"\x01junk", b"\0\0\0\0\x63unknown", b"\0\0\0\0\7\2", b"\0\0\0\0\7" + b"\xff" * 11)
SLOTS = ("a", "b")

Result = tuple[str, bytes, bytes, tuple]
"""Topic, key, value, headers."""


class Wrong(AssertionError):
    """The law does not hold."""


class Member(MemorySource):
    """A source of a group member; an evicted member may not know it for some polls."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, GROUP, TOPICS.input)
        self.out = False
        self.deaf = 0

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        self.log.check_up()
        held: list[tuple[str, list[int]]] = []
        if self.out and self.deaf:
            self.deaf -= 1
            held, self._news = self._news, []
        elif self.out:
            self._news, self.out = [("lose", sorted(self.at))] if self.at else [], False
        else:
            held = [news for news in self._news if self._must_wait(news)]
            self._news = [news for news in self._news if not self._must_wait(news)]
        given = [news for news in self._news if news[0] == "give"]
        try:
            return super().poll(max_records, timeout_s)
        except TransportError:
            self._news += [news for news in given if news[1][0] not in self.at]
            raise
        finally:
            self._news += held

    def expects(self, partition: int) -> bool:
        return any(partition in named for _, named in self._news)

    def _must_wait(self, news: tuple[str, list[int]]) -> bool:
        """Whether the broker withholds a committed position, as a transaction with it is open."""
        pending = {
            place for transaction in self.log.open.values() for place in transaction.positions
        }
        return any((GROUP, TOPICS.input, partition) in pending for partition in news[1])


class MemberSink(MemorySink):
    """A sink whose positions are refused once its member is out of the group."""

    def __init__(self, log: MemoryLog, identity: str, member: Member) -> None:
        super().__init__(log, identity, GROUP, TOPICS.input)
        self.member = member

    def commit(self, positions: dict[int, Position]) -> None:
        self.log.check_up()
        if self.member.out:
            raise TransactionAborted("this process is not a member of the group")
        super().commit(positions)


class Account:
    """The expected results up to the committed positions, computed without the loop."""

    def __init__(self, world: World) -> None:
        self.log = world.log
        self.models = world.models
        self.encoder = Encoder(TOPICS, SchemaIds(1, 2, 3), GROUP, INPUT.max_record_bytes)
        self.rules = Rules(world.configuration)
        self.scorers = [Scorer(PartitionState(0), self.rules) for _ in range(2)]
        self.expected: Counter[Result] = Counter()
        self.positions = [0, 0]
        self.seen: dict[tuple[str, int, int], Result] = {}
        self._checked: object = None

    def check(self) -> None:
        """Compare visible with expected results, if records or markers were appended."""
        now = [
            len(records)
            for topic in (*RESULTS, TOPICS.activations)
            for records in self.log.topics[topic]
        ]
        if self._checked == (now, self.log.committed):
            return
        self._compare()
        self._checked = now, dict(self.log.committed)

    def _compare(self) -> None:
        switches = self.switches()
        for partition in range(2):
            position = self.log.committed.get((GROUP, TOPICS.input, partition))
            offset = position.offset if position else 0
            if offset < self.positions[partition]:
                raise Wrong(
                    f"the position of {partition} went back from {self.positions[partition]} to"
                    f" {offset}"
                )
            self._advance(partition, offset, switches)
        committed = Counter(
            (topic, record.key, record.value, tuple(record.headers))
            for topic in RESULTS
            for records in self.log.topics[topic]
            for record in records
            if record.visible
        )
        if committed != self.expected:
            surplus, missing = committed - self.expected, self.expected - committed
            raise Wrong(
                f"results: {len(surplus)} wrong or doubled, {len(missing)} missing; positions"
                f" {self.positions}"
            )
        now = {
            (topic, partition, offset): (topic, record.key, record.value, tuple(record.headers))
            for topic in RESULTS
            for partition, offset, record in self.log.visible(topic)
        }
        if any(now.get(place) != result for place, result in self.seen.items()):
            raise Wrong("a visible result disappeared or changed")
        self.seen = now

    def switches(self) -> dict[tuple[int, int], Activation]:
        values = [
            record.value for record in self.log.topics[TOPICS.activations][0] if record.visible
        ]
        found: dict[tuple[int, int], Activation] = {}
        for r in decode_records(values, [schemas.text(schemas.MODEL_ACTIVATION)] * len(values)):
            place = r["source_partition"], r["source_offset"]
            if place in found:
                raise Wrong(f"two activations at {place}")
            found[place] = Activation(
                r["model_sha256"],
                r["source_offset"],
                r["model_version"],
                r["state_version"],
                r["settings"],
            )
        return found

    def inputs(self, partition: int, start: int = 0) -> Batch:
        """Return the readable records of the input from an offset on."""
        return self.log.read(TOPICS.input, partition, start, 1 << 60)[0]

    def pieces(
        self, partition: int, start: int, stop: int, switches: dict[tuple[int, int], Activation]
    ) -> list[Batch]:
        """Return the rows of a range, cut where models change."""
        batch = self.inputs(partition, start)
        cuts = [
            offset for place, offset in switches if place == partition and start < offset < stop
        ]
        bounds = np.searchsorted(batch.offsets, [start, *sorted(cuts), stop])
        return [
            batch.rows(int(low), int(high))
            for low, high in itertools.pairwise(bounds)
            if low < high
        ]

    def fold(
        self, scorer: Scorer, one: Batch, switches: dict[tuple[int, int], Activation]
    ) -> list[Result]:
        activation = switches.get((one.partition, int(one.offsets[0])))
        if activation:
            model = self.models.load(activation.model_sha256) if activation.model_sha256 else None
            scorer.use(model, Configuration.from_text(activation.settings))
            scorer.state.activation = activation
        DECODER.prepare(one)
        outcome = scorer.process(one, DECODER)
        return [
            (sent.topic, sent.keys[i], sent.values[i], tuple(sent.headers.get(i, ())))
            for sent in self.encoder.outcome(outcome, scorer.state)
            for i in range(len(sent))
        ]

    def _advance(
        self, partition: int, stop: int, switches: dict[tuple[int, int], Activation]
    ) -> None:
        if stop > self.positions[partition]:
            for one in self.pieces(partition, self.positions[partition], stop, switches):
                self.expected.update(self.fold(self.scorers[partition], one, switches))
            self.positions[partition] = stop


class Cluster(World):
    """Predictors in slots, a group with two partitions, and all faults that may happen."""

    def __init__(self, folder: Path, configuration: Configuration) -> None:
        super().__init__(folder, records=0, configuration=configuration)
        self.alive: dict[str, PredictionLoop] = {}
        self.asleep: dict[str, PredictionLoop] = {}
        self.newest: dict[str, PredictionLoop] = {}
        self.wanted = dict.fromkeys(range(2), "a")
        self.holders: dict[int, Member | None] = dict.fromkeys(range(2))
        self.minute = 0
        self.last = {host: metric_event(host, 0, 1.0) for host in HOSTS}
        self.appending: Transaction | None = None
        self.cache = dict(self.registry.known)
        self.account = Account(self)

    # --- input ---

    def add(self, kind: str, host: str, cpu: float) -> None:
        partition = HOSTS.index(host) % 2
        self.minute += {"good": 1, "gap": 10}.get(kind, 0)
        value = {
            "late": lambda: metric_event(host, max(0, self.minute - 7), cpu),
            "same": lambda: self.last[host],
            "poison": lambda: POISON[int(cpu) % len(POISON)],
            "cut": lambda: self.last[host][:-1],
        }.get(kind, lambda: metric_event(host, self.minute, cpu))()
        if kind in ("good", "gap", "again"):
            self.last[host] = value
        self.log.topics[TOPICS.input][partition].append(
            Record(value, host.encode(), (), self.appending)
        )

    def begin_input(self) -> None:
        self.appending = Transaction("writer")
        self.log.open["writer"] = self.appending

    def end_input(self, state: str) -> None:
        self.log.decide("writer", state)
        self.appending = None

    # --- processes ---

    def start(self, slot: str, snapshot_interval_s: float = 0.3) -> None:
        """Start a predictor; kill the one in its slot, or let the group evict it if it sleeps."""
        for old in (self.alive.pop(slot, None), self.asleep.get(slot)):
            if old:
                self._put_out(old)
        member = Member(self.log)
        self.alive[slot] = self.predictor(
            slot,
            snapshot_interval_s,
            member,
            lambda: MemberSink(self.log, f"{GROUP}-{slot}", member),
        )
        self.newest[slot] = self.alive[slot]
        self.settle()

    def crash(self, slot: str) -> None:
        self._put_out(self.alive.pop(slot))
        self.settle()

    def suspend(self, slot: str) -> None:
        self.asleep[slot] = self.alive.pop(slot)

    def expire(self, slot: str, deaf: int) -> None:
        """The session of a sleeping predictor ends."""
        self._put_out(self.asleep[slot], deaf)
        self.settle()

    def wake(self, slot: str, turns: int) -> None:
        """Wake a sleeping predictor, for good if no other has been started in its slot since.

        Else it runs until it is fenced or sleeps: the group does not take it back.
        """
        zombie = self.asleep.pop(slot)
        if slot not in self.alive and self.newest[slot] is zombie:
            self.alive[slot] = zombie
            self.settle()
            return
        for _ in range(turns):
            if not self.turn(zombie):
                return

    def leave(self, slot: str) -> None:
        loop = self.alive.pop(slot)
        try:
            loop.drain()
        except ProducerFenced:
            self._check_fenced(loop)
        self._put_out(loop)
        self.settle()
        self.account.check()

    def abort_overdue(self, slot: str) -> None:
        """The broker ends a transaction that was open for too long, and fences its producer."""
        identity = f"{GROUP}-{slot}"
        if identity in self.log.open:
            self.log.decide(identity, "aborted")
            self.log.epochs[identity] += 1

    def want(self, partition: int, slot: str) -> None:
        self.wanted[partition] = slot
        self.settle()

    def turn(self, loop: PredictionLoop) -> bool:
        """Run one step of one predictor and check its results; return False when it was fenced."""
        fenced = False
        try:
            self.step(loop)
        except ProducerFenced:
            self._check_fenced(loop)
            self.alive = {slot: other for slot, other in self.alive.items() if other is not loop}
            self._put_out(loop)
            fenced = True
        self.settle()
        self.account.check()
        return not fenced

    def settle(self) -> None:
        """Let the group assign free partitions and revoke those that another member should own."""
        for partition, slot in self.wanted.items():
            to = self.alive.get(slot) or next(iter(self.alive.values()), None)
            target = to.dependencies.source if to else None
            holder = self.holders[partition]
            if holder and not holder.expects(partition):
                if partition not in holder.at:
                    holder = self.holders[partition] = None
                elif target and holder is not target:
                    holder.take(partition)
            if holder is None and target and not target.out:
                target.give(partition)
                self.holders[partition] = target

    def _put_out(self, loop: PredictionLoop, deaf: int = 0) -> None:
        member = loop.dependencies.source
        member.out, member.deaf = True, deaf
        self.holders = {
            partition: None if holder is member else holder
            for partition, holder in self.holders.items()
        }

    def _check_fenced(self, loop: PredictionLoop) -> None:
        if self.log.epochs[loop.transaction.sink.identity] == loop.transaction.sink.epoch:
            raise Wrong("fenced, and there is no newer producer")

    # --- snapshots ---

    def snapshot(self, slot: str) -> None:
        loop = self.alive[slot]
        for owned in loop.owned.values():
            loop._snapshot(owned)

    def snapshot_files(self) -> list[Path]:
        return sorted(self.snapshots.root.rglob("*.snapshot"))

    def damage(self, which: int, how: str) -> None:
        files = self.snapshot_files()
        if not files:
            return
        path = files[which % len(files)]
        data = bytearray(path.read_bytes())
        if how == "remove":
            path.unlink()
        elif how == "remove all":
            for each in files:
                each.unlink()
        elif how == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif how == "flip":
            data[which % len(data)] ^= 1 << which % 8
            path.write_bytes(data)
        else:
            version, offset, *digests = path.stem.split("-")
            path.rename(
                path.with_name(
                    "-".join([version, f"{max(0, int(offset) - 1):020d}", *digests]) + ".snapshot"
                )
            )

    def restart_beside_a_snapshot_from_ahead(self, slot: str) -> None:
        """Restart with a snapshot from beyond the committed position, as if copied."""
        before = set(self.snapshot_files())
        switches = self.account.switches()
        for partition in range(2):
            scorer = Scorer(PartitionState(0), self.account.rules)
            for one in self.account.pieces(partition, 0, 1 << 60, switches):
                self.account.fold(scorer, one, switches)
            if scorer.state.next_offset > self.account.positions[partition]:
                SnapshotWriter(self.snapshots, in_background=False).write(
                    SnapshotProgress(partition), scorer.state, last=True
                )
        self.start(slot)
        self.turn(self.alive[slot])
        for path in set(self.snapshot_files()) - before:
            path.unlink()

    # --- the end ---

    def finish_all(self) -> None:
        """Repair everything, let the predictors finish, and check all results."""
        self.log.down = False
        self.registry.down, self.registry.known = False, dict(self.cache)
        if self.appending:
            self.end_input("committed")
        for slot in list(self.asleep):
            self._put_out(self.asleep.pop(slot))
        for slot in SLOTS:
            if slot not in self.alive:
                self.abort_overdue(slot)
        for loop in self.alive.values():
            loop.transaction.sink.fail.clear()
        for _ in range(600):
            if not self.alive:
                self.start("a")
            for loop in list(self.alive.values()):
                self.turn(loop)
            if self.is_done():
                break
        else:
            raise Wrong(
                f"not done: {self.log.committed}"
                f" {[loop.transaction.broken for loop in self.alive.values()]}"
                f" {self.log.open}"
            )
        inputs = sum(len(self.account.inputs(partition)) for partition in range(2))
        topics = Counter(topic for topic, *_ in self.account.seen)
        if topics[TOPICS.scores] + topics[TOPICS.dead_letters] != inputs:
            raise Wrong(f"{inputs} records, {dict(topics)}")

    def is_done(self) -> bool:
        ends = [
            max((int(offset) + 1 for offset in self.account.inputs(p).offsets), default=0)
            for p in range(2)
        ]
        return self.account.positions == ends and not self.log.open


def drive(cluster: Cluster, rng: random.Random, kinds: Sequence[str], records: int) -> None:
    """Append records of the kinds at random."""
    for _ in range(records):
        cluster.add(
            rng.choice(kinds), rng.choice(HOSTS), rng.choice([1.0, 2.0, 3.0, 40.0, rng.random()])
        )
