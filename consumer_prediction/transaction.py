"""The open transaction: what was sent since the last commit, and the sink that it goes through.

Invariant: a sink whose transaction is undecided is never used again, and after anything that was
           not committed nothing is sent before ``recover`` and ``resume``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from shared.batch import Outgoing, Position
from shared.errors import ProducerFenced, TransactionAborted, TransactionInDoubt, TransportError
from shared.ports import Sink
from shared.scoring.scorer import Outcome


class Transaction:
    """One transaction after the other, on one thread.

    open_sink  : makes a new sink; whatever an earlier one of the same identity left open is fenced
                 and aborted by it
    clock      : monotonic seconds
    interval_s : so long after its first record a transaction is due
    broken     : whether it was dropped, and the state is not yet what was committed
    """

    def __init__(
        self, open_sink: Callable[[], Sink], clock: Callable[[], float], interval_s: float
    ) -> None:
        self.sink = open_sink()
        self.broken = False
        self._open_sink = open_sink
        self._clock = clock
        self._interval_s = interval_s
        self._began_s: float | None = None
        self._outcomes: list[Outcome] = []
        self._undecided = False

    @property
    def is_open(self) -> bool:
        """Whether something has been sent since the last commit."""
        return self._began_s is not None

    @property
    def due_in_s(self) -> float | None:
        """Seconds until it is to be committed, 0 when it is time; None while nothing was sent."""
        if self._began_s is None:
            return None
        return max(0.0, self._began_s + self._interval_s - self._clock())

    def send(self, records: Sequence[Outgoing]) -> None:
        """Send records within the transaction; the first ones open it.

        raises : TransactionAborted when the sink does not take them; TransactionInDoubt,
                 ProducerFenced
        """
        if self._began_s is None:
            self._began_s = self._clock()
        for outgoing in records:
            self._or_abort(partial(self.sink.send, outgoing))

    def add(self, outcome: Outcome) -> None:
        """Take note of what the records sent last say; ``commit`` hands it back."""
        self._outcomes.append(outcome)

    def commit(self, positions: Mapping[int, Position]) -> list[Outcome]:
        """Make all that was sent visible together with the input positions; without any of these
        there is nothing to commit.

        returns : the outcomes that are visible now
        raises  : as ``send`` does
        """
        if positions:
            self._or_abort(partial(self.sink.commit, positions))
        committed, self._outcomes = self._outcomes, []
        self._began_s = None
        return committed

    def invalidate(self, *, undecided: bool) -> None:
        """Drop what was sent.

        undecided : nobody knows whether it was committed; a new sink has to find out
        """
        self.broken = True
        self._undecided = self._undecided or undecided
        self._outcomes.clear()
        self._began_s = None

    def recover(self) -> None:
        """Abort what the sink still has open; a new sink replaces one that is undecided."""
        if self._undecided:
            self.sink.close()
            self.sink = self._open_sink()
            self._undecided = False
        else:
            self.sink.abort()

    def resume(self) -> None:
        """Let records be sent again, as the state is once more what was committed."""
        self.broken = False

    @staticmethod
    def _or_abort(call: Callable[[], None]) -> None:
        """Whatever keeps a sink from taking records or positions, they have to come again."""
        try:
            call()
        except (TransactionAborted, TransactionInDoubt, ProducerFenced):
            raise
        except TransportError as error:
            raise TransactionAborted(str(error)) from error
