"""Everything outside that the prediction loop touches, as the shapes that it needs.

Law: shapes only; the service puts the real ones together, and tests hand over those in memory.
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
    """Models on the shared volume."""

    def newest(self) -> Model | None:
        """Return the newest good model, None before the first; never raises for a bad candidate."""
        ...

    def load(self, sha256: str) -> Model:
        """Return one artefact; raises ArtifactMissing or ArtifactRefused."""
        ...

    def published_s(self, sha256: str) -> float | None:
        """Return when an artefact was published last, seconds since 1970 UTC; None = unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything outside that the loop touches.

    decoder   : reads the input's records, and may ask a registry for that
    open_sink : makes a new sink; whatever an earlier one of the same identity left open is fenced
                and aborted by it
    clock     : monotonic seconds
    now_ms    : wall clock, ms since 1970 UTC; for what is measured, never for what is computed
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
