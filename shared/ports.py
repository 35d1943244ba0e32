"""What services need of the outside world and of the input's format, as shapes.

Invariant: whoever uses one depends on its shape only. ``shared.kafka`` and ``tests.support.fakes``
are two implementations of source and sink; a decoder is one input format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from shared.batch import Batch, Headers, Outgoing, Position
from shared.columns import Columns
from shared.events import Reason

if TYPE_CHECKING:  # it loads kernels, and a predictor opens its doors while those are still loading
    from shared.directory import Directory


class Decoder(Protocol):
    """Reads records of one format; what it knows of how they were written stays behind it."""

    @property
    def entity_name(self) -> str:
        """What the input calls an entity, e.g. host; several fields are joined by '/'."""
        ...

    def prepare(self, batch: Batch) -> None:
        """Find out all that ``decode`` needs to know for a batch, from a registry for example.

        raises : TransportError while that cannot be found out, SchemaNotAllowed
        """
        ...

    def decode(
        self, batch: Batch, entities: Directory, metrics: list[str], max_entities: int
    ) -> Columns:
        """Decode a batch that was prepared, or rows of it; nobody is asked for anything.

        entities     : the partition's; names of accepted records are added, in log order
        metrics      : the partition's; names unseen so far are appended, in order of the first
                       accepted row that has them
        max_entities : a record of a further entity is rejected
        """
        ...

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Say of a rejected record what its reason leaves open; empty where that is nothing."""
        ...

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was prepared and can be read, sorted."""
        ...


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
