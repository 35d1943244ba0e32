"""The open transaction: records sent since the last commit, and their sink.

Invariant: a sink whose transaction is in doubt is never used again, and after a failed commit
           nothing is sent before ``recover`` and ``resume``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from shared.batch import Outgoing, Position
from shared.errors import ProducerFenced, TransactionAborted, TransactionInDoubt, TransportError
from shared.ports import Sink
from shared.scoring.scorer import Outcome


class Transaction:
    """Runs transactions one after another, on one thread.

    open_sink  : opens a new sink, which fences earlier sinks of the same identity and aborts their
                 open transaction
    clock      : monotonic seconds
    interval_s : a transaction is due this long after its first record
    least_s    : a shorter rest of the interval is not waited for
    broken     : the transaction was dropped, and the state is not yet restored
    """

    def __init__(
        self,
        open_sink: Callable[[], Sink],
        clock: Callable[[], float],
        interval_s: float,
        least_s: float = 0.0,
    ) -> None:
        self.sink = open_sink()
        self.broken = False
        self._open_sink = open_sink
        self._clock = clock
        self._interval_s = interval_s
        self._least_s = least_s
        self._sent = 0
        self._began_s: float | None = None
        self._outcomes: list[Outcome] = []
        self._in_doubt = False

    @property
    def is_open(self) -> bool:
        """Whether something has been sent since the last commit."""
        return self._began_s is not None

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the commit is due, 0 when it is overdue; None while nothing was sent."""
        if self._began_s is None:
            return None
        left_s = self._began_s + self._interval_s - self._clock()
        return left_s if left_s > self._least_s else 0.0

    @property
    def sent(self) -> int:
        """Return how many records were sent since the last commit."""
        return self._sent

    def send(self, records: Sequence[Outgoing], since_s: float | None = None) -> None:
        """Send records within the transaction; the first ones open it.

        since_s : when the interval of a transaction that they open has begun; None = now
        raises  : TransactionAborted when the sink refuses them; TransactionInDoubt, ProducerFenced
        """
        if self._began_s is None:
            self._began_s = self._clock() if since_s is None else since_s
        for outgoing in records:
            self._sent += len(outgoing)
            self._or_abort(partial(self.sink.send, outgoing))

    def add(self, outcome: Outcome) -> None:
        """Keep the outcome of the records sent last; ``commit`` returns it."""
        self._outcomes.append(outcome)

    def commit(self, positions: Mapping[int, Position]) -> list[Outcome]:
        """Commit all sent records together with the input positions.

        positions : without any there is nothing to commit
        returns   : the outcomes that are now visible
        raises    : as ``send`` does
        """
        if positions:
            self._or_abort(partial(self.sink.commit, positions))
        committed, self._outcomes = self._outcomes, []
        self._began_s = None
        self._sent = 0
        return committed

    def invalidate(self, *, in_doubt: bool) -> None:
        """Drop the sent records.

        in_doubt : whether they were committed is unknown; only a new sink can resolve that
        """
        self.broken = True
        self._in_doubt = self._in_doubt or in_doubt
        self._outcomes.clear()
        self._began_s = None
        self._sent = 0

    def recover(self) -> None:
        """Abort the open transaction; replace a sink whose transaction is in doubt."""
        if self._in_doubt:
            self.sink.close()
            self.sink = self._open_sink()
            self._in_doubt = False
        else:
            self.sink.abort()

    def resume(self) -> None:
        """Allow sending again, once the state is that of the last commit."""
        self.broken = False

    @staticmethod
    def _or_abort(call: Callable[[], None]) -> None:
        """Turn other transport errors into TransactionAborted: the records must be sent again."""
        try:
            call()
        except (TransactionAborted, TransactionInDoubt, ProducerFenced):
            raise
        except TransportError as error:
            raise TransactionAborted(str(error)) from error
