"""When a training saves how far it has read, and from where the next one continues.

Invariant: a checkpoint never fails a training: one that cannot be written or used is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from consumer_training.reading.checkpoint_file import CheckpointFile, CheckpointRefused
from consumer_training.reading.history import History
from shared.settings import Settings

log = structlog.get_logger()

MOST_OF_TIME = 20
"""The time between two checkpoints is at least so many times as long as writing one takes."""


class Topic(Protocol):
    """The topic that is read."""

    def ends(self) -> Mapping[int, int]:
        """Return the end offset of each partition."""
        ...

    def identity(self) -> str:
        """Return what tells the topic from others of its name."""
        ...


class Checkpoints:
    """The checkpoints of one training.

    secret : of the key that models are signed with; a checkpoint must be of the same, or anybody
             who may write to the folder could change what is signed. Empty = they are not signed
    clock  : monotonic seconds
    """

    def __init__(
        self,
        settings: Settings,
        secret: bytes,
        topic: Topic,
        clock: Callable[[], float],
    ) -> None:
        self._interval_s = settings.train.checkpoint_s
        self._file = CheckpointFile(settings.models_dir, secret)
        self._topic = topic
        self._clock = clock
        self._due_s = clock() + self._interval_s
        self._identity: str | None = None

    def resume(self, history: History) -> tuple[History, Mapping[int, int]] | None:
        """Return what was read before, and the end that was read to; None = there is nothing.

        history : an empty one with the present settings
        """
        if not self._interval_s or not self._file.path.exists():
            return None
        try:
            saved = self._file.read(history.origin(self._topic_identity()))
            if saved is None:
                return None
            found, ends = history.resumed(saved), self._topic.ends()
            beyond = {n for n, offset in saved.end.items() if offset > ends.get(n, 0)}
            if beyond:
                raise CheckpointRefused(
                    f"{self._file.path} ends behind the log of partitions {sorted(beyond)}"
                )
        except CheckpointRefused as error:
            self.refuse(str(error))
            return None
        log.info(
            "continuing from a checkpoint",
            file=str(self._file.path),
            events_read=len(found),
            entity_share=found.share,
        )
        return found, saved.end

    def refuse(self, because: str) -> None:
        """Remove a checkpoint that does not fit."""
        log.warning("checkpoint refused, reading from the start", because=because)
        self._file.remove()

    def write_if_due(self, history: History, end: Mapping[int, int]) -> None:
        """Save what was read, if the last time is long enough ago."""
        began_s = self._clock()
        if not self._interval_s or began_s < self._due_s:
            return
        size: Any = None
        try:
            size = self._file.write(history.saved(self._topic_identity(), end))
        except OSError as error:
            log.warning("no checkpoint could be written", because=str(error))
        took_s = self._clock() - began_s
        self._due_s = self._clock() + max(self._interval_s, MOST_OF_TIME * took_s)
        if size is not None:
            log.info(
                "checkpoint written",
                events_read=len(history),
                size_mib=round(size / 2**20, 1),
                seconds=round(took_s, 2),
            )

    def remove(self) -> None:
        """Remove the checkpoint: its training has ended."""
        self._file.remove()

    def _topic_identity(self) -> str:
        if self._identity is None:
            self._identity = self._topic.identity()
        return self._identity
