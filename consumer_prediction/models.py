"""Models as the predictor sees them: the newest good one, and any that the log has activated.

Law: a bad candidate is refused once, with its reason, and the last good model goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from shared.artifacts import current as current_model
from shared.artifacts import load as load_model
from shared.counters import MODEL_INFO, MODEL_RELOADS, Counters
from shared.errors import ArtifactMissing, ArtifactRefused
from shared.model import Model

log = structlog.get_logger()

REMEMBERED = 4


class ModelVolume:
    """The models folder, looked at now and then.

    poll_s : CURRENT is read at most this often
    clock  : monotonic seconds
    """

    def __init__(self, folder: Path, poll_s: float, clock: Callable[[], float], counters: Counters) -> None:
        self.folder = folder
        self.poll_s = poll_s
        self.clock = clock
        self.counters = counters
        self._loaded: dict[str, Model] = {}
        self._newest: Model | None = None
        self._refused = ""
        self._looked_s = float("-inf")

    def newest(self) -> Model | None:
        """Return the newest good model, None before the first."""
        if self.clock() - self._looked_s >= self.poll_s:
            self._looked_s = self.clock()
            self._look()
        return self._newest

    def load(self, sha256: str) -> Model:
        """Return one artefact.

        raises : ArtifactMissing, ArtifactRefused
        """
        if sha256 not in self._loaded:
            while len(self._loaded) >= REMEMBERED:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[sha256] = load_model(self.folder, sha256)
        return self._loaded[sha256]

    def _look(self) -> None:
        candidate = "CURRENT"
        try:
            current = current_model(self.folder)
            if current is None or (self._newest and current == self._newest.sha256):
                return
            candidate = current
            self._newest = self.load(current)
        except (ArtifactMissing, ArtifactRefused) as error:
            if self._refused != f"{candidate} {error}":
                self._refused = f"{candidate} {error}"
                self.counters.add(MODEL_RELOADS, 1, "refused")
                log.warning("model refused, the last good one goes on", candidate=candidate[:16], why=str(error))
        else:
            self._refused = ""
            self.counters.add(MODEL_RELOADS, 1, "loaded")
            self.counters.forget(MODEL_INFO)
            self.counters.set(MODEL_INFO, 1, self._newest.version, self._newest.model_id, self._newest.detector.value)
            log.info(
                "model loaded", model=self._newest.model_id, version=self._newest.version, detector=self._newest.detector.value
            )
