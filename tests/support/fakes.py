"""A log in memory with transactions, fencing, last stable offset and group assignments.

It is not librdkafka's mock: what is aborted is never read, what a fenced producer sends is refused,
and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from shared.batch import Batch, Blob, Headers, Outgoing, Position
from shared.errors import (
    ArtifactMissing,
    ProducerFenced,
    TransactionAborted,
    TransactionInDoubt,
    TransportError,
)
from shared.events import Detector
from shared.features.vectors import FEATURES
from shared.kernels.trained.svm import LANES
from shared.kernels.trained.trained_rows import SVM, WITHOUT_MODEL
from shared.ports import RebalanceListener


@dataclass
class Transaction:
    owner: str
    state: str = "open"
    positions: dict[tuple[str, str, int], Position] = field(default_factory=dict)


@dataclass
class Record:
    value: bytes
    key: bytes
    headers: Headers = ()
    transaction: Transaction | None = None
    control: bool = False

    @property
    def decided(self) -> bool:
        return self.transaction is None or self.transaction.state != "open"

    @property
    def visible(self) -> bool:
        return not self.control and (
            self.transaction is None or self.transaction.state == "committed"
        )


class MemoryLog:
    """Topics, committed positions and producer epochs of one cluster."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.topics: dict[str, list[list[Record]]] = {
            name: [[] for _ in range(n)] for name, n in topics.items()
        }
        self.starts: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, str, int], Position] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.down = False
        self._stable: dict[tuple[str, int], int] = {}

    def check_up(self) -> None:
        if self.down:
            raise TransportError("broker memory:1 does not answer")

    def append(
        self, topic: str, partition: int, value: bytes, key: bytes = b"", headers: Headers = ()
    ) -> None:
        self.topics[topic][partition].append(Record(value, key, headers))

    def init_producer(self, identity: str) -> int:
        self.check_up()
        self.decide(identity, "aborted")
        self.epochs[identity] = self.epochs.get(identity, 0) + 1
        return self.epochs[identity]

    def decide(self, identity: str, state: str) -> None:
        """End a producer's open transaction; write its marker into every partition it touched."""
        transaction = self.open.pop(identity, None)
        if transaction is None:
            return
        transaction.state = state
        if state == "committed":
            self.committed |= transaction.positions
        for partitions in self.topics.values():
            for records in partitions:
                if any(record.transaction is transaction for record in records):
                    records.append(Record(b"", b"", transaction=transaction, control=True))

    def read(self, topic: str, partition: int, start: int, most: int) -> tuple[Batch, int]:
        """Return visible records from an offset on, at most ``most``, and the offset after them."""
        records = self.topics[topic][partition]
        stable = self.stable(topic, partition)
        rows: list[tuple[int, Record]] = []
        offset = start
        while offset < stable and len(rows) < most:
            if records[offset].visible:
                rows.append((offset, records[offset]))
            offset += 1
        batch = Batch(
            topic,
            partition,
            Blob.join([record.value for _, record in rows]),
            Blob.join([record.key for _, record in rows]),
            np.array([offset for offset, _ in rows], np.int64),
            np.zeros(len(rows), np.int64),
            {row: record.headers for row, (_, record) in enumerate(rows) if record.headers},
        )
        return batch, offset

    def stable(self, topic: str, partition: int) -> int:
        """Return the last stable offset, which is the first record of an open transaction."""
        records, offset = self.topics[topic][partition], self._stable.get((topic, partition), 0)
        while offset < len(records) and records[offset].decided:
            offset += 1
        self._stable[topic, partition] = offset
        return offset

    def visible(self, topic: str) -> list[tuple[int, int, Record]]:
        return [
            (partition, offset, record)
            for partition, records in enumerate(self.topics[topic])
            for offset, record in enumerate(records[: self.stable(topic, partition)])
            if record.visible
        ]


