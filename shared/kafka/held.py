"""Records that the client has fetched and the caller has not received yet.

Invariant: the rows of a partition are returned in log order, each once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.batch import Batch


class HeldRecords:
    """A queue of rows by partition; its length is the number of rows."""

    def __init__(self) -> None:
        self._batches: dict[int, list[Batch]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, batches: Sequence[Batch]) -> None:
        """Append rows, which are later than those held of their partition."""
        for batch in batches:
            self._batches.setdefault(batch.partition, []).append(batch)
            self._count += len(batch)

    def keep(self, partitions: Collection[int]) -> None:
        """Drop the rows of all other partitions."""
        self.drop([partition for partition in self._batches if partition not in partitions])

    def drop(self, partitions: Collection[int]) -> None:
        """Drop the rows of these partitions."""
        for partition in partitions:
            self._count -= sum(map(len, self._batches.pop(partition, ())))

    def clear(self) -> None:
        """Drop everything."""
        self._batches.clear()
        self._count = 0

    def take(self, max_records: int) -> list[Batch]:
        """Remove and return at most max_records rows, one batch for each partition with rows."""
        taken: list[Batch] = []
        remaining = max_records
        for partition in list(self._batches):
            if remaining <= 0:
                break
            whole = Batch.join(self._batches.pop(partition))
            batch = whole.rows(0, min(remaining, len(whole)))
            if len(batch) < len(whole):
                self._batches[partition] = [whole.rows(len(batch), len(whole))]
            taken.append(batch)
            remaining -= len(batch)
        self._count -= max_records - remaining
        return taken
