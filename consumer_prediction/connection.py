"""A predictor's group membership and its sink, opened while Python loads the kernels.

Invariant: this module imports nothing that loads a kernel.

The broker takes half a second to abort the transaction that a predecessor left open, and loading
the kernels takes a second of CPU time. Both run in parallel, so a killed predictor restarts sooner.
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import Future

from shared.kafka import AtLeastOnceSink, GroupSource, TransactionalSink
from shared.operations.retry import in_background
from shared.ports import Sink
from shared.settings import Settings


class KafkaConnection:
    """The group member, not yet joined, and the first sink of its transactional.id.

    raises : ConfigError
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.source = GroupSource(
            settings,
            settings.predict.group,
            settings.topics.input,
            instance_id=f"{settings.predict.group}-{settings.slot}" if settings.slot else None,
            session_timeout_ms=settings.predict.session_timeout_ms,
            gather_s=settings.predict.gather_s,
        )
        self._first: Future[Sink] | None = in_background(self._open, "connecting")

    def sink(self) -> Sink:
        """Return the first sink once it is open; each later call opens a new one.

        raises : as TransactionalSink
        """
        first, self._first = self._first, None
        return self._open() if first is None else first.result()

    def _open(self) -> Sink:
        if self._settings.predict.delivery == "at-least-once":
            return AtLeastOnceSink(self._settings, self.source)
        identity = self._settings.slot or f"{socket.gethostname()}-{os.getpid()}"
        return TransactionalSink(
            self._settings,
            f"{self._settings.predict.group}-{identity}",
            self.source,
            transaction_timeout_ms=self._settings.predict.transaction_timeout_ms,
        )
