"""Models as the predictor sees them: the newest good one, and any that the log has activated.

Law: a bad candidate is refused once, with its reason, and the last good model goes on. It may yet
     be repaired, and it may be
large: it is looked at again after twenty times as long as refusing it took, at most after 15 s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from shared.artifacts import current as current_model
from shared.artifacts import load as load_model
from shared.artifacts import manifest, published_s
from shared.artifacts import trust as read_trust
from shared.counters import MODEL_RELOADS, Counters
from shared.errors import ArtifactMissing, ArtifactRefused
from shared.models.model import Model
from shared.models.origin import other_topic
from shared.settings import ModelSettings

log = structlog.get_logger()

REMEMBERED = 4
PATIENCE = 20
MOST_PATIENCE_S = 15.0


class ModelVolume:
    """The models folder, looked at now and then.

    poll_s   : CURRENT is read at most this often
    clock    : monotonic seconds
    settings : which models are believed; None = the defaults
    topic    : the input, to warn of a model of another one; empty = not known

    raises : ConfigError when a key that the settings name cannot be read
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
        self._refused = self._refused_name = ""
        self._patient_until_s = self._looked_s = float("-inf")

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
            self._loaded[sha256] = load_model(self.folder, sha256, self.trust)
            while len(self._loaded) > REMEMBERED:
                self._loaded.pop(next(iter(self._loaded)))
        return self._loaded[sha256]

    def published_s(self, sha256: str) -> float | None:
        """Return when an artefact was published last, seconds since 1970 UTC; None = unknown."""
        return published_s(self.folder, sha256)

    def _look(self) -> None:
        candidate, began_s = "CURRENT", self.clock()
        try:
            current = current_model(self.folder)
            if current is None or (self._newest and current == self._newest.sha256):
                return
            if current == self._refused_name and began_s < self._patient_until_s:
                return
            candidate = current
            self._newest = self.load(current)
        except (ArtifactMissing, ArtifactRefused) as error:
            ended_s = self.clock()
            self._patient_until_s = ended_s + min(PATIENCE * (ended_s - began_s), MOST_PATIENCE_S)
            self._refused_name = candidate
            if self._refused != f"{candidate} {error}":
                self._refused = f"{candidate} {error}"
                self.counters.add(MODEL_RELOADS, 1, "refused")
                log.warning(
                    "model refused, the last good one goes on",
                    candidate=candidate[:16],
                    why=str(error),
                )
        else:
            self._refused = self._refused_name = ""
            self.counters.add(MODEL_RELOADS, 1, "loaded")
            log.info(
                "model loaded",
                model=self._newest.model_id,
                version=self._newest.version,
                detector=self._newest.detector.value,
            )
            self._warn_of_another_topic(current)

    def _warn_of_another_topic(self, sha256: str) -> None:
        try:
            why = other_topic(manifest(self.folder, sha256, self.trust), self.topic)
        except (ArtifactMissing, ArtifactRefused):  # removed since it was loaded
            return
        if self.topic and why:
            log.warning(
                "the model is of another topic",
                model=sha256[:16],
                why=why,
                do="give each input a models_dir (LAPWING_MODELS_DIR) of its own, and train there",
            )
