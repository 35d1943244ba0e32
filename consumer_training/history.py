"""The training input as columns: the accepted rows of all partitions, sorted by series.

Invariant: the result depends on the partitions' logs only, not on batch sizes or the order in which
           partitions were read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.batch import Batch
from shared.columns import Columns
from shared.directory import Directory
from shared.events import Reason
from shared.ports import Decoder
from shared.scoring.state import NEVER_MS, Folded, PartitionState, fold

GROUP_ROWS = 200_000
"""Series are folded in groups of up to this many rows, which bounds the memory for features."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Accepted rows, series by series.

    A series holds the rows of one entity in one partition, in log order.

    series  : (S,) entity and partition, sorted
    bounds  : int64 (S + 1,)   series i is rows bounds[i]:bounds[i + 1]
    metrics : (M,) in order of first appearance, lowest partition first
    time_ms : int64 (n,)       event time
    values  : float64 (n, M)   NaN = missing
    forget_ms : longest silence after which an entity starts over, as in prediction
    """

    series: tuple[tuple[str, int], ...]
    bounds: npt.NDArray[np.int64]
    metrics: tuple[str, ...]
    time_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    forget_ms: int = NEVER_MS

    def __len__(self) -> int:
        return len(self.time_ms)

    def groups(self, limit: int = GROUP_ROWS) -> Iterator[tuple[int, int]]:
        """Split the series into groups low..high of at most limit rows; an entity stays whole.

        A single entity with more rows is a group by itself.
        """
        low = 0
        count = len(self.series)
        while low < count:
            high = low + 1
            while high < count and (
                self.series[high][0] == self.series[high - 1][0]
                or self.bounds[high + 1] - self.bounds[low] <= limit
            ):
                high += 1
            yield low, high
            low = high

    def fold(self, low: int, high: int, window: int) -> Folded:
        """Fold series low..high as the predictor does; the features of a series need no other."""
        start, stop = int(self.bounds[low]), int(self.bounds[high])
        state = PartitionState(0)
        for number in range(high - low):
            state.entities.add(str(number))
        state.metrics = list(self.metrics)
        owner = np.repeat(
            np.arange(high - low, dtype=np.int32), np.diff(self.bounds[low : high + 1])
        )
        nothing = np.empty(0, np.int64)
        columns = Columns(
            np.arange(stop - start),
            owner,
            self.time_ms[start:stop],
            self.values[start:stop],
            nothing,
            np.empty(0, np.uint8),
        )
        return fold(state, columns, window, self.forget_ms)


@dataclass(slots=True)
class _Partition:
    first_offset: int
    next_offset: int
    entities: Directory = field(default_factory=Directory)
    metrics: list[str] = field(default_factory=list)
    chunks: list[Columns] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)


class History:
    """Collects batches of all partitions, each partition's in log order.

    Memory: 12 + 8 M bytes a row, twice that while ``rows`` is under way.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._partitions: dict[int, _Partition] = {}

    def add(self, batch: Batch) -> None:
        """Decode a batch and keep its accepted rows.

        raises : TransportError, SchemaNotAllowed
        """
        if not len(batch):
            return
        self.decoder.prepare(batch)
        first = int(batch.offsets[0])
        partition = self._partitions.setdefault(batch.partition, _Partition(first, first))
        columns = self.decoder.decode(batch, partition.entities, partition.metrics)
        partition.next_offset = int(batch.offsets[-1]) + 1
        partition.chunks.append(columns)
        for reason, count in zip(*np.unique(columns.reasons, return_counts=True), strict=True):
            code = Reason(int(reason)).code
            partition.rejected[code] = partition.rejected.get(code, 0) + int(count)

    def __len__(self) -> int:
        return sum(
            len(chunk) for partition in self._partitions.values() for chunk in partition.chunks
        )

    @property
    def rejected(self) -> int:
        """Number of records rejected so far."""
        return sum(
            count
            for partition in self._partitions.values()
            for count in partition.rejected.values()
        )

    def facts(self) -> dict[str, Any]:
        """Return per partition the offsets read, accepted rows, and rejected records by reason."""
        return {
            str(number): {
                "first_offset": partition.first_offset,
                "next_offset": partition.next_offset,
                "accepted": sum(map(len, partition.chunks)),
                "rejected": dict(sorted(partition.rejected.items())),
            }
            for number, partition in sorted(self._partitions.items())
        }

    def rows(self, forget_ms: int = NEVER_MS) -> Rows:
        """Return all accepted rows, sorted by series; forget_ms as in ``Rows``."""
        ordered = sorted(self._partitions.items())
        metrics = tuple(
            dict.fromkeys(name for _, partition in ordered for name in partition.metrics)
        )
        series = sorted(
            (name, number) for number, partition in ordered for name in partition.entities.names()
        )
        rank = {key: index for index, key in enumerate(series)}
        total = len(self)
        owner = np.empty(total, np.int32)
        time_ms = np.empty(total, np.int64)
        values = np.full((total, len(metrics)), np.nan)
        start = 0
        for number, partition in ordered:
            ranks = np.array([rank[name, number] for name in partition.entities.names()], np.int32)
            targets = [metrics.index(name) for name in partition.metrics]
            for chunk in partition.chunks:
                rows = slice(start, start + len(chunk))
                owner[rows] = ranks[chunk.entity]
                time_ms[rows] = chunk.time_ms
                values[rows, targets[: chunk.values.shape[1]]] = chunk.values
                start += len(chunk)
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(series) + 1)).astype(np.int64)
        return Rows(tuple(series), bounds, metrics, time_ms[order], values[order], forget_ms)
