"""How new partitions are taken over: positions asked for, the listener told, reading begun where it
says.

Invariant: a partition starts only after ``assigned`` said where; while one cannot be taken over
yet, those which are owned go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from shared.errors import HistoryGone, TransportError
from shared.kafka.member import Member
from shared.ports import RebalanceListener

RETRY_S = 0.5
TAKEOVER_S = 3.0
"""Longest wait for the broker while partitions are taken over; then the owned ones get their turn
again.
"""


class Takeover:
    """The partitions that are to be taken over.

    pending : assigned, not started yet
    refusal : why the last try did not work
    """

    def __init__(self, member: Member) -> None:
        self.pending: set[int] = set()
        self.refusal: TransportError | None = None
        self._member = member
        self._tried: set[int] = set()
        self._retry_s = 0.0

    @property
    def is_new(self) -> bool:
        """Some of them have not been tried yet."""
        return bool(self.pending - self._tried)

    @property
    def is_due(self) -> bool:
        """There is something to take over now."""
        waits = self.pending <= self._tried and time.monotonic() < self._retry_s
        return bool(self.pending) and not waits

    def add(self, partitions: Iterable[int]) -> None:
        """Take these over at the next turn."""
        self.pending.update(partitions)

    def again(self, partitions: Iterable[int]) -> None:
        """Take these over, and what has failed, at once."""
        self.pending.update(partitions)
        self._tried.clear()

    def forget(self, partitions: set[int]) -> None:
        """These are no longer to be taken over."""
        self.pending -= partitions

    def clear(self) -> None:
        """Nothing is to be taken over."""
        self.pending.clear()
        self._tried.clear()

    def attempt(
        self, listener: RebalanceListener, start: Callable[[Mapping[int, int]], None]
    ) -> bool:
        """Take over all that is pending; False where it does not work yet, for ``refusal``.

        start  : begins to read partitions at offsets
        raises : what the listener raised; HistoryGone; a TransportError that is not retriable
        """
        self._tried = set(self.pending)
        try:
            start(self._starts(listener, sorted(self.pending)))
        except TransportError as refusal:
            if not refusal.retriable:
                raise
            self.refusal, self._retry_s = refusal, time.monotonic() + RETRY_S
            return False
        return True

    def _starts(self, listener: RebalanceListener, partitions: Sequence[int]) -> dict[int, int]:
        deadline = time.monotonic() + TAKEOVER_S
        committed = self._member.committed(partitions, deadline)
        begins = {one: self._member.log_start(one, deadline) for one in partitions}
        offsets = dict(listener.assigned(committed, begins))
        if set(offsets) != set(partitions):
            raise ValueError(
                f"assigned() was asked for partitions {partitions} and answered for"
                f" {sorted(offsets)}"
            )
        self._check_history(offsets, begins)
        return offsets

    def _check_history(self, offsets: Mapping[int, int], begins: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            if offset < begins[partition]:
                raise HistoryGone(
                    f"{self._member.topic}[{partition}] must be read from offset {offset} on, but"
                    f" begins at {begins[partition]}: retention has deleted what the state needs;"
                    " restore state_dir, or begin anew with another predict.group"
                )
