"""Polls records of the assigned partitions, and holds those that cannot be scored yet.

Invariant: a polled record is returned, held, or dropped with its partition; none is returned twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from consumer_prediction.folding import joined
from shared.batch import Batch
from shared.errors import TransportError
from shared.ports import Source
from shared.settings import PredictSettings

IDLE_POLL_S = 0.2
LONGEST_POLL_S = 1.0
"""Upper limit of a poll, however rare commits are: a longer step counts as hanging."""

POLLS_PER_THREAD = 3
"""Most polls of a step for each thread; fewer leave threads idle while one partition is read."""


class Polling:
    """The source's records, and those that were polled and wait.

    held       : batches that wait, in the order in which they were polled
    gathered_s : for how long the oldest record of the last poll may have waited for it: since the
                 poll before, at most for as long as a poll gathers
    """

    def __init__(
        self, source: Source, settings: PredictSettings, clock: Callable[[], float]
    ) -> None:
        self.held: list[Batch] = []
        self.gathered_s = 0.0
        self._clock = clock
        self._longest_gather_s = settings.gather_s
        self._source = source
        self._most_records = settings.max_batch_records
        self._most_polls = POLLS_PER_THREAD * settings.threads if settings.threads > 1 else 1
        self._is_paused = False
        self._failure: TransportError | None = None
        self._polled_s = clock()

    @property
    def is_waiting(self) -> bool:
        """Whether ``poll`` has something to return or to raise before the next record."""
        return bool(self.held) or self._failure is not None

    def poll(self, due_in_s: float | None, pause_s: float) -> list[Batch]:
        """Return records that have arrived, held ones first.

        due_in_s : a poll ends when a commit is due; None = none will be
        pause_s  : longest wait while records are held
        raises   : as Source does
        """
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self.held:
            return self._poll_on(pause_s)
        wait_s = IDLE_POLL_S if due_in_s is None else min(due_in_s, LONGEST_POLL_S)
        began_s, polled_s = self._clock(), self._polled_s
        batches = self._source.poll(self._most_records, wait_s)
        self._polled_s = self._clock()
        is_full = sum(map(len, batches)) >= self._most_records
        since_s = began_s if is_full else polled_s
        self.gathered_s = min(self._longest_gather_s, self._polled_s - since_s)
        return self._poll_while_full(batches, polls=1)

    def poll_ahead(self) -> list[Batch]:
        """Return records that have arrived already; an error is raised by the next ``poll``."""
        self.gathered_s = 0.0
        batches = self._poll_while_full([], polls=0)
        self._polled_s = self._clock()
        return batches

    def hold(self, batches: Sequence[Batch]) -> None:
        """Hold batches, and pause the source; the next poll returns them again."""
        self.held = list(batches)
        self._source.pause()
        self._is_paused = True

    def go_on(self) -> None:
        """Resume the source: nothing is held."""
        if self._is_paused:
            self._source.resume()
        self._is_paused = False

    def drop(self, partitions: Collection[int]) -> None:
        """Drop what is held of partitions that are no longer assigned."""
        self.held = [batch for batch in self.held if batch.partition not in partitions]

    def _poll_on(self, wait_s: float) -> list[Batch]:
        """Poll while records are held; return those that a rebalance did not drop, and new ones.

        raises : as Source does; the records are still held then
        """
        new = self._source.poll(self._most_records, wait_s)
        held, self.held = self.held, []
        return held + new

    def _poll_while_full(self, batches: list[Batch], polls: int) -> list[Batch]:
        """Poll again while polls are full, so that threads have several partitions at a time.

        A client returns thousands of records of one partition before it comes to the next. An
        error of these polls is raised by the next one, after these records were scored.

        polls : how many returned ``batches``
        """
        while polls < self._most_polls and sum(map(len, batches)) >= polls * self._most_records:
            self.held = batches
            try:
                batches = self._poll_on(0.0)
            except TransportError as error:
                self._failure = error
                batches, self.held = self.held, []
                break
            polls += 1
        return joined(batches)
