"""Batches of records as columns, read from and sent to Kafka.

Invariant: rows keep log order; a row is addressed by its index and never becomes an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Blob:
    """n byte strings joined end to end.

    data   : bytes               all values, joined
    bounds : int64 (n + 1,)      value i is data[bounds[i]:bounds[i + 1]]
    """

    data: bytes
    bounds: npt.NDArray[np.int64]

    @classmethod
    def join(cls, values: Sequence[bytes | None]) -> Blob:
        """Join values; None is empty, and costs a second pass."""
        try:
            data = b"".join(values)  # type: ignore[arg-type]  # None raises TypeError
        except TypeError:
            return cls.join([value or b"" for value in values])
        bounds = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=bounds[1:])  # type: ignore[arg-type]
        return cls(data, bounds)

    @classmethod
    def chain(cls, blobs: Sequence[Blob]) -> Blob:
        """Concatenate the values of blobs."""
        starts = np.cumsum([0, *(int(blob.bounds[-1] - blob.bounds[0]) for blob in blobs)])
        ends = [
            blob.bounds[1:] - blob.bounds[0] + start
            for blob, start in zip(blobs, starts, strict=False)
        ]
        data = [blob.data[blob.bounds[0] : blob.bounds[-1]] for blob in blobs]
        return cls(b"".join(data), np.concatenate([np.zeros(1, np.int64), *ends]))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.bounds[row] : self.bounds[row + 1]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in log order.

    values    : Blob of n            record values; empty where the record had none (a tombstone)
    keys      : Blob of n            record keys; empty where there was none
    offsets   : int64 (n,)           strictly increasing, gaps allowed
    broker_ms : int64 (n,)           Kafka's record timestamp, ms since 1970 UTC; never enters a
                score
    headers   : {row: headers}       only the rows that had headers
    """

    topic: str
    partition: int
    values: Blob
    keys: Blob
    offsets: npt.NDArray[np.int64]
    broker_ms: npt.NDArray[np.int64]
    headers: Mapping[int, Headers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Concatenate batches of one partition, each later than the one before."""
        if len(batches) == 1:
            return batches[0]
        headers: dict[int, Headers] = {}
        first_row = 0
        for batch in batches:
            headers |= {first_row + row: pairs for row, pairs in batch.headers.items()}
            first_row += len(batch)
        return cls(
            batches[0].topic,
            batches[0].partition,
            Blob.chain([batch.values for batch in batches]),
            Blob.chain([batch.keys for batch in batches]),
            np.concatenate([batch.offsets for batch in batches]),
            np.concatenate([batch.broker_ms for batch in batches]),
            headers,
        )

    def rows(self, start: int, stop: int) -> Batch:
        """Return rows start..stop as a batch; all rows are the same batch, without a copy."""
        if start == 0 and stop == len(self):
            return self
        return Batch(
            self.topic,
            self.partition,
            _cut(self.values, start, stop),
            _cut(self.keys, start, stop),
            self.offsets[start:stop],
            self.broker_ms[start:stop],
            {row - start: pairs for row, pairs in self.headers.items() if start <= row < stop},
        )


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Records to be sent to one topic, in order.

    values     : Blob of n           encoded record values
    keys       : Blob of n           record keys, the input of the partitioner (murmur2_random)
    headers    : {row: headers}      only the rows that have headers
    partitions : {row: partition}    only the rows with a fixed partition
    """

    topic: str
    values: Blob
    keys: Blob
    headers: Mapping[int, Headers] = field(default_factory=dict)
    partitions: Mapping[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a partition: the next offset to read, and its committed metadata."""

    offset: int
    metadata: str = ""


def _cut(blob: Blob, start: int, stop: int) -> Blob:
    low, high = int(blob.bounds[start]), int(blob.bounds[stop])
    return Blob(blob.data[low:high], blob.bounds[start : stop + 1] - low)