class MemorySource:
    """A Source whose partitions the test hands out with ``give`` and ``take``."""

    def __init__(self, log: MemoryLog, group: str, topic: str) -> None:
        self.log, self.group, self.topic = log, group, topic
        self.listener: RebalanceListener | None = None
        self.at: dict[int, int] = {}
        self.paused = False
        self.closed = False
        self._news: list[tuple[str, list[int]]] = []

    def give(self, *partitions: int) -> None:
        self._news.append(("give", list(partitions)))

    def take(self, *partitions: int, lost: bool = False) -> None:
        self._news.append(("lose" if lost else "take", list(partitions)))

    def subscribe(self, listener: RebalanceListener) -> None:
        self.listener = listener

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        self.log.check_up()
        news, self._news = self._news, []
        for kind, named in news:
            partitions = [p for p in named if (p in self.at) != (kind == "give")]
            if kind == "give":
                self._assign(partitions)
            elif kind == "take":
                self.listener.revoked(partitions)
            else:
                self.listener.lost(partitions)
            if kind != "give":
                for partition in partitions:
                    del self.at[partition]
        if self.paused:
            return []
        batches, room = [], max_records
        for partition in sorted(self.at):
            batch, self.at[partition] = self.log.read(
                self.topic, partition, self.at[partition], room
            )
            if len(batch):
                batches.append(batch)
                room -= len(batch)
        return batches

    def _assign(self, partitions: Sequence[int]) -> None:
        committed = {p: self.log.committed.get((self.group, self.topic, p)) for p in partitions}
        start = {p: self.log.starts.get((self.topic, p), 0) for p in partitions}
        self.at |= self.listener.assigned(committed, start)

    def seek(self, partition: int, offset: int) -> None:
        self.at[partition] = offset

    def rewind(self) -> None:
        self.log.check_up()
        self._assign(sorted(self.at))

    def ends(self) -> dict[int, int]:
        return {p: len(self.log.topics[self.topic][p]) for p in self.at}

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


class MemorySink:
    """A transactional Sink; ``fail`` makes the next call of a kind fail (kept = it took effect).

    fail : {"send" | "commit" | "abort": "abort" | "undecided, kept" | "undecided, lost" | "outage"}
    """

    def __init__(self, log: MemoryLog, identity: str, group: str, topic: str) -> None:
        self.log, self.identity, self.group, self.topic = log, identity, group, topic
        self.epoch = log.init_producer(identity)
        self.fail: dict[str, str] = {}

    def _check_owner(self) -> None:
        self.log.check_up()
        if self.log.epochs[self.identity] != self.epoch:
            raise ProducerFenced(
                f"{self.identity} has epoch {self.epoch}, the broker"
                f" {self.log.epochs[self.identity]}"
            )

    def _check(self, call: str) -> None:
        self._check_owner()
        how = self.fail.pop(call, None)
        if how == "abort":
            raise TransactionAborted("asked to fail")
        if how == "outage":
            raise TransportError("asked to fail")
        if how == "undecided, kept":
            self.log.decide(self.identity, "committed" if call == "commit" else "aborted")
            raise TransactionInDoubt("asked to fail")
        if how == "undecided, lost":
            raise TransactionInDoubt("asked to fail")

    def send(self, records: Outgoing) -> None:
        self._check("send")
        transaction = self.log.open.setdefault(self.identity, Transaction(self.identity))
        partitions = self.log.topics[records.topic]
        for row in range(len(records)):
            key = records.keys[row]
            partition = sum(key) % len(partitions)
            partitions[partition].append(
                Record(records.values[row], key, records.headers.get(row, ()), transaction)
            )

    def commit(self, positions: Mapping[int, Position]) -> None:
        self._check_owner()  # nothing of a fenced producer arrives
        transaction = self.log.open.setdefault(self.identity, Transaction(self.identity))
        transaction.positions |= {
            (self.group, self.topic, p): position for p, position in positions.items()
        }
        self._check("commit")
        self.log.decide(self.identity, "committed")

    def abort(self) -> None:
        self._check("abort")
        self.log.decide(self.identity, "aborted")

    def close(self) -> None:
        pass


class LinearModel:
    """A model with the interface of Model: the rarity of a row depends on the model's digest."""

    detector = Detector.ISOLATION_FOREST
    version = "2014-04-10 00:00"
    metrics = ("cpu",)
    sees_values = False

    def __init__(self, sha256: str, threshold: float = 3.0) -> None:
        self.sha256 = sha256
        self.threshold = threshold
        self.arrays = WITHOUT_MODEL._replace(
            kind=SVM,
            vectors=np.zeros((FEATURES, LANES)),
            coefficients=np.eye(1, LANES)[0],
            gamma=1.0 / (int(sha256[:2], 16) + 1),
            rho=1.0,
            knots=np.linspace(0.0, 0.5, 65),
            slope=64.0,
        )

    @property
    def model_id(self) -> str:
        return self.sha256[:16]

    def attribute(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.eye(1, FEATURES).repeat(len(X), axis=0), np.zeros(len(X), np.int64)


class MemoryModels:
    """The models folder as a dictionary."""

    def __init__(self, *models: LinearModel) -> None:
        self.all = {model.sha256: model for model in models}
        self.current: str | None = None

    def newest(self) -> LinearModel | None:
        return self.all[self.current] if self.current else None

    def published_s(self, sha256: str) -> float | None:
        return 0.0

    def load(self, sha256: str) -> LinearModel:
        if sha256 not in self.all:
            raise ArtifactMissing(f"no model {sha256}")
        return self.all[sha256]
