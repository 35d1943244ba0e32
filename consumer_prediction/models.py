"""Models for the predictor: the newest valid one, and any that an activation record names.

Invariant: an invalid candidate is refused once, with the reason, and the last valid model stays in
           use. The candidate may be repaired, and checking it may take long: the next check comes
           after twenty times the duration of the last, at most after 15 s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from shared.artifacts import current as current_model
from shared.artifacts import load as load_model
from shared.artifacts import manifest, published_s
from shared.artifacts import trust as read_trust
from shared.errors import ArtifactMissing, ArtifactRefused, LapwingError
from shared.models.model import Model
from shared.models.origin import other_topic
from shared.operations.counters import MODEL_RELOADS, Counters
from shared.settings import ModelSettings

log = structlog.get_logger()

MAX_CACHED = 4
RETRY_FACTOR = 20
"""A refused candidate is checked again after this many times the duration of the last check."""

MAX_RETRY_S = 15.0


class ModelVolume:
    """The models folder, polled for new models.

    poll_s   : CURRENT is read at most this often
    clock    : monotonic seconds
    settings : which models are trusted; None = the defaults
    topic    : the input topic, to warn about a model of another topic; empty = unknown

    raises : ConfigError when a key file of the settings cannot be read
    """

    def __init__(
        self,
        folder: Path,
        poll_s: float,
        clock: Callable[[], float],
        counters: Counters,
        settings: ModelSettings | None = None,
        topic: str = "",
    ) -> None:
        self.topic = topic
        self.folder = folder
        self.poll_s = poll_s
        self.clock = clock
        self.counters = counters
        self.trust = read_trust(settings or ModelSettings())
        self._loaded: dict[str, Model] = {}
        self._newest: Model | None = None
        self._refusal = ""
        self._refused_candidate = ""
        self._retry_at_s = float("-inf")
        self._polled_s = float("-inf")

    def newest(self) -> Model | None:
        """Return the newest valid model, None before the first."""
        if self.clock() - self._polled_s >= self.poll_s:
            self._polled_s = self.clock()
            self._poll()
        return self._newest

    def load(self, sha256: str) -> Model:
        """Return one artefact.

        raises : ArtifactMissing, ArtifactRefused
        """
        if sha256 not in self._loaded:
            self._loaded[sha256] = load_model(self.folder, sha256, self.trust)
            while len(self._loaded) > MAX_CACHED:
                self._loaded.pop(next(iter(self._loaded)))
        return self._loaded[sha256]

    def published_s(self, sha256: str) -> float | None:
        """Return when an artefact was published last, seconds since 1970 UTC; None = unknown."""
        return published_s(self.folder, sha256)

    def _poll(self) -> None:
        candidate = "CURRENT"
        began_s = self.clock()
        try:
            current = current_model(self.folder)
            if current is None or (self._newest and current == self._newest.sha256):
                return
            if current == self._refused_candidate and began_s < self._retry_at_s:
                return
            candidate = current
            self._newest = self.load(current)
        except (ArtifactMissing, ArtifactRefused) as error:
            self._refuse(candidate, error, began_s)
        else:
            self._refusal = ""
            self._refused_candidate = ""
            self.counters.add(MODEL_RELOADS, 1, "loaded")
            log.info(
                "model loaded",
                model=self._newest.model_id,
                version=self._newest.version,
                detector=self._newest.detector.value,
            )
            self._warn_of_another_topic(current)

    def _refuse(self, candidate: str, error: LapwingError, began_s: float) -> None:
        """Schedule the next check of a candidate; count and log a new reason once."""
        ended_s = self.clock()
        self._retry_at_s = ended_s + min(RETRY_FACTOR * (ended_s - began_s), MAX_RETRY_S)
        self._refused_candidate = candidate
        refusal = f"{candidate} {error}"
        if refusal == self._refusal:
            return
        self._refusal = refusal
        self.counters.add(MODEL_RELOADS, 1, "refused")
        log.warning(
            "model refused, keeping the last good model",
            candidate=candidate[:16],
            because=str(error),
        )

    def _warn_of_another_topic(self, sha256: str) -> None:
        try:
            why = other_topic(manifest(self.folder, sha256, self.trust), self.topic)
        except (ArtifactMissing, ArtifactRefused):  # removed since it was loaded
            return
        if self.topic and why:
            log.warning(
                "model was trained on another topic",
                model=sha256[:16],
                because=why,
                remedy="use a separate models_dir (LAPWING_MODELS_DIR) for each input",
            )
