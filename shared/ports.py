"""The interfaces through which services use Kafka and the input's format.

Invariant: services depend on these interfaces only. ``shared.kafka`` and ``tests.support.fakes``
are two implementations of source and sink; a decoder is one input format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from shared.batch import Batch, Headers, Outgoing, Position
from shared.columns import Columns
from shared.events import Reason

if TYPE_CHECKING:  # it loads kernels; a predictor connects while they are loading
    from shared.directory import Directory


class Decoder(Protocol):
    """Reads records of one format; schemas and plans are internal to it."""

    @property
    def entity_name(self) -> str:
        """Name of the entity field, e.g. host; several fields are joined by '/'."""
        ...

    def prepare(self, batch: Batch) -> None:
        """Look up all that ``decode`` needs for a batch, in a registry for example.

        raises : TransportError, SchemaNotAllowed
        """
        ...

    def decode(self, batch: Batch, entities: Directory, metrics: list[str]) -> Columns:
        """Decode a batch that was prepared, or rows of it, without I/O.

        entities : the partition's; gets the names of accepted records, in log order
        metrics  : the partition's; gets new names, in order of the first accepted row that has them
        """
        ...

    def detail(self, value: bytes, headers: Headers, reason: Reason) -> str:
        """Return details of a rejected record beyond its reason; empty if there are none."""
        ...

    def schema_sha256(self) -> list[str]:
        """Return the SHA-256 of each schema that was prepared and can be read, sorted."""
        ...


class RebalanceListener(Protocol):
    """Rebalance callbacks, called from within ``Source.poll`` on the same thread."""

    def assigned(
        self, committed: Mapping[int, Position | None], start: Mapping[int, int]
    ) -> Mapping[int, int]:
        """Take over partitions; return the offset at which to start reading each of them.

        committed : the group's committed position; None where there is none
        start     : first offset of the log
        """
        ...

    def revoked(self, partitions: Sequence[int]) -> None:
        """Release partitions; processed records may still be committed."""
        ...

    def lost(self, partitions: Sequence[int]) -> None:
        """Release partitions that may have another owner already: nothing may be committed."""
        ...


class Source(Protocol):
    """A member of a consumer group that reads one topic."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group; records arrive from the first ``poll`` on."""
        ...

    def poll(self, max_records: int, timeout_s: float) -> list[Batch]:
        """Return records that have arrived, at most one batch per owned partition.

        returns : empty after timeout_s without a record
        raises : TransportError; the position has not moved past any record that was not returned
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Continue reading at an offset."""
        ...

    def rewind(self) -> None:
        """Take over every owned partition again: ``assigned`` returns where to continue.

        raises : TransportError; call it again later
        """
        ...

    def ends(self) -> Mapping[int, int]:
        """Return the last known ends of owned partitions, without I/O.

        Partitions whose end is not known yet are left out.
        """
        ...

    def pause(self) -> None:
        """Return no records from ``poll``, which keeps the membership alive."""
        ...

    def resume(self) -> None:
        """Return records again after ``pause``."""
        ...

    def close(self) -> None:
        """Leave the group; a static member only stops its heartbeats."""
        ...


class Sink(Protocol):
    """Sends results, and commits them together with their input positions."""

    def send(self, records: Outgoing) -> None:
        """Queue records within the open transaction; begins one if there is none.

        raises : TransactionAborted, TransactionInDoubt, ProducerFenced, TransportError
        """
        ...

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit all records since the last commit together with input positions.

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
        """Release the producer without committing anything."""
        ...
