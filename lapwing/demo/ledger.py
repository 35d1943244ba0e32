"""Which input records have a result: one ledger per partition, by source coordinates.

Invariant: a record counts once, however often its result arrives; the final figures are computed
           only from these ledgers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

SCORED, DEAD = 1, 2


@dataclass(slots=True)
class PartitionLedger:
    """One input partition; row i is the record at offset i.

    sent_ms   : int64   Kafka timestamp of the input record, -1 = not seen
    result_ms : int64   Kafka timestamp of its first result, -1 = none yet
    kind      : uint8   bits SCORED and DEAD
    flagged   : bool    is an anomaly
    """

    sent_ms: Ints = field(default_factory=lambda: np.full(1024, -1, np.int64))
    result_ms: Ints = field(default_factory=lambda: np.full(1024, -1, np.int64))
    kind: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1024, np.uint8))
    end: int = 0
    frontier: int = 0
    repeats: int = 0

    def _reserve(self, size: int) -> None:
        have = len(self.kind)
        if size > have:
            more = max(size, 2 * have) - have
            self.sent_ms = np.concatenate([self.sent_ms, np.full(more, -1, np.int64)])
            self.result_ms = np.concatenate([self.result_ms, np.full(more, -1, np.int64)])
            self.kind = np.concatenate([self.kind, np.zeros(more, np.uint8)])

    def sent(self, offsets: Ints, broker_ms: Ints) -> None:
        """Record input records as sent."""
        if len(offsets):
            self._reserve(int(offsets.max()) + 1)
            self.sent_ms[offsets] = broker_ms
            self.end = max(self.end, int(offsets.max()) + 1)

    def answered(self, offsets: Ints, broker_ms: Ints, kind: int) -> Ints:
        """Record results; return the indices of those that are a record's first of their kind.

        The indices refer to ``offsets``.
        """
        if not len(offsets):
            return np.zeros(0, np.int64)
        self._reserve(int(offsets.max()) + 1)
        _, first = np.unique(offsets, return_index=True)
        fresh = np.sort(first[(self.kind[offsets[first]] & kind) == 0])
        self.repeats += len(offsets) - len(fresh)
        new = offsets[fresh]
        unanswered = self.result_ms[new] < 0
        self.result_ms[new[unanswered]] = broker_ms[fresh][unanswered]
        self.kind[new] |= kind
        self._advance()
        return fresh

    def _advance(self) -> None:
        open_rows = np.flatnonzero(self.kind[self.frontier :] == 0)
        self.frontier += int(open_rows[0]) if len(open_rows) else len(self.kind) - self.frontier

    def count(self, kind: int) -> int:
        """Return how many records have a result of this kind."""
        return int(((self.kind & kind) != 0).sum())


class Ledger:
    """The ledgers of all partitions of the input."""

    def __init__(self, partitions: int) -> None:
        self.partitions = [PartitionLedger() for _ in range(partitions)]

    @property
    def sent(self) -> int:
        """How many input records were seen."""
        return sum(ledger.end for ledger in self.partitions)

    @property
    def scored(self) -> int:
        """How many of them have a score."""
        return sum(ledger.count(SCORED) for ledger in self.partitions)

    @property
    def dead(self) -> int:
        """How many of them have a dead letter."""
        return sum(ledger.count(DEAD) for ledger in self.partitions)

    @property
    def repeats(self) -> int:
        """How many results came more than once."""
        return sum(ledger.repeats for ledger in self.partitions)

    @property
    def answered(self) -> int:
        """How many of them have a result of either kind."""
        return sum(int((ledger.kind != 0).sum()) for ledger in self.partitions)

    def frontiers(self) -> dict[int, int]:
        """Return each partition's first offset without a result; all before have one."""
        return {partition: ledger.frontier for partition, ledger in enumerate(self.partitions)}

    def latency_ms(self, since: dict[int, int] | None = None) -> npt.NDArray[np.float64]:
        """Return the latency of every answered record from the given offsets on.

        returns : float64 (n,), result time - input time, ms
        """
        parts = []
        for partition, ledger in enumerate(self.partitions):
            rows = slice((since or {}).get(partition, 0), ledger.end)
            known = (ledger.sent_ms[rows] >= 0) & (ledger.result_ms[rows] >= 0)
            parts.append(
                (ledger.result_ms[rows][known] - ledger.sent_ms[rows][known]).astype(np.float64)
            )
        return np.concatenate(parts) if parts else np.zeros(0)

    def span_s(self, since: dict[int, int]) -> tuple[int, float]:
        """Return how many records from the given offsets on have a result, and in what time.

        The time runs from the first input to the last result, in seconds.
        """
        first, last, count = [], [], 0
        for partition, ledger in enumerate(self.partitions):
            rows = slice(since.get(partition, 0), ledger.end)
            known = (ledger.sent_ms[rows] >= 0) & (ledger.result_ms[rows] >= 0)
            if known.any():
                first.append(int(ledger.sent_ms[rows][known].min()))
                last.append(int(ledger.result_ms[rows][known].max()))
                count += int(known.sum())
        return count, (max(last) - min(first)) / 1000 if first else 0.0

    def disagreements(self, ends: dict[int, int]) -> list[str]:
        """Compare with the input's end offsets; describe each partition's differences."""
        differences = []
        for partition, ledger in enumerate(self.partitions):
            end = ends.get(partition, 0)
            scored, dead = ledger.count(SCORED), ledger.count(DEAD)
            both = int((ledger.kind == (SCORED | DEAD)).sum())
            beyond = int((ledger.kind[end:] != 0).sum())
            if scored + dead != end or both or beyond:
                missing = int((ledger.kind[:end] == 0).sum())
                differences.append(
                    f"partition {partition}: {end} records, {scored} scored, {dead} dead letters"
                    f" ({missing} without a result, {both} with both, {beyond} results of records"
                    " that do not exist)"
                )
        return differences
