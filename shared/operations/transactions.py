"""What the loops of the transactional services share.

Invariant: after any failure within a transaction, nothing of it is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ProducerFenced, TransactionAborted, TransactionInDoubt, TransportError


@contextmanager
def failures_abort() -> Iterator[None]:
    """Make any other failure of a send or commit an abort: a part of it may be queued by then.

    raises : TransactionAborted, TransactionInDoubt, ProducerFenced
    """
    try:
        yield
    except (TransactionAborted, TransactionInDoubt, ProducerFenced):
        raise
    except TransportError as error:
        raise TransactionAborted(str(error)) from error
