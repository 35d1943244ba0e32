"""Interfaces to everything outside the prediction loop.

Invariant: interfaces only; the service passes the real implementations, tests pass fakes in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from consumer_prediction.ownership import History
from shared.models.model import Model
from shared.ports import Decoder, Sink, Source
from shared.snapshots import SnapshotWriter


class Models(Protocol):
    """The models on the shared volume."""

    def newest(self) -> Model | None:
        """Return the newest valid model, None before the first; a bad candidate never raises."""
        ...

    def load(self, sha256: str) -> Model:
        """Return one artefact; raises ArtifactMissing or ArtifactRefused."""
        ...

    def published_s(self, sha256: str) -> float | None:
        """Return when an artefact was published last, seconds since 1970 UTC; None = unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Everything outside that the loop uses.

    decoder   : decodes input records; may query a schema registry
    open_sink : opens a new sink, which fences earlier sinks of the same identity and aborts their
                open transaction
    clock     : monotonic seconds
    now_ms    : wall clock, ms since 1970 UTC; for metrics only, never for results
    """

    source: Source
    open_sink: Callable[[], Sink]
    decoder: Decoder
    models: Models
    history: History
    snapshots: SnapshotWriter
    clock: Callable[[], float]
    now_ms: Callable[[], int]
    sleep: Callable[[float], None]
