"""Records that a client has handed over and the caller has not.

Invariant: rows of a partition leave in the order in which they came, each once.
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
        """Take rows that come after those which are here."""
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
        """Return at most max_records rows, one batch for each partition that has some."""
        taken: list[Batch] = []
        room = max_records
        for partition in list(self._batches):
            if room <= 0:
                break
            whole = Batch.join(self._batches.pop(partition))
            batch = whole.rows(0, min(room, len(whole)))
            if len(batch) < len(whole):
                self._batches[partition] = [whole.rows(len(batch), len(whole))]
            taken.append(batch)
            room -= len(batch)
        self._count -= max_records - room
        return taken
