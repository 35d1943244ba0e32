"""What the prediction loop needs of the outside world, so that tests can hand it a log in memory.

Law: the shell depends on these shapes only; ``shared.kafka`` and ``tests.support.fakes`` are two
     implementations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.batch import Batch, Outgoing, Position


class RebalanceListener(Protocol):
    """Told of every change of ownership, from within ``Source.poll`` and on the same thread."""

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over partitions; return the offset at which to start reading each of them.

        committed : the group's committed position; None where there is none
        start     : first offset that the log still holds
        """
        ...

    def revoked(self, partitions: Sequence[int]) -> None:
        """Give partitions up in good order: what was processed may still be committed."""
        ...

    def lost(self, partitions: Sequence[int]) -> None:
        """The partitions belong to somebody else already: nothing may be committed."""
        ...


class Source(Protocol):
    """A member of a consumer group that reads one topic."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; no record arrives before the first ``poll``."""
        ...

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return what has arrived, at most one batch per owned partition; empty after timeout_s
        without any.

        raises : TransportError; the position has not moved past any record that was not returned
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Read on from offset."""
        ...

    def rewind(self) -> None:
        """Go through ``assigned`` again with every owned partition and read on from what it
        returns.

        raises : TransportError; call it again later
        """
        ...

    def ends(self) -> Mapping[int, int]:
        """Return where owned partitions end, as last heard and without waiting for anybody.

        One of which nothing was heard yet is left out.
        """
        ...

    def pause(self) -> None:
        """Deliver nothing, but keep heartbeats going in ``poll``."""
        ...

    def resume(self) -> None:
        """Deliver again after ``pause``."""
        ...

    def close(self) -> None:
        """Leave the group (a static member only stops)."""
        ...


class Sink(Protocol):
    """Where results go, together with the position they belong to."""

    def send(self, records: Outgoing) -> None:
        """Queue records within the open transaction; opens one if there is none.

        raises : TransactionAborted, TransactionInDoubt, ProducerFenced, TransportError
        """
        ...

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Make all records since the last commit and the input positions visible together.

        positions : {partition: next offset and metadata}
        raises    : TransactionAborted, TransactionInDoubt, ProducerFenced, TransportError
        """
        ...

    def abort(self) -> None:
        """Drop everything since the last commit.

        raises : TransactionInDoubt, ProducerFenced
        """
        ...

    def close(self) -> None:
        """Let go without committing anything."""
        ...
