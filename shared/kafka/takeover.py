"""The takeover of new partitions: read positions, call the listener, start where it says.

Invariant: a partition is started only at an offset that ``assigned`` has returned. While a takeover
cannot succeed yet, owned partitions are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.errors import HistoryGone, TransportError
from shared.kafka.member import Member
from shared.ports import RebalanceListener

RETRY_S = 0.5
TAKEOVER_S = 3.0
"""Longest wait for the broker in one attempt; owned partitions are not read meanwhile."""


class Takeover:
    """The partitions that are assigned and not started yet.

    pending : these partitions
    failure : why the last attempt failed
    """

    def __init__(self, member: Member) -> None:
        self.pending: set[int] = set()
        self.failure: TransportError | None = None
        self._member = member
        self._attempted: set[int] = set()
        self._retry_s = 0.0

    @property
    def is_new(self) -> bool:
        """Whether some of them have not been attempted yet."""
        return bool(self.pending - self._attempted)

    @property
    def is_due(self) -> bool:
        """Whether an attempt should be made now."""
        if not self.pending:
            return False
        return self.is_new or time.monotonic() >= self._retry_s

    def add(self, partitions: Iterable[int]) -> None:
        """Add partitions to the next attempt."""
        self.pending.update(partitions)

    def restart(self, partitions: Iterable[int]) -> None:
        """Add partitions, and make the next attempt at once."""
        self.pending.update(partitions)
        self._attempted.clear()

    def forget(self, partitions: set[int]) -> None:
        """Remove partitions."""
        self.pending -= partitions

    def clear(self) -> None:
        """Remove all partitions."""
        self.pending.clear()
        self._attempted.clear()

    def attempt(
        self, listener: RebalanceListener, start: Callable[[Mapping[int, int]], None]
    ) -> bool:
        """Take over all that is pending; False where that has failed, see ``failure``.

        start  : starts reading partitions at offsets
        raises : what the listener raised; HistoryGone; a TransportError that is not retriable
        """
        self._attempted = set(self.pending)
        try:
            start(self._starts(listener, sorted(self.pending)))
        except TransportError as failure:
            if not failure.retriable:
                raise
            self.failure = failure
            self._retry_s = time.monotonic() + RETRY_S
            return False
        return True

    def _starts(self, listener: RebalanceListener, partitions: Sequence[int]) -> dict[int, int]:
        deadline = time.monotonic() + TAKEOVER_S
        committed = self._member.committed(partitions, deadline)
        log_starts = {
            partition: self._member.log_start(partition, deadline) for partition in partitions
        }
        offsets = dict(listener.assigned(committed, log_starts))
        if set(offsets) != set(partitions):
            raise ValueError(
                f"assigned() was called with partitions {partitions} and returned offsets for"
                f" {sorted(offsets)}"
            )
        self._check_history(offsets, log_starts)
        return offsets

    def _check_history(self, offsets: Mapping[int, int], log_starts: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            if offset < log_starts[partition]:
                raise HistoryGone(
                    f"{self._member.topic}[{partition}] must be read from offset {offset} on, but"
                    f" its log starts at {log_starts[partition]}:"
                    " retention has deleted records that"
                    " the state needs; restore state_dir, or start over with another predict.group"
                )
