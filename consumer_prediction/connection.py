"""A predictor's membership and its sink, opened while Python still loads the kernels.

Invariant: nothing that loads a kernel is imported here.

The broker takes half a second to end what a predecessor left open, and the kernels take a second of
the processor: one beside the other, a killed predictor is back that much earlier.
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import Future

from shared.kafka import AtLeastOnceSink, GroupSource, TransactionalSink
from shared.ports import Sink
from shared.retry import in_background
from shared.settings import Settings


class KafkaConnection:
    """The member of the group, not joined yet, and the first sink of its transactional.id.

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
        )
        self._first: Future[Sink] | None = in_background(self._open, "connecting")

    def sink(self) -> Sink:
        """Return the first sink once it is open; a new one at each later call.

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
